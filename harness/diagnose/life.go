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
)

// First is the packet as its sender sent it.
func (l Life) First() recording.Packet { return l.Seen[0] }

// Last is the packet as it was seen last.
func (l Life) Last() recording.Packet { return l.Seen[len(l.Seen)-1] }

// Lives puts together what all taps have seen of each packet, in order of their beginnings.
// NAT changes addresses and ports, and neither numbers nor timestamps.
func Lives(r *recording.Recording) (all []Life) {
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
			if parts := partsOf(all, p); len(parts) > 0 {
				for _, k := range parts {
					all[k].Seen = append(all[k].Seen, p)
				}
				continue
			}
			i = len(all)
			latest[id], all = i, append(all, Life{})
		}
		all[i].Seen = append(all[i].Seen, p)
	}
	for i := range all {
		all[i].Node, all[i].End = ending(r, all[i].Last())
	}
	return all
}

// mostParts is how many lives are looked at for the parts of a packet: more than 64 KiB have.
const mostParts = 256

// partsOf are the segments that a receiving interface has put together to one packet (GRO):
// those that left the node before, follow each other, and are all of it.
func partsOf(all []Life, p recording.Packet) (parts []int) {
	if p.Out || p.Payload == 0 {
		return nil
	}
	next := p.Seq + uint32(p.Payload) //nolint:gosec // at most some hundred KiB
	for i := len(all) - 1; i >= max(0, len(all)-mostParts) && next != p.Seq; i-- {
		last := all[i].Last()
		if last.Out && last.Payload > 0 && last.Src == p.Src && last.Dst == p.Dst && last.Seq+uint32(last.Payload) == next { //nolint:gosec // as above
			parts, next = append(parts, i), last.Seq
		}
	}
	if next != p.Seq || len(parts) < 2 {
		return nil
	}
	return parts
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

func owns(r *recording.Recording, node string, a netip.Addr) bool {
	return slices.Contains(r.Nodes[node].Addresses, a)
}

// ends are both ends of a connection on one side of a translation.
type ends struct{ src, dst netip.AddrPort }

func (e ends) turned() ends { return ends{e.dst, e.src} }
