//go:build linux

// Package exampletest runs the tests of packages whose examples need privilege.
package exampletest

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"twlab/harness/kernel"
	"twlab/harness/leak"
	"twlab/harness/ns"
)

// Main is [leak.Run] for a package with examples that make namespaces, and need what else is
// required. An example cannot skip itself: where something is missing all of them are left
// out, which standard error says.
func Main(m *testing.M, also ...kernel.Requirement) (exitCode int) {
	flag.Parse()
	if err := missing(also); err != nil {
		fmt.Fprintln(os.Stderr, "examples are left out:", err)
		if err := leaveOut("^Example"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return leak.Run(m)
}

func missing(also []kernel.Requirement) error {
	space, err := ns.New()
	if errors.Is(err, unix.EPERM) {
		return errors.New("they need CAP_SYS_ADMIN: run them with hack/test")
	}
	if err != nil {
		return err
	}
	errs := []error{space.Close()}
	for _, r := range also {
		errs = append(errs, tried(r))
	}
	return errors.Join(errs...)
}

func tried(r kernel.Requirement) error {
	if fact, detail := r.Probe(context.Background()); fact != kernel.Yes {
		return fmt.Errorf("%s: %s", r.Name, detail)
	}
	return nil
}

// leaveOut adds to what go test's -skip leaves out.
func leaveOut(tests string) error {
	if given := flag.Lookup("test.skip").Value.String(); given != "" {
		tests += "|" + given
	}
	return flag.Set("test.skip", tests)
}
