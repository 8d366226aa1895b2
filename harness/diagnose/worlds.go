package diagnose

import (
	"net/netip"
	"slices"

	"twlab/harness/recording"
)

// The worlds: what may have become of packets where nobody has captured them.
const (
	arrived     = iota // all have arrived
	lost               // all were lost on a link
	stoppedAt          // all ended at a node between, which has sent the RSTs, too
	some               // every second one has arrived
	challenged         // all SYNs have arrived, and bare ACKs that answer them were lost
	refusedBack        // all SYNs have arrived, and SYN-ACKs that answer them ended at a node between
	closed             // all have arrived, and the server had sent a FIN that nobody has captured
	disowned           // all have arrived at the server, which does not own the address that was called
	bypassed           // all have arrived at a server with another address, whose answers came by another way
	renamed            // the client, which nobody has captured, had called another address
	worlds
)

// named is the recording with the nodes that nobody has captured.
func (p *partial) named() *recording.Recording {
	r := *p.r
	r.Nodes = map[string]recording.Node{}
	for name, n := range p.r.Nodes {
		r.Nodes[name] = n
	}
	ours := func(node string, a netip.Addr) {
		for name := range p.r.Nodes {
			if owns(p.r, name, a) {
				return
			}
		}
		n := r.Nodes[node]
		if !slices.Contains(n.Addresses, a) {
			n.Addresses = append(slices.Clone(n.Addresses), a)
			r.Nodes[node] = n
		}
	}
	for _, l := range p.lives {
		first, last := l.First(), l.Last()
		if p.back(l) {
			first, last = recording.Packet{Src: last.Dst}, recording.Packet{Dst: first.Src}
		}
		ours(p.client, first.Src.Addr())
		ours(p.server, last.Dst.Addr())
	}
	return &r
}

// world is what became of all packets in one of the worlds.
func (p *partial) world(w int) (all []Life) {
	for i, l := range p.lives {
		which := w
		switch w {
		case some:
			which = arrived
			if i%2 == 0 {
				which = lost
			}
		case challenged, refusedBack, closed, disowned, bypassed, renamed:
			which = arrived
		}
		from := which
		if w == renamed {
			from = renamed
		}
		answer := p.answer(i)
		if answer == "S." || answer != "" && which == lost {
			which = arrived // something has answered it
		}
		back := p.back(l)
		l.Seen = slices.Insert(slices.Clone(l.Seen), 0, p.before(l, back, from)...)
		l = p.after(l, back, which)
		if w == stoppedAt {
			l = p.through(l)
		}
		if w == closed && !back && l.First().Payload > 0 {
			fin := p.unseen(l, "F.", l.First().Seq, OnTheWay)
			fin.Seen[0].Time = l.First().Time.Add(-1) // before the data
			all = append(all, fin)
		}
		unanswered := l.First().Flags == "S" && answer == "" && l.End == Delivered && l.Node == p.server
		if !unanswered || p.captured(p.server) {
			all = append(all, l)
			continue
		}
		switch w { // an answer that nobody has seen, or none
		case disowned:
			l.End = Stopped
			all = append(all, l)
		case bypassed:
			all = append(all, p.translated(l), p.unseen(p.translated(l), "S.", l.First().Seq+1, Delivered))
		case challenged:
			all = append(all, l, p.unseen(l, ".", l.First().Seq-1<<20, OnTheWay))
		case refusedBack:
			all = append(all, p.through(l), p.unseen(l, "S.", l.First().Seq+1, Stopped))
		default:
			all = append(all, l)
		}
	}
	return all
}

// captured reports whether somebody has captured packets at a node.
func (p *partial) captured(node string) bool {
	return slices.ContainsFunc(p.at, func(v Vantage) bool { return v.Node == node })
}

// unheard is an address that is in no capture.
var unheard = netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, 1}), 1)

// translated is a packet that had another destination when it arrived.
func (p *partial) translated(l Life) Life {
	l.Seen = slices.Clone(l.Seen)
	l.Seen[len(l.Seen)-1].Dst = unheard
	return l
}

// through lets a packet pass the node between wherever it went from one node to another.
func (p *partial) through(l Life) Life {
	var seen []recording.Packet
	for i, s := range l.Seen {
		if i > 0 && l.Seen[i-1].Out && !s.Out && s.Point != l.Seen[i-1].Point && s.Point != p.between {
			in := s
			in.Point, in.Interface = p.between, "one side"
			out := in
			out.Out, out.Interface = true, "other side"
			seen = append(seen, in, out)
		}
		seen = append(seen, s)
	}
	l.Seen = seen
	return l
}

// unseen is a packet of the server that nobody has captured, at the time of one that it got.
func (p *partial) unseen(to Life, flags string, ack uint32, end End) Life {
	answer := to.Last()
	answer.Payload = 0
	answer.Src, answer.Dst, answer.Seq, answer.Ack, answer.Flags = answer.Dst, answer.Src, 1, ack, flags
	answer.Point, answer.Interface, answer.Out = p.server, "", true
	l := Life{Seen: []recording.Packet{answer}, Node: p.server, End: end}
	if end == Delivered {
		answer.Point, answer.Interface, answer.Out = p.client, "", false
		l.Seen, l.Node = append(l.Seen, answer), p.client
	}
	if end == Stopped {
		answer.Point, answer.Interface, answer.Out = p.between, "server's side", false
		l.Seen, l.Node = append(l.Seen, answer), p.between
	}
	return l
}

// answer is what came back for the i-th packet, a SYN: "S.", "R."; empty for nothing.
func (p *partial) answer(i int) string {
	first := p.lives[i].First()
	if first.Flags != "S" {
		return ""
	}
	for _, l := range p.lives[i+1:] {
		if a := l.First(); !p.back(l) && a.Flags == "S" && a.Seq == first.Seq {
			return "" // sent again: what follows answers that one, or both
		} else if p.back(l) && acknowledges(a, first) && (a.Is('S') || a.Is('R')) {
			return a.Flags
		}
	}
	return ""
}

// before is the sighting at the sender, where nobody has captured it.
func (p *partial) before(l Life, back bool, which int) []recording.Packet {
	first := l.First()
	sender := p.client
	if back {
		sender = p.server
	}
	if first.Point == sender || first.Out && p.everywhere(first.Point) {
		return nil
	}
	if which == stoppedAt && first.Is('R') {
		sender = p.between
	}
	first.Point, first.Interface, first.Out = sender, "", true
	if which == renamed && !back {
		first.Dst = unheard
	}
	return []recording.Packet{first}
}

// after are the sightings behind the last capture.
func (p *partial) after(l Life, back bool, which int) Life {
	last := l.Last()
	if l.End == OnTheWay && which != stoppedAt || l.End == Delivered || l.End == Stopped {
		return l
	}
	if !last.Out {
		if which == lost && !p.next(last.Point, back) || which != lost && which != stoppedAt && p.next(last.Point, back) {
			l.End = Stopped
			return l
		}
		last.Out, last.Interface = true, "other side"
		l.Seen = append(l.Seen, last)
	}
	at := p.server
	if back {
		at = p.client
	}
	last.Interface, last.Out = "", false
	switch {
	case which == stoppedAt:
		last.Point, l.End = p.between, Stopped
	case which == lost || l.End == OnTheWay:
		l.Node, l.End = last.Point, OnTheWay
		return l
	default:
		last.Point, l.End = at, Delivered
	}
	l.Seen, l.Node = append(l.Seen, last), last.Point
	return l
}
