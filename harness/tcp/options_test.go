//go:build linux

package tcp_test

import (
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"twlab/harness/observe"
	"twlab/harness/tcp"
)

// When nothing comes back any more, the timers of the socket decide when the kernel gives up.
func TestTimersEndTheConnection(t *testing.T) {
	for name, c := range map[string]struct {
		options     tcp.Options
		sends       int
		least, most time.Duration
	}{
		"keep-alive": {
			tcp.Options{KeepAlive: tcp.KeepAlive{On: true, Idle: time.Second, Interval: time.Second, Count: 1}}, 0,
			1900 * time.Millisecond, 10 * time.Second,
		},
		"user timeout": {tcp.Options{UserTimeout: 700 * time.Millisecond}, 1, 600 * time.Millisecond, 10 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			host, inside := newHostIn(t)
			client, _ := both(t, host, tcp.Attempt{Options: c.options})
			began := time.Now()
			must(t, inside(func() error {
				return exec.CommandContext(t.Context(), "iptables", "-w", "-I", "INPUT", "-j", "DROP").Run()
			}))
			_, err := host.TrySend(client, c.sends)
			must(t, err)
			got, err := host.ReceiveUpTo(t.Context(), client, tcp.Limit{Within: 20 * time.Second})
			if took := time.Since(began); got.Errno != unix.ETIMEDOUT || err != nil || took < c.least || took > c.most {
				t.Errorf("%+v, %v after %v, want ETIMEDOUT after %v", got, err, took, c.least)
			}
			// The read had the error.
			if sent, err := host.TrySend(client, 1); sent.Errno != unix.EPIPE || err != nil {
				t.Errorf("send: %+v, %v, want EPIPE", sent, err)
			}
		})
	}
}

// A listener's small receive buffer closes the window early.
func TestReceiveBufferClosesTheWindow(t *testing.T) {
	const much = 4 << 20
	taken := map[int]int{}
	for _, size := range []int{0, 4096} {
		host, inside := newHostIn(t)
		_, at := listen(t, host, tcp.ListenSpec{Options: tcp.Options{ReceiveBuffer: size}})
		out := attempt(t, host, tcp.Attempt{To: at, Options: tcp.Options{SendBuffer: 4096}})[0]
		await(t, "the window to be full", func() bool {
			sent, err := host.TrySend(out.Conn, much)
			must(t, err)
			taken[size] += sent.Bytes
			probing := sockets(t, inside).Between(out.Local, at)
			return len(probing) == 1 && probing[0].Timer == observe.TimerProbe
		})
	}
	if taken[4096] == 0 || taken[4096] >= taken[0] {
		t.Errorf("the kernel took %d bytes with a small buffer, %d without", taken[4096], taken[0])
	}
}

// One segment for each write with TCP_NODELAY; without, what waits for an ACK is joined.
func TestNoDelaySendsEachWriteAlone(t *testing.T) {
	const writes = 20
	data := map[bool]uint64{}
	for _, noDelay := range []bool{false, true} {
		host, inside := newHostIn(t)
		client, _ := both(t, host, tcp.Attempt{Options: tcp.Options{NoDelay: noDelay}})
		for range writes {
			_, err := host.Send(client, 1)
			must(t, err)
		}
		counters, err := readCounters(inside)
		must(t, err)
		data[noDelay] = counters["TcpExt.TCPOrigDataSent"]
	}
	if data[true] != writes || data[false] >= writes {
		t.Errorf("%d segments with TCP_NODELAY and %d without, want %d and fewer", data[true], data[false], writes)
	}
}

func TestPortRange(t *testing.T) {
	host := newHost(t, "net.ipv4.ip_local_port_range", "32768 60999")
	_, at := listen(t, host, tcp.ListenSpec{})
	for i, c := range []struct {
		from netip.AddrPort
		none tcp.Outcome // when all ports are used
	}{
		{netip.AddrPort{}, tcp.NoPort}, // connect(2) chooses
		{netip.AddrPortFrom(loopback, 0), tcp.PortInUse},
	} {
		low := uint16(40000 + 10*i)
		try := tcp.Attempt{To: at, From: c.from, PortRange: tcp.PortRange{Low: low, High: low + 1}}
		outs := attempt(t, host, try, try, try)
		used := map[uint16]bool{outs[0].Local.Port(): true, outs[1].Local.Port(): true}
		if !used[low] || !used[low+1] || outs[2].Outcome != c.none {
			t.Errorf("%v, want the ports %d and %d, and then %s", outs, low, low+1, c.none)
		}
	}
	_, two := listen(t, host, tcp.ListenSpec{PortRange: tcp.PortRange{Low: 50000, High: 50000}})
	if two.Port() != 50000 {
		t.Errorf("listens at %v, want port 50000", two)
	}
	wrong := tcp.Attempt{To: at, PortRange: tcp.PortRange{Low: 2, High: 1}}
	if _, err := host.Attempt(t.Context(), []tcp.Attempt{wrong}); err == nil || !strings.Contains(err.Error(), "lower port first") {
		t.Errorf("%v, want an error about the order", err)
	}
}

// A client whose port range has the port that it connects to may connect to itself: its SYN
// meets its own socket in SYN_SENT (tcp_rcv_synsent_state_process, simultaneous open).
func TestSomeConnectToThemselves(t *testing.T) {
	host := newHost(t, "net.ipv4.ip_local_port_range", "40000 40007")
	to := netip.MustParseAddrPort("127.0.0.1:40004")
	seen := map[tcp.Outcome]int{}
	for range 200 {
		out, err := host.Connect(t.Context(), tcp.Attempt{To: to, Ending: tcp.Abort})
		must(t, err)
		seen[out.Outcome]++
		if self := out.Local == to; self != (out.Outcome == tcp.Connected) || !self && out.Errno != unix.ECONNREFUSED {
			t.Fatalf("%v", out)
		}
	}
	if len(seen) != 2 {
		t.Errorf("%v, want some Connected and some Refused", seen)
	}
}

func TestOptionsSayAllThatIsWrong(t *testing.T) {
	host := newHost(t)
	_, err := host.Attempt(t.Context(), []tcp.Attempt{{Options: tcp.Options{
		KeepAlive: tcp.KeepAlive{Idle: time.Millisecond, Count: 1000}, UserTimeout: time.Microsecond, SendBuffer: -1,
	}, MPTCP: true, ISN: 1, FastOpen: -1}})
	for _, want := range []string{"idle time", "count 1000", "set On", "user timeout", "buffers", "MPTCP with", "fast open"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want it to say %q", err, want)
		}
	}
}

func TestMultipath(t *testing.T) {
	host := newHost(t)
	for _, both := range []bool{true, false} {
		listener, at := listen(t, host, tcp.ListenSpec{MPTCP: both})
		out := attempt(t, host, tcp.Attempt{To: at, MPTCP: true})[0]
		if out.Outcome != tcp.Connected || out.MPTCP != both || out.SYNs != 1 {
			t.Errorf("%+v, want Multipath TCP: %v", out, both)
		}
		server, err := host.Accept(t.Context(), listener, out.Local)
		must(t, err)
		_, err = host.Send(out.Conn, 1000)
		must(t, err)
		must(t, host.End(t.Context(), out.Conn, tcp.CloseNow))
		if got, err := host.Receive(t.Context(), server); got.Bytes != 1000 || err != nil {
			t.Errorf("%+v, %v", got, err)
		}
	}
	if out := attempt(t, host, tcp.Attempt{To: netip.AddrPortFrom(loopback, 9), MPTCP: true})[0]; out.Outcome != tcp.Refused {
		t.Errorf("%v, want Refused", out)
	}
	off := newHost(t, "net.mptcp.enabled", "0")
	_, err := off.Attempt(t.Context(), []tcp.Attempt{{To: netip.AddrPortFrom(loopback, 9), MPTCP: true}})
	if err == nil || !strings.Contains(err.Error(), "net.mptcp.enabled is 0") {
		t.Errorf("with MPTCP off: %v", err)
	}
}

func TestFastOpen(t *testing.T) {
	host, inside := newHostIn(t, "net.ipv4.tcp_fastopen", "3")
	for _, at := range []netip.Addr{loopback, loopback6} {
		listener, at := listen(t, host, tcp.ListenSpec{At: netip.AddrPortFrom(at, 0), FastOpen: 10})
		for i, want := range []tcp.FastOpen{tcp.CookieWanted, tcp.DataInSYN, tcp.DataInSYN} {
			out := attempt(t, host, tcp.Attempt{To: at, FastOpen: 100})[0]
			if out.Outcome != tcp.Connected || out.FastOpen != want {
				t.Errorf("attempt %d: %+v, want %s", i, out, want)
			}
			server, err := host.Accept(t.Context(), listener, out.Local)
			must(t, err)
			if got, err := host.ReceiveUpTo(t.Context(), server, tcp.Limit{Bytes: 100, Within: 10 * time.Second}); got.Bytes != 100 || err != nil {
				t.Errorf("attempt %d: the server got %+v, %v", i, got, err)
			}
		}
		// The same address without fast open: the cookie is good, and the data is not taken.
		must(t, host.End(t.Context(), listener, tcp.CloseNow))
		listener, _ = listen(t, host, tcp.ListenSpec{At: at})
		out := attempt(t, host, tcp.Attempt{To: at, FastOpen: 100})[0]
		server, err := host.Accept(t.Context(), listener, out.Local)
		must(t, err)
		got, err := host.ReceiveUpTo(t.Context(), server, tcp.Limit{Bytes: 100, Within: 10 * time.Second})
		if out.FastOpen != tcp.DataNotAcked || out.SYNs != 1 || got.Bytes != 100 || err != nil {
			t.Errorf("to a listener without it: %+v, %+v, %v", out, got, err)
		}
	}
	counters, err := readCounters(inside)
	must(t, err)
	if counters["TcpExt.TCPFastOpenActive"] != 4 || counters["TcpExt.TCPFastOpenPassive"] != 4 {
		t.Errorf("fast open: %d active, %d passive, want 4 each", counters["TcpExt.TCPFastOpenActive"], counters["TcpExt.TCPFastOpenPassive"])
	}
	off := newHost(t, "net.ipv4.tcp_fastopen", "2")
	if _, err := off.Attempt(t.Context(), []tcp.Attempt{{To: netip.AddrPortFrom(loopback, 9), FastOpen: 1}}); err == nil || !strings.Contains(err.Error(), "net.ipv4.tcp_fastopen has no 1") {
		t.Errorf("with fast open off: %v", err)
	}
}
