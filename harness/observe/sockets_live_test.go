//go:build linux

package observe

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"twlab/harness/internal/nstest"
	"twlab/harness/ns"
)

// kindOfSocket is a listener and a client of one family, and how a list must show both.
type kindOfSocket struct {
	family   int
	listen   netip.Addr
	only     bool // the listener is to say that it is IPv6 only
	ask      bool // the test sets IPV6_V6ONLY; else the kernel does by itself
	connect  netip.Addr
	v6       bool
	endsAre4 bool
}

var kindsOfSocket = map[string]kindOfSocket{
	"IPv4":             {family: unix.AF_INET, listen: netip.MustParseAddr("127.0.0.1"), connect: netip.MustParseAddr("127.0.0.1"), endsAre4: true},
	"IPv6":             {family: unix.AF_INET6, listen: netip.IPv6Loopback(), only: true, connect: netip.IPv6Loopback(), v6: true},
	"IPv6 only":        {family: unix.AF_INET6, listen: netip.IPv6Unspecified(), only: true, ask: true, connect: netip.IPv6Loopback(), v6: true},
	"dual stack, IPv6": {family: unix.AF_INET6, listen: netip.IPv6Unspecified(), connect: netip.IPv6Loopback(), v6: true},
	"dual stack, IPv4": {family: unix.AF_INET6, listen: netip.IPv6Unspecified(), connect: netip.MustParseAddr("::ffff:127.0.0.1"), v6: true, endsAre4: true},
	"IPv4-mapped":      {family: unix.AF_INET6, listen: netip.MustParseAddr("::ffff:127.0.0.1"), connect: netip.MustParseAddr("::ffff:127.0.0.1"), v6: true, endsAre4: true},
}

func sockaddr(family int, at netip.Addr, port int) unix.Sockaddr {
	if family == unix.AF_INET {
		return &unix.SockaddrInet4{Addr: at.As4(), Port: port}
	}
	return &unix.SockaddrInet6{Addr: at.As16(), Port: port}
}

// Every state of both versions is in the list, from sock_diag and from /proc, and what the
// kernel counts is what is listed.
func TestSocketsOfBothVersions(t *testing.T) {
	for name, k := range kindsOfSocket {
		t.Run(name, func(t *testing.T) { k.try(t) })
	}
}

func (k kindOfSocket) try(t *testing.T) {
	space := nstest.Loopback(t)
	const port = 8080
	var fds [3]int // listener, client, its peer
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(space.Do(func() (err error) {
		for i := range 2 {
			if fds[i], err = unix.Socket(k.family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
				return err
			}
		}
		if k.ask {
			err = unix.SetsockoptInt(fds[0], unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
		}
		return errors.Join(err, unix.Bind(fds[0], sockaddr(k.family, k.listen, port)), unix.Listen(fds[0], 5),
			unix.Connect(fds[1], sockaddr(k.family, k.connect, port)))
	}))
	defer func() { check(unix.Close(fds[0])) }()
	var err error
	fds[2], _, err = unix.Accept(fds[0])
	check(err)

	all := socketsIn(t, space)
	if got := all.In(Listen); len(got) != 1 || got[0].V6 != k.v6 || got[0].V6Only != k.only ||
		got[0].Local != netip.AddrPortFrom(k.listen.Unmap(), port) {
		t.Errorf("listener: got %+v, want one at %v, IPv6 %v, IPv6 only %v", got, k.listen, k.v6, k.only)
	}
	peer := netip.AddrPortFrom(k.connect.Unmap(), port)
	if got := all.In(Established); len(got) != 2 || got[0].V6 != k.v6 || got[0].Local.Addr().Is4() != k.endsAre4 || len(got.Between(peer, anyEnd)) != 1 {
		t.Errorf("established: got %v, want both ends, one at %v", got, peer)
	}
	check(unix.Close(fds[1]))
	check(unix.Close(fds[2]))
	awaited(t, "TIME_WAIT", func() bool { return len(socketsIn(t, space).In(TimeWait)) == 1 })
	if got := socketsIn(t, space).In(TimeWait); len(got) != 1 || got[0].V6 != k.v6 || got[0].Remote != peer || !got[0].Mini() {
		t.Errorf("TIME_WAIT: got %v, want one towards %v", got, peer)
	}
}

// socketsIn reads the list and compares it with /proc and with the kernel's count.
func socketsIn(t *testing.T, space *ns.Namespace) (all Sockets) {
	t.Helper()
	err := space.Do(func() (err error) {
		all, err = ReadSockets()
		if err != nil {
			return err
		}
		full, err := ReadOccupancy()
		if minis, owned := all.tally(); err == nil && (minis != full.TimeWait || owned != full.Sockets) {
			t.Errorf("%d TIME_WAITs and %d sockets are listed, %+v counted: %v", minis, owned, full, all)
		}
		proc, otherErr := procSockets()
		for _, s := range all {
			s.V6Only = false // only sock_diag tells
			if !slices.ContainsFunc(proc, func(p Socket) bool {
				return p.Local == s.Local && p.Remote == s.Remote && p.State == s.State && p.V6 == s.V6
			}) {
				t.Errorf("%v is not in /proc: %v", s, proc)
			}
		}
		return errors.Join(err, otherErr)
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func awaited(t *testing.T, event string, seen func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := Await(ctx, event, func() (bool, error) { return seen(), nil }); err != nil {
		t.Fatal(err)
	}
}

// A request of a listener that is not acknowledged yet, on a link that swallows the answer.
func TestHalfOpenRequestsOfBothVersions(t *testing.T) {
	for name, client := range map[string]netip.Addr{
		"IPv4": netip.MustParseAddr("10.0.0.2"), "IPv6": netip.MustParseAddr("fd00::2"),
	} {
		t.Run(name, func(t *testing.T) {
			w := newNetwork(t)
			w.wire(w.client, "eth6", "fd00::2/64", "client6", "fd00::1/64")
			w.await("the address", func() bool { return isUp(w.client, "eth6") && isUp(w.gateway, "client6") })
			var listener, connecting int
			gateway := netip.MustParseAddr("10.0.0.1")
			if client.Is6() {
				gateway = netip.MustParseAddr("fd00::1")
			}
			w.in(w.gateway, func() (err error) {
				if listener, err = unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
					return err
				}
				return errors.Join(unix.Bind(listener, &unix.SockaddrInet6{Port: 80}), unix.Listen(listener, 5))
			})
			w.dropInput(client)
			family := unix.AF_INET
			if client.Is6() {
				family = unix.AF_INET6
			}
			w.in(w.client, func() (err error) {
				if connecting, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0); err != nil {
					return err
				}
				if err := unix.Connect(connecting, sockaddr(family, gateway, 80)); !errors.Is(err, unix.EINPROGRESS) {
					return err
				}
				return nil
			})
			w.await("SYN_RECV", func() bool { return len(w.sockets(w.gateway).In(SynRecv)) == 1 })
			got := w.sockets(w.gateway).In(SynRecv)
			if len(got) != 1 || got[0].Remote.Addr() != client || got[0].Local.Addr() != gateway || !got[0].V6 {
				t.Errorf("got %v, want a request from %v at an IPv6 socket", got, client)
			}
			if sent := w.sockets(w.client).In(SynSent); len(sent) != 1 || sent[0].Local.Addr() != client {
				t.Errorf("client: got %v, want SYN_SENT from %v", sent, client)
			}
			w.check(errors.Join(unix.Close(listener), unix.Close(connecting)))
		})
	}
}

// dropInput makes the client drop what arrives for TCP, in the version of an address.
func (w *network) dropInput(of netip.Addr) {
	w.t.Helper()
	tool := "iptables"
	if of.Is6() {
		tool = "ip6tables"
	}
	w.in(w.client, func() error { return run(w.t, tool, strings.Fields("-w -A INPUT -p tcp -j DROP")...) })
}
