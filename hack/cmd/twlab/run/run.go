// Package run is the subcommand that runs scenario files, and compares what was seen with what
// they expect.
package run

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"twlab/hack/internal/cli"
	"twlab/harness/play"
	"twlab/harness/sandbox"
	"twlab/harness/script"
	"twlab/harness/scriptfile"
	"twlab/scenarios/roles"
)

const about = `Builds the network that a scenario file describes in a private sandbox, takes its steps, and
prints what was expected and what was seen.

A directory stands for all its files that end in .yaml. --twins also runs the twins of each
file, in which something must not be as expected. With --output-dir, DIR gets for each
scenario a directory with the file itself and run.json: the steps, packets, counters, sockets,
conntrack entries and rules.

Exit status: 0 if everything was as expected, 1 if something was not, 2 if a file is wrong and
nothing was run, 3 if a step failed, so that the scenario did not come about, 4 if this machine
or kernel cannot run it.`

// Command is the subcommand.
func Command() *cobra.Command {
	var output string
	var twins bool
	c := &cobra.Command{
		Use:   "run FILE...",
		Short: "Run scenario files, and say whether what they expect is what the kernel does",
		Long:  about,
		Example: `  twlab run scenarios/incidents/late-dnat-rule.yaml
  twlab run --output-dir results scenarios/incidents`,
	}
	c.Flags().BoolVar(&twins, "twins", false, "run the twins, too")
	c.Flags().StringVar(&output, "output-dir", "", "`DIR` that gets what was recorded")
	c.RunE = func(c *cobra.Command, words []string) error {
		if len(words) == 0 {
			return cli.Usage(errors.New("which file? give at least one"))
		}
		files, err := scriptfile.ReadAll(words)
		if err != nil {
			return cli.NotRunError(err)
		}
		if os.Getenv(sandbox.Variable) == "" {
			return cli.Enter()
		}
		ctx, stop := cli.Interruptible(c.Context())
		defer stop()
		r := runner{out: c.OutOrStdout(), dir: output, twins: twins}
		return r.all(ctx, files)
	}
	return c
}

// runner runs scenarios one after the other.
type runner struct {
	out   io.Writer
	dir   string // "" keeps nothing
	twins bool
	lines []line
}

// line is a row of the table at the end.
type line struct {
	name    string
	verdict play.Verdict
}

func (r *runner) all(ctx context.Context, files []scriptfile.File) error {
	worst := play.AsExpected
	for _, f := range files {
		for _, s := range f.Scenarios {
			v, err := r.one(ctx, f, s, false)
			if err != nil {
				return err
			}
			worst = max(worst, v)
		}
		v, err := r.twinsOf(ctx, f)
		if err != nil {
			return err
		}
		worst = max(worst, v)
	}
	if len(r.lines) > 1 {
		fmt.Fprintln(r.out)
		for _, l := range r.lines {
			fmt.Fprintf(r.out, "%-18s %s\n", l.verdict, l.name)
		}
	}
	if worst != play.AsExpected {
		return cli.StatusError{Status: statuses[worst]}
	}
	return nil
}

// twinsOf runs the twins of a file. One in which everything is as expected is not as expected.
func (r *runner) twinsOf(ctx context.Context, f scriptfile.File) (worst play.Verdict, err error) {
	if !r.twins {
		return play.AsExpected, nil
	}
	for _, s := range f.Twins {
		v, err := r.one(ctx, f, s, true)
		if err != nil {
			return worst, err
		}
		worst = max(worst, v)
	}
	return worst, nil
}

// statuses are the exit statuses.
var statuses = map[play.Verdict]int{play.NotAsExpected: 1, play.NotBroughtAbout: 3, play.CannotHere: 4}

// one runs one scenario. If it is a twin, it is as expected when something in it is not.
func (r *runner) one(ctx context.Context, f scriptfile.File, s script.Scenario, twin bool) (play.Verdict, error) {
	fmt.Fprintf(r.out, "%s\n", s.Name)
	recording, err := play.Run(ctx, s, roles.Probe)
	if err != nil {
		if ctx.Err() != nil {
			return 0, err
		}
		fmt.Fprintf(r.out, "  could not be built: %v\n", err)
		r.lines = append(r.lines, line{s.Name, play.CannotHere})
		return play.CannotHere, nil
	}
	if err := recording.WriteText(r.out); err != nil {
		return 0, err
	}
	verdict, why := recording.Verdict(), ""
	switch {
	case twin && verdict == play.NotAsExpected:
		verdict, why = play.AsExpected, ": with this value, something must be different"
	case twin && verdict == play.AsExpected:
		verdict, why = play.NotAsExpected, ": with this value something must be different, and nothing is"
	}
	fmt.Fprintf(r.out, "%s%s\n", verdict, why)
	r.lines = append(r.lines, line{s.Name, verdict})
	return verdict, r.keep(f, s, recording)
}

// keep writes what was recorded.
func (r *runner) keep(f scriptfile.File, s script.Scenario, recording play.Recording) error {
	if r.dir == "" {
		return nil
	}
	dir := filepath.Join(r.dir, fileName(s.Name))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	text, err := json.MarshalIndent(recording, "", " ")
	if err != nil {
		return fmt.Errorf("%s: %w", s.Name, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "run.json"), text, 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "scenario.yaml"), f.Text, 0o644)
}

// fileName makes a name of a scenario one of a directory.
func fileName(name string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '=', r == '.':
			return r
		default:
			return '-'
		}
	}, name)
}
