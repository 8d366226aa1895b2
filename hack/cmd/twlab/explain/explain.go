// Package explain is the subcommand that explains why connections die: a cause, or the
// attempts of a recording.
package explain

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"twlab/hack/internal/cli"
	"twlab/harness/diagnose"
	"twlab/harness/ladder"
	"twlab/harness/nearest"
	"twlab/harness/recording"
	"twlab/harness/report"
)

const about = `Explains why connections die. With the name of a cause: what happens, how to see it on a machine
in production, what it is taken for, what to do and at what cost. With a recording (the
run.json of twlab run --output-dir): what became of each attempt, send and receive that
failed, came late, broke or stalled, with the proof, and its packets as a ladder: a line for
each packet, ">" where it came in, "x" where it ended, "~" where it was translated. Without
either: all causes.

It needs no privilege and runs nothing.

Exit status: 0 if there was something to explain, 2 if a word is neither a cause nor a recording.`

// Command is the subcommand.
func Command() *cobra.Command {
	var ascii bool
	c := &cobra.Command{
		Use:   "explain [CAUSE... | RECORDING...]",
		Short: "Explain a cause, or why the connections of a recording died",
		Long:  about,
		Example: `  twlab explain
  twlab explain snat-exhausted
  twlab run --output-dir results scenarios/causes/snat-exhausted.yaml && twlab explain results/*/run.json`,
		RunE: func(c *cobra.Command, words []string) error {
			to := c.OutOrStdout()
			if len(words) == 0 {
				for _, cause := range diagnose.Catalogue() {
					fmt.Fprintf(to, "%-27s %s\n", cause.ID, cause.Why)
				}
				return nil
			}
			for _, word := range words {
				if err := one(to, word, ascii); err != nil {
					return cli.NotRunError(err)
				}
			}
			return nil
		},
	}
	c.Flags().BoolVar(&ascii, "ascii", false, "draw packets in ASCII alone")
	return c
}

// one explains a cause or a recording.
func one(to io.Writer, word string, ascii bool) error {
	if cause, found := diagnose.Find(word); found {
		return diagnose.WriteCauses(to, cause)
	}
	if !strings.HasSuffix(word, ".json") {
		return fmt.Errorf("no cause %q%s; a recording ends in .json", report.Plain(word), nearest.Hint(word, diagnose.IDs()))
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
	attempts(to, &r, ascii)
	return nil
}

// attempts explains what died. Of attempts of one step that died of the same, the first stands
// for all.
func attempts(to io.Writer, r *recording.Recording, ascii bool) {
	var died []diagnose.Diagnosis
	for _, d := range diagnose.Recording(r) {
		if d.Symptom != diagnose.Fine {
			died = append(died, d)
		}
	}
	like := func(d, e diagnose.Diagnosis) bool { return d.Step == e.Step && d.Short() == e.Short() }
	for i, d := range died {
		if slices.ContainsFunc(died[:i], func(e diagnose.Diagnosis) bool { return like(d, e) }) {
			continue
		}
		lines := []string{fmt.Sprintf("step %d: %s, %v > %v, %s", d.Step, d.Attempt.Node, d.Attempt.Local, d.Attempt.Remote, d.Symptom)}
		for _, line := range d.Lines() {
			lines = append(lines, "  "+line)
		}
		if r.Missing[recording.OfPackets] == "" {
			lines = append(append(lines, ""), ladder.New(r, d).Text(ascii)...)
		}
		n := -1
		for _, e := range died {
			if like(d, e) {
				n++
			}
		}
		if n > 0 {
			lines = append(lines, fmt.Sprintf("the same became of %d more of this step", n))
		}
		for _, line := range append(lines, "") {
			fmt.Fprintln(to, report.Plain(line))
		}
	}
	if len(died) == 0 {
		fmt.Fprintln(to, "nothing failed, came late, broke or stalled")
	}
}
