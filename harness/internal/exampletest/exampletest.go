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
// requirements. An example cannot skip itself: without privilege, or when a requirement is
// missing, Main skips all examples and says so on standard error.
func Main(m *testing.M, also ...kernel.Requirement) (exitCode int) {
	flag.Parse()
	lacks, err := missing(also)
	if err == nil && lacks != nil {
		fmt.Fprintln(os.Stderr, "examples are left out:", lacks)
		err = leaveOut("^Example")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return leak.Run(m)
}

// missing returns what the examples lack. An err is something else, and no reason to leave
// them out.
func missing(also []kernel.Requirement) (lacks, err error) {
	space, err := ns.New()
	if errors.Is(err, unix.EPERM) {
		return errors.New("they need CAP_SYS_ADMIN: run them with hack/test"), nil
	}
	if err != nil {
		return nil, err
	}
	for _, r := range also {
		lacks = errors.Join(lacks, tried(r))
	}
	return lacks, space.Close()
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
