package foreign

import (
	"fmt"

	"twlab/harness/capture"
)

// directions finds out of each packet whether it left the node or came in: the capture says it,
// or the node is an end of the way, or it was seen twice at a box, or at the side of a box that
// leads to the client or to the server. Elsewhere it counts as having come in.
func (s *scan) directions() {
	everywhere := map[int]bool{}
	for i := range s.kept {
		p := &s.kept[i]
		if p.flow == nil {
			continue
		}
		node, forward := s.nodes[p.node], p.flow.forward == ends{p.Src, p.Dst}
		everywhere[p.node] = everywhere[p.node] || p.Everywhere
		switch {
		case p.Direction != capture.Unsaid:
			p.out, p.sided = p.Direction == capture.Out, true
		case isClient(node):
			p.out, p.sided = forward, true
		case isServer(node):
			p.out, p.sided = !forward, true
		}
	}
	s.twice()
	s.sides()
}

// side is an interface of a node.
type side struct{ node, source, number int }

func (p packet) side() side { return side{p.node, p.source, p.Interface} }

// at names the interface where a packet was seen.
func (p packet) at() string { return fmt.Sprintf("%d.%d", p.source+1, p.Interface) }

// twice takes what a box has shown twice within a moment for one packet: it came in, and left.
func (s *scan) twice() {
	type passing struct {
		node int
		id   identity
	}
	first := map[passing]int{}
	for i := range s.kept {
		p := &s.kept[i]
		if p.flow == nil || p.sided {
			continue
		}
		at := passing{p.node, s.identity(*p)}
		k, known := first[at]
		if !known || p.Time.Sub(s.kept[k].Time).Abs() > apart {
			first[at] = i
			continue
		}
		one, other := &s.kept[k], p
		if other.Time.Before(one.Time) { // files are read one after the other
			one, other = other, one
		}
		one.out, one.sided = false, true
		other.out, other.sided = true, true
		delete(first, at)
	}
}

// sides concludes from what passed a box to which side each of its interfaces is, for packets
// that did not pass.
func (s *scan) sides() {
	toClient := map[side]int{} // how many more packets show that it is the client's side
	for _, p := range s.kept {
		if p.flow == nil || !p.sided || isClient(s.nodes[p.node]) || isServer(s.nodes[p.node]) {
			continue
		}
		vote := -1
		if forward := p.flow.forward == (ends{p.Src, p.Dst}); forward != p.out {
			vote = 1
		}
		toClient[p.side()] += vote
	}
	for i := range s.kept {
		p := &s.kept[i]
		if p.flow == nil || p.sided {
			continue
		}
		forward := p.flow.forward == ends{p.Src, p.Dst}
		switch votes := toClient[p.side()]; {
		case votes > 0:
			p.out, p.sided = !forward, true
		case votes < 0:
			p.out, p.sided = forward, true
		}
	}
}

// everywhere reports whether all interfaces of a node that matter were captured: by tcpdump -i
// any, or on both sides.
func (s *scan) everywhere(node int) bool {
	in, out := map[side]bool{}, map[side]bool{}
	for _, p := range s.kept {
		if p.flow == nil || p.node != node {
			continue
		}
		if p.Everywhere {
			return true
		}
		if !p.sided {
			continue
		}
		if forward := p.flow.forward == (ends{p.Src, p.Dst}); forward == p.out {
			out[p.side()] = true
		} else {
			in[p.side()] = true
		}
	}
	// Somebody's packets came in at one and left at another.
	return len(in) > 0 && len(out) > 0
}
