//go:build linux

package tcp_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"twlab/harness/observe"
	"twlab/harness/tcp"
)

var (
	loopback6 = netip.MustParseAddr("::1")
	any6      = netip.AddrPortFrom(netip.IPv6Unspecified(), 0)
)

// What works over IPv4 works over IPv6, and addresses are those of the wire.
func TestVersions(t *testing.T) {
	for _, c := range []struct {
		name    string
		listen  tcp.ListenSpec
		attempt tcp.Attempt
		to      netip.Addr
	}{
		{"IPv6", tcp.ListenSpec{At: netip.AddrPortFrom(loopback6, 0)}, tcp.Attempt{}, loopback6},
		{"IPv6, late port", tcp.ListenSpec{At: any6}, tcp.Attempt{From: netip.AddrPortFrom(loopback6, 0), LatePort: true}, loopback6},
		{"IPv6, chosen sequence number", tcp.ListenSpec{At: any6, V6Only: true}, tcp.Attempt{ISN: 7 << 20}, loopback6},
		{"IPv6, chosen port", tcp.ListenSpec{At: any6}, tcp.Attempt{From: netip.AddrPortFrom(loopback6, 1234), ReuseAddr: true, ISN: 1}, loopback6},
		{"IPv4 to a listener of both versions", tcp.ListenSpec{At: any6}, tcp.Attempt{}, loopback},
		{"IPv4 by an AF_INET6 socket", tcp.ListenSpec{}, tcp.Attempt{IPv4Mapped: true}, loopback},
		{"the same with a source and a late port", tcp.ListenSpec{}, tcp.Attempt{IPv4Mapped: true, From: netip.AddrPortFrom(loopback, 0), LatePort: true}, loopback},
		{"AF_INET6 sockets on both sides of IPv4", tcp.ListenSpec{At: any6}, tcp.Attempt{IPv4Mapped: true, ISN: 9}, loopback},
	} {
		t.Run(c.name, func(t *testing.T) {
			host, inside := newHostIn(t)
			listener, at := listen(t, host, c.listen)
			c.attempt.To = netip.AddrPortFrom(c.to, at.Port())
			out := attempt(t, host, c.attempt)[0]
			if out.Outcome != tcp.Connected || out.Local.Addr() != c.to || out.Step != tcp.StepConnect {
				t.Fatalf("%v, want Connected from %v", out, c.to)
			}
			if six := inTable6(t, inside, out.Local.Port()); six != (c.to == loopback6 || c.attempt.IPv4Mapped) {
				t.Errorf("its socket is one of AF_INET6: %v", six)
			}
			server, err := host.Accept(t.Context(), listener, out.Local)
			must(t, err)
			before, err := host.Clock(out.Conn)
			must(t, err)
			must(t, host.AdvanceClock(out.Conn, 1<<20))
			after, err := host.Clock(out.Conn)
			must(t, err)
			if moved := after.Ticks - before.Ticks; moved < 1<<20-10 || moved > 1<<21 {
				t.Errorf("the clock moved by %d, want %d and a little", moved, 1<<20)
			}
			_, err = host.Send(server, 10)
			must(t, err)
			// The end is seen in the socket itself, and in the TIME_WAIT.
			must(t, host.End(t.Context(), server, tcp.CloseNow))
			must(t, host.End(t.Context(), out.Conn, tcp.CloseAfterPeer))
			again := attempt(t, host, tcp.Attempt{To: c.attempt.To})[0]
			server, err = host.Accept(t.Context(), listener, again.Local)
			must(t, err)
			must(t, host.End(t.Context(), again.Conn, tcp.Vanish))
			_, err = host.Send(server, 1)
			must(t, err)
			if got, err := host.Receive(t.Context(), server); got.Errno != unix.ECONNRESET || err != nil {
				t.Errorf("from a peer that has vanished: %+v, %v", got, err)
			}
		})
	}
}

// The side that ended first is found in the TIME_WAIT of either version.
func TestFirstToEndOverIPv6(t *testing.T) {
	host := newHost(t)
	_, at := listen(t, host, tcp.ListenSpec{At: any6, Ending: tcp.CloseAfterPeer})
	for _, to := range []netip.Addr{loopback6, loopback} {
		for _, mapped := range []bool{false, to == loopback} {
			many := make([]tcp.Attempt, 50)
			for i := range many {
				many[i] = tcp.Attempt{To: netip.AddrPortFrom(to, at.Port()), IPv4Mapped: mapped, Ending: tcp.CloseFirst}
			}
			outs, err := host.Attempt(t.Context(), many)
			must(t, err)
			for _, o := range outs {
				if o.Outcome != tcp.Connected || o.End != (tcp.End{First: tcp.Here}) {
					t.Fatalf("to %v: %v, %+v, want it ended here first", to, o, o.End)
				}
			}
		}
	}
}

func TestV6OnlyLeavesIPv4Out(t *testing.T) {
	host := newHost(t)
	_, at := listen(t, host, tcp.ListenSpec{At: any6, V6Only: true})
	if got := attempt(t, host, tcp.Attempt{To: netip.AddrPortFrom(loopback, at.Port())})[0]; got.Outcome != tcp.Refused {
		t.Errorf("%v, want it Refused", got)
	}
	// So the same port is free for IPv4; without V6Only it is not.
	free, err := host.TryListen(t.Context(), tcp.ListenSpec{At: netip.AddrPortFrom(netip.Addr{}, at.Port())})
	must(t, err)
	_, both := listen(t, host, tcp.ListenSpec{At: any6})
	taken, err := host.TryListen(t.Context(), tcp.ListenSpec{At: netip.AddrPortFrom(loopback, both.Port())})
	must(t, err)
	if free.Outcome != tcp.Listening || taken.Outcome != tcp.PortInUse || len(taken.Holders) != 1 || taken.Holders[0].Local != both {
		t.Errorf("%v and %v, want Listening, and PortInUse by %v", free, taken, both)
	}
}

// Sockets of one Dialer may be of both versions.
func TestDialerMixesVersions(t *testing.T) {
	host, inside := newHostIn(t)
	_, at := listen(t, host, tcp.ListenSpec{At: any6, Ending: tcp.CloseAfterPeer})
	const each = 100
	err := host.Dial(t.Context(), 2*each, 2, func(ctx context.Context, d *tcp.Dialer) error {
		for i := range 2 * each {
			to := []netip.Addr{loopback, loopback6}[i%2]
			_, st, err := d.Attempt(ctx, tcp.Attempt{To: netip.AddrPortFrom(to, at.Port())})
			if err != nil {
				return err
			}
			if err := st.Reset(); err != nil {
				return err
			}
		}
		return nil
	})
	must(t, err)
	if left := sockets(t, inside).In(observe.Close); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

// inTable6 reports whether a connection with this local port is one of an AF_INET6 socket.
func inTable6(t *testing.T, inside func(func() error) error, port uint16) bool {
	t.Helper()
	var table []byte
	must(t, inside(func() (err error) {
		table, err = os.ReadFile("/proc/thread-self/net/tcp6")
		return err
	}))
	for line := range strings.Lines(string(table)) {
		if fields := strings.Fields(line); len(fields) > 3 && strings.HasSuffix(fields[1], fmt.Sprintf(":%04X", port)) && fields[3] == "01" {
			return true
		}
	}
	return false
}
