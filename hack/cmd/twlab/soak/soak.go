// Package soak is the subcommand that runs unit tests and suite many times, every second time
// with all processors busy, and tells how often each of them failed.
package soak

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"

	"github.com/spf13/cobra"

	"twlab/hack/internal/cli"
	"twlab/hack/internal/kit"
)

const about = `Runs the unit tests (with -race, each package in its own sandbox, as in hack/test) and
hack/e2e N times. In every second run all processors are also kept busy. It continues after
a red run. At the end it says how many runs were red, how often each test and each spec
failed, and how long each run took.

The race detector makes the unit tests slower, and some of them ten times. Without it
(--no-race) there is time for more runs, and what happens at once in a test is different.

Into DIR it writes soak.txt, the table, and directories run-1, run-2 and so on with the
output of each run (unit.txt, e2e.txt) and, if hack/e2e was red, everything that it left.

Exit status: 0 if no run was red, 1 if a run was red or the soak was interrupted, 2 if
nothing was run.`

// How a soak ends, for the exit status.
var (
	errRed     = errors.New("some runs were red")
	errNothing = errors.New("nothing was run")
)

// Command is the subcommand.
func Command() *cobra.Command {
	var o options
	var noUnit, noE2E, noRace bool
	c := &cobra.Command{
		Use:   "soak [--output-dir DIR] [--no-unit] [--no-race] [--no-e2e] N [flags of hack/e2e]",
		Short: "Run unit tests and suite many times, to find rare failures",
		Long:  about,
		Example: `  twlab soak 20
  twlab soak --no-unit 10 --label-filter '!slow'
  twlab soak --no-e2e 9`,
	}
	flags := c.Flags()
	flags.SetInterspersed(false) // what stands behind the number is for hack/e2e
	flags.StringVar(&o.output, "output-dir", "", "`DIR` for the results (default: .out/soak in the repository)")
	flags.BoolVar(&noUnit, "no-unit", false, "without the unit tests")
	flags.BoolVar(&noRace, "no-race", false, "unit tests without the race detector")
	flags.BoolVar(&noE2E, "no-e2e", false, "without the suite")
	c.RunE = func(c *cobra.Command, words []string) error {
		o.unit, o.e2e, o.race = !noUnit, !noE2E, !noRace
		if err := o.read(words); err != nil {
			return err
		}
		ctx, stop := cli.Interruptible(c.Context())
		defer stop()
		k, err := kit.Find()
		if err != nil {
			return err
		}
		if err := o.settle(k); err != nil {
			return cli.NotRunError(err)
		}
		return status(o.run(ctx, c.OutOrStdout()))
	}
	return c
}

// status is what an end of a soak is to the shell.
func status(err error) error {
	switch {
	case errors.Is(err, errRed): // which the table says
		return cli.StatusError{Status: cli.Failed}
	case errors.Is(err, errNothing):
		return cli.NotRunError(err)
	default:
		return err
	}
}

func (o options) run(ctx context.Context, out io.Writer) error {
	jobs, err := o.prepare(ctx)
	if err != nil {
		return fmt.Errorf("%w: %w", errNothing, err)
	}
	var all []result
	for n := 1; n <= o.runs && ctx.Err() == nil; n++ {
		for _, j := range jobs {
			r, err := o.once(ctx, n, j)
			if err != nil {
				return errors.Join(err, o.tell(out, all))
			}
			if ctx.Err() != nil {
				break // neither green nor red
			}
			all = append(all, r)
			fmt.Fprintln(out, r)
		}
	}
	if err := o.tell(out, all); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return fmt.Errorf("interrupted: %w", context.Cause(ctx))
	}
	for _, r := range all {
		if len(r.red) > 0 {
			return errRed
		}
	}
	return nil
}

// once does one job of one run and notes what came of it. The error says that the
// job cannot be done at all.
func (o options) once(ctx context.Context, n int, j job) (result, error) {
	r := result{run: n, what: j.name(), busy: n%2 == 0}
	dir := filepath.Join(o.output, fmt.Sprintf("run-%d", n))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return r, err
	}
	if r.busy {
		defer occupy(runtime.NumCPU())()
	}
	return r, j.do(ctx, dir, &r)
}

// occupy keeps n processors busy until the function that it returns is called, or
// this program ends, however it does.
func occupy(n int) (stop func()) {
	var over atomic.Bool
	for range n {
		go func() {
			for !over.Load() { // nothing else is to be done
			}
		}()
	}
	return func() { over.Store(true) }
}

// tell prints the table and leaves it in the output directory.
func (o options) tell(out io.Writer, all []result) error {
	text := table(all) + "\nwhat each run has left: " + filepath.Join(o.output, "run-*") + "\n"
	_, err := io.WriteString(out, "\n"+text)
	return errors.Join(err, os.WriteFile(filepath.Join(o.output, "soak.txt"), []byte(text), 0o644))
}

// lines are those of a text that are not empty.
func lines(text string) []string {
	var all []string
	for line := range strings.Lines(text) {
		if line = strings.TrimRight(line, " \r\n"); line != "" {
			all = append(all, line)
		}
	}
	return all
}
