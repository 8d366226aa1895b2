package foreign

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"twlab/harness/diagnose"
	"twlab/harness/recording"
)

// connections makes a recording of each attempt that died.
func (s *scan) connections() {
	groups := map[*flow][]int{}
	var order []*flow
	for i, p := range s.kept {
		if p.flow == nil {
			continue
		}
		root := p.flow.root()
		if groups[root] == nil {
			order = append(order, root)
		}
		groups[root] = append(groups[root], i)
	}
	chosen := map[*flow]bool{}
	for _, f := range s.flows {
		if !f.chosen { // they went well
			root := f.root()
			if !chosen[root] && groups[root] == nil {
				chosen[root] = true
				s.result.Seen++
				s.result.Fine++
			}
		}
	}
	everywhere := make([]bool, len(s.nodes))
	for node := range s.nodes {
		everywhere[node] = s.everywhere(node)
	}
	ports := s.ports()
	for _, root := range order {
		g := group{scan: s, everywhere: everywhere, ports: ports}
		for _, i := range groups[root] {
			g.packets = append(g.packets, s.kept[i])
			g.cut = g.cut || s.kept[i].flow.cut
		}
		slices.SortStableFunc(g.packets, func(a, b packet) int { return a.Time.Compare(b.Time) })
		g.attempts()
	}
}

// ports are those of servers to which each node has seen packets.
func (s *scan) ports() []map[uint16]bool {
	all := make([]map[uint16]bool, len(s.nodes))
	for i := range all {
		all[i] = map[uint16]bool{}
	}
	for _, f := range s.flows {
		all[f.node][f.forward.dst.Port()] = true
	}
	return all
}

// group is what all nodes have seen of a five-tuple, on each side of each translation.
type group struct {
	*scan
	everywhere []bool
	ports      []map[uint16]bool
	packets    []packet
	cut        bool
}

func (p packet) forward() bool { return p.flow.forward == ends{p.Src, p.Dst} }

// attempts makes recordings of the attempts of a group: a SYN with a number of its own, at the
// node nearest to the client, begins one.
func (g *group) attempts() {
	nearest := g.packets[0].node
	for _, p := range g.packets {
		nearest = min(nearest, p.node)
	}
	type beginning struct {
		ends
		isn uint32
	}
	var begins []int
	known := map[beginning]bool{}
	for i, p := range g.packets {
		if p.node != nearest || p.Flags&(syn|ack|rst) != syn || !p.forward() {
			continue
		}
		if b := (beginning{ends{p.Src, p.Dst}, p.Seq}); !known[b] {
			known[b] = true
			begins = append(begins, i)
		}
	}
	if len(begins) == 0 {
		for i, p := range g.packets {
			if p.node == nearest && p.forward() {
				g.attempt(nearest, i, i, len(g.packets), false)
				return
			}
		}
		return // packets of one direction alone
	}
	if begins[0] > 0 && slices.ContainsFunc(g.packets[:begins[0]], func(p packet) bool { return p.Flags&rst != 0 }) {
		g.attempt(nearest, 0, 0, begins[0], false)
	}
	for n, i := range begins {
		until := len(g.packets)
		for _, next := range begins[n+1:] { // of the same ends
			if a, b := g.packets[next], g.packets[i]; a.Src == b.Src && a.Dst == b.Dst {
				until = next
				break
			}
		}
		g.attempt(nearest, i, i, until, true)
	}
}

// attempt makes the recording of an attempt whose first packet is at an index, from the packets
// between two others.
func (g *group) attempt(nearest, first, from, until int, began bool) {
	g.result.Seen++
	head, packets := g.packets[first], g.packets[from:until]
	e := ends{head.Src, head.Dst}
	if !head.forward() {
		e = e.turned()
	}
	a := recording.Attempt{Node: g.client(), Local: e.src, Remote: e.dst}
	o := observed{ends: e, atClient: isClient(g.nodes[nearest]), end: isClient(g.nodes[nearest]) || isServer(g.nodes[nearest]), isn: head.Seq, began: began, until: g.result.Files[g.lastFile(nearest)].Last.Add(-g.offset[nearest])}
	for _, p := range packets {
		if p.node == nearest {
			o.see(p)
		}
	}
	switch verdict := o.verdict(&a); verdict {
	case fine:
		g.result.Fine++
		return
	case unbegun:
		g.result.Unbegun++
		return
	case unfinished:
		g.result.Unfinished++
		return
	case died:
	}
	c := Connection{Began: began, Shortened: g.cut, At: g.vantages(packets, e.dst.Port())}
	c.Recording = g.recording(a, packets)
	g.result.Connections = append(g.result.Connections, c)
}

// lastFile is the last capture of a node.
func (s *scan) lastFile(node int) int {
	last := 0
	for i := range s.sources {
		if s.node(i) == node {
			last = i
		}
	}
	return last
}

// client names the node where the connections begin: the first one, if it is called that, or
// one that nobody has captured.
func (s *scan) client() string {
	if isClient(s.nodes[0]) {
		return s.nodes[0]
	}
	name := "client"
	for slices.Contains(s.nodes, name) {
		name = "the " + name
	}
	return name
}

// vantages are the nodes that have seen some of the packets, or could have: their clock is
// known, they were captured at that time, and other packets to that port passed them.
func (g *group) vantages(packets []packet, port uint16) (all []diagnose.Vantage) {
	began, ended := packets[0].Time, packets[len(packets)-1].Time
	for node, name := range g.nodes {
		saw := slices.ContainsFunc(packets, func(p packet) bool { return p.node == node })
		covers := false
		for i, f := range g.result.Files {
			covers = covers || g.node(i) == node && !f.First.Add(-g.offset[node]).After(began) && !f.Last.Add(-g.offset[node]).Before(ended)
		}
		if saw || g.matched[node] && covers && g.ports[node][port] {
			all = append(all, diagnose.Vantage{Node: name, Everywhere: g.everywhere[node]})
		}
	}
	return all
}

// recording has the packets of an attempt, and what is known of the nodes.
func (g *group) recording(a recording.Attempt, packets []packet) recording.Recording {
	began := packets[0].Time
	r := recording.Recording{
		By: "captures", Scenario: "captures", Began: began, Took: packets[len(packets)-1].Time.Sub(began) + time.Nanosecond, Planned: 1,
		Nodes: map[string]recording.Node{}, Before: map[string]recording.State{}, After: map[string]recording.State{},
		Missing: map[recording.Evidence]string{},
	}
	for _, kind := range []recording.Evidence{recording.OfSockets, recording.OfFlows, recording.OfRules, recording.OfEvents} {
		r.Missing[kind] = "captures do not have it"
	}
	addresses := map[string]map[netip.Addr]bool{}
	for _, p := range packets {
		r.Packets = append(r.Packets, g.converted(p))
		name, e := g.nodes[p.node], p.flow.forward
		if addresses[name] == nil {
			addresses[name] = map[netip.Addr]bool{}
		}
		if isClient(name) {
			addresses[name][e.src.Addr()] = true
		}
		if isServer(name) {
			addresses[name][e.dst.Addr()] = true
		}
	}
	for _, name := range append(slices.Clone(g.nodes), a.Node) {
		n := recording.Node{Addresses: slices.SortedFunc(maps.Keys(addresses[name]), netip.Addr.Compare)}
		if t, known := g.options.Evidence[name]; known {
			r.Before[name], r.After[name] = recording.State{Counters: t.Before}, recording.State{Counters: t.After}
			n.Settings = map[string]recording.Setting{}
			for key, value := range t.Sysctls {
				n.Settings[key] = recording.Setting{Value: value, Said: true}
			}
		}
		r.Nodes[name] = n
	}
	r.Steps = []recording.Step{{
		Number: len(g.result.Connections) + 1, Verb: "connect", What: fmt.Sprintf("%v > %v", a.Local, a.Remote), Ended: r.Took,
		Result: recording.Result{Attempts: []recording.Attempt{a}},
	}}
	return r
}

func (g *group) converted(p packet) recording.Packet {
	one := recording.Packet{
		Point: g.nodes[p.node], Interface: p.at(), Time: p.Time.UTC(), Out: p.out, Src: p.Src, Dst: p.Dst, ID: p.ID,
		Seq: p.Seq, Flags: p.Flags.String(), Payload: p.Payload, Fragment: p.Fragment,
	}
	if p.Flags&ack != 0 {
		one.Ack = p.Ack
	}
	if p.Stamped {
		one.Timestamp = &recording.Timestamp{Value: p.Stamp, Echo: p.Echo}
	}
	return one
}
