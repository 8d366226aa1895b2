//go:build linux

package tcp_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"twlab/harness/internal/nstest"
	"twlab/harness/kernel"
	"twlab/harness/observe"
	"twlab/harness/tcp"
)

var loopback = netip.MustParseAddr("127.0.0.1")

// newHost makes a host in a namespace of its own that has only a loopback, with
// sysctls set.
func newHost(t *testing.T, sysctls ...string) *tcp.Host {
	t.Helper()
	host, _ := newHostIn(t, sysctls...)
	return host
}

// newHostIn is newHost, and also returns the way into the namespace.
func newHostIn(t *testing.T, sysctls ...string) (*tcp.Host, func(func() error) error) {
	t.Helper()
	space := nstest.New(t)
	err := space.Do(func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		for i := 0; i < len(sysctls); i += 2 {
			if err := kernel.WriteSysctl(sysctls[i], sysctls[i+1]); err != nil {
				return err
			}
		}
		return netlink.LinkSetUp(lo)
	})
	if err != nil {
		t.Fatal(err)
	}
	host := tcp.NewHost("here", space.Do)
	t.Cleanup(func() {
		if err := host.CloseAll(); err != nil {
			t.Error(err)
		}
	})
	return host, space.Do
}

func listen(t *testing.T, host *tcp.Host, spec tcp.ListenSpec) (tcp.Handle, netip.AddrPort) {
	t.Helper()
	if !spec.At.Addr().IsValid() {
		spec.At = netip.AddrPortFrom(loopback, spec.At.Port())
	}
	handle, at, err := host.Listen(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	return handle, at
}

func await(t *testing.T, event string, seen func() bool) {
	t.Helper()
	must(t, observe.Await(t.Context(), event, func() (bool, error) { return seen(), nil }))
}

func sockets(t *testing.T, inside func(func() error) error) (all observe.Sockets) {
	t.Helper()
	must(t, inside(func() (err error) {
		all, err = observe.ReadSockets()
		return err
	}))
	return all
}

func readCounters(inside func(func() error) error) (all kernel.Counters, err error) {
	err = inside(func() (err error) {
		all, err = observe.ReadCounters()
		return err
	})
	return all, err
}

func attempt(t *testing.T, host *tcp.Host, attempts ...tcp.Attempt) []tcp.Result {
	t.Helper()
	outcomes, err := host.Attempt(t.Context(), attempts)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range outcomes {
		t.Log(o)
	}
	return outcomes
}

func TestAttemptReportsTheKernelsOutcome(t *testing.T) {
	host := newHost(t, "net.ipv4.tcp_syn_retries", "1", "net.ipv4.ip_local_port_range", "40000 40000")
	_, open := listen(t, host, tcp.ListenSpec{At: netip.AddrPortFrom(loopback, 80), Ending: tcp.CloseAfterPeer})
	_, full := listen(t, host, tcp.ListenSpec{At: netip.AddrPortFrom(loopback, 81), NeverAccepts: true, Backlog: new(1)})
	closed := netip.AddrPortFrom(loopback, 9)

	for _, c := range []struct {
		name   string
		setUp  []tcp.Attempt
		try    tcp.Attempt
		want   tcp.Outcome
		errno  syscall.Errno
		within [2]int // SYNs, fewest and most
	}{
		{name: "a listener", try: tcp.Attempt{To: open}, want: tcp.Connected, within: [2]int{1, 1}},
		{name: "no listener", try: tcp.Attempt{To: closed}, want: tcp.Refused, errno: unix.ECONNREFUSED, within: [2]int{1, 1}},
		{name: "no free port", try: tcp.Attempt{To: open}, want: tcp.NoPort, errno: unix.EADDRNOTAVAIL},
		{name: "no route", try: tcp.Attempt{To: netip.MustParseAddrPort("192.0.2.1:80")}, want: tcp.Unreachable, errno: unix.ENETUNREACH},
		{name: "a port that is taken", try: tcp.Attempt{To: open, From: netip.AddrPortFrom(loopback, open.Port())}, want: tcp.PortInUse, errno: unix.EADDRINUSE},
		{
			name: "a full accept queue",
			setUp: []tcp.Attempt{
				{To: full, From: netip.AddrPortFrom(loopback, 41001)}, {To: full, From: netip.AddrPortFrom(loopback, 41002)},
			},
			try:  tcp.Attempt{To: full, From: netip.AddrPortFrom(loopback, 41003)},
			want: tcp.TimedOut, errno: unix.ETIMEDOUT, within: [2]int{2, 8},
		},
		{
			name: "our own patience at an end",
			try:  tcp.Attempt{To: full, From: netip.AddrPortFrom(loopback, 41004), Budget: 100 * time.Millisecond},
			want: tcp.Undecided, within: [2]int{1, 1},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, o := range attempt(t, host, c.setUp...) {
				if o.Outcome != tcp.Connected {
					t.Fatalf("set up: %v", o)
				}
			}
			got := attempt(t, host, c.try)[0]
			if got.Outcome != c.want || got.Errno != c.errno {
				t.Errorf("got %v, want %s (%s)", got, c.want, unix.ErrnoName(c.errno))
			}
			if got.SYNs < c.within[0] || got.SYNs > c.within[1] {
				t.Errorf("got %d SYNs, want %v", got.SYNs, c.within)
			}
		})
	}
}

// The last look is at the end of the budget, not at the last wake-up: a SYN that is
// sent again wakes nobody.
func TestUndecidedAttemptCountsItsSYNs(t *testing.T) {
	host, inside := newHostIn(t)
	_, full := listen(t, host, tcp.ListenSpec{NeverAccepts: true, Backlog: new(1)})
	attempt(t, host, tcp.Attempt{To: full}, tcp.Attempt{To: full})
	got := attempt(t, host, tcp.Attempt{To: full, Budget: 1500 * time.Millisecond})[0]
	counters, err := readCounters(inside)
	must(t, err)
	again := int(counters["TcpExt.TCPSynRetrans"])
	if got.Outcome != tcp.Undecided || again == 0 || got.SYNs != 1+again {
		t.Errorf("%v, while the kernel sent it %d more times", got, again)
	}
}

// What one peer does is no error of the others' attempts.
func TestAttemptsEndEachInItsOwnWay(t *testing.T) {
	host := newHost(t)
	_, good := listen(t, host, tcp.ListenSpec{Ending: tcp.CloseAfterPeer})
	_, bad, err := host.Serve(t.Context(), tcp.ListenSpec{At: netip.AddrPortFrom(loopback, 0)}, func(ctx context.Context, st *tcp.Stream) error {
		if err := st.Within(ctx, 20*time.Millisecond); err != nil {
			return err
		}
		_, _ = st.Read(ctx)
		return st.Reset()
	})
	must(t, err)
	_, mute := listen(t, host, tcp.ListenSpec{})
	_, closes := listen(t, host, tcp.ListenSpec{Ending: tcp.CloseFirst})
	ended := tcp.End{First: tcp.Here}
	for i, c := range []struct {
		attempt tcp.Attempt
		want    tcp.End
		err     error
		text    string
	}{
		{tcp.Attempt{To: good, Ending: tcp.CloseFirst}, ended, nil, ""},
		{tcp.Attempt{To: good, Ending: tcp.CloseNow}, ended, nil, ""},
		{tcp.Attempt{To: good, Ending: tcp.Abort}, ended, nil, ""},
		{tcp.Attempt{To: closes, Ending: tcp.CloseAfterPeer}, tcp.End{First: tcp.Peer}, nil, ""},
		{tcp.Attempt{To: bad, Ending: tcp.CloseAfterPeer}, tcp.End{First: tcp.Peer, Errno: unix.ECONNRESET}, tcp.ErrPeerReset, "the peer reset"},
		{tcp.Attempt{To: mute, Ending: tcp.CloseAfterPeer, Budget: 100 * time.Millisecond}, tcp.End{First: tcp.Here, Undecided: true}, nil, "our budget ended"},
		{tcp.Attempt{To: mute, Ending: tcp.CloseFirst, Budget: 100 * time.Millisecond}, tcp.End{First: tcp.Here, Undecided: true}, nil, "our budget ended"},
		{tcp.Attempt{To: good}, tcp.End{}, nil, ""},
	} {
		outs := attempt(t, host, tcp.Attempt{To: good, Ending: tcp.CloseFirst}, c.attempt, tcp.Attempt{To: good, Ending: tcp.Abort})
		for j, want := range []tcp.End{ended, c.want, ended} {
			got, kept := outs[j], j == 1 && c.attempt.Ending == tcp.KeepOpen
			if got.Outcome != tcp.Connected || got.End != want || !got.Conn.IsZero() != kept || (got.Lasted == 0) != kept {
				t.Errorf("attempts %d: %v, ended %+v, want %+v", i, got, got.End, want)
			}
		}
		err := outs[1].End.Err()
		if (err != nil) != (c.text != "") || c.err != nil && !errors.Is(err, c.err) || !strings.Contains(outs[1].String(), c.text) {
			t.Errorf("attempts %d: %v, which says %v, want %q", i, outs[1], err, c.text)
		}
	}
}

// An End in vain leaves the connection under its handle, and whoever comes
// meanwhile finds none.
func TestEndInVainGivesTheConnectionBack(t *testing.T) {
	host, inside := newHostIn(t)
	for _, how := range []tcp.Ending{tcp.CloseAfterPeer, tcp.CloseFirst} {
		client, server := both(t, host, tcp.Attempt{})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- host.End(ctx, client, how) }()
		await(t, "the call to have the connection", func() bool {
			_, err := host.RTO(client)
			return errors.Is(err, tcp.ErrNoHandle)
		})
		if err := host.End(t.Context(), client, tcp.Abort); !errors.Is(err, tcp.ErrNoHandle) {
			t.Errorf("%s: End meanwhile = %v, want ErrNoHandle", how, err)
		}
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("%s: End in vain = %v, want its context's error", how, err)
		}
		_, err := host.RTO(client)
		must(t, err)
		// The peer's RST instead of its FIN is in vain too, as often as one asks.
		must(t, host.End(t.Context(), server, tcp.Abort))
		for range 2 {
			if err := host.End(t.Context(), client, tcp.CloseAfterPeer); !errors.Is(err, tcp.ErrPeerReset) {
				t.Errorf("%s: End after a RST = %v, want ErrPeerReset", how, err)
			}
		}
		must(t, host.End(t.Context(), client, tcp.CloseNow))
		if open := sockets(t, inside).In(observe.Established); len(open) != 0 {
			t.Errorf("%s: %v", how, open)
		}
	}
}

// A RST is told to everybody who asks, whoever heard of it first.
func TestPeerResetIsToldAgain(t *testing.T) {
	host := newHost(t)
	client, server := both(t, host, tcp.Attempt{})
	must(t, host.End(t.Context(), server, tcp.Abort))
	for range 2 {
		if got, err := host.Receive(t.Context(), client); got.Errno != unix.ECONNRESET || err != nil {
			t.Errorf("Receive = %+v, %v, want a RST", got, err)
		}
	}
	if err := host.End(t.Context(), client, tcp.CloseFirst); !errors.Is(err, tcp.ErrPeerReset) {
		t.Errorf("End = %v, want ErrPeerReset", err)
	}
}

// Accept says who came instead, and ends with the listener.
func TestAcceptInVainSaysWhy(t *testing.T) {
	host := newHost(t)
	listener, at := listen(t, host, tcp.ListenSpec{})
	stranger := attempt(t, host, tcp.Attempt{To: at})[0].Local
	nobody := netip.AddrPortFrom(loopback, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := host.Accept(ctx, listener, nobody); err == nil || !strings.Contains(err.Error(), stranger.String()) {
		t.Errorf("Accept = %v, want it to name %v", err, stranger)
	}
	const rounds = 50 // in some of them Accept waits already when the listener ends
	for range rounds {
		begun, ended := make(chan struct{}), make(chan error, 1)
		go func() {
			long, stop := context.WithTimeout(t.Context(), 20*time.Second)
			defer stop()
			close(begun)
			_, err := host.Accept(long, listener, nobody)
			ended <- err
		}()
		<-begun
		must(t, host.End(t.Context(), listener, tcp.CloseAfterPeer))
		if err := <-ended; !errors.Is(err, tcp.ErrNoHandle) {
			t.Fatalf("Accept of a listener that is ended = %v, want ErrNoHandle", err)
		}
		listener, _ = listen(t, host, tcp.ListenSpec{})
	}
}

func TestAttemptRefusesWhatItCannotDo(t *testing.T) {
	host := newHost(t)
	for name, a := range map[string]tcp.Attempt{
		"a link-local address":    {To: netip.MustParseAddrPort("[fe80::1%lo]:80")},
		"an IPv4-mapped address":  {To: netip.MustParseAddrPort("[::ffff:127.0.0.1]:80")},
		"two IP versions":         {To: netip.MustParseAddrPort("[::1]:80"), From: netip.MustParseAddrPort("127.0.0.1:0")},
		"an IPv6 address, mapped": {To: netip.MustParseAddrPort("[::1]:80"), IPv4Mapped: true},
		"unknown ending":          {To: mustListen(t, host), Ending: "burst"},
	} {
		if out, err := host.Attempt(t.Context(), []tcp.Attempt{a}); err == nil {
			t.Errorf("%s: got %v, want an error", name, out)
		}
	}
}

func mustListen(t *testing.T, host *tcp.Host) netip.AddrPort {
	_, at := listen(t, host, tcp.ListenSpec{Ending: tcp.CloseAfterPeer})
	return at
}

func TestAttemptEndsWithItsContext(t *testing.T) {
	host := newHost(t)
	_, full := listen(t, host, tcp.ListenSpec{NeverAccepts: true, Backlog: new(1)})
	attempt(t, host, tcp.Attempt{To: full}, tcp.Attempt{To: full})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := host.Attempt(ctx, []tcp.Attempt{{To: full}}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want the context's error", err)
	}
}

// Who closes first decides which endings leave what: told by whether the same
// port can be used again with SO_REUSEADDR and no timestamps.
func TestEndings(t *testing.T) {
	for _, c := range []struct {
		client, server tcp.Ending
	}{
		{tcp.CloseFirst, tcp.CloseAfterPeer},
		{tcp.CloseAfterPeer, tcp.CloseFirst},
		{tcp.Abort, tcp.CloseAfterPeer},
		{tcp.CloseNow, tcp.CloseAfterPeer},
	} {
		t.Run(fmt.Sprintf("client %s, server %s", c.client, c.server), func(t *testing.T) {
			host := newHost(t)
			_, at := listen(t, host, tcp.ListenSpec{Ending: c.server})
			for _, o := range attempt(t, host, tcp.Attempt{To: at, Ending: c.client}, tcp.Attempt{To: at, Ending: c.client}) {
				if o.Outcome != tcp.Connected || !o.Conn.IsZero() {
					t.Errorf("got %v with handle %v, want Connected and closed", o, o.Conn)
				}
			}
		})
	}
}

func TestKeptConnectionIsDrivenFromBothSides(t *testing.T) {
	host := newHost(t)
	listener, at := listen(t, host, tcp.ListenSpec{})
	out := attempt(t, host, tcp.Attempt{To: at})[0]
	if out.Conn.IsZero() || !out.Timestamps {
		t.Fatalf("got %v with handle %v, want an open connection with timestamps", out, out.Conn)
	}
	accepted, err := host.Accept(t.Context(), listener, out.Local)
	if err != nil {
		t.Fatal(err)
	}
	// The peer has not closed: waiting for it must not end by itself, and must
	// leave the connection usable.
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := host.End(ctx, out.Conn, tcp.CloseAfterPeer); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("End while the peer is open = %v, want the context's error", err)
	}
	for _, step := range []func() error{
		func() error { return host.AdvanceClock(out.Conn, 1000) },
		func() error { return host.End(t.Context(), accepted, tcp.CloseNow) },
		func() error { return host.End(t.Context(), out.Conn, tcp.CloseAfterPeer) },
	} {
		if err := step(); err != nil {
			t.Error(err)
		}
	}
	if err := host.End(t.Context(), out.Conn, tcp.CloseNow); !errors.Is(err, tcp.ErrNoHandle) {
		t.Errorf("second End = %v, want ErrNoHandle", err)
	}
}

func TestPeerResetIsNotItsFIN(t *testing.T) {
	host := newHost(t)
	listener, at := listen(t, host, tcp.ListenSpec{})
	out := attempt(t, host, tcp.Attempt{To: at})[0]
	accepted, err := host.Accept(t.Context(), listener, out.Local)
	if err != nil {
		t.Fatal(err)
	}
	if err := host.End(t.Context(), accepted, tcp.Abort); err != nil {
		t.Fatal(err)
	}
	if err := host.End(t.Context(), out.Conn, tcp.CloseAfterPeer); !errors.Is(err, tcp.ErrPeerReset) {
		t.Errorf("End = %v, want ErrPeerReset", err)
	}
}

func TestAcceptWaitsForTheNamedPeer(t *testing.T) {
	host := newHost(t)
	listener, at := listen(t, host, tcp.ListenSpec{})
	attempt(t, host, tcp.Attempt{To: at})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := host.Accept(ctx, listener, netip.AddrPortFrom(loopback, 1)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Accept of a stranger = %v, want the context's error", err)
	}
}

func TestAdvanceClockWantsEvenTicks(t *testing.T) {
	host := newHost(t)
	_, at := listen(t, host, tcp.ListenSpec{})
	out := attempt(t, host, tcp.Attempt{To: at})[0]
	if err := host.AdvanceClock(out.Conn, 3); err == nil {
		t.Error("AdvanceClock by 3 ticks = nil, want an error: the lowest bit is the unit")
	}
}

// A connection whose clock was advanced shares its port with another one as before, which
// repair mode by itself would end.
func TestAdvanceClockKeepsReuseAddr(t *testing.T) {
	for _, reuse := range []bool{true, false} {
		host := newHost(t)
		_, first := listen(t, host, tcp.ListenSpec{})
		_, second := listen(t, host, tcp.ListenSpec{})
		one := attempt(t, host, tcp.Attempt{To: first, From: netip.AddrPortFrom(loopback, 0), ReuseAddr: reuse})[0]
		if err := host.AdvanceClock(one.Conn, 1000); err != nil {
			t.Fatal(err)
		}
		want := tcp.PortInUse
		if reuse {
			want = tcp.Connected
		}
		if two := attempt(t, host, tcp.Attempt{To: second, From: one.Local, ReuseAddr: true})[0]; two.Outcome != want {
			t.Errorf("with SO_REUSEADDR %v: %v, want %v", reuse, two, want)
		}
	}
}

func TestClosedHostOpensNothing(t *testing.T) {
	host := newHost(t)
	_, at := listen(t, host, tcp.ListenSpec{})
	if err := host.CloseAll(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := host.Listen(t.Context(), tcp.ListenSpec{At: at}); !errors.Is(err, tcp.ErrNoHandle) {
		t.Errorf("Listen on a closed host = %v, want ErrNoHandle", err)
	}
}
