// Command matrix puts the results of several runs of the suite side by side:
//
//	matrix DIR...
//
// Each DIR is what hack/e2e left there. The exit code is 1 when a run did not pass
// or left no results, or when a cell was skipped in all of them; and 2 when no run
// left any.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// errNothing is what a matrix of no results ends by.
var errNothing = errors.New("there are no results")

func main() {
	err := run(os.Args[1:], os.Stdout)
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, "hack/matrix:", err)
	if errors.Is(err, errNothing) {
		os.Exit(2)
	}
	os.Exit(1)
}

func run(dirs []string, out io.Writer) error {
	m, unread := read(dirs)
	if len(m) == 0 {
		return errors.Join(errNothing, unread)
	}
	return errors.Join(m.print(out), unread)
}
