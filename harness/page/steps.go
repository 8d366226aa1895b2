package page

import (
	"fmt"
	"html/template"
	"slices"
	"strings"
	"time"

	"twlab/harness/diagnose"
	"twlab/harness/recording"
	"twlab/harness/report"
)

// step is a step, with what was expected of it.
type step struct {
	ID, At, What, Result, Problem, Skipped string
	Number                                 int
	Class                                  string
	Findings                               []recording.Finding
}

// steps are all steps.
func (v *view) steps() (all []step) {
	for _, s := range v.r.Steps {
		one := step{
			ID: v.id("step%d", s.Number), Number: s.Number, At: offset(s.Began), What: report.Plain(s.What),
			Result: report.Plain(report.Result(s.Result)), Problem: report.Plain(s.Problem), Skipped: report.Plain(s.Skipped),
		}
		v.has[one.ID] = true
		if l := s.Result.Load; l != nil {
			one.Result += fmt.Sprintf("; %d late, %d SYNs, %.1f connections per second", l.Late, l.SYNs, l.Achieved)
			if l.Offered > 0 {
				one.Result += fmt.Sprintf(" of %.1f", l.Offered)
			}
		}
		if s.ID != "" {
			one.What += report.Plain(" (" + s.ID + ")")
		}
		for _, f := range s.Findings {
			one.Findings = append(one.Findings, recording.Finding{What: report.Plain(f.What), Wanted: report.Plain(f.Wanted), Seen: report.Plain(f.Seen), Met: f.Met})
		}
		// Those that were not met come first.
		slices.SortStableFunc(one.Findings, func(a, b recording.Finding) int {
			switch {
			case a.Met == b.Met:
				return 0
			case a.Met:
				return 1
			default:
				return -1
			}
		})
		switch {
		case s.Problem != "" || s.Interrupted:
			one.Class = "warn"
		case s.Verdict() == recording.NotAsExpected:
			one.Class = "bad"
		case len(s.Findings) > 0:
			one.Class = "good"
		}
		all = append(all, one)
	}
	return all
}

// rail is the ladder of what was sent from the beginning of one step to that of the next.
type rail struct {
	Step   int
	What   string
	Open   bool // something was lost, or an attempt was not fine
	Ladder []connectionLadder
}

// connectionLadder is the ladder of one connection, and how many more were alike.
type connectionLadder struct {
	Name   string
	SVG    template.HTML
	Alike  int // connections that are not drawn
	Folded int // their packets
}

// rails are the ladders of all steps.
func (v *view) rails(n network, first []string) (all []rail) {
	wrong := map[int]bool{}
	for _, d := range diagnose.Recording(v.r) {
		wrong[d.Step] = wrong[d.Step] || d.Symptom != diagnose.Fine
	}
	byStep := map[int][]*life{}
	for _, l := range v.lives {
		byStep[v.stepAt(l.First().Time)] = append(byStep[v.stepAt(l.First().Time)], l)
	}
	for i, s := range v.r.Steps {
		lives := byStep[i]
		if len(lives) == 0 || len(v.drawn) >= mostArrows {
			continue
		}
		r := rail{Step: s.Number, What: report.Plain(s.What), Open: wrong[s.Number]}
		connections, order := map[int][]*life{}, []int(nil)
		for _, l := range lives {
			if connections[l.connection] == nil {
				order = append(order, l.connection)
			}
			connections[l.connection] = append(connections[l.connection], l)
			r.Open = r.Open || l.lost() || l.unanswered
		}
		alike := map[string]int{}
		for _, c := range order {
			lives := connections[c]
			if len(order) > 3 {
				if at, there := alike[signature(lives)]; there {
					r.Ladder[at].Alike++
					r.Ladder[at].Folded += len(lives)
					continue
				}
				alike[signature(lives)] = len(r.Ladder)
			}
			if len(v.drawn) >= mostArrows {
				break
			}
			lives = lives[:min(len(lives), mostArrows-len(v.drawn))]
			for _, l := range lives {
				v.drawn[l.Number] = true
			}
			p := lives[0].First()
			name := report.Plain(fmt.Sprintf("%v > %v", p.Src, p.Dst))
			r.Ladder = append(r.Ladder, connectionLadder{Name: name, SVG: drawLadder(lives, v.lanes(lives, n, first), v.said, v.packetID, "Packets of "+name)})
		}
		if r.Open {
			for _, l := range lives {
				v.open[l.Number] = v.drawn[l.Number]
			}
		}
		all = append(all, r)
	}
	return all
}

// lanes are the nodes that the packets were seen at or were on the way to, in the order of their
// way.
func (v *view) lanes(lives []*life, n network, first []string) []string {
	var names []string
	for _, l := range lives {
		way := l.way()
		names = append(names, way...)
		if to, known := owner(v.r, l.Last().Dst.Addr()); known && l.lost() {
			names = append(names, n.between(way[len(way)-1], to)...)
		}
	}
	from := append([]string{lives[0].First().Point}, first...)
	names = n.order(slices.Compact(slices.Sorted(slices.Values(names))), from)
	return names
}

// signature is the same for connections that look alike.
func signature(lives []*life) string {
	var b strings.Builder
	for _, l := range lives {
		fmt.Fprintf(&b, "%s|%s|%s;", l.what(), strings.Join(l.way(), " "), l.ending())
	}
	return b.String()
}

// sendsNothing are the verbs of steps that send no packets of a connection: what is sent while
// they are taken belongs to a step before them.
var sendsNothing = []string{"await", "sleep", "add-rule", "remove-rule", "drop", "forget-flows", "set", "clock", "link", "start"}

// stepAt is the last step that began before a time and sends packets.
func (v *view) stepAt(t time.Time) int {
	at := 0
	for i, s := range v.r.Steps {
		if s.Skipped == "" && !slices.Contains(sendsNothing, s.Verb) && !t.Before(v.r.Began.Add(s.Began)) {
			at = i
		}
	}
	return at
}

// packet is a row of the list of packets.
type packet struct {
	ID                                   string
	Number                               int
	At, What, Flags, Src, Dst, Way, Ends string
	Numbers                              string // sequence and acknowledgement numbers
	Lost                                 bool
	Open                                 bool // it is an arrow of a ladder that is open
	Again                                bool // it has the ends of the packet of an open ladder before, whichever way
	Sightings                            []sighting
}

// sighting is a packet at one tap.
type sighting struct{ At, Tap, Src, Dst string }

// packets lists packets, each with the taps that saw it.
func (v *view) packets() (all []packet) {
	first := map[string]uint32{} // the initial sequence number of each end
	var before *life
	for i, l := range v.lives {
		if i >= mostArrows && !v.drawn[l.Number] {
			continue
		}
		p := l.First()
		one := packet{
			ID: v.packetID(l), Number: l.Number, At: offset(p.Time.Sub(v.r.Began)), What: l.what(), Flags: report.Plain(p.Flags),
			Src: p.Src.String(), Dst: p.Dst.String(), Way: report.Plain(strings.Join(l.way(), " → ")), Ends: report.Plain(l.ending()), Lost: l.lost(),
			Open: v.open[l.Number],
		}
		if one.Open {
			one.Again = before != nil && ends(p) == ends(before.First())
			before = l
		}
		if p.Is('S') {
			first[p.Src.String()] = p.Seq
		}
		one.Numbers = numbers(p, first)
		if l.reset != nil {
			one.Ends += "; sent because of " + report.Plain(reason(*l.reset))
		}
		for _, s := range l.Seen {
			way := "into "
			if s.Out {
				way = "out of "
			}
			one.Sightings = append(one.Sightings, sighting{
				offset(s.Time.Sub(v.r.Began)), report.Plain(way + s.Point + " by " + s.Interface), s.Src.String(), s.Dst.String(),
			})
		}
		v.has[one.ID] = true
		all = append(all, one)
	}
	return all
}

// numbers are the sequence numbers of a packet: that of a SYN as it is, others since the SYN.
func numbers(p recording.Packet, first map[string]uint32) string {
	text := fmt.Sprintf("seq %d", p.Seq)
	if isn, known := first[p.Src.String()]; known && !p.Is('S') {
		text = fmt.Sprintf("seq +%d", p.Seq-isn)
	}
	if p.Is('.') {
		if isn, known := first[p.Dst.String()]; known {
			text += fmt.Sprintf(", ack +%d", p.Ack-isn)
		} else {
			text += fmt.Sprintf(", ack %d", p.Ack)
		}
	}
	if p.Timestamp != nil {
		text += fmt.Sprintf(", TS %d %d", p.Timestamp.Value, p.Timestamp.Echo)
	}
	return text
}
