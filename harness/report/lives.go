package report

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"twlab/harness/diagnose"
	"twlab/harness/recording"
)

// How much is shown of a connection.
const (
	mostLives = 40
	mostWide  = 100 // columns
)

// Lives shows the packets of the connection that was not as expected: a line for each, of at
// most 100 columns, with the nodes that it came by, and where it ended. It is empty when no
// packets are known.
func Lives(r recording.Recording) []string {
	a, step, found := suspect(r)
	if !found || len(r.Packets) == 0 {
		return nil
	}
	all := livesOf(r, a, step)
	if len(all) == 0 {
		return []string{fmt.Sprintf("step %d: %s has sent nothing to %v that any tap saw", step.Number, a.Node, a.Remote)}
	}
	lines := []string{fmt.Sprintf("packets of step %d, %v > %v:", step.Number, a.Local, a.Remote)}
	for i, l := range all {
		if i == mostLives {
			lines = append(lines, fmt.Sprintf("        and %d more", len(all)-mostLives))
			break
		}
		lines = append(lines, cut(l.String(r), mostWide))
	}
	return lines
}

// suspect is the attempt that was not as expected: of the first step with a finding that was
// not met, or the last one before it. Of several, the first that did not connect.
func suspect(r recording.Recording) (a recording.Attempt, in recording.Step, found bool) {
	for _, s := range r.Steps {
		if len(s.Result.Attempts) > 0 && s.Result.Attempts[0].Remote.IsValid() {
			all := s.Result.Attempts
			i := max(0, slices.IndexFunc(all, func(a recording.Attempt) bool { return a.Outcome != "Connected" }))
			a, in, found = all[i], s, true
		}
		if s.Verdict() == recording.NotAsExpected {
			return a, in, found
		}
	}
	return a, in, found
}

// life is one packet at all the interfaces that have seen it, in order.
type life struct{ seen []recording.Packet }

// livesOf are the packets of a connection, ordered by their beginnings.
func livesOf(r recording.Recording, a recording.Attempt, in recording.Step) (all []*life) {
	type ends struct{ src, dst netip.AddrPort }
	tuples := map[ends]bool{{a.Local, a.Remote}: true}
	began := r.Began.Add(in.Began)
	for _, one := range diagnose.Lives(&r) {
		l := &life{one.Seen}
		first := l.seen[0]
		// A step in the background, or one that is awaited, has begun before.
		if first.Time.Before(began) && in.Verb != "await" {
			continue
		}
		mine := slices.ContainsFunc(l.seen, func(p recording.Packet) bool { return tuples[ends{p.Src, p.Dst}] || tuples[ends{p.Dst, p.Src}] })
		if !mine {
			continue
		}
		for _, p := range l.seen { // as NAT has translated it
			tuples[ends{p.Src, p.Dst}] = true
		}
		all = append(all, l)
	}
	return all
}

// String writes when it was sent, what it is, and its way.
func (l *life) String(r recording.Recording) string {
	first, last := l.seen[0], l.seen[len(l.seen)-1]
	var way []string
	for i, p := range l.seen {
		hop := p.Point
		if i > 0 && (p.Src != l.seen[i-1].Src || p.Dst != l.seen[i-1].Dst) {
			hop = fmt.Sprintf("[as %v > %v]", p.Src, p.Dst)
			if p.Point != l.seen[i-1].Point {
				hop += " " + p.Point
			}
		} else if i > 0 && p.Point == l.seen[i-1].Point {
			continue
		}
		way = append(way, hop)
	}
	end := ""
	switch {
	case last.Out && !guests(r): // the links of guests are recorded at one end
		end = ": lost on the link"
	case last.Out:
	case !slices.Contains(r.Nodes[last.Point].Addresses, last.Dst.Addr()):
		end = ": goes no further"
	}
	size := ""
	if first.Payload > 0 {
		size = fmt.Sprintf(" %d bytes", first.Payload)
	}
	return fmt.Sprintf("%8.3f %-3s%s  %s%s", first.Time.Sub(r.Began).Seconds(), first.Flags, size, strings.Join(way, " > "), end)
}

// guests reports whether a node has a kernel of its own.
func guests(r recording.Recording) bool {
	for _, n := range r.Nodes {
		if n.Guest {
			return true
		}
	}
	return false
}

// cut shortens a line in the middle of its way, so that its end is still there.
func cut(line string, most int) string {
	all := []rune(line)
	if len(all) <= most {
		return line
	}
	head := (most - 3) / 2
	return string(all[:head]) + "..." + string(all[len(all)-(most-3-head):])
}
