//go:build linux

package haproxy_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"twlab/harness/haproxy"
	"twlab/harness/internal/arrivaltest"
	"twlab/harness/internal/nstest"
	"twlab/harness/kernel"
	"twlab/harness/ns"
	"twlab/harness/observe"
)

// connectOver connects to an address from a namespace, over IPv4 or IPv6, and returns errno.
func connectOver(t *testing.T, space *ns.Namespace, to netip.AddrPort) (fd int, err error) {
	t.Helper()
	noError(t, space.Do(func() error {
		family, address := unix.AF_INET, unix.Sockaddr(nil)
		if to.Addr().Is6() {
			family, address = unix.AF_INET6, &unix.SockaddrInet6{Addr: to.Addr().As16(), Port: int(to.Port())}
		} else {
			address = &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}
		}
		var failed error
		fd, failed = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if failed == nil {
			err = unix.Connect(fd, address)
		}
		return failed
	}))
	return fd, err
}

// HAProxy over IPv6 from end to end: what it listens on, from where it connects, what it
// logs and counts.
func TestBalancesOverIPv6(t *testing.T) {
	space := nstest.Loopback(t)
	own := netip.MustParseAddr("fd00::7")
	to := netip.MustParseAddrPort("[::1]:8080")
	var listening int
	noError(t, space.Do(func() (err error) {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		if err := netlink.AddrAdd(lo, &netlink.Addr{IPNet: netlink.NewIPNet(own.AsSlice()), Flags: unix.IFA_F_NODAD}); err != nil {
			return err
		}
		if listening, err = unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		return errors.Join(unix.Bind(listening, &unix.SockaddrInet6{Addr: to.Addr().As16(), Port: int(to.Port())}), unix.Listen(listening, 5))
	}))
	defer func() { noError(t, unix.Close(listening)) }()
	arrivaltest.Await(t, space, own)
	h := start(t, space, haproxy.Config{
		Bind: netip.MustParseAddrPort("[::1]:80"), Servers: []netip.AddrPort{to}, Source: haproxy.Source{Addr: own, First: 5000, Last: 5001},
	})
	before := stats(t, h)
	client, err := connectOver(t, space, netip.MustParseAddrPort("[::1]:80"))
	noError(t, err)
	server, from, err := unix.Accept(listening)
	noError(t, err)
	if six, is := from.(*unix.SockaddrInet6); !is || netip.AddrFrom16(six.Addr) != own || six.Port != 5000 {
		t.Errorf("the server has a connection from %+v, want port 5000 of %v", from, own)
	}
	// The server first: HAProxy has both connections by now.
	noError(t, errors.Join(unix.Close(server), unix.Close(client)))
	within, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	noError(t, observe.Await(within, "HAProxy's word on the connection", func() (bool, error) { return logged(t, h) == 1, nil }))
	log, err := h.Log()
	noError(t, err)
	for _, want := range []string{"client=::1:", " server=server0 from=fd00::7:5000 to=::1:8080 "} {
		if !strings.Contains(log, want) {
			t.Errorf("log %q does not say %q", log, want)
		}
	}
	if moved := stats(t, h).Sub(before); moved["server0.stot"] != 1 || moved["frontend.conn_tot"] != 1 {
		t.Errorf("statistics: %v", moved.Moved())
	}
}

// A bind at :: takes the IP versions that Stack says.
func TestStackSaysWhoGetsIn(t *testing.T) {
	for _, c := range []struct {
		stack      haproxy.Stack
		bindV6Only string // net.ipv6.bindv6only
		ipv4       error
	}{
		{haproxy.DualStack, "1", nil}, {haproxy.IPv6Only, "0", unix.ECONNREFUSED}, {"", "0", nil}, {"", "1", unix.ECONNREFUSED},
	} {
		t.Run(fmt.Sprintf("%s, bindv6only %s", c.stack, c.bindV6Only), func(t *testing.T) {
			space := nstest.Loopback(t)
			noError(t, space.Do(func() error { return kernel.WriteSysctl("net.ipv6.bindv6only", c.bindV6Only) }))
			start(t, space, haproxy.Config{Bind: netip.MustParseAddrPort("[::]:80"), Stack: c.stack, Servers: []netip.AddrPort{server}})
			for to, want := range map[string]error{"[::1]:80": nil, "127.0.0.1:80": c.ipv4} {
				fd, err := connectOver(t, space, netip.MustParseAddrPort(to))
				if !errors.Is(err, want) {
					t.Errorf("%s: got %v, want %v", to, err, want)
				}
				noError(t, unix.Close(fd))
			}
		})
	}
}
