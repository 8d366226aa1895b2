//go:build linux

// Package nstest makes network namespaces for tests, which end with the test.
package nstest

import (
	"errors"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"twlab/harness/ns"
)

// New makes a namespace that is closed at the end of the test. It skips the test when there
// is no privilege to make one.
func New(t *testing.T) *ns.Namespace {
	t.Helper()
	space, err := ns.New()
	if errors.Is(err, unix.EPERM) {
		t.Skip("needs CAP_SYS_ADMIN: run it with hack/test")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := space.Close(); err != nil {
			t.Error(err)
		}
	})
	return space
}

// Loopback is New with the loopback device up.
func Loopback(t *testing.T) *ns.Namespace {
	t.Helper()
	space := New(t)
	err := space.Do(func() error {
		return netlink.LinkSetUp(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Name: "lo"}})
	})
	if err != nil {
		t.Fatal(err)
	}
	return space
}
