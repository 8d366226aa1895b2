//go:build linux

package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"

	"golang.org/x/sys/unix"

	"twlab/harness/internal/line"
	"twlab/harness/kernel"
)

// Why a sysctl cannot be had is the same on both sides of the line.
func TestSysctlErrorsAreTheSameOnBothSides(t *testing.T) {
	const fail line.Method[string, line.None] = "fail"
	s := line.NewServer(Errors())
	fail.Serve(s, func(_ context.Context, how string) (none line.None, err error) {
		if how == "sysctl" {
			return none, fmt.Errorf("node: %w", &kernel.SysctlError{Name: "net.x", Value: "1", Reason: kernel.ErrSysctlGone, Detail: "why"})
		}
		return none, &kernel.SysctlError{Name: "net.x", Reason: unix.EIO}
	})
	near, far := net.Pipe()
	served := make(chan error, 1)
	go func() { served <- s.Serve(t.Context(), far) }()
	c := line.NewCaller(near, Errors(), 0)
	defer func() {
		c.Close()
		if err := <-served; !errors.Is(err, io.EOF) {
			t.Error(err)
		}
	}()
	for how, want := range map[string]struct {
		text string
		is   error
	}{
		"sysctl": {"node: sysctl net.x=1: no longer in the kernel (kernel unknown): why", kernel.ErrSysctlGone},
		"file":   {"sysctl net.x: input/output error (kernel unknown)", unix.EIO},
	} {
		_, err := fail.Call(t.Context(), c, how)
		var explained *kernel.SysctlError
		if !errors.Is(err, want.is) || err.Error() != want.text || errors.Is(err, kernel.ErrSysctlValue) ||
			!errors.As(err, &explained) || explained.Name != "net.x" || !errors.Is(explained, want.is) {
			t.Errorf("%s: %v, %+v, want %q that is %v", how, err, explained, want.text, want.is)
		}
	}
}
