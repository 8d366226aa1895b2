package ladder

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"twlab/harness/diagnose"
	"twlab/harness/recording"
)

// packet is the row of the i-th packet.
func (b *builder) packet(i int, l diagnose.Life) Row {
	first := l.First()
	a := &Arrow{From: b.lanes[first.Point], To: b.lanes[l.Last().Point], Back: b.back(first), Outside: !first.Out, Via: b.via(l), Seen: l.Seen}
	label, text := b.label(first)
	a.Label = label
	dropped, known := b.event(i, "drop", l.Node)
	switch {
	case l.End == diagnose.Unseen:
		a.End, text = Unseen, join("not recorded further", text)
	case l.End == diagnose.OnTheWay:
		a.End, text = Lost, join("lost on the link", text)
	case known:
		a.End, text = Ended, join(reason(dropped), text)
	case l.End == diagnose.Stopped || a.Back && b.translates[l.Node]: // the box's own address stands for the client
		a.End, text = Ended, join("came in, and did not leave", text)
	case first.Flags == "S" && b.unanswered(i):
		a.End, text = Ended, join("no answer", text)
	default:
		a.End = Arrived
	}
	if first.Is('R') {
		if e, known := b.event(i, "reset", first.Point); known {
			text = join(first.Point+": "+e.Reason, text)
		}
	}
	return Row{Kind: Packet, At: first.Time.Sub(b.began), Arrow: a, Text: text}
}

func join(parts ...string) string {
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), "; ")
}

func reason(e recording.Event) string {
	if e.Place == "" {
		return "dropped: " + e.Reason
	}
	return fmt.Sprintf("dropped: %s in %s", e.Reason, e.Place)
}

// via are the lanes that have seen the packet, without the last one, and where it was
// translated.
func (b *builder) via(l diagnose.Life) (all []Stop) {
	for i, p := range l.Seen {
		lane := b.lanes[p.Point]
		changed := i > 0 && of(p) != of(l.Seen[i-1])
		if changed && p.Point != l.Seen[i-1].Point { // between two taps: the first of them did it
			all = mark(all, b.lanes[l.Seen[i-1].Point], true)
			changed = false
		}
		all = mark(all, lane, changed)
	}
	from, to := b.lanes[l.First().Point], b.lanes[l.Last().Point]
	return slices.DeleteFunc(all, func(s Stop) bool { return !s.Translated && (s.Lane == from || s.Lane == to) })
}

func mark(all []Stop, lane int, translated bool) []Stop {
	i := slices.IndexFunc(all, func(s Stop) bool { return s.Lane == lane })
	if i < 0 {
		return append(all, Stop{lane, translated})
	}
	all[i].Translated = all[i].Translated || translated
	return all
}

// event finds what a node's kernel has told of a packet: by its number, since the ends may be
// translated already.
func (b *builder) event(i int, kind, node string) (recording.Event, bool) {
	first, last := b.d.Lives[i].First(), b.d.Lives[i].Last()
	until := b.sentAgain(i)
	for _, e := range b.r.Events {
		whole, part := same(e, first), same(e, last) // the kernel may have put segments together
		if e.Kind != kind || e.Node != node || !whole && !part || b.used[e] && whole {
			continue
		}
		if kind == "drop" && (e.Time.Before(first.Time) || !until.IsZero() && !e.Time.Before(until)) {
			continue
		}
		b.used[e] = true
		return e, true
	}
	return recording.Event{}, false
}

func same(e recording.Event, p recording.Packet) bool {
	return e.Seq == p.Seq && e.Flags == p.Flags && e.Payload == p.Payload
}

// sentAgain is when the i-th packet was sent again; the zero time if it was not.
func (b *builder) sentAgain(i int) time.Time {
	first := b.d.Lives[i].First()
	for _, l := range b.d.Lives[i+1:] {
		if p := l.First(); p.Seq == first.Seq && p.Flags == first.Flags && p.Payload == first.Payload && b.back(p) == b.back(first) {
			return p.Time
		}
	}
	return time.Time{}
}

// unanswered reports whether nothing came from where the i-th packet, a SYN, arrived before it
// was sent again.
func (b *builder) unanswered(i int) bool {
	at := b.d.Lives[i].Node
	for _, l := range b.d.Lives[i+1:] {
		switch {
		case l.First().Flags == "S" && !b.back(l.First()):
			return true
		case b.back(l.First()) && l.First().Point == at:
			return false
		}
	}
	return true
}

// dropped is the row of a packet that a kernel dropped before any tap saw it.
func (b *builder) dropped(e recording.Event) Row {
	p := recording.Packet{Point: e.Node, Time: e.Time, Out: true, Src: e.Src, Dst: e.Dst, Seq: e.Seq, Ack: e.Ack, Flags: e.Flags, Payload: e.Payload}
	label, text := b.label(p)
	lane := b.lanes[e.Node]
	return Row{
		Kind: Packet, At: e.Time.Sub(b.began), Text: join(reason(e), text),
		Arrow: &Arrow{From: lane, To: lane, Back: b.back(p), End: Ended, Label: label, Seen: []recording.Packet{p}},
	}
}

// label is a packet in a few words, and what those cannot say.
func (b *builder) label(p recording.Packet) (label, text string) {
	side := 0
	if b.back(p) {
		side = 1
	}
	seq := p.Seq - b.isn[side]
	const far = 1 << 30 // no window is as large
	if b.knows[side] && seq > far && p.Payload > 0 {
		return "data", "its number is of another connection"
	}
	switch {
	case p.Is('R'):
		return "RST", ""
	case p.Is('S') && p.Is('.'):
		return "SYN-ACK", b.acknowledges(p, side)
	case p.Is('S'):
		return "SYN", ""
	case p.Payload > 0 && p.Is('F'):
		return fmt.Sprintf("data %d:%d, FIN", seq, seq+uint32(p.Payload)), ""
	case p.Payload > 0:
		return fmt.Sprintf("data %d:%d", seq, seq+uint32(p.Payload)), ""
	case p.Is('F'):
		return fmt.Sprintf("FIN %d", seq), ""
	case !p.Is('.'):
		return p.Flags, ""
	}
	if text := b.acknowledges(p, side); text != "" {
		return "ACK", text
	}
	return fmt.Sprintf("ACK %d", p.Ack-b.isn[1-side]), ""
}

// acknowledges says where an ACK is for numbers that the connection does not have.
func (b *builder) acknowledges(p recording.Packet, side int) string {
	if !b.knows[1-side] {
		return ""
	}
	highest := b.isn[1-side] + 1
	for _, l := range b.d.Lives {
		first := l.First()
		if b.back(first) != (side == 0) || first.Time.After(p.Time) || first.Is('R') {
			continue
		}
		end := first.Seq + uint32(first.Payload)
		if first.Is('F') {
			end++
		}
		if int32(end-highest) > 0 { //nolint:gosec // numbers wrap around
			highest = end
		}
	}
	if rel := p.Ack - b.isn[1-side]; rel >= 1 && rel <= highest-b.isn[1-side] {
		return ""
	}
	return "acknowledges a number of another connection"
}
