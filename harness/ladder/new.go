package ladder

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"twlab/harness/diagnose"
	"twlab/harness/recording"
)

// New lays out the packets of an attempt.
func New(r *recording.Recording, d diagnose.Diagnosis) Ladder {
	b := build(r, d)
	b.outcomes()
	rows := fold(b.rows)
	l := Ladder{Title: b.title(), Rows: rows, Notes: b.notes()}
	for _, node := range b.order {
		l.Lanes = append(l.Lanes, Lane{Node: node, Untapped: !slices.ContainsFunc(r.Packets, func(p recording.Packet) bool { return p.Point == node })})
	}
	return l
}

// Packets are the rows of all packets of an attempt, with the same numbers as in its ladder:
// none is folded away.
func Packets(r *recording.Recording, d diagnose.Diagnosis) []Row { return packetsOf(build(r, d).rows) }

func build(r *recording.Recording, d diagnose.Diagnosis) *builder {
	b := &builder{r: r, d: d, names: names(r), lanes: map[string]int{}, told: map[ends]bool{}, translates: map[string]bool{}, used: map[recording.Event]bool{}}
	b.directions()
	b.place()
	b.number()
	b.known()
	b.packets()
	return b
}

// ends are both ends of a connection on one side of a translation.
type ends struct{ src, dst netip.AddrPort }

func of(p recording.Packet) ends { return ends{p.Src, p.Dst} }

func (e ends) turned() ends { return ends{e.dst, e.src} }

// builder makes a ladder.
type builder struct {
	r       *recording.Recording
	d       diagnose.Diagnosis
	names   map[netip.Addr]string
	forward map[ends]bool // the ends of packets from the client, on each side of each translation
	order   []string      // the nodes of the lanes
	lanes   map[string]int
	began   time.Time // of the first SYN
	// isn are the first numbers of the client and of its peer, if known.
	isn   [2]uint32
	knows [2]bool
	// translates are the nodes that translate the client's packets.
	translates map[string]bool
	told       map[ends]bool            // translations that have a row
	used       map[recording.Event]bool // events that are told of with their packet
	rows       []Row
}

// names are the nodes that have an address alone.
func names(r *recording.Recording) map[netip.Addr]string {
	all := map[netip.Addr]string{}
	for name, n := range r.Nodes {
		for _, a := range n.Addresses {
			if _, twice := all[a]; twice {
				name = ""
			}
			all[a] = name
		}
	}
	return all
}

// name writes an end of a connection with the name of its node.
func (b *builder) name(a netip.AddrPort) string {
	if name := b.names[a.Addr()]; name != "" {
		return fmt.Sprintf("%s:%d", name, a.Port())
	}
	if !a.IsValid() {
		return "no port"
	}
	return a.String()
}

// directions finds out which packets come from the client.
func (b *builder) directions() {
	b.forward = map[ends]bool{{b.d.Attempt.Local, b.d.Attempt.Remote}: true}
	for _, l := range b.d.Lives {
		ours := slices.ContainsFunc(l.Seen, func(p recording.Packet) bool { return b.forward[of(p)] })
		for _, p := range l.Seen {
			if ours {
				b.forward[of(p)] = true
			} else {
				b.forward[of(p).turned()] = true
			}
		}
		for i := 1; i < len(l.Seen); i++ {
			if of(l.Seen[i]) != of(l.Seen[i-1]) && ours {
				b.translates[l.Seen[i-1].Point] = true
			}
		}
	}
}

func (b *builder) back(p recording.Packet) bool { return !b.forward[of(p)] }

// place orders the nodes along the way from the client.
func (b *builder) place() {
	b.order = []string{b.d.Attempt.Node}
	for _, l := range b.d.Lives {
		var way []string
		for _, p := range l.Seen {
			way = append(way, p.Point)
		}
		if b.back(l.First()) {
			slices.Reverse(way)
		}
		b.merge(slices.Compact(way))
	}
	for _, e := range b.d.Events {
		b.merge([]string{e.Node})
	}
	if peer := b.names[b.d.Attempt.Remote.Addr()]; peer != "" {
		b.merge([]string{peer})
	}
	for i, node := range b.order {
		b.lanes[node] = i
	}
}

// merge puts the nodes of a way that have no place behind the node before them, or, at its
// beginning, before the one after them.
func (b *builder) merge(way []string) {
	for i, node := range way {
		if slices.Contains(b.order, node) {
			continue
		}
		at := len(b.order)
		switch next := slices.IndexFunc(way, func(n string) bool { return slices.Contains(b.order, n) }); {
		case i > 0:
			at = slices.Index(b.order, way[i-1]) + 1
		case next >= 0:
			at = slices.Index(b.order, way[next])
		}
		b.order = slices.Insert(b.order, at, node)
	}
}

// number finds the initial sequence numbers, and the beginning.
func (b *builder) number() {
	for _, l := range b.d.Lives {
		first := l.First()
		side := 0
		if b.back(first) {
			side = 1
		}
		if first.Is('S') && !b.knows[side] {
			b.isn[side], b.knows[side] = first.Seq, true
			if side == 0 {
				b.began = first.Time
			}
		}
	}
	if b.began.IsZero() && len(b.d.Lives) > 0 {
		b.began = b.d.Lives[0].First().Time
	}
	if b.began.IsZero() && len(b.d.Events) > 0 {
		b.began = b.d.Events[0].Time
	}
}

// known are the sockets that had the five-tuple already where the first SYN arrived.
func (b *builder) known() {
	if b.d.Step < 1 || b.d.Step > len(b.r.Steps) || b.began.Before(b.r.Began.Add(b.r.Steps[b.d.Step-1].Began)) {
		return // requests on a connection that an earlier step has made
	}
	for _, l := range b.d.Lives {
		last := l.Last()
		if l.First().Flags != "S" || l.End != diagnose.Delivered {
			continue
		}
		for _, s := range b.d.Before[l.Node].Sockets {
			if s.Local == last.Dst && s.Remote == last.Src {
				b.rows = append(b.rows, Row{Kind: Note, Lane: b.lanes[l.Node], Text: fmt.Sprintf("%s had %s %s > %s", l.Node, s.State, b.name(s.Local), b.name(s.Remote))})
			}
		}
		return
	}
}

// packets are the rows of all packets, and of those that a kernel dropped before any tap saw
// them, by time.
func (b *builder) packets() {
	var rows []Row
	for i, l := range b.d.Lives {
		rows = append(rows, b.packet(i, l))
	}
	for _, e := range b.d.Events { // those that belong to no packet of a tap
		if e.Kind == "drop" && !b.used[e] {
			rows = append(rows, b.dropped(e))
		}
	}
	slices.SortStableFunc(rows, func(x, y Row) int { return cmp.Compare(x.At, y.At) })
	for i, row := range rows {
		row.First, row.Last = i+1, i+1
		b.rows = append(append(b.rows, row), b.translated(row)...)
	}
}

// translated are the rows for the ends that the packet of a row got, the first time.
func (b *builder) translated(row Row) (all []Row) {
	for i, p := range row.Arrow.Seen {
		if i == 0 || of(p) == of(row.Arrow.Seen[i-1]) || b.told[of(p)] || row.Arrow.Back {
			continue
		}
		b.told[of(p)] = true
		by := row.Arrow.Seen[i-1].Point
		all = append(all, Row{Kind: Tuple, At: row.At, Lane: b.lanes[by], Text: fmt.Sprintf("now %s > %s, by %s", b.name(p.Src), b.name(p.Dst), by)})
	}
	return all
}

// outcomes are what the client's calls returned.
func (b *builder) outcomes() {
	a := b.d.Attempt
	var row Row
	switch {
	case a.Outcome == "Connected":
		i := slices.IndexFunc(b.rows, func(r Row) bool {
			return r.Kind == Packet && r.Arrow.Back && r.Arrow.End == Arrived && r.Arrow.Seen[0].Is('S') && r.Arrow.To == 0
		})
		if i >= 0 {
			row = Row{Kind: Outcome, At: b.rows[i].At, Text: "connect: Connected"}
			b.rows = slices.Insert(b.rows, i+1, row)
		} else { // no tap was there
			b.rows = append(b.rows, Row{Kind: Outcome, At: a.Took, Text: "connect: Connected"})
		}
	case a.Outcome != "":
		call := "connect"
		if a.Outcome == "PortInUse" {
			call = "bind"
		}
		b.rows = append(b.rows, Row{Kind: Outcome, At: a.Took, Text: call + ": " + cmp.Or(a.Errno, a.Outcome)})
	}
	for i, reply := range a.Replies {
		if reply.Disposition == "whole" && reply.Errno == "" && reply.WriteErrno == "" {
			continue
		}
		text := fmt.Sprintf("request %d: %s %s", i+1, reply.Disposition, cmp.Or(reply.Errno, reply.WriteErrno))
		at := a.Took
		if n := len(b.d.Lives); n > 0 {
			at = b.d.Lives[n-1].Last().Time.Sub(b.began)
		}
		b.rows = append(b.rows, Row{Kind: Outcome, At: at, Text: strings.TrimSpace(text)})
	}
}

// title names the attempt, and says what became of it.
func (b *builder) title() string {
	a := b.d.Attempt
	title, cause := "", "" // of an attempt of a load, others tell the cause
	if b.d.Step > 0 {
		title, cause = fmt.Sprintf("step %d, ", b.d.Step), "; "+b.d.Short()
	}
	if b.d.ID != "" {
		title = fmt.Sprintf("step %d (%s), ", b.d.Step, b.d.ID)
	}
	title += fmt.Sprintf("%s > %s", b.name(a.Local), b.name(a.Remote))
	if a.Outcome != "" {
		title += fmt.Sprintf(": %s after %v", a.Outcome, a.Took.Round(10*time.Millisecond))
	}
	if a.SYNs > 1 {
		title += fmt.Sprintf(", %d SYNs", a.SYNs)
	}
	return title + cause
}

func (b *builder) notes() (all []string) {
	var numbers []string
	for side, who := range []string{b.d.Attempt.Node, "its peer"} {
		if b.knows[side] {
			numbers = append(numbers, fmt.Sprintf("%s's is %d", who, b.isn[side]))
		}
	}
	if len(numbers) > 0 {
		all = append(all, "numbers are relative to the initial one: "+strings.Join(numbers, ", "))
	} else if len(b.d.Lives) > 0 {
		all = append(all, "no SYN was seen, so numbers are those of the packets")
	}
	if len(b.d.Lives) == 0 {
		all = append(all, b.d.Attempt.Node+" has sent nothing that any tap saw")
	}
	return all
}
