package diagnose

import (
	"cmp"
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
		base := newCase(r, 0, a, nil, p.lives)
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
	add := func(world int, outcome, errno string, more ...recording.Reply) {
		a := p.attempt
		if world == renamed && !p.captured(a.Node) {
			a.Remote = unheard
		}
		a.Outcome, a.Errno = outcome, errno
		a.Replies = slices.Clone(a.Replies)
		for i := range a.Replies {
			a.Replies[i].Errno = errno
		}
		if len(a.Replies) > 0 {
			a.Replies = append(a.Replies, more...)
		}
		c := newCase(p.named(), 0, a, nil, p.world(world))
		c.captured, c.symptom = true, symptom(p.attempt)
		all = append(all, c)
	}
	outcomes := []string{p.attempt.Outcome}
	switch {
	case p.attempt.Outcome == "" || p.attempt.Outcome == "Connected":
	case !p.captured(p.attempt.Node): // what has reached the client is not known
		outcomes = append(outcomes, "TimedOut", "Unreachable", "Refused", "Reset")
	case p.attempt.Outcome != "Refused":
		outcomes = append(outcomes, "TimedOut", "Unreachable") // by an ICMP error
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
	for _, r := range []recording.Reply{{Disposition: "unanswered"}, {Disposition: "truncated"}, {Disposition: "broken"}, {Disposition: "whole", Status: 503}} {
		add(arrived, outcomes[0], "", r)
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
	p := &partial{r: r, at: at, attempt: a, lives: together(r, direct), forward: map[ends]bool{{a.Local, a.Remote}: true}}
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
	direction := func(s recording.Packet) (one ends) {
		if !p.forward[ends{s.Src, s.Dst}] {
			one = ends{src: a.Remote}
		}
		return one
	}
	p.lives = whole(together(r, direction), direction)
	for i := range p.lives {
		p.inOrder(p.lives[i])
		p.lives[i].Node, p.lives[i].End = p.ending(p.lives[i].Last())
	}
	p.server, p.between = p.unused("the far side"), p.unused("a node between")
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
