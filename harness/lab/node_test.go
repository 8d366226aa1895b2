//go:build linux

package lab_test

import (
	"context"
	"errors"
	"net/netip"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"twlab/harness/guest"
	"twlab/harness/http"
	"twlab/harness/internal/labtest"
	"twlab/harness/ipvs"
	"twlab/harness/kernel"
	"twlab/harness/lab"
	"twlab/harness/node"
	"twlab/harness/observe"
	"twlab/harness/tcp"
	"twlab/harness/topo"
)

var guestAgent = labtest.NewAgent()

// machines is how guests are made; KVM is tried once.
var machines = sync.OnceValues(func() (guest.Host, error) {
	path, err := guestAgent.Path()
	if err != nil {
		return guest.Host{}, err
	}
	accelerator, err := guest.Accelerate(context.Background(), labtest.Kernels()[0])
	return guest.Host{Agent: path, Accelerator: accelerator}, err
})

// onEveryKind runs a test with a client and a balancer, of every kind of node.
func onEveryKind(t *testing.T, test func(t *testing.T, client, balancer node.Node)) {
	privileged(t)
	routed := lab.Topology{Clients: 1, Gateway: lab.GatewaySpec{Kind: lab.Routed}}
	t.Run("namespace", func(t *testing.T) {
		l := build(t, routed)
		test(t, get(t, l, "client0"), get(t, l, "balancer"))
	})
	for _, k := range labtest.Kernels() {
		t.Run("machine with "+filepath.Base(k.Path), func(t *testing.T) {
			host, err := machines()
			if err != nil {
				t.Fatal(err)
			}
			guests := routed
			kind := guest.Kind{Host: host, Kernel: k}
			guests.Kinds = map[lab.Role]topo.NodeKind{lab.Client: kind, lab.Balancer: kind}
			l := build(t, guests)
			test(t, get(t, l, "client0"), get(t, l, "balancer"))
		})
	}
}

// A node does the same whatever it is.
func TestNode(t *testing.T) {
	onEveryKind(t, func(t *testing.T, client, balancer node.Node) {
		for _, c := range []struct {
			name string
			test func(t *testing.T, client, balancer node.Node)
		}{
			{"says who it is", testIdentity},
			{"reads and sets sysctls, and says why not", testSysctls},
			{"finds symbols", testSymbols},
			{"has virtual services, or says that its kernel has none", testVirtualServices},
			{"connects, and leaves its observations", testConnect},
			{"reports the kernel's errors", testOutcomes},
			{"keeps connections open", testKept},
			{"knows a port without an address", testBarePort},
			{"moves data", testData},
			{"exchanges HTTP", testExchange},
			{"controls clocks", testClocks},
			{"ends calls with their context", testContexts},
			{"answers many calls at a time", testConcurrency},
			{"makes many attempts in one call", testMany},
		} {
			t.Run(c.name, func(t *testing.T) { c.test(t, client, balancer) })
		}
	})
}

func testIdentity(t *testing.T, client, balancer node.Node) {
	for n, want := range map[node.Node]topo.Identity{
		client:   {Name: "client0", Role: topo.Client, Addr: netip.MustParseAddr("10.10.0.2")},
		balancer: {Name: "balancer", Role: topo.Balancer, Addr: netip.MustParseAddr("10.20.0.2")},
	} {
		if got := n.Identity(); got != want {
			t.Errorf("identity %+v, want %+v", got, want)
		}
		release, err := n.Release(t.Context())
		if err != nil || release.Major == 0 || !strings.HasPrefix(release.Text, (kernel.Release{Major: release.Major, Minor: release.Minor}).String()) {
			t.Errorf("release %+v, %v", release, err)
		}
	}
}

func testSysctls(t *testing.T, client, _ node.Node) {
	const name = "net.ipv4.ip_local_port_range"
	if err := client.SetSysctl(t.Context(), name, "40000 40999"); err != nil {
		t.Fatal(err)
	}
	if got, err := client.Sysctl(t.Context(), name); err != nil || got != "40000 40999" {
		t.Errorf("%s = %q, %v", name, got, err)
	}
	for _, c := range []struct {
		name, value string
		is          error
	}{
		{"net.ipv4.tcp_tw_reuze", "1", kernel.ErrSysctlUnknown},
		{name, "5000 4000", kernel.ErrSysctlValue},
	} {
		err := client.SetSysctl(t.Context(), c.name, c.value)
		var explained *kernel.SysctlError
		if !errors.Is(err, c.is) || !errors.As(err, &explained) {
			t.Fatalf("%s=%s: %v, want a SysctlError that is %v", c.name, c.value, err, c.is)
		}
		if explained.Name != c.name || explained.Value != c.value || !errors.Is(explained.Reason, c.is) ||
			!strings.HasPrefix(err.Error(), "client0: sysctl "+c.name) {
			t.Errorf("%v: %+v", err, explained)
		}
	}
}

func testSymbols(t *testing.T, client, _ node.Node) {
	for name, want := range map[string]kernel.Fact{"tcp_v4_connect": kernel.Yes, "no_such_symbol_in_any_kernel": kernel.No} {
		if fact, err := client.HasSymbol(t.Context(), name); err != nil || fact != want && fact != kernel.Unknown {
			t.Errorf("HasSymbol(%q) = %v, %v, want %v", name, fact, err, want)
		}
	}
}

func testVirtualServices(t *testing.T, client, _ node.Node) {
	want := topo.VirtualService{
		At: netip.MustParseAddrPort("10.10.0.2:8000"), Scheduler: "rr",
		Destinations: []topo.Destination{{At: netip.MustParseAddrPort("10.20.0.2:80"), Weight: 3}},
	}
	err := client.SetVirtualServices(t.Context(), []topo.VirtualService{want})
	if errors.Is(err, ipvs.ErrMissing) {
		if _, err := client.VirtualServices(t.Context()); !errors.Is(err, ipvs.ErrMissing) || !strings.HasPrefix(err.Error(), "client0: ") {
			t.Errorf("%v, want ErrMissing of client0", err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if got, err := client.VirtualServices(t.Context()); err != nil || !reflect.DeepEqual(got, []topo.VirtualService{want}) {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
	if err := client.SetVirtualServices(t.Context(), nil); err != nil {
		t.Error(err)
	}
	if got, err := client.VirtualServices(t.Context()); err != nil || len(got) != 0 {
		t.Errorf("%+v, %v, want none", got, err)
	}
}

func testConnect(t *testing.T, client, balancer node.Node) {
	before := counters(t, client)
	listener := listenOn(t, balancer, tcp.ListenSpec{Ending: tcp.CloseAfterPeer})
	if listener.Addr.Addr() != balancer.Identity().Addr {
		t.Errorf("listens at %v, want an address of %v", listener.Addr, balancer.Identity().Addr)
	}
	out := attemptFrom(t, client, tcp.Attempt{To: listener.Addr, Ending: tcp.CloseFirst})[0]
	if out.Outcome != tcp.Connected || out.SYNs != 1 || !out.Timestamps || out.Local.Addr() != client.Identity().Addr {
		t.Fatalf("%v, timestamps %v: want Connected with the first SYN", out, out.Timestamps)
	}
	rose := counters(t, client).Sub(before)
	if rose["Tcp.ActiveOpens"] != 1 || rose["Tcp.OutSegs"] < 3 {
		t.Errorf("counters: %v", rose.Moved())
	}
	if _, counted := rose["TcpExt.TW"]; !counted {
		t.Error("no counter TcpExt.TW")
	}
	// The TIME_WAIT begins with the peer's FIN, which may be late on a busy machine.
	soon, stop := context.WithTimeout(t.Context(), 10*time.Second)
	defer stop()
	var sockets, waiting observe.Sockets
	err := observe.Await(soon, "the TIME_WAIT", func() (bool, error) {
		var err error
		sockets, err = client.Sockets(t.Context())
		waiting = sockets.In(observe.TimeWait).Between(out.Local, listener.Addr)
		return len(waiting) > 0, err
	})
	if err != nil || len(waiting) != 1 || waiting[0].Expires < 50*time.Second || waiting[0].Expires > time.Minute {
		t.Fatalf("want one TIME_WAIT that has almost 60 s to go: %v, %v", sockets, err)
	}
	full, err := client.Occupancy(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if want := len(sockets.In(observe.TimeWait)); full.TimeWait != want {
		t.Errorf("occupancy %+v, want %d TIME_WAITs as listed", full, want)
	}
	sockets, err = balancer.Sockets(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	listening := sockets.In(observe.Listen)
	if len(listening) == 0 || len(sockets.In(observe.TimeWait).Between(listener.Addr, out.Local)) != 0 {
		t.Errorf("want a listener and no TIME_WAIT: %v", sockets)
	}
}

func testOutcomes(t *testing.T, client, balancer node.Node) {
	nobody := netip.AddrPortFrom(balancer.Identity().Addr, 9)
	out := attemptFrom(t, client, tcp.Attempt{To: nobody})[0]
	if out.Outcome != tcp.Refused || out.Errno != unix.ECONNREFUSED {
		t.Errorf("%v, want Refused", out)
	}
	listener := listenOn(t, balancer, tcp.ListenSpec{})
	from := netip.AddrPortFrom(client.Identity().Addr, 41234)
	first := attemptFrom(t, client, tcp.Attempt{To: listener.Addr, From: from})[0]
	second := attemptFrom(t, client, tcp.Attempt{To: listener.Addr, From: from})[0]
	if first.Outcome != tcp.Connected || second.Outcome != tcp.PortInUse {
		t.Errorf("%v and %v, want Connected and PortInUse", first, second)
	}
	err := client.End(t.Context(), first.Conn, "somehow")
	if err == nil || !strings.Contains(err.Error(), `client0: socket`) || !strings.Contains(err.Error(), `unknown ending "somehow"`) {
		t.Errorf("unknown ending: %v", err)
	}
	endOn(t, client, first.Conn, tcp.Abort)
	if err := client.End(t.Context(), first.Conn, tcp.Abort); !errors.Is(err, tcp.ErrNoHandle) {
		t.Errorf("ended twice: %v, want ErrNoHandle", err)
	}
}

func testKept(t *testing.T, client, balancer node.Node) {
	listener := listenOn(t, balancer, tcp.ListenSpec{})
	out := attemptFrom(t, client, tcp.Attempt{To: listener.Addr})[0]
	conn, err := balancer.Accept(t.Context(), listener.Handle, out.Local)
	if err != nil {
		t.Fatal(err)
	}
	endOn(t, client, out.Conn, tcp.Abort)
	if err := balancer.End(t.Context(), conn, tcp.CloseAfterPeer); !errors.Is(err, tcp.ErrPeerReset) {
		t.Errorf("%v, want ErrPeerReset", err)
	}
}

// A source or listener that has only a port has it on every kind of node, in every call.
func testBarePort(t *testing.T, client, balancer node.Node) {
	bare := func(port uint16) netip.AddrPort { return netip.AddrPortFrom(netip.Addr{}, port) }
	at := func(port uint16) tcp.ListenSpec { return tcp.ListenSpec{At: bare(port), Ending: tcp.CloseAfterPeer} }
	tried := func(r tcp.ListenResult, err error) (node.Listening, error) {
		return node.Listening{Handle: r.Listener, Addr: r.Addr}, err
	}
	for port, listen := range map[uint16]func() (node.Listening, error){
		4001: func() (node.Listening, error) { return balancer.Listen(t.Context(), at(4001)) },
		4002: func() (node.Listening, error) { return tried(balancer.TryListen(t.Context(), at(4002))) },
		4003: func() (node.Listening, error) {
			return balancer.Serve(t.Context(), http.ListenSpec{ListenSpec: at(4003)})
		},
		4004: func() (node.Listening, error) {
			return tried(balancer.TryServe(t.Context(), http.ListenSpec{ListenSpec: at(4004)}))
		},
	} {
		listener, err := listen()
		if err != nil || listener.Addr.Port() != port {
			t.Errorf("listens at %v, %v, want port %d", listener.Addr, err, port)
		}
		defer endOn(t, balancer, listener.Handle, tcp.CloseNow)
	}
	to := netip.AddrPortFrom(balancer.Identity().Addr, 4001)
	if out := attemptFrom(t, client, tcp.Attempt{To: to, From: bare(5001), Ending: tcp.Abort})[0]; out.Local.Port() != 5001 {
		t.Errorf("an attempt is %v from %v, want it from port 5001", out, out.Local)
	}
	done, err := client.Exchange(t.Context(), []http.Exchange{{Attempt: tcp.Attempt{To: to, From: bare(5002), Ending: tcp.Abort}}}, 1)
	if err != nil || done[0].Local.Port() != 5002 {
		t.Errorf("an exchange is %+v, %v, want it from port 5002", done, err)
	}
}

func testData(t *testing.T, client, balancer node.Node) {
	listener := listenOn(t, balancer, tcp.ListenSpec{})
	out := attemptFrom(t, client, tcp.Attempt{To: listener.Addr})[0]
	conn, err := balancer.Accept(t.Context(), listener.Handle, out.Local)
	if err != nil {
		t.Fatal(err)
	}
	sent, err := client.Send(t.Context(), out.Conn, 10_000)
	if err != nil || sent != 10_000 {
		t.Fatalf("sent %d, %v", sent, err)
	}
	endOn(t, client, out.Conn, tcp.CloseNow)
	got, err := balancer.Receive(t.Context(), conn)
	if err != nil || got != (tcp.Received{Bytes: sent}) {
		t.Errorf("received %+v, %v, want %d bytes", got, err, sent)
	}
	endOn(t, balancer, conn, tcp.CloseNow)
}

func testExchange(t *testing.T, client, balancer node.Node) {
	listener := serveOn(t, balancer, http.ListenSpec{HTTP: &http.Responder{Body: 1000}})
	to := tcp.Attempt{To: listener.Addr, Ending: tcp.CloseFirst}
	done, err := client.Exchange(t.Context(), []http.Exchange{
		{Attempt: to, Requests: []http.Request{{}, {Path: "/again"}}},
		{Attempt: tcp.Attempt{To: listener.Addr, Ending: tcp.CloseAfterPeer}, Requests: []http.Request{{Connection: "close"}}},
		{Attempt: tcp.Attempt{To: netip.AddrPortFrom(balancer.Identity().Addr, 9)}, Requests: []http.Request{{}}},
	}, 2)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []tcp.End{{First: tcp.Here}, {First: tcp.Peer}} {
		for _, r := range done[i].Replies {
			if r.Disposition != http.Whole || r.Status != 200 || r.Bytes != 1000 || r.Length != 1000 || r.Close != (i == 1) {
				t.Errorf("%+v, want a whole response", r)
			}
		}
		if done[i].Outcome != tcp.Connected || done[i].End != want || !done[i].Conn.IsZero() {
			t.Errorf("%v, want %+v", done[i], want)
		}
	}
	if len(done[0].Replies) != 2 || done[2].Outcome != tcp.Refused || done[2].Replies[0].Disposition != http.Unsent {
		t.Errorf("%v and %v", done[0], done[2])
	}
	var served http.Served
	err = observe.Await(t.Context(), "the end of the connections", func() (bool, error) {
		served, err = balancer.Served(t.Context(), listener.Handle)
		return served.Open == 0, err
	})
	if err != nil {
		t.Fatal(err)
	}
	if served.Connections != 2 || served.Requests != 3 || served.Responses != 3 || served.Bytes != 3000 ||
		served.ClosedFirst != 1 || served.PeerFirst != 1 || served.Peers[done[0].Local] != 1 || served.Peers[done[1].Local] != 1 {
		t.Errorf("%+v", served)
	}
	for i, side := range []struct {
		at            node.Node
		local, remote netip.AddrPort
	}{{client, done[0].Local, listener.Addr}, {balancer, listener.Addr, done[1].Local}} {
		sockets, err := side.at.Sockets(t.Context())
		if err != nil || len(sockets.In(observe.TimeWait).Between(side.local, side.remote)) != 1 {
			t.Errorf("exchange %d: want its TIME_WAIT at %s: %v, %v", i, side.at.Identity().Name, sockets, err)
		}
	}
}

func testClocks(t *testing.T, client, balancer node.Node) {
	listener := listenOn(t, balancer, tcp.ListenSpec{})
	out := attemptFrom(t, client, tcp.Attempt{To: listener.Addr})[0]
	before, err := client.Clock(t.Context(), out.Conn)
	if err != nil {
		t.Fatal(err)
	}
	const ticks = 100_000_000 // more than a day, even at 1000 Hz
	if err := client.AdvanceClock(t.Context(), out.Conn, ticks); err != nil {
		t.Fatal(err)
	}
	after, err := client.Clock(t.Context(), out.Conn)
	if err != nil {
		t.Fatal(err)
	}
	if rose := int64(int32(after.Ticks - before.Ticks)); rose < ticks || rose > ticks+600_000 || after.At <= before.At {
		t.Errorf("from %+v to %+v: %d ticks, want a little over %d", before, after, rose, ticks)
	}
	// TCP_RTO_MIN, and TCP_TIMEOUT_FALLBACK where the handshake was of no use.
	if rto, err := client.RTO(t.Context(), out.Conn); err != nil || rto < 200*time.Millisecond || rto > 3*time.Second {
		t.Errorf("RTO of %v, %v, want 200 ms to 3 s", rto, err)
	}
}

func testContexts(t *testing.T, client, balancer node.Node) {
	listener := listenOn(t, balancer, tcp.ListenSpec{})
	short, stop := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer stop()
	nobody := netip.AddrPortFrom(client.Identity().Addr, 1)
	if _, err := balancer.Accept(short, listener.Handle, nobody); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, want DeadlineExceeded", err)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := balancer.Accept(cancelled, listener.Handle, nobody); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want Canceled", err)
	}
	// The listener is still of use.
	out := attemptFrom(t, client, tcp.Attempt{To: listener.Addr})[0]
	if _, err := balancer.Accept(t.Context(), listener.Handle, out.Local); err != nil {
		t.Error(err)
	}
}

func testConcurrency(t *testing.T, client, balancer node.Node) {
	listener := listenOn(t, balancer, tcp.ListenSpec{})
	from := netip.AddrPortFrom(client.Identity().Addr, 42345)
	var calls errgroup.Group
	calls.Go(func() error { // waits until the last of all has begun
		_, err := balancer.Accept(t.Context(), listener.Handle, from)
		return err
	})
	for range 20 {
		calls.Go(func() error {
			_, err := balancer.Counters(t.Context())
			return err
		})
	}
	out := attemptFrom(t, client, tcp.Attempt{To: listener.Addr, From: from})[0]
	if out.Outcome != tcp.Connected {
		t.Error(out)
	}
	if err := calls.Wait(); err != nil {
		t.Error(err)
	}
}

func testMany(t *testing.T, client, balancer node.Node) {
	const many = 500
	// A machine that is slow answers a FIN so late that it comes again. Its
	// TIME_WAIT then answers twice, and the second answer meets nobody but a RST.
	if err := client.SetSysctl(t.Context(), "net.ipv4.tcp_rfc1337", "1"); err != nil {
		t.Fatal(err)
	}
	listener := listenOn(t, balancer, tcp.ListenSpec{Ending: tcp.CloseAfterPeer})
	attempts := make([]tcp.Attempt, many)
	for i := range attempts {
		attempts[i] = tcp.Attempt{To: listener.Addr, Ending: tcp.CloseFirst}
	}
	ports := map[uint16]bool{}
	for i, out := range attemptFrom(t, client, attempts...) {
		if out.Outcome != tcp.Connected {
			t.Fatalf("attempt %d: %v", i, out)
		}
		ports[out.Local.Port()] = true
	}
	sockets, err := client.Sockets(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if waiting := len(sockets.In(observe.TimeWait).Between(netip.AddrPort{}, listener.Addr)); len(ports) != many || waiting != many {
		t.Errorf("%d ports and %d TIME_WAIT, want %d of both; %d sockets, TCPTimeWaitOverflow %d",
			len(ports), waiting, many, len(sockets), counters(t, client)["TcpExt.TCPTimeWaitOverflow"])
	}
}

func counters(t *testing.T, n node.Node) kernel.Counters {
	t.Helper()
	c, err := n.Counters(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func listenOn(t *testing.T, n node.Node, spec tcp.ListenSpec) node.Listening {
	t.Helper()
	listener, err := n.Listen(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	return listener
}

// A connection is its own node's, and another node says whose it is, that of the same name in
// another lab too.
func TestAHandleIsOfItsNode(t *testing.T) {
	onEveryKind(t, func(t *testing.T, client, balancer node.Node) {
		conn, _ := connection(t, client, balancer)
		for name, call := range map[string]func() error{
			"End":  func() error { return balancer.End(t.Context(), conn, tcp.Abort) },
			"RTO":  func() error { _, err := balancer.RTO(t.Context(), conn); return err },
			"Send": func() error { _, err := balancer.Send(t.Context(), conn, 1); return err },
		} {
			err := call()
			if !errors.Is(err, tcp.ErrForeign) || !strings.Contains(err.Error(), "of client0, and this is balancer") {
				t.Errorf("%s: %v, want ErrForeign that names both", name, err)
			}
		}
		l := build(t, lab.Topology{Clients: 1, Gateway: lab.GatewaySpec{Kind: lab.Routed}})
		namesake := get(t, l, "client0")
		its, _ := connection(t, namesake, get(t, l, "balancer"))
		if its.Number != conn.Number {
			t.Errorf("the handles are %v and %v, want the same number: else the number decides", conn, its)
		}
		for name, call := range map[string]func() error{
			"its handle":  func() error { _, err := client.Send(t.Context(), its, 1); return err },
			"our handle":  func() error { _, err := namesake.Send(t.Context(), conn, 1); return err },
			"its request": func() error { return exchangeOver(t, client, its) },
		} {
			if err := call(); !errors.Is(err, tcp.ErrForeign) || !strings.Contains(err.Error(), "of client0, and this is another client0") {
				t.Errorf("%s: %v, want ErrForeign", name, err)
			}
		}
		if _, err := client.Send(t.Context(), conn, 1); err != nil {
			t.Errorf("the client itself: %v", err)
		}
	})
}

func exchangeOver(t *testing.T, n node.Node, conn tcp.Handle) error {
	t.Helper()
	_, err := n.Exchange(t.Context(), []http.Exchange{{Conn: conn, Requests: []http.Request{{}}}}, 0)
	return err
}

func serveOn(t *testing.T, n node.Node, spec http.ListenSpec) node.Listening {
	t.Helper()
	web, err := n.Serve(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	return web
}

func attemptFrom(t *testing.T, n node.Node, attempts ...tcp.Attempt) []tcp.Result {
	t.Helper()
	outs, err := n.Attempt(t.Context(), attempts)
	if err != nil {
		t.Fatal(err)
	}
	noEndErrors(t, outs)
	return outs
}

// noEndErrors wants that each connection ended as its Ending says.
func noEndErrors(t *testing.T, outs []tcp.Result) {
	t.Helper()
	for _, o := range outs {
		if o.End.Err() != nil {
			t.Fatal(o)
		}
	}
}

func endOn(t *testing.T, n node.Node, conn tcp.Handle, how tcp.Ending) {
	t.Helper()
	if err := n.End(t.Context(), conn, how); err != nil {
		t.Error(err)
	}
}
