// Command soak runs unit tests and suite many times, every second time with all
// processors busy, and tells what was red how often. hack/soak has its usage.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// How a soak ends, for the exit status.
var (
	errRed     = errors.New("some runs were red")
	errNothing = errors.New("nothing was run")
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	switch {
	case err == nil:
	case errors.Is(err, errRed): // which the table says
		os.Exit(1)
	default:
		fmt.Fprintln(os.Stderr, "hack/soak:", err)
		if errors.Is(err, errNothing) {
			os.Exit(2)
		}
		os.Exit(1)
	}
}

func run(ctx context.Context, arguments []string, out io.Writer) error {
	o, err := parse(arguments)
	if err != nil {
		return fmt.Errorf("%w: %w", errNothing, err)
	}
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
