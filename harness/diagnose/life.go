package diagnose

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

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
func Lives(r *recording.Recording) []Life { return ended(r, together(r, direct)) }

// Sent are the packets as their senders sent them, of those that Lives has found: an interface
// may have split one. One that left a node for where no tap is, because guests are recorded at
// one end of their links, is [Unseen], and not lost.
func Sent(r *recording.Recording, all []Life) []Life {
	all = ended(r, whole(all, direct))
	for i, l := range all {
		if l.End == OnTheWay && guests(r) {
			all[i].End = Unseen
		}
	}
	return all
}

func ended(r *recording.Recording, all []Life) []Life {
	for i := range all {
		all[i].Node, all[i].End = ending(r, all[i].Last())
	}
	return all
}

// together puts together the sightings of each packet. A segment that an interface put together
// with others (GRO) goes on as the large one, which is no packet of its own. All are segments of
// one connection and direction, by the key of their ends.
func together(r *recording.Recording, key func(recording.Packet) ends) (all []Life) {
	type identity struct {
		seq, ack uint32
		flags    string
		stamp    recording.Timestamp
		payload  int
	}
	alike := map[identity][]int{}
	for _, p := range r.Packets {
		id := identity{seq: p.Seq, ack: p.Ack, flags: p.Flags, payload: p.Payload}
		if p.Timestamp != nil {
			id.stamp = *p.Timestamp
		}
		i := unseenOf(all, alike[id], p)
		if i < 0 {
			if parts := partsOf(all, p, key); len(parts) > 0 {
				for _, k := range parts {
					all[k].Seen = append(all[k].Seen, p)
				}
				continue
			}
			i = len(all)
			alike[id], all = append(alike[id], i), append(all, Life{})
		}
		all[i].Seen = append(all[i].Seen, p)
	}
	return all
}

// underWay is how old the last sighting of a packet that is still under way may be: less than
// the kernel's shortest retransmission (TCP_RTO_MIN, 200 ms).
const underWay = 100 * time.Millisecond

// unseenOf is the life of a packet that an interface has seen, of those that are alike; -1 if it
// was sent again. Packets keep their order, so it is the first that is under way and was not seen
// here; one that was sent long before was lost, and then it is the latest.
func unseenOf(all []Life, alike []int, p recording.Packet) int {
	for _, i := range alike[max(0, len(alike)-mostParts):] {
		if !seenAt(all[i].Seen, p) && p.Time.Sub(all[i].Last().Time) < underWay {
			return i
		}
	}
	if n := len(alike); n > 0 && !seenAt(all[alike[n-1]].Seen, p) {
		return alike[n-1]
	}
	return -1
}

// direct is the key of segments that no NAT has changed between two taps.
func direct(p recording.Packet) ends { return ends{p.Src, p.Dst} }

// mostParts is how many lives are looked at for a packet, or its parts. The kernel makes none of
// more than 64 KiB, unless it is told to.
const mostParts = 256

// partsOf are the segments that a packet was put together of: those that left another node
// before, follow each other, and are all of it.
func partsOf(all []Life, p recording.Packet, key func(recording.Packet) ends) (parts []int) {
	if p.Out || p.Payload == 0 {
		return nil
	}
	next := p.Seq + uint32(p.Payload) //nolint:gosec // at most some hundred KiB
	for i := len(all) - 1; i >= max(0, len(all)-mostParts) && next != p.Seq; i-- {
		last := all[i].Last()
		follows := last.Seq+uint32(last.Payload) == next && within(last, p) //nolint:gosec // as above
		if follows && last.Out && last.Payload > 0 && last.Point != p.Point && key(last) == key(p) {
			parts, next = append(parts, i), last.Seq
		}
	}
	if next != p.Seq {
		return nil
	}
	return parts
}

// whole finds the segments that were split on their way (TSO): one goes on as the first of its
// parts, where all of them are there, and they are no packets of their own.
func whole(all []Life, key func(recording.Packet) ends) (left []Life) {
	all = slices.Clone(all)
	waiting := map[ends][]int{} // segments that left a node, and have not come into another
	parts := map[int][]int{}
	for i, l := range all {
		first, last := l.First(), l.Last()
		switch on := key(first); {
		case first.Payload == 0:
		case last.Out:
			waiting[key(last)] = append(waiting[key(last)], i)
		case !first.Out:
			// The latest: an earlier one may have been lost.
			for _, k := range slices.Backward(waiting[on][max(0, len(waiting[on])-mostParts):]) {
				if last := all[k].Last(); last.Point != first.Point && within(first, last) {
					parts[k] = append(parts[k], i)
					break
				}
			}
		}
	}
	gone := make([]bool, len(all))
	for k, of := range parts {
		covered := 0
		for _, i := range of {
			covered += all[i].First().Payload
		}
		if covered < all[k].Last().Payload {
			continue // some were lost: they stay what they are
		}
		all[k].Seen = slices.Concat(all[k].Seen, all[of[0]].Seen)
		for _, i := range of {
			gone[i] = true
		}
	}
	for i, l := range all {
		if !gone[i] {
			left = append(left, l)
		}
	}
	return left
}

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

func (e ends) compare(o ends) int { return cmp.Or(e.src.Compare(o.src), e.dst.Compare(o.dst)) }
