package scenarios

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	"twlab/harness/recording"
	"twlab/harness/script"
	"twlab/harness/topo"
	"twlab/scenarios/claim"
)

// ofNetwork compares counters, sockets and flows. Sockets and flows may be as predicted when the last
// step has just ended, or at the end of the run.
func (c Claimed) ofNetwork(e script.Expectation, seen recording.Recording) []claim.Line {
	plan, err := c.told.Network.Plan()
	if err != nil {
		return nil // it is a cell's: a test plans all of them
	}
	n := network{is: places{c.told, plan, seen.Nodes}.is, before: seen.Before, just: seen.Steps[len(seen.Steps)-1].After, after: seen.After}
	for _, s := range seen.Steps[:len(seen.Steps)-1] {
		if s.After != nil {
			n.before = s.After
		}
	}
	for _, node := range slices.Sorted(maps.Keys(e.Counters)) {
		for _, name := range slices.Sorted(maps.Keys(e.Counters[node])) {
			rose := n.after[node].Counters[name] - n.before[node].Counters[name]
			n.within(node+" "+name, e.Counters[node][name], int64(rose)) //nolint:gosec // it counts packets
		}
	}
	for _, want := range e.Sockets {
		n.count("sockets of "+want.Node+" "+want.State, want.Node, want.Count, func(s recording.State) int { return n.sockets(want, s.Sockets) })
	}
	for _, want := range e.Flows {
		n.count("flows of "+want.Node+" "+want.State, want.Node, want.Count, func(s recording.State) int { return n.flows(want.Flow, s.Flows) })
	}
	return n.compared
}

// network is what recordings have of the nodes: before the last step, just after it, and at the end.
type network struct {
	compared
	before, just, after map[string]recording.State
	is                  func(script.Endpoint, netip.AddrPort) bool
}

// count compares a number of entries of a node's table.
func (n *network) count(what, node string, b script.Bound, of func(recording.State) int) {
	seen := of(n.just[node])
	if !b.Holds(int64(seen), 0) {
		seen = of(n.after[node])
	}
	n.within(strings.TrimSpace(what), b, int64(seen))
}

func (n *network) sockets(want script.SocketCount, all []recording.Socket) (count int) {
	for _, s := range all {
		timer := want.Expires == nil || s.Timer != "" && want.Expires.Holds(s.Expires.Milliseconds(), 0)
		if (want.State == "" || want.State == s.State) && n.is(want.Local, s.Local) && n.is(want.Remote, s.Remote) && timer {
			count++
		}
	}
	return count
}

func (n *network) flows(want script.Flow, all []recording.Flow) (count int) {
	for _, f := range all {
		if (want.State == "" || want.State == f.State) && n.is(want.From, f.From) && n.is(want.To, f.To) && n.is(want.As, f.As) && n.is(want.At, f.At) {
			count++
		}
	}
	return count
}

// places knows the addresses of a scenario that was run.
type places struct {
	of    script.Scenario
	plan  topo.Plan
	nodes map[string]recording.Node
}

// is reports whether an address is what an endpoint asks for.
func (p places) is(e script.Endpoint, a netip.AddrPort) bool {
	e.Six = e.Six || p.of.Network.IP == topo.DualStack && a.Addr().Is6()
	named := e.Name == "" || p.of.Addr(p.plan, e) == a.Addr() || slices.Contains(p.nodes[e.Name].Addresses, a.Addr())
	return named && (e.Port == 0 || e.Port == a.Port())
}
