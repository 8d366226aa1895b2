package diagnose

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"twlab/harness/diagnose"
	"twlab/harness/foreign"
	"twlab/harness/ladder"
	"twlab/harness/report"
)

// How much is said.
const (
	mostKinds    = 20 // of deaths
	mostFindings = 6
	mostExcluded = 6
)

// text writes what captures have shown.
type text struct {
	to       io.Writer
	ascii    bool
	evidence map[string]foreign.Tables
}

// line writes a line that a terminal only shows.
func (t text) line(format string, args ...any) { //nolint:forbidigo // as Fprintf has them
	fmt.Fprintln(t.to, report.Plain(fmt.Sprintf(format, args...)))
}

// death is connections that died in one way.
type death struct {
	first *foreign.Connection
	why   diagnose.Diagnosis
	like  int
}

// deaths puts connections together that died in one way: of the same cause, at the same place.
func deaths(result *foreign.Result) (all []*death) {
	byWay, byShape := map[string]*death{}, map[string]*death{}
	for i := range result.Connections {
		c := &result.Connections[i]
		s := shape(c)
		if known := byShape[s]; known != nil {
			known.like++
			continue
		}
		d := c.Diagnose()
		way := fmt.Sprint(d.Symptom, d.Short(), places(d))
		if known := byWay[way]; known != nil {
			known.like++
			byShape[s] = known
			continue
		}
		byWay[way] = &death{first: c, why: d}
		byShape[s] = byWay[way]
		all = append(all, byWay[way])
	}
	return all
}

// shape is what the packets of a connection are, without the values of their addresses and
// numbers: connections of one shape died in one way, and one of them is looked at for all.
func shape(c *foreign.Connection) string {
	var b strings.Builder
	a := c.Recording.Steps[0].Result.Attempts[0]
	fmt.Fprintf(&b, "%+v %v %s %d %+v\n", c.At, c.Began, a.Outcome, a.SYNs, a.Replies)
	known := map[string]int{}
	which := func(value string) int {
		if _, is := known[value]; !is {
			known[value] = len(known)
		}
		return known[value]
	}
	for _, p := range c.Recording.Packets {
		fmt.Fprintf(&b, "%s %s %v %s %v %d %d %d %d %d\n", p.Point, p.Interface, p.Out, p.Flags, p.Payload > 0,
			which(p.Src.String()), which(p.Dst.String()), which(fmt.Sprint("seq", p.Seq)), which(fmt.Sprint("seq", p.Ack-1)), which(fmt.Sprint("id", p.ID)))
	}
	return b.String()
}

// places are where SYNs ended, without their number.
func places(d diagnose.Diagnosis) []string {
	var all []string
	for _, l := range d.SYNs {
		if place := string(l.End) + " " + l.Node; !slices.Contains(all, place) {
			all = append(all, place)
		}
	}
	return all
}

// result writes all, and reports whether each connection that died has one cause.
func (t text) result(r *foreign.Result) bool {
	t.files(r)
	for _, c := range r.Clocks {
		t.clock(c)
	}
	for _, f := range r.Files[min(1, len(r.Files)):] {
		if f.Node != r.Files[0].Node && !slices.ContainsFunc(r.Clocks, func(c foreign.Clock) bool { return c.Node == f.Node }) {
			t.line("%s: none of its packets is in the captures before it: other traffic or another time, or something between changes sequence numbers", f.Node)
		}
	}
	summary := fmt.Sprintf("%d connections: %d died, %d went well", r.Seen, len(r.Connections), r.Fine)
	if r.Unbegun > 0 {
		summary += fmt.Sprintf(", %d had begun before and show nothing wrong", r.Unbegun)
	}
	if r.Unfinished > 0 {
		summary += fmt.Sprintf(", %d were still waiting for an answer when the capture ended", r.Unfinished)
	}
	if r.Left > 0 {
		summary += fmt.Sprintf("; up to %d more were not looked at (--packets)", r.Left)
	}
	t.line("%s", summary)
	decided := true
	for i, d := range deaths(r) {
		decided = decided && len(d.why.Findings) == 1
		if i < mostKinds {
			t.death(i+1, d)
		}
	}
	return decided
}

func (t text) files(r *foreign.Result) {
	for _, f := range r.Files {
		line := fmt.Sprintf("%s at %s: %s, %d packets of TCP from %s to %s", f.Path, f.Node, f.Format, f.Segments, clock(f.First), clock(f.Last))
		if other := f.Frames - f.Segments - f.Short; other > 0 {
			line += fmt.Sprintf(", %d others", other)
		}
		if f.Short > 0 {
			line += fmt.Sprintf("; of %d the snap length has cut off the TCP header", f.Short)
		}
		if f.Cut {
			line += "; the file is cut off, so what came later is unknown"
		}
		if f.Dropped > 0 {
			line += fmt.Sprintf("; %d packets were lost while capturing, so what is absent may have been there", f.Dropped)
		}
		t.line("%s", line)
	}
}

func clock(at time.Time) string { return at.UTC().Format("15:04:05.000") }

func (t text) clock(c foreign.Clock) {
	switch {
	case c.Bound < 0:
		t.line("clock of %s: %v ahead of that of %s if no packet took any time; packets of one direction alone are in both, so there is no bound", c.Node, c.Offset, c.Of)
	case c.Unsteady:
		t.line("clock of %s: %v ahead of that of %s, but no single offset fits all %d packets, by %v: a clock drifts or was set", c.Node, c.Offset, c.Of, c.Matched, 2*c.Bound)
	default:
		t.line("clock of %s: %v ahead of that of %s, give or take %v, by %d packets that both have seen", c.Node, c.Offset, c.Of, c.Bound, c.Matched)
	}
}

// death writes one way to die.
func (t text) death(n int, d *death) {
	a := d.why.Attempt
	t.line("")
	line := fmt.Sprintf("%d. %v > %v, %s", n, a.Local, a.Remote, d.why.Symptom)
	if d.like > 0 {
		line += fmt.Sprintf("; the same became of %d more", d.like)
	}
	t.line("%s", line)
	if !d.first.Began {
		t.line("  its beginning is not in the captures: how it was opened, and its first numbers, are unknown")
	}
	if d.first.Shortened {
		t.line("  it has more packets than are kept: its beginning and its end are looked at")
	}
	t.known(d.why)
	if f := d.why.Findings; len(f) == 1 {
		for _, line := range d.why.Lines() {
			t.line("  %s", line)
		}
	} else {
		t.line("  why: %s", d.why.Status)
		for i, f := range f {
			if i == mostFindings {
				t.line("     and %d more: %s", len(d.why.Findings)-i, ids(d.why.Findings[i:]))
				break
			}
			t.line("     %s: %s", f.Cause.ID, f.Cause.Why)
		}
	}
	if len(d.why.Others) > 0 {
		t.line("  not ruled out: %s", ids(d.why.Others))
	}
	t.excluded(d.why)
	if e, open := d.why.Missing(); open {
		t.line("  would decide: %s", e.How())
	}
	t.line("")
	l := ladder.New(&d.first.Recording, d.why)
	l.Title = "its packets, by the clock of the first capture:"
	for _, line := range l.Text(t.ascii) {
		t.line("  %s", line)
	}
}

func ids(findings []diagnose.Finding) string {
	var all []string
	for _, f := range findings {
		all = append(all, f.Cause.ID)
	}
	return strings.Join(all, ", ")
}

// known writes what the captures prove, whatever the cause is.
func (t text) known(d diagnose.Diagnosis) {
	said := d.Account()
	if len(d.Findings) != 1 {
		for _, fact := range d.Known() {
			// The account has said where they ended; and none of none is nothing.
			if !strings.HasPrefix(fact.Says, "all ") && !strings.HasPrefix(fact.Says, "0 of the 0 ") {
				said = append(said, fact.Says)
			}
		}
	}
	if len(said) > 0 {
		t.line("  these files prove:")
	}
	for _, line := range said[:min(len(said), 2*mostFindings)] {
		t.line("     %s", line)
	}
}

// excluded writes what it is not: causes that one fact rules out, together.
func (t text) excluded(d diagnose.Diagnosis) {
	var order []string
	by := map[string][]string{}
	for _, e := range d.Excluded {
		if by[e.By.Says] == nil {
			order = append(order, e.By.Says)
		}
		by[e.By.Says] = append(by[e.By.Says], e.ID)
	}
	for _, says := range order[:min(len(order), mostExcluded)] {
		t.line("  not %s: %s", strings.Join(by[says], ", "), says)
	}
}
