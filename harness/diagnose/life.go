package diagnose

import (
	"net/netip"
	"slices"

	"twlab/harness/recording"
)

// Life is one packet at all the interfaces that have seen it, in order.
type Life struct {
	Seen []recording.Packet
	// Node is where it ended: the node that it came into last, or left last.
	Node string
	End  End
}

// End says where a packet ended.
type End string

// The ends.
const (
	Delivered End = "delivered"   // it came into the node that owns its destination
	Stopped   End = "stopped"     // it came into a node that does not, and did not leave it
	OnTheWay  End = "on the link" // it left a node, and came into no other
	Unseen    End = "unseen"      // it left a node for where no tap is
)

// First is the packet as its sender sent it.
func (l Life) First() recording.Packet { return l.Seen[0] }

// Last is the packet as it was seen last.
func (l Life) Last() recording.Packet { return l.Seen[len(l.Seen)-1] }

// Lives puts together what all taps have seen of each packet, in order of their beginnings.
// NAT changes addresses and ports, and neither numbers nor timestamps.
func Lives(r *recording.Recording) []Life { return ended(r, together(r)) }

// sent are the packets as their senders sent them, of those that Lives has found: see joined.
func sent(r *recording.Recording, all []Life) []Life {
	return ended(r, joined(all, func(p recording.Packet) ends { return ends{p.Src, p.Dst} }))
}

func ended(r *recording.Recording, all []Life) []Life {
	for i := range all {
		all[i].Node, all[i].End = ending(r, all[i].Last())
	}
	return all
}

// together puts together the sightings of each packet.
func together(r *recording.Recording) (all []Life) {
	type identity struct {
		seq, ack uint32
		flags    string
		stamp    recording.Timestamp
		payload  int
	}
	latest := map[identity]int{}
	for _, p := range r.Packets {
		id := identity{seq: p.Seq, ack: p.Ack, flags: p.Flags, payload: p.Payload}
		if p.Timestamp != nil {
			id.stamp = *p.Timestamp
		}
		i, known := latest[id]
		// At an interface that has seen it already, it was sent again.
		if !known || seenAt(all[i].Seen, p) {
			i = len(all)
			latest[id], all = i, append(all, Life{})
		}
		all[i].Seen = append(all[i].Seen, p)
	}
	return all
}

// joined finds the segments that were put together on their way, and those that were split:
// an interface that offloads shows one large segment where its peer shows several (GRO, TSO).
// Of those that were put together each goes on as the large one, and one that was split as the
// first of its parts; what they go on as is no packet of its own. Both are segments of one
// connection and direction, by the key of their ends.
func joined(all []Life, key func(recording.Packet) ends) (left []Life) {
	all = slices.Clone(all)
	waiting := map[ends][]int{} // segments that left a node, and have not come into another
	gone := make([]bool, len(all))
	parts := map[int][]int{} // of those that were split
	for i, l := range all {
		first := l.First()
		if first.Payload == 0 {
			continue
		}
		if last := l.Last(); last.Out {
			waiting[key(last)] = append(waiting[key(last)], i)
			continue
		}
		on := key(first)
		if first.Out {
			continue
		}
		var small []int
		covered := 0
		// The latest: an earlier one may have been lost.
		for n := len(waiting[on]) - 1; n >= max(0, len(waiting[on])-mostWaiting); n-- {
			k := waiting[on][n]
			switch last := all[k].Last(); {
			case last.Point == first.Point:
			case within(last, first):
				small, covered = append(small, k), covered+last.Payload
			case within(first, last) && !gone[i]:
				parts[k], gone[i] = append(parts[k], i), true
			}
		}
		if covered < first.Payload || gone[i] {
			continue
		}
		for _, k := range small {
			all[k].Seen = slices.Concat(all[k].Seen, l.Seen)
		}
		gone[i] = true
		waiting[on] = slices.DeleteFunc(waiting[on], func(k int) bool { return slices.Contains(small, k) })
	}
	for whole, of := range parts {
		covered := 0
		for _, i := range of {
			covered += all[i].First().Payload
		}
		if covered < all[whole].Last().Payload { // some were lost: they stay what they are
			for _, i := range of {
				gone[i] = false
			}
			continue
		}
		all[whole].Seen = slices.Concat(all[whole].Seen, all[of[0]].Seen)
	}
	for i, l := range all {
		if !gone[i] {
			left = append(left, l)
		}
	}
	return left
}

// mostWaiting is how many segments are looked at for those that a large one is made of. The
// kernel makes none of more than 64 KiB, unless it is told to.
const mostWaiting = 256

// within reports whether a segment is part of another one.
func within(part, whole recording.Packet) bool {
	begin := part.Seq - whole.Seq
	return part.Payload < whole.Payload && uint64(begin)+uint64(part.Payload) <= uint64(whole.Payload)
}

func seenAt(seen []recording.Packet, p recording.Packet) bool {
	return slices.ContainsFunc(seen, func(s recording.Packet) bool {
		return s.Point == p.Point && s.Interface == p.Interface && s.Out == p.Out
	})
}

func ending(r *recording.Recording, last recording.Packet) (string, End) {
	switch {
	case last.Out && guests(r):
		return last.Point, Unseen
	case last.Out:
		return last.Point, OnTheWay
	case owns(r, last.Point, last.Dst.Addr()):
		return last.Point, Delivered
	default:
		return last.Point, Stopped
	}
}

// guests reports whether there are links without a tap at one end: those of nodes that have a
// kernel of their own.
func guests(r *recording.Recording) bool {
	for _, n := range r.Nodes {
		if n.Guest {
			return true
		}
	}
	return false
}

func owns(r *recording.Recording, node string, a netip.Addr) bool {
	return slices.Contains(r.Nodes[node].Addresses, a)
}

// ends are both ends of a connection on one side of a translation.
type ends struct{ src, dst netip.AddrPort }

func (e ends) turned() ends { return ends{e.dst, e.src} }
