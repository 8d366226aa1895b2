//go:build linux

package lab_test

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"testing"
	"time"

	"twlab/harness/internal/labtest"
	"twlab/harness/lab"
	"twlab/harness/node"
	"twlab/harness/observe"
	"twlab/harness/tcp"
	"twlab/harness/topo"
)

// tracked is a client and a server with a router between them that tracks connections, and
// forgets them after these timeouts.
func tracked(t *testing.T, timeouts topo.ConntrackTimeouts, change func(*topo.Network)) *lab.Lab {
	t.Helper()
	settings, err := timeouts.OnNode("router")
	if err != nil {
		t.Fatal(err)
	}
	n := topo.Network{
		Nodes: []topo.Node{
			{Identity: topo.Identity{Name: "client0", Role: topo.Client}},
			{Identity: topo.Identity{Name: "router", Role: topo.Gateway}, Forwards: true, Tracking: topo.Always},
			{Identity: topo.Identity{Name: "server0", Role: topo.Server}},
		},
		Links:   []topo.Link{{Outer: "client0", Inner: "router"}, {Outer: "server0", Inner: "router"}},
		Sysctls: settings,
	}
	if change != nil {
		change(&n)
	}
	return labtest.BuildNetwork(t, n)
}

// awaitEntry waits until the router has exactly one entry, in this state, or with "" none.
func awaitEntry(t *testing.T, l *lab.Lab, state string) (flow observe.Flow) {
	t.Helper()
	within, stop := context.WithTimeout(t.Context(), 15*time.Second)
	defer stop()
	var flows []observe.Flow
	err := observe.Await(within, "an entry in state "+state, func() (seen bool, err error) {
		flows, err = get(t, l, "router").Flows(within)
		if len(flows) == 1 {
			flow = flows[0]
			return flow.State == state, err
		}
		return state == "" && len(flows) == 0, err
	})
	if err != nil {
		t.Fatalf("%v: the entries are %v", err, flows)
	}
	return flow
}

// pair is a connection whose both ends are kept.
type pair struct {
	client, server node.Node
	at             node.Listening
	near, far      tcp.Handle
}

// open connects. The server sees the address seen, or with none the client's own.
func (p *pair) open(t *testing.T, seen netip.Addr) {
	t.Helper()
	result, err := p.client.Connect(t.Context(), tcp.Attempt{To: p.at.Addr})
	if err != nil || result.Outcome != tcp.Connected {
		t.Fatalf("%v, %v", result, err)
	}
	p.near = result.Conn
	peer := result.Local
	if seen.IsValid() {
		peer = netip.AddrPortFrom(seen, peer.Port())
	}
	if p.far, err = p.server.Accept(t.Context(), p.at.Handle, peer); err != nil {
		t.Fatal(err)
	}
}

// fin sends a FIN and leaves the socket as it is then. It is closed at the end of the test.
func fin(t *testing.T, n node.Node, conn tcp.Handle) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	var waiting sync.WaitGroup
	waiting.Go(func() {
		if err := n.End(ctx, conn, tcp.CloseFirst); err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, tcp.ErrPeerReset) {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		stop()
		waiting.Wait()
	})
}

// Matches of packets. Of the FINs of a node, all but the first are beyond the bucket: a
// retransmission would begin the timeout anew, or change the state.
const (
	aSYN      = "-p tcp --tcp-flags SYN,ACK SYN"
	aSYNACK   = "-p tcp --tcp-flags SYN,ACK SYN,ACK"
	aFIN      = "-p tcp --tcp-flags FIN FIN"
	laterFINs = aFIN + " -m hashlimit --hashlimit-above 1/hour --hashlimit-burst 1 --hashlimit-name fin"
)

// leaveIn brings the entry of a connection into a state and leaves it there.
func leaveIn(t *testing.T, l *lab.Lab, state string) {
	t.Helper()
	p := &pair{client: get(t, l, "client0"), server: get(t, l, "server0")}
	p.at = listenOn(t, p.server, tcp.ListenSpec{})
	drop := func(node, chain, match string) {
		t.Helper()
		if _, err := l.Drop(topo.Drop{Node: node, Table: "raw", Chain: chain, Match: match}); err != nil {
			t.Fatal(err)
		}
	}
	end := func(n node.Node, conn tcp.Handle, how tcp.Ending) {
		t.Helper()
		if err := n.End(t.Context(), conn, how); err != nil {
			t.Fatal(err)
		}
	}
	switch state {
	case "SYN_SENT", "SYN_RECV":
		if state == "SYN_SENT" {
			drop("server0", "PREROUTING", aSYN)
		} else {
			drop("client0", "PREROUTING", aSYNACK)
		}
		result, err := p.client.Connect(t.Context(), tcp.Attempt{To: p.at.Addr, Budget: 100 * time.Millisecond})
		if err != nil || result.SYNs > 1 {
			t.Fatalf("%v, %v", result, err)
		}
		return
	}
	p.open(t, netip.Addr{})
	switch state {
	case "FIN_WAIT":
		drop("server0", "PREROUTING", aFIN)
		drop("client0", "OUTPUT", laterFINs)
		fin(t, p.client, p.near)
	case "CLOSE_WAIT":
		fin(t, p.client, p.near)
	case "LAST_ACK":
		fin(t, p.client, p.near)
		awaitEntry(t, l, "CLOSE_WAIT")
		drop("client0", "PREROUTING", aFIN)
		drop("server0", "OUTPUT", laterFINs)
		fin(t, p.server, p.far)
	case "TIME_WAIT":
		fin(t, p.client, p.near)
		end(p.server, p.far, tcp.CloseAfterPeer)
	case "CLOSE":
		end(p.client, p.near, tcp.Abort)
	}
}

// An entry that is left in a state expires after the timeout of that state and of no other.
func TestConntrackTimeouts(t *testing.T) {
	privileged(t)
	const short, long = 2 * time.Second, 100 * time.Second
	all := topo.ConntrackTimeouts{
		SYNSent: long, SYNRecv: long, Established: long, FinWait: long, CloseWait: long, LastAck: long, TimeWait: long, Close: long,
	}
	for state, change := range map[string]func(*topo.ConntrackTimeouts){
		"SYN_SENT":    func(c *topo.ConntrackTimeouts) { c.SYNSent = short },
		"SYN_RECV":    func(c *topo.ConntrackTimeouts) { c.SYNRecv = short },
		"ESTABLISHED": func(c *topo.ConntrackTimeouts) { c.Established = short },
		"FIN_WAIT":    func(c *topo.ConntrackTimeouts) { c.FinWait = short },
		"CLOSE_WAIT":  func(c *topo.ConntrackTimeouts) { c.CloseWait = short },
		"LAST_ACK":    func(c *topo.ConntrackTimeouts) { c.LastAck = short },
		"TIME_WAIT":   func(c *topo.ConntrackTimeouts) { c.TimeWait = short },
		"CLOSE":       func(c *topo.ConntrackTimeouts) { c.Close = short },
	} {
		t.Run(state, func(t *testing.T) {
			t.Parallel()
			timeouts := all
			change(&timeouts)
			l := tracked(t, timeouts, nil)
			leaveIn(t, l, state)
			if flow := awaitEntry(t, l, state); flow.Expires > short {
				t.Errorf("%v, want at most %v", flow, short)
			}
			awaitEntry(t, l, "")
		})
	}
}

// A DNAT rule that comes after the first SYN does not help its connection: the entry of that
// SYN is there, untranslated, and no rule is asked again (nf_nat_inet_fn). Another port gets
// in at once, and the same one when the entry is deleted.
func TestDestinationNATThatComesLate(t *testing.T) {
	t.Parallel() // it waits
	l, vip, dnat := lateNAT(t, topo.ConntrackTimeouts{})
	client, router := get(t, l, "client0"), get(t, l, "router")
	from := netip.AddrPortFrom(client.Identity().Addr, 40000)
	connect := func(from netip.AddrPort, want tcp.Outcome) {
		t.Helper()
		result, err := client.Connect(t.Context(), tcp.Attempt{To: vip, From: from, Ending: tcp.CloseNow})
		if err != nil || result.Outcome != want {
			t.Errorf("from %v: %v, %v, want %s", from, result, err, want)
		}
	}
	late := make(chan struct{})
	go func() {
		defer close(late)
		connect(from, tcp.TimedOut)
	}()
	if flow := awaitEntry(t, l, "SYN_SENT"); flow.SeenReply {
		t.Errorf("%v has seen a reply", flow)
	}
	if err := l.AddRules(dnat); err != nil {
		t.Fatal(err)
	}
	<-late
	if hits := natHits(t, router); hits != 0 {
		t.Errorf("the rule has %d hits, want none", hits)
	}
	if flow := awaitEntry(t, l, "SYN_SENT"); flow.Reply.Src != flow.Original.Dst || flow.SeenReply {
		t.Errorf("%v is translated", flow)
	}
	connect(netip.AddrPort{}, tcp.Connected)
	if hits := natHits(t, router); hits != 1 {
		t.Errorf("the rule has %d hits, want 1", hits)
	}
	if n, err := router.DeleteFlows(t.Context(), observe.FlowMatch{Original: observe.Tuple{Src: from}}); err != nil || n != 1 {
		t.Fatalf("deleted %d, %v", n, err)
	}
	connect(from, tcp.Connected)
}

// With a timeout of SYN_SENT that is shorter than the pause between two SYNs, the attempt that
// is under way gets in by its own retry.
func TestRetryThatOutlivesItsEntry(t *testing.T) {
	t.Parallel() // it waits
	l, vip, dnat := lateNAT(t, topo.ConntrackTimeouts{SYNSent: 2 * time.Second},
		// SYNs after 0, 1, 3 and 7 seconds.
		"net.ipv4.tcp_syn_retries=4", "net.ipv4.tcp_syn_linear_timeouts=0")
	client := get(t, l, "client0")
	got := make(chan tcp.Result, 1)
	go func() {
		result, err := client.Connect(t.Context(), tcp.Attempt{To: vip})
		if err != nil {
			t.Error(err)
		}
		got <- result
	}()
	awaitEntry(t, l, "SYN_SENT")
	if err := l.AddRules(dnat); err != nil {
		t.Fatal(err)
	}
	if result := <-got; result.Outcome != tcp.Connected || result.SYNs < 3 || result.SYNs > 4 {
		t.Errorf("%v, want it to connect by its third or fourth SYN", result)
	}
}

// lateNAT is a network with a VIP that nobody has yet, and the rule that would translate it to
// the server, which listens.
func lateNAT(t *testing.T, timeouts topo.ConntrackTimeouts, client ...string) (l *lab.Lab, vip netip.AddrPort, dnat lab.Rule) {
	t.Helper()
	vip = netip.MustParseAddrPort("192.0.2.1:80")
	l = tracked(t, timeouts, func(n *topo.Network) {
		// The router sends what it knows no better to the server, and that nothing back.
		phone, hop := netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("10.0.0.1")
		n.Links = []topo.Link{{Outer: "client0", Inner: "router", OuterAddr: phone, InnerAddr: hop}, {Outer: "router", Inner: "server0"}}
		n.Nodes[2].Routes = []topo.Route{{To: netip.PrefixFrom(phone, 32), Via: "router"}}
		n.Nodes[1].DestinationNAT = []topo.DestinationNAT{{ // so that connection tracking asks NAT from the start
			At: netip.MustParseAddrPort("192.0.2.2:80"), To: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.3:80")},
		}}
		sysctls := append([]string{"net.ipv4.tcp_syn_retries=1"}, client...)
		n.Sysctls = append(n.Sysctls, topo.On(topo.Client, sysctls...)...)
	})
	at := listenOn(t, get(t, l, "server0"), tcp.ListenSpec{Ending: tcp.CloseAfterPeer})
	return l, vip, lab.Rule{
		Node: "router", Table: "nat", Chain: "PREROUTING",
		Spec: "-d 192.0.2.1 -p tcp --dport 80 -j DNAT --to-destination " + at.Addr.String(),
	}
}

// natHits are the hits of the last rule of the table nat.
func natHits(t *testing.T, n node.Node) (hits uint64) {
	t.Helper()
	rules, err := n.Rules(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rules {
		if r.Table == "nat" {
			hits = r.Packets
		}
	}
	return hits
}

// Behind MASQUERADE a connection that is half closed for longer than the timeout of CLOSE_WAIT
// is gone: what the server sends then is for the gateway itself, which resets it.
func TestHalfClosedForTooLong(t *testing.T) {
	t.Parallel() // it waits
	outside := netip.MustParseAddr("10.0.0.1")
	l := tracked(t, topo.ConntrackTimeouts{CloseWait: 2 * time.Second}, func(n *topo.Network) {
		n.Links[1].OuterAddr, n.Links[1].InnerAddr = netip.MustParseAddr("10.0.0.2"), outside
		n.Nodes[1].SourceNAT = []topo.SourceNAT{{Towards: "server0"}}
	})
	p := &pair{client: get(t, l, "client0"), server: get(t, l, "server0")}
	p.at = listenOn(t, p.server, tcp.ListenSpec{})
	p.open(t, outside)
	fin(t, p.client, p.near)
	awaitEntry(t, l, "CLOSE_WAIT")
	awaitEntry(t, l, "")
	before, err := get(t, l, "router").Counters(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.server.Send(t.Context(), p.far, 1); err != nil {
		t.Fatal(err)
	}
	err = observe.Await(t.Context(), "the server's connection to be reset", func() (bool, error) {
		sockets, err := p.server.Sockets(t.Context())
		return len(sockets.In(observe.CloseWait)) == 0, err
	})
	if err != nil {
		t.Error(err)
	}
	after, err := get(t, l, "router").Counters(t.Context())
	if moved := after.Sub(before); err != nil || moved["Tcp.OutRsts"] != 1 {
		t.Errorf("%v, %v, want one RST of the gateway", moved.Moved(), err)
	}
}
