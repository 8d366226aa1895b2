// Package explain is the subcommand that explains why connections die: a cause, or the
// attempts of a recording.
package explain

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"twlab/hack/internal/cli"
	"twlab/harness/diagnose"
	"twlab/harness/nearest"
	"twlab/harness/recording"
	"twlab/harness/report"
)

const about = `Explains why connections die. With the name of a cause: what happens, how to see it on a machine
in production, what it is taken for, what to do and at what cost. With a recording (the
run.json of twlab run --output-dir): what became of each attempt, send and receive that
failed, came late, broke or stalled, with the proof. Without either: all causes.

It needs no privilege and runs nothing.

Exit status: 0 if there was something to explain, 2 if a word is neither a cause nor a recording.`

// Command is the subcommand.
func Command() *cobra.Command {
	return &cobra.Command{
		Use:   "explain [CAUSE... | RECORDING...]",
		Short: "Explain a cause, or why the connections of a recording died",
		Long:  about,
		Example: `  twlab explain
  twlab explain snat-exhausted
  twlab explain results/*/run.json`,
		RunE: func(c *cobra.Command, words []string) error {
			to := c.OutOrStdout()
			if len(words) == 0 {
				for _, cause := range diagnose.Catalogue() {
					fmt.Fprintf(to, "%-27s %s\n", cause.ID, cause.Why)
				}
				return nil
			}
			for _, word := range words {
				if err := one(to, word); err != nil {
					return cli.NotRunError(err)
				}
			}
			return nil
		},
	}
}

// one explains a cause or a recording.
func one(to io.Writer, word string) error {
	if cause, found := diagnose.Find(word); found {
		return diagnose.WriteCauses(to, cause)
	}
	if !strings.HasSuffix(word, ".json") {
		near := ""
		if all := nearest.To(word, diagnose.IDs()); len(all) > 0 {
			near = "; near it: " + strings.Join(all, ", ")
		}
		return fmt.Errorf("no cause %q%s; a recording ends in .json", report.Plain(word), near)
	}
	file, err := os.Open(word)
	if err != nil {
		return err
	}
	r, err := recording.Read(file)
	if err := errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("%s: %w", report.Plain(word), err)
	}
	fmt.Fprintln(to, report.Plain(r.Scenario))
	died := 0
	for _, d := range diagnose.Recording(&r) {
		if d.Symptom == diagnose.Fine {
			continue
		}
		died++
		fmt.Fprintf(to, "step %d: %s\n", d.Step, report.Plain(fmt.Sprintf("%s, %v > %v, %s", d.Attempt.Node, d.Attempt.Local, d.Attempt.Remote, d.Symptom)))
		for _, line := range d.Lines() {
			fmt.Fprintln(to, "  "+report.Plain(line))
		}
	}
	if died == 0 {
		fmt.Fprintln(to, "nothing failed, came late, broke or stalled")
	}
	return nil
}
