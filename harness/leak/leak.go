//go:build linux

// Package leak reports what a process has acquired since a certain moment and still holds:
// descriptors, goroutines, child processes, network namespaces.
//
// The tests of every package below harness end with it ([Run]), and so does every process
// of the suite.
package leak

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"go.uber.org/goleak"

	"twlab/harness/observe"
)

// Snapshot is what the process held at one moment.
type Snapshot struct {
	held       map[string]bool
	goroutines goleak.Option
}

// Take returns what the process holds now.
func Take() (Snapshot, error) {
	if err := startPoller(); err != nil {
		return Snapshot{}, fmt.Errorf("start the poller: %w", err)
	}
	all, err := list()
	if err != nil {
		return Snapshot{}, fmt.Errorf("list what the process holds: %w", err)
	}
	s := Snapshot{held: map[string]bool{}, goroutines: goleak.IgnoreCurrent()}
	for _, t := range all {
		s.held[t.name] = true
	}
	return s, nil
}

// Zero reports whether s is the zero value, which [Take] never returns.
func (s Snapshot) Zero() bool { return s.held == nil }

// startPoller makes the runtime open its own descriptors, an epoll(7) instance and the one
// that wakes it. The runtime opens them with the first file that needs them, and keeps
// them.
func startPoller() error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	return errors.Join(r.Close(), w.Close())
}

// Left waits until the process holds nothing that it did not hold then. When ctx ends
// first, the error names everything that is left: a descriptor with its target, and with
// its network namespace when that is another one; a goroutine with its stack; a child
// process with its command; a network namespace that contains a thread.
//
// An *os.File without references is closed by the garbage collector. Left reports it only
// if that has not happened yet.
//
// A new pipe may replace an old one: a package that keeps a pipe ready, as Ginkgo does, may
// have used it and made the next.
func (s Snapshot) Left(ctx context.Context) error {
	var left []string
	err := observe.Await(ctx, "everything to be released", func() (bool, error) {
		now, err := list()
		if err != nil {
			return false, fmt.Errorf("list what the process holds: %w", err)
		}
		left = s.added(now)
		if err := goleak.Find(s.goroutines); err != nil {
			left = append(left, err.Error())
		}
		return len(left) == 0, nil
	})
	if err != nil && len(left) > 0 {
		return fmt.Errorf("left behind:\n%s", strings.Join(left, "\n"))
	}
	return err
}

// added describes what is held now and was not held then.
func (s Snapshot) added(now []thing) (left []string) {
	there := map[string]bool{}
	for _, t := range now {
		there[t.name] = true
	}
	pipes := 0 // pipes that are gone, each of which a new one may replace
	for name := range s.held {
		if isPipe(name) && !there[name] {
			pipes++
		}
	}
	for _, t := range now {
		switch {
		case s.held[t.name]:
		case isPipe(t.name) && pipes > 0:
			pipes--
		default:
			left = append(left, t.String())
		}
	}
	slices.Sort(left)
	return left
}

// Grace is how long Left waits on a busy machine for things that end by themselves, such as
// a killed process.
const Grace = 10 * time.Second

// Run runs the tests of a package (a *testing.M), writes to standard error what they leave
// behind, and returns the exit code, which is not 0 when they leave anything.
func Run(tests interface{ Run() int }) (exitCode int) { return run(tests, os.Stderr, Grace) }

func run(tests interface{ Run() int }, out io.Writer, grace time.Duration) (exitCode int) {
	before, err := Take()
	if err != nil {
		fmt.Fprintln(out, "leak check:", err)
		return 1
	}
	exitCode = tests.Run()
	ctx, stop := context.WithTimeout(context.Background(), grace)
	defer stop()
	if err := before.Left(ctx); err != nil {
		fmt.Fprintln(out, "leak check: the tests of this package have", err)
		exitCode = max(exitCode, 1)
	}
	return exitCode
}
