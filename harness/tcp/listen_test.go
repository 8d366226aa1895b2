//go:build linux

package tcp_test

import (
	"errors"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"twlab/harness/internal/nstest"
	"twlab/harness/observe"
	"twlab/harness/tcp"
)

// tryListen is TryListen without a harness error.
func tryListen(t *testing.T, host *tcp.Host, spec tcp.ListenSpec) tcp.ListenResult {
	t.Helper()
	got, err := host.TryListen(t.Context(), spec)
	must(t, err)
	t.Log(got)
	return got
}

// An outgoing connection has its port too: a listener gets it only when both sides set
// SO_REUSEADDR, or at another address.
func TestListenerAndOutgoingConnection(t *testing.T) {
	for _, c := range []struct {
		name      string
		connects  tcp.Attempt
		closed    bool // it is in TIME_WAIT
		listens   tcp.ListenSpec
		elsewhere bool
		want      tcp.Outcome
	}{
		{name: "neither sets it", listens: tcp.ListenSpec{NoReuseAddr: true}, want: tcp.PortInUse},
		{name: "the listener alone sets it", want: tcp.PortInUse},
		{name: "the connection alone sets it", connects: tcp.Attempt{ReuseAddr: true}, listens: tcp.ListenSpec{NoReuseAddr: true}, want: tcp.PortInUse},
		{name: "both set it", connects: tcp.Attempt{ReuseAddr: true}, want: tcp.Listening},
		{name: "both set SO_REUSEPORT", connects: tcp.Attempt{ReusePort: true}, listens: tcp.ListenSpec{ReusePort: true, NoReuseAddr: true}, want: tcp.Listening},
		{name: "in TIME_WAIT, the listener alone sets it", closed: true, want: tcp.PortInUse},
		{name: "in TIME_WAIT, both set it", closed: true, connects: tcp.Attempt{ReuseAddr: true}, want: tcp.Listening},
		{name: "at another address", elsewhere: true, want: tcp.Listening},
	} {
		t.Run(c.name, func(t *testing.T) {
			host, inside := newHostIn(t)
			_, server := listen(t, host, tcp.ListenSpec{Ending: tcp.CloseAfterPeer})
			port := netip.AddrPortFrom(loopback, 40000)
			c.connects.To, c.connects.From, c.listens.At = server, port, port
			if c.closed {
				c.connects.Ending = tcp.CloseFirst
			}
			if c.elsewhere {
				c.listens.At = netip.MustParseAddrPort("127.0.0.2:40000")
			}
			out := attempt(t, host, c.connects)[0]
			if closed := len(sockets(t, inside).In(observe.TimeWait).Between(port, server)) == 1; out.Outcome != tcp.Connected || closed != c.closed {
				t.Fatalf("%v, in TIME_WAIT %v, want %v", out, closed, c.closed)
			}
			got := tryListen(t, host, c.listens)
			if got.Outcome != c.want {
				t.Fatalf("%v, want %v", got, c.want)
			}
			if c.want == tcp.Listening {
				return
			}
			want := tcp.Holder{State: "ESTABLISHED", Local: port, Remote: server, Use: tcp.Outgoing, Handle: out.Conn, ReuseAddr: c.connects.ReuseAddr}
			if c.closed {
				want = tcp.Holder{State: "TIME_WAIT", Local: port, Remote: server}
			}
			if got.Step != tcp.StepBind || got.Errno != unix.EADDRINUSE || len(got.Holders) != 1 || got.Holders[0] != want {
				t.Errorf("%+v, want it held by %+v", got, want)
			}
			if err := got.Err(); !errors.Is(err, unix.EADDRINUSE) || !strings.Contains(err.Error(), want.String()) {
				t.Errorf("%v, want it to name %v", err, want)
			}
		})
	}
}

func TestListenOutcomes(t *testing.T) {
	host := newHost(t)
	first, at := listen(t, host, tcp.ListenSpec{})
	shared, there := listen(t, host, tcp.ListenSpec{ReusePort: true})
	for name, c := range map[string]struct {
		spec   tcp.ListenSpec
		want   tcp.Outcome
		step   tcp.Step
		errno  error
		holder tcp.Handle
	}{
		"a listener is there":           {tcp.ListenSpec{At: at}, tcp.PortInUse, tcp.StepBind, unix.EADDRINUSE, first},
		"one at all addresses":          {tcp.ListenSpec{At: netip.AddrPortFrom(netip.Addr{}, at.Port())}, tcp.PortInUse, tcp.StepBind, unix.EADDRINUSE, first},
		"one at all addresses, IPv6":    {tcp.ListenSpec{At: netip.AddrPortFrom(netip.IPv6Unspecified(), at.Port())}, tcp.PortInUse, tcp.StepBind, unix.EADDRINUSE, first},
		"only one shares the port":      {tcp.ListenSpec{At: there}, tcp.PortInUse, tcp.StepBind, unix.EADDRINUSE, shared},
		"both share the port":           {tcp.ListenSpec{At: there, ReusePort: true, NoReuseAddr: true}, tcp.Listening, tcp.StepListen, nil, tcp.Handle{}},
		"nobody has the address":        {tcp.ListenSpec{At: netip.MustParseAddrPort("192.0.2.1:80")}, tcp.NoAddress, tcp.StepBind, unix.EADDRNOTAVAIL, tcp.Handle{}},
		"nobody has the IPv6 address":   {tcp.ListenSpec{At: netip.MustParseAddrPort("[2001:db8::1]:80")}, tcp.NoAddress, tcp.StepBind, unix.EADDRNOTAVAIL, tcp.Handle{}},
		"IPv6 leaves IPv4's port alone": {tcp.ListenSpec{At: netip.AddrPortFrom(netip.IPv6Unspecified(), at.Port()), V6Only: true}, tcp.Listening, tcp.StepListen, nil, tcp.Handle{}},
	} {
		t.Run(name, func(t *testing.T) {
			got := tryListen(t, host, c.spec)
			if got.Outcome != c.want || got.Step != c.step || !got.Listener.IsZero() != (c.want == tcp.Listening) || got.Err() != nil && !errors.Is(got.Err(), c.errno) {
				t.Errorf("%+v, want %v by %v", got, c.want, c.step)
			}
			if !c.holder.IsZero() && (len(got.Holders) != 1 || got.Holders[0].Handle != c.holder || got.Holders[0].Use != tcp.Listener) {
				t.Errorf("%+v, want it held by %v", got.Holders, c.holder)
			}
			if c.want == tcp.Listening {
				must(t, host.End(t.Context(), got.Listener, tcp.CloseNow))
				return
			}
			if _, _, err := host.Listen(t.Context(), c.spec); !errors.Is(err, c.errno) {
				t.Errorf("Listen: %v, want %v", err, c.errno)
			}
		})
	}
	got := attempt(t, host, tcp.Attempt{To: at, From: netip.MustParseAddrPort("192.0.2.1:0")})[0]
	if got.Outcome != tcp.NoAddress || got.Step != tcp.StepBind {
		t.Errorf("%v, want NoAddress by bind", got)
	}
	if got := attempt(t, host, tcp.Attempt{To: at, From: at})[0]; got.Outcome != tcp.PortInUse || len(got.Holders) != 1 || got.Holders[0].Handle != first {
		t.Errorf("%v, want the port in use by the listener", got)
	}
}

// Sockets of the port at other addresses are in nobody's way.
func TestHoldersConflict(t *testing.T) {
	host := newHost(t)
	first, at := listen(t, host, tcp.ListenSpec{})
	second, _ := listen(t, host, tcp.ListenSpec{At: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.2"), at.Port())})
	listen(t, host, tcp.ListenSpec{At: netip.AddrPortFrom(loopback6, at.Port())})
	for _, c := range []struct {
		at      netip.Addr
		v6Only  bool
		holders int
	}{{loopback, false, 1}, {netip.IPv4Unspecified(), false, 2}, {loopback6, false, 1}, {netip.IPv6Unspecified(), false, 3}, {netip.IPv6Unspecified(), true, 1}} {
		got := tryListen(t, host, tcp.ListenSpec{At: netip.AddrPortFrom(c.at, at.Port()), V6Only: c.v6Only})
		if got.Outcome != tcp.PortInUse || len(got.Holders) != c.holders {
			t.Errorf("at %v: %v, want %d holders", c.at, got, c.holders)
		}
	}
	must(t, host.End(t.Context(), second, tcp.CloseNow))
	must(t, host.End(t.Context(), first, tcp.CloseNow))
}

// Two sockets with SO_REUSEADDR may both be bound; one of them can listen.
func TestListenerIsRefusedByListen(t *testing.T) {
	host, inside := newHostIn(t)
	at := netip.AddrPortFrom(loopback, 80)
	var other int // another program's socket
	must(t, inside(func() (err error) {
		other, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		return err
	}))
	defer func() { must(t, unix.Close(other)) }()
	must(t, errors.Join(unix.SetsockoptInt(other, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1), unix.Bind(other, &unix.SockaddrInet4{Addr: loopback.As4(), Port: 80})))
	// Without SO_REUSEADDR, bind(2) is refused in any case, and so disturbs nobody.
	bound := func() int { return len(tryListen(t, host, tcp.ListenSpec{At: at, NoReuseAddr: true}).Holders) }
	if bound() == 0 {
		t.Skip("this kernel does not list sockets that are bound and nothing else (Linux 6.8)")
	}
	var (
		late tcp.ListenResult
		err  error
		call sync.WaitGroup
	)
	call.Go(func() { late, err = host.TryListen(t.Context(), tcp.ListenSpec{At: at, ListenAfter: 3 * time.Second}) })
	await(t, "both to be bound", func() bool { return bound() == 2 })
	must(t, unix.Listen(other, 1))
	call.Wait()
	must(t, err)
	want := tcp.Holder{State: "LISTEN", Local: at, Remote: netip.MustParseAddrPort("0.0.0.0:0"), Use: tcp.Listener}
	if late.Outcome != tcp.PortInUse || late.Step != tcp.StepListen || len(late.Holders) != 1 || late.Holders[0] != want {
		t.Errorf("%v, want it refused by listen(2), because of %v", late, want)
	}
}

func TestDenied(t *testing.T) {
	space := nstest.Loopback(t)
	// Everything runs as if without CAP_NET_BIND_SERVICE; the capabilities are the thread's.
	host := tcp.NewHost("here", func(f func() error) error {
		return space.Do(func() error {
			header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
			var before [2]unix.CapUserData
			if err := unix.Capget(&header, &before[0]); err != nil {
				return err
			}
			without := before
			without[0].Effective &^= 1 << unix.CAP_NET_BIND_SERVICE
			if err := unix.Capset(&header, &without[0]); err != nil {
				return err
			}
			return errors.Join(f(), unix.Capset(&header, &before[0]))
		})
	})
	defer func() { must(t, host.CloseAll()) }()
	for port, want := range map[uint16]tcp.Outcome{80: tcp.Denied, 1024: tcp.Refused} {
		got := attempt(t, host, tcp.Attempt{To: netip.AddrPortFrom(loopback, 9), From: netip.AddrPortFrom(loopback, port)})[0]
		if got.Outcome != want || want == tcp.Denied && (got.Step != tcp.StepBind || got.Errno != unix.EACCES) {
			t.Errorf("from port %d: %v, want %v", port, got, want)
		}
	}
}

func TestListenRefusesWhatItCannotDo(t *testing.T) {
	host := newHost(t)
	_, _, err := host.Listen(t.Context(), tcp.ListenSpec{
		At: netip.AddrPortFrom(loopback, 0), V6Only: true, Backlog: new(-1), NeverAccepts: true, Accepts: -1, Ending: "burst",
	})
	for _, want := range []string{"V6Only", "backlog -1", "NeverAccepts", "accepts -1", "burst"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want it to say %q", err, want)
		}
	}
}
