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

// Main is [leak.Run] for a package with examples that make namespaces and may have further
// requirements. An example cannot skip itself: when something is missing, Main skips all
// examples and says so on standard error.
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

// leaveOut adds a pattern to go test's -skip.
func leaveOut(tests string) error {
	if given := flag.Lookup("test.skip").Value.String(); given != "" {
		tests += "|" + given
	}
	return flag.Set("test.skip", tests)
}
