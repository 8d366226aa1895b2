//go:build linux

package ns_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"twlab/harness/internal/exampletest"
	"twlab/harness/ns"
)

// holderVariable makes this test binary [holdNamespace] instead.
const holderVariable = "TWLAB_NS_TEST_HOLDER"

// The first thread of a process cannot end: when its goroutine ends while it is
// locked, the runtime parks it wherever it is. It is the main goroutine's here, so that
// no test that makes a thread unable to return leaves it in the test's namespace.
func init() { runtime.LockOSThread() } //nolint:gochecknoinits // the main goroutine is sure of its first thread only until the inits are over

func TestMain(m *testing.M) {
	if os.Getenv(holderVariable) == "" {
		os.Exit(exampletest.Main(m))
	}
	if err := holdNamespace(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// holdNamespace makes a namespace, says where, and holds it until its input ends.
func holdNamespace() error {
	space, err := ns.New()
	if err != nil {
		return err
	}
	if err := space.Use(func(fd int) error {
		fmt.Printf("/proc/%d/fd/%d\n", os.Getpid(), fd)
		return nil
	}); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// holder is this test binary as holdNamespace. It does not outlive the test.
func holder(t *testing.T) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second) // a hundred times what it takes
	t.Cleanup(cancel)
	// Not by name: the folder that "go test" builds in is not everybody's.
	c := exec.CommandContext(ctx, "/proc/self/exe")
	// A program with the race detector takes a second to end, unless told otherwise.
	c.Env = append(os.Environ(), holderVariable+"=1", "GORACE=atexit_sleep_ms=0")
	c.WaitDelay = time.Second
	return c
}

func try(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
