// Command matrix puts the results of several runs of the suite side by side:
//
//	matrix DIR...
//
// Each DIR is what hack/e2e left there. The exit code is 1 when a cell was skipped
// in all of them, and 2 when one cannot be read.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
)

func main() {
	err := run(os.Args[1:], os.Stdout)
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, "matrix:", err)
	if errors.Is(err, errNeverDriven) {
		os.Exit(1)
	}
	os.Exit(2)
}

func run(dirs []string, out io.Writer) error {
	if len(dirs) == 0 {
		return errors.New("no directories")
	}
	m, err := read(dirs)
	if err != nil {
		return err
	}
	return m.print(out)
}
