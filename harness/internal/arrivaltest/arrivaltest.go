//go:build linux

// Package arrivaltest waits, in tests, until an IPv6 address can be used.
package arrivaltest

import (
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"twlab/harness/internal/wire"
	"twlab/harness/ns"
	"twlab/harness/observe"
)

// Await waits until packets to the addresses arrive in a namespace. The local route of an
// IPv6 address comes some time after the address (addrconf_dad_work), and a connect to it or
// from it before that fails.
func Await(t *testing.T, space *ns.Namespace, addrs ...netip.Addr) {
	t.Helper()
	var h *netlink.Handle
	err := space.Do(func() (err error) {
		h, err = netlink.NewHandle(unix.NETLINK_ROUTE)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	for _, a := range addrs {
		if !a.Is6() {
			continue
		}
		if err := observe.Await(t.Context(), "the local route of "+a.String(), func() (bool, error) { return wire.Arrives(h, a) }); err != nil {
			t.Fatal(err)
		}
	}
}
