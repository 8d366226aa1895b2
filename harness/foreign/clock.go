package foreign

import "time"

// Clock is how far the clock of a node is ahead of the first node's.
type Clock struct {
	Node, Of string
	Offset   time.Duration
	// Bound is how wrong the offset may be; negative where packets of one direction alone were
	// found in both, so that there is no bound.
	Bound time.Duration
	// Matched is how many packets both have seen.
	Matched int
	// Unsteady says that no single offset fits all of them: a clock was set, or drifts.
	Unsteady bool
}

// identity is what NAT leaves alone of a packet.
type identity struct {
	seq, ack, stamp, echo uint32
	head                  uint64
	payload               int
	flags                 uint8
	back                  bool
	id                    uint16
}

func (s *scan) identity(p packet) identity {
	return identity{
		seq: p.Seq, ack: p.Ack, stamp: p.Stamp, echo: p.Echo, head: p.Head, payload: p.Payload,
		flags: uint8(p.Flags), back: p.flow.forward != ends{p.Src, p.Dst}, id: p.ID,
	}
}

// sighting is when a packet was seen at a node, at its interfaces.
type sighting struct {
	first, last time.Time
	again       bool // much later: it was sent twice, so that nobody knows which one it is
}

// apart is how long a packet may take through one node.
const apart = 100 * time.Millisecond

// sightings are those of all packets at a node.
func (s *scan) sightings(node int, withID bool) map[identity]sighting {
	all := map[identity]sighting{}
	for _, p := range s.kept {
		if p.flow == nil || p.node != node || p.Time.IsZero() || !p.flow.certain() {
			continue
		}
		id := s.identity(p)
		if !withID {
			id.id = 0
		}
		seen, known := all[id]
		switch {
		case !known:
			seen = sighting{first: p.Time, last: p.Time}
		case p.Time.Sub(seen.first).Abs() > apart:
			seen.again = true
		case p.Time.Before(seen.first):
			seen.first = p.Time
		case p.Time.After(seen.last):
			seen.last = p.Time
		}
		all[id] = seen
	}
	return all
}

// clocks finds the offset of each node's clock, by the packets that it shares with one before
// it.
func (s *scan) clocks() {
	s.offset, s.matched = make([]time.Duration, len(s.nodes)), make([]bool, len(s.nodes))
	s.matched[0] = true
	for _, withID := range []bool{true, false} {
		var seen []map[identity]sighting
		for node := range s.nodes {
			seen = append(seen, s.sightings(node, withID))
		}
		for node := 1; node < len(s.nodes); node++ {
			if s.matched[node] {
				continue
			}
			best := Clock{Bound: -1}
			for of := range node {
				if c, found := compare(seen[of], seen[node]); found && s.matched[of] && c.better(best) {
					c.Node, c.Of = s.nodes[node], s.nodes[of]
					best, s.offset[node], s.matched[node] = c, s.offset[of]+c.Offset, true
				}
			}
			if s.matched[node] {
				s.result.Clocks = append(s.result.Clocks, best)
			}
		}
	}
	for i, p := range s.kept {
		s.kept[i].Time = p.Time.Add(-s.offset[p.node])
	}
}

// better reports whether an offset is known better than another one.
func (c Clock) better(than Clock) bool {
	switch {
	case than.Matched == 0:
		return true
	case (c.Bound < 0) != (than.Bound < 0):
		return c.Bound >= 0
	case c.Unsteady != than.Unsteady:
		return than.Unsteady
	}
	return c.Bound >= 0 && c.Bound < than.Bound
}

// compare finds how far one clock is ahead of another, that of a node nearer to the client. A
// packet from the client is seen there first, so it says how far at most; one from the server
// says how far at least.
func compare(near, far map[identity]sighting) (c Clock, found bool) {
	var most, least time.Duration
	forward, back := 0, 0
	for id, a := range near {
		b, both := far[id]
		if !both || a.again || b.again {
			continue
		}
		if id.back {
			if d := b.last.Sub(a.first); back == 0 || d > least {
				least = d
			}
			back++
		} else {
			if d := b.first.Sub(a.last); forward == 0 || d < most {
				most = d
			}
			forward++
		}
	}
	c.Matched = forward + back
	switch {
	case c.Matched == 0:
		return c, false
	case back == 0:
		c.Offset, c.Bound = most, -1
	case forward == 0:
		c.Offset, c.Bound = least, -1
	default:
		c.Offset, c.Bound = least+(most-least)/2, (most-least).Abs()/2
		c.Unsteady = least > most
	}
	return c, true
}
