//go:build linux

package ns

import (
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A thread that cannot return to where it was ends, and the namespace that it has
// made is let go of.
func TestNewThatCannotReturnHoldsNothing(t *testing.T) {
	if made, err := New(); errors.Is(err, unix.EPERM) {
		t.Skip("needs CAP_SYS_ADMIN: run it with hack/test")
	} else if err != nil || made.Close() != nil {
		t.Fatal(err)
	}
	before := held(t)
	made, err := newBy(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		// setns(2) back takes CAP_SYS_ADMIN, which is a thread's own.
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var none [2]unix.CapUserData
		return unix.Capset(&header, &none[0])
	})
	if made != nil || !errors.Is(err, unix.EPERM) || !strings.Contains(err.Error(), "terminating the thread") {
		t.Fatalf("%v, %v, want that the thread cannot return", made, err)
	}
	if after := held(t); after != before {
		t.Errorf("%d namespaces are held, before there were %d", after, before)
	}
}

// held counts the namespaces that this process holds by a descriptor.
func held(t *testing.T) (n int) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if target, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && strings.HasPrefix(target, "net:[") {
			n++
		}
	}
	return n
}
