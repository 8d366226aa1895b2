//go:build linux

package lab_test

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"twlab/harness/haproxy"
	"twlab/harness/internal/labtest"
	"twlab/harness/lab"
	"twlab/harness/observe"
	"twlab/harness/tcp"
	"twlab/harness/topo"
)

// connects makes one connection from a node to another one's listener and returns whose
// it is to the listener.
func connects(t *testing.T, l *lab.Lab, from string, to netip.AddrPort, at string) netip.Addr {
	t.Helper()
	result, err := get(t, l, from).Connect(t.Context(), tcp.Attempt{To: to})
	if err != nil || result.Outcome != tcp.Connected {
		t.Fatalf("%s to %v: %v, %v", from, to, result, err)
	}
	var peer netip.Addr
	err = observe.Await(t.Context(), "the connection at "+at, func() (bool, error) {
		all, err := get(t, l, at).Sockets(t.Context())
		for _, s := range all.In(observe.Established) {
			peer = s.Remote.Addr()
		}
		return peer.IsValid(), err
	})
	if err != nil {
		t.Fatal(err)
	}
	return peer
}

// Three gateways in a row, each of which translates: a home router, and two of a carrier.
func TestThreeHopsOfNAT(t *testing.T) {
	masquerade := func(towards string) []topo.SourceNAT { return []topo.SourceNAT{{Towards: towards}} }
	carriers := topo.Network{
		Nodes: []topo.Node{
			{Identity: topo.Identity{Name: "phone", Role: topo.Client}},
			{Identity: topo.Identity{Name: "router"}, Forwards: true, SourceNAT: masquerade("carrier")},
			{Identity: topo.Identity{Name: "carrier"}, Forwards: true, SourceNAT: masquerade("cgn")},
			{Identity: topo.Identity{Name: "cgn", Role: topo.Gateway}, Forwards: true, SourceNAT: masquerade("vip")},
			{Identity: topo.Identity{Name: "vip", Role: topo.Balancer}},
		},
		Links: []topo.Link{{Outer: "phone", Inner: "router"}, {Outer: "router", Inner: "carrier"}, {Outer: "carrier", Inner: "cgn"}, {Outer: "vip", Inner: "cgn"}},
	}
	l := labtest.BuildNetwork(t, carriers)
	listening, err := l.Balancer().Listen(t.Context(), tcp.ListenSpec{})
	if err != nil {
		t.Fatal(err)
	}
	cgn := get(t, l, "cgn")
	flowsBefore, err := cgn.Flows(t.Context())
	if err != nil || len(flowsBefore) != 0 {
		t.Fatalf("%v, %v", flowsBefore, err)
	}
	peer := connects(t, l, "phone", listening.Addr, "vip")
	flows, err := cgn.Flows(t.Context())
	if err != nil || len(flows) != 1 || flows[0].Reply.Dst.Addr() != peer {
		t.Fatalf("the last gateway has %v, %v, and the listener sees %v", flows, err, peer)
	}
	if flows[0].Original.Src.Addr() == l.Client(0).Identity().Addr {
		t.Errorf("the last gateway sees the phone's own address in %v", flows)
	}
}

// two balancers in front of one server, which translate to it: its answers find their way
// only when they go back as the connection came.
func twoBalancers(replies topo.Replies) topo.Network {
	vip, server := netip.MustParseAddrPort("192.0.2.1:80"), netip.MustParseAddrPort("10.1.0.2:80")
	balancer := func(name string) topo.Node {
		return topo.Node{
			Identity: topo.Identity{Name: name, Role: topo.Balancer}, Forwards: true, Own: []netip.Addr{vip.Addr()},
			DestinationNAT: []topo.DestinationNAT{{At: vip, To: []netip.AddrPort{server}}},
			Routes:         []topo.Route{{Via: "router"}},
		}
	}
	second := balancer("lb1")
	second.Own, second.DestinationNAT[0].At = []netip.Addr{netip.MustParseAddr("192.0.2.2")}, netip.MustParseAddrPort("192.0.2.2:80")
	return topo.Network{
		Nodes: []topo.Node{
			{Identity: topo.Identity{Name: "client0", Role: topo.Client}},
			{Identity: topo.Identity{Name: "router"}, Forwards: true, Routes: []topo.Route{
				{To: netip.MustParsePrefix("192.0.2.1/32"), Via: "lb0"}, {To: netip.MustParsePrefix("192.0.2.2/32"), Via: "lb1"},
			}},
			balancer("lb0"), second,
			{Identity: topo.Identity{Name: "server0", Role: topo.Server, Addr: server.Addr()}, Replies: replies},
		},
		Links: []topo.Link{
			{Outer: "client0", Inner: "router"}, {Outer: "lb0", Inner: "router"}, {Outer: "lb1", Inner: "router"},
			{Outer: "server0", Inner: "lb0", OuterAddr: server.Addr(), InnerAddr: netip.MustParseAddr("10.1.0.1")},
			{Outer: "server0", Inner: "lb1", OuterAddr: server.Addr(), InnerAddr: netip.MustParseAddr("10.1.0.3")},
		},
		Sysctls: topo.On(topo.Client, "net.ipv4.tcp_syn_retries=1"),
	}
}

func TestTwoBalancersWithOneServer(t *testing.T) {
	t.Parallel() // it waits
	for replies, want := range map[topo.Replies]tcp.Outcome{
		topo.ByRoute: tcp.TimedOut, topo.AsTheyCame: tcp.Connected, topo.ByAcceptMark: tcp.Connected,
	} {
		t.Run("replies "+string(replies), func(t *testing.T) {
			l := labtest.BuildNetwork(t, twoBalancers(replies))
			if _, err := get(t, l, "server0").Listen(t.Context(), tcp.ListenSpec{At: netip.MustParseAddrPort("10.1.0.2:80")}); err != nil {
				t.Fatal(err)
			}
			// The default route of the server leads to the first balancer, whichever the client has chosen.
			// From two ports: with one, which the kernel may choose, they would be one connection at the server.
			from := func(port uint16) netip.AddrPort { return netip.AddrPortFrom(netip.Addr{}, port) }
			first, err := l.Client(0).Connect(t.Context(), tcp.Attempt{To: netip.MustParseAddrPort("192.0.2.1:80"), From: from(40001)})
			if err != nil || first.Outcome != tcp.Connected {
				t.Errorf("by the first: %v, %v", first, err)
			}
			second, err := l.Client(0).Connect(t.Context(), tcp.Attempt{To: netip.MustParseAddrPort("192.0.2.2:80"), From: from(40002)})
			if err != nil || second.Outcome != want {
				t.Errorf("by the second: %v, %v, want %s", second, err, want)
			}
		})
	}
}

// The server goes on to send replies as they came after one of its links was down.
func TestMarkedLinkComesUpAgain(t *testing.T) {
	l := labtest.BuildNetwork(t, twoBalancers(topo.AsTheyCame))
	if _, err := get(t, l, "server0").Listen(t.Context(), tcp.ListenSpec{At: netip.MustParseAddrPort("10.1.0.2:80")}); err != nil {
		t.Fatal(err)
	}
	for _, link := range []string{"server0", "server0/eth1"} {
		for _, up := range []bool{false, true} {
			if err := l.SetLink(t.Context(), link, up); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i, vip := range []string{"192.0.2.1:80", "192.0.2.2:80"} {
		from := netip.AddrPortFrom(netip.Addr{}, uint16(40001+i)) // see TestTwoBalancersWithOneServer
		result, err := l.Client(0).Connect(t.Context(), tcp.Attempt{To: netip.MustParseAddrPort(vip), From: from})
		if err != nil || result.Outcome != tcp.Connected {
			t.Errorf("by %s: %v, %v", vip, result, err)
		}
	}
}

// Two HAProxies with one server, each of which counts its own connections.
func TestTwoProgramsWithOneServer(t *testing.T) {
	server := netip.MustParseAddrPort("10.1.0.2:80")
	n := twoBalancers(topo.ByRoute)
	for i, vip := range map[int]string{2: "192.0.2.1:80", 3: "192.0.2.2:80"} {
		n.Nodes[i].Forwards, n.Nodes[i].DestinationNAT = false, nil
		n.Nodes[i].Program = haproxy.Balancer{}
		n.Nodes[i].Place = topo.Place{At: netip.MustParseAddrPort(vip), Servers: []netip.AddrPort{server}}
	}
	l, err := lab.BuildNetwork(t.Context(), n)
	if errors.Is(err, haproxy.ErrMissing) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}()
	if _, err := get(t, l, "server0").Listen(t.Context(), tcp.ListenSpec{At: server, Ending: tcp.CloseAfterPeer}); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		result, err := l.Client(0).Connect(t.Context(), tcp.Attempt{To: netip.MustParseAddrPort("192.0.2.2:80"), Ending: tcp.CloseFirst})
		if err != nil || result.Outcome != tcp.Connected {
			t.Fatalf("%v, %v", result, err)
		}
	}
	for name, want := range map[string]uint64{"lb0": 0, "lb1": 3} {
		program, err := l.ProgramAt(name)
		if err != nil {
			t.Fatal(err)
		}
		stats, err := program.Stats(t.Context())
		if got := stats["frontend.conn_tot"]; err != nil || got != want {
			t.Errorf("%s has %d connections, %v, want %d", name, got, err, want)
		}
	}
	if _, err := l.ProgramAt("router"); err == nil || !strings.Contains(err.Error(), "no program balances at router") {
		t.Errorf("program of the router: %v", err)
	}
}

// What connection tracking sees is what a node says, also where a rule wants it to see all.
func TestTracking(t *testing.T) {
	wants := []lab.Rule{{Node: "router", Table: "filter", Chain: "FORWARD", Spec: "-m conntrack --ctstate NEW"}}
	for name, c := range map[string]struct {
		tracking topo.Tracking
		rules    []lab.Rule
		want     []string
	}{
		"without a rule":           {topo.AsRulesWant, nil, nil},
		"as a rule wants":          {topo.AsRulesWant, wants, []string{"ESTABLISHED"}},
		"never, whatever it wants": {topo.Never, wants, nil},
		"always":                   {topo.Always, nil, []string{"ESTABLISHED"}},
		"only what arrives":        {topo.Arriving, nil, []string{"SYN_SENT"}},
	} {
		t.Run(name, func(t *testing.T) {
			l := labtest.BuildNetwork(t, topo.Network{
				Nodes: []topo.Node{
					{Identity: topo.Identity{Name: "client0", Role: topo.Client}},
					{Identity: topo.Identity{Name: "router", Role: topo.Gateway}, Forwards: true, Tracking: c.tracking},
					{Identity: topo.Identity{Name: "server0", Role: topo.Server}},
				},
				Links: []topo.Link{{Outer: "client0", Inner: "router"}, {Outer: "server0", Inner: "router"}},
				Rules: c.rules,
			})
			listening, err := get(t, l, "server0").Listen(t.Context(), tcp.ListenSpec{})
			if err != nil {
				t.Fatal(err)
			}
			connects(t, l, "client0", listening.Addr, "server0")
			flows, err := get(t, l, "router").Flows(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var states []string
			for _, f := range flows {
				states = append(states, f.State)
			}
			if !slices.Equal(states, c.want) {
				t.Errorf("entries in the states %v, want %v", states, c.want)
			}
		})
	}
}

// An address that is routed and nobody's, a VIP that has moved away: every SYN arrives, and
// the node that does not have the address drops it without a word.
func TestNobodysAddress(t *testing.T) {
	t.Parallel() // it waits
	l := labtest.BuildNetwork(t, topo.Network{
		Nodes: []topo.Node{
			{Identity: topo.Identity{Name: "client0", Role: topo.Client}},
			{Identity: topo.Identity{Name: "balancer", Role: topo.Balancer}},
		},
		Links:   []topo.Link{{Outer: "client0", Inner: "balancer"}},
		Sysctls: topo.On(topo.Client, "net.ipv4.tcp_syn_retries=1"),
	})
	before, err := l.Balancer().Counters(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	result, err := l.Client(0).Connect(t.Context(), tcp.Attempt{To: netip.MustParseAddrPort("192.0.2.9:80")})
	if err != nil || result.Outcome != tcp.TimedOut || result.SYNs < 2 {
		t.Errorf("%v, %v, want a connect that times out", result, err)
	}
	after, err := l.Balancer().Counters(t.Context())
	if moved := after.Sub(before); err != nil || moved["Ip.InAddrErrors"] != uint64(result.SYNs) || moved["Tcp.InSegs"] != 0 {
		t.Errorf("of %d SYNs the balancer counted %v, %v", result.SYNs, moved.Moved(), err)
	}
}

// A word of a rule may have spaces.
func TestRuleWithQuotedWords(t *testing.T) {
	l := build(t, lab.Topology{Clients: 1, Rules: []lab.Rule{
		{Node: "balancer", Table: "filter", Chain: "INPUT", Spec: `-p tcp -m comment --comment "two words" -j ACCEPT`},
	}})
	hits, err := l.Balancer().Rules(t.Context())
	if err != nil || len(hits) != 1 || !strings.Contains(hits[0].Rule, `--comment "two words"`) {
		t.Errorf("%v, %v", hits, err)
	}
}

// A fault that ends: a rule is taken away again, and a link comes up again.
func TestFaultsEnd(t *testing.T) {
	t.Parallel() // it waits
	l := labtest.BuildNetwork(t, topo.Network{
		Nodes: []topo.Node{
			{Identity: topo.Identity{Name: "client0", Role: topo.Client}},
			{Identity: topo.Identity{Name: "router", Role: topo.Gateway}, Forwards: true},
			{Identity: topo.Identity{Name: "balancer", Role: topo.Balancer}},
		},
		Links:   []topo.Link{{Outer: "client0", Inner: "router"}, {Outer: "balancer", Inner: "router"}},
		Sysctls: topo.On(topo.Client, "net.ipv4.tcp_syn_retries=1"),
	})
	listening, err := l.Balancer().Listen(t.Context(), tcp.ListenSpec{})
	if err != nil {
		t.Fatal(err)
	}
	want := func(when string, outcome tcp.Outcome) {
		t.Helper()
		result, err := l.Client(0).Connect(t.Context(), tcp.Attempt{To: listening.Addr})
		if err != nil || result.Outcome != outcome {
			t.Errorf("%s: %v, %v, want %s", when, result, err, outcome)
		}
	}
	try := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	drop := lab.Rule{Role: topo.Gateway, Table: "filter", Chain: "FORWARD", Spec: "-j DROP"}
	try(l.AddRules(drop))
	want("with the rule", tcp.TimedOut)
	try(l.RemoveRules(drop))
	want("without it", tcp.Connected)
	if err := l.RemoveRules(drop); err == nil || !strings.Contains(err.Error(), `no rule "-j DROP" of chain "FORWARD" in table "filter" was added`) {
		t.Errorf("removed twice: %v", err)
	}
	try(l.SetLink(t.Context(), "client0", false))
	want("with the client's link down", tcp.Unreachable)
	try(l.SetLink(t.Context(), "client0", true))
	want("up again", tcp.Connected)
	try(l.SetLink(t.Context(), "balancer", false))
	want("with the balancer's link down", tcp.TimedOut)
	try(l.SetLink(t.Context(), "balancer", true))
	want("up again", tcp.Connected)
	if err := l.SetLink(t.Context(), "client0/lo", false); err == nil || !strings.Contains(err.Error(), "it is a loopback") {
		t.Errorf("loopback: %v", err)
	}
}
