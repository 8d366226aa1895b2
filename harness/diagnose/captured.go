package diagnose

import (
	"cmp"
	"net/netip"
	"slices"

	"twlab/harness/recording"
)

// Vantage is a node where somebody has captured packets.
type Vantage struct {
	Node string
	// Everywhere says that all its interfaces were captured: what came in and is not seen to
	// leave has not left.
	Everywhere bool
}

// Captured diagnoses the attempts of the first step of a recording that was made of captures of
// others, at some nodes, given in the order of the way from the client. What became of a packet
// before the first of them and behind the last is not known: it may have arrived, or got lost,
// or ended at a node between. A fact is known where all of these agree on it.
func Captured(r *recording.Recording, at []Vantage) (all []Diagnosis) {
	for _, a := range r.Steps[0].Result.Attempts {
		p := newPartial(r, at, a)
		base := newCaseOf(r, p.lives, 0, a, nil)
		d := Diagnosis{
			Step: r.Steps[0].Number, ID: r.Steps[0].ID, Attempt: a, Symptom: base.symptom,
			SYNs: base.syns, Lives: base.lives, Before: base.before,
		}
		if d.Symptom != Fine {
			d.judge(p.cases()...)
			d.prefer()
			slices.SortStableFunc(d.Findings, func(x, y Finding) int {
				return cmp.Or(cmp.Compare(len(y.Proof), len(x.Proof)), cmp.Compare(len(x.Open), len(y.Open)))
			})
		}
		all = append(all, d)
	}
	return all
}

// cases are what may be the case: each of the worlds, and in one of them each outcome and error
// that the client's system calls may have had.
func (p *partial) cases() (all []*Case) {
	add := func(world int, outcome, errno string) {
		a := p.attempt
		a.Outcome, a.Errno = outcome, errno
		a.Replies = slices.Clone(a.Replies)
		for i := range a.Replies {
			a.Replies[i].Errno = errno
		}
		c := newCaseOf(p.named(), p.world(world), 0, a, nil)
		c.captured = true
		all = append(all, c)
	}
	outcomes := []string{p.attempt.Outcome}
	switch {
	case p.attempt.Outcome == "" || p.attempt.Outcome == "Connected":
	case !p.captured(p.attempt.Node): // what has reached the client is not known
		outcomes = []string{"TimedOut", "Unreachable", "Refused", "Reset"}
	case p.attempt.Outcome != "Refused":
		outcomes = []string{"TimedOut", "Unreachable"} // by an ICMP error
	}
	for world := range worlds {
		add(world, outcomes[0], "")
	}
	for _, o := range outcomes[1:] {
		add(arrived, o, "")
	}
	for _, errno := range []string{"ETIMEDOUT", "ECONNRESET", "ECONNREFUSED", "EHOSTUNREACH", "ENETUNREACH", "EPIPE"} {
		add(arrived, outcomes[0], errno)
	}
	return all
}

// prefer takes the one cause of which all that it requires is true, if there is one. The others
// are excluded where they would be told from it by a fact that speaks for it.
func (d *Diagnosis) prefer() {
	var whole, rest []Finding
	for _, f := range d.Findings {
		if f.whole {
			whole = append(whole, f)
		} else {
			rest = append(rest, f)
		}
	}
	if len(whole) != 1 {
		return
	}
	for _, f := range rest {
		i := slices.IndexFunc(f.instead, func(e Exclusion) bool { return e.ID == whole[0].Cause.ID })
		if i >= 0 {
			d.Excluded = append(d.Excluded, Exclusion{f.Cause.ID, f.instead[i].By})
		} else {
			d.Others = append(d.Others, f)
		}
	}
	d.Findings = whole
	d.settle()
}

// partial is what captures have of the packets of an attempt.
type partial struct {
	r       *recording.Recording
	at      []Vantage
	attempt recording.Attempt
	lives   []Life
	forward map[ends]bool // the ends of packets from the client
	// client and server are the nodes at both ends, between one that nobody has captured.
	client, server, between string
}

func newPartial(r *recording.Recording, at []Vantage, a recording.Attempt) *partial {
	p := &partial{r: r, at: at, attempt: a, lives: together(r), forward: map[ends]bool{{a.Local, a.Remote}: true}}
	p.client = a.Node
	for _, l := range p.lives {
		back := slices.ContainsFunc(l.Seen, func(s recording.Packet) bool { return p.forward[ends{s.Dst, s.Src}] })
		for _, s := range l.Seen {
			if back {
				p.forward[ends{s.Dst, s.Src}] = true
			} else {
				p.forward[ends{s.Src, s.Dst}] = true
			}
		}
	}
	// Between two captures there may have been a translation.
	p.lives = joined(p.lives, func(s recording.Packet) (one ends) {
		if !p.forward[ends{s.Src, s.Dst}] {
			one = ends{src: a.Remote}
		}
		return one
	})
	for i := range p.lives {
		p.inOrder(p.lives[i])
		p.lives[i].Node, p.lives[i].End = p.ending(p.lives[i].Last())
	}
	p.server, p.between = p.unused("server"), p.unused("between")
	for _, l := range p.lives {
		if !p.back(l) && l.End == Delivered {
			p.server = l.Node
		}
	}
	return p
}

// inOrder puts the sightings of a packet in the order of its way: clocks may be too far apart to
// tell it.
func (p *partial) inOrder(l Life) {
	back := p.back(l)
	at := func(s recording.Packet) int {
		i := slices.IndexFunc(p.at, func(v Vantage) bool { return v.Node == s.Point })
		if back {
			i = len(p.at) - i
		}
		i *= 2
		if s.Out {
			i++
		}
		return i
	}
	slices.SortStableFunc(l.Seen, func(a, b recording.Packet) int { return at(a) - at(b) })
}

// unused is a name that no node has.
func (p *partial) unused(name string) string {
	for {
		if _, taken := p.r.Nodes[name]; !taken {
			return name
		}
		name = "the " + name
	}
}

func (p *partial) back(l Life) bool { return !p.forward[ends{l.First().Src, l.First().Dst}] }

// next reports whether there is a capture behind that of a node, on the way of a packet.
func (p *partial) next(node string, back bool) bool {
	i := slices.IndexFunc(p.at, func(v Vantage) bool { return v.Node == node })
	if back {
		return i > 0
	}
	return i < len(p.at)-1
}

func (p *partial) everywhere(node string) bool {
	return slices.ContainsFunc(p.at, func(v Vantage) bool { return v.Node == node && v.Everywhere })
}

// ending is where a packet ended that was seen last so.
func (p *partial) ending(last recording.Packet) (string, End) {
	back := !p.forward[ends{last.Src, last.Dst}]
	switch {
	case !last.Out && owns(p.r, last.Point, last.Dst.Addr()):
		return last.Point, Delivered
	case !last.Out && p.everywhere(last.Point):
		return last.Point, Stopped
	case last.Out && p.next(last.Point, back):
		return last.Point, OnTheWay
	}
	return last.Point, Unseen
}

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
		case challenged, refusedBack, closed, disowned:
			which = arrived
		}
		answer := p.answer(i)
		if answer == "S." || answer != "" && which == lost {
			which = arrived // something has answered it
		}
		back := p.back(l)
		l.Seen = slices.Insert(slices.Clone(l.Seen), 0, p.before(l, back, which)...)
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
		} else if p.back(l) && a.Ack == first.Seq+1 && (a.Is('S') || a.Is('R')) {
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
