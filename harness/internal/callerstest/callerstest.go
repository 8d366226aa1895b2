//go:build linux

// Package callerstest calls a function from two goroutines at the same time, for functions
// that must permit that.
package callerstest

import (
	"errors"
	"sync"
	"testing"
	"time"

	"twlab/harness/tcp"
)

// hung is how long a call may take before it counts as hung.
const hung = 20 * time.Second

// Twice calls f from two callers at the same time, and waits for both. The test fails when
// one of them hangs.
func Twice(t *testing.T, f func(caller int) error) (errs [2]error) {
	t.Helper()
	done := make(chan struct{})
	var callers sync.WaitGroup
	for i := range errs {
		callers.Go(func() { errs[i] = f(i) })
	}
	go func() {
		callers.Wait()
		close(done)
	}()
	select {
	case <-done:
		return errs
	case <-time.After(hung):
		t.Fatal("a call does not come back")
		return errs
	}
}

// ExactlyOne checks that one of two calls succeeded and the other returned ErrNoHandle.
func ExactlyOne(t *testing.T, what string, errs [2]error) {
	t.Helper()
	if errs[0] != nil {
		errs[0], errs[1] = errs[1], errs[0]
	}
	if errs[0] != nil || !errors.Is(errs[1], tcp.ErrNoHandle) {
		t.Errorf("%s by two callers at once: %v and %v, want nil and ErrNoHandle", what, errs[0], errs[1])
	}
}

// None checks that no call failed.
func None(t *testing.T, what string, errs [2]error) {
	t.Helper()
	if err := errors.Join(errs[:]...); err != nil {
		t.Errorf("%s by two callers at once: %v", what, err)
	}
}
