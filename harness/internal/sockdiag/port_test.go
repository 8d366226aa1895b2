//go:build linux

package sockdiag

import (
	"errors"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"twlab/harness/internal/nstest"
)

// A dump shows the sockets of both versions on the port, and no others.
func TestOnPort(t *testing.T) {
	space := nstest.Loopback(t)
	var (
		lookup *Lookup
		fds    [2]int
	)
	err := space.Do(func() (err error) {
		for i, family := range []int{unix.AF_INET, unix.AF_INET6} {
			if fds[i], err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
				return err
			}
		}
		if lookup, err = Open(); err != nil {
			return err
		}
		return errors.Join(
			unix.Bind(fds[0], &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: 80}), unix.Listen(fds[0], 1),
			unix.SetsockoptInt(fds[1], unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1),
			unix.Bind(fds[1], &unix.SockaddrInet6{Port: 80}), unix.Listen(fds[1], 1),
		)
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := errors.Join(lookup.Close(), unix.Close(fds[0]), unix.Close(fds[1])); err != nil {
			t.Error(err)
		}
	}()
	none4, none6 := netip.MustParseAddrPort("0.0.0.0:0"), netip.MustParseAddrPort("[::]:0")
	for port, want := range map[uint16][]Socket{
		80: {
			{State: "LISTEN", Local: netip.MustParseAddrPort("127.0.0.1:80"), Remote: none4},
			{State: "LISTEN", Local: netip.MustParseAddrPort("[::]:80"), Remote: none6, V6Only: true},
		},
		81: nil,
	} {
		if got, err := lookup.OnPort(port); err != nil || !slices.Equal(got, want) {
			t.Errorf("on port %d: %v, %v, want %v", port, got, err, want)
		}
	}
}
