package diagnose

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Short is the diagnosis in a few words: "snat-exhausted (proved)", "none".
func (d Diagnosis) Short() string {
	switch {
	case d.Symptom == Fine:
		return "none"
	case len(d.Findings) == 0:
		return string(Unexplained)
	}
	var ids []string
	for _, f := range d.Findings {
		ids = append(ids, f.Cause.ID)
	}
	text := strings.Join(ids, " or ")
	for _, f := range d.Then {
		text += ", then " + f.Cause.ID
	}
	return fmt.Sprintf("%s (%s)", text, d.Status)
}

// Account says where the SYNs ended that no SYN-ACK answered, in a line for each place.
func (d Diagnosis) Account() (lines []string) {
	at := map[string]int{}
	for _, l := range d.SYNs {
		how := map[End]string{
			Delivered: "came into %s, which owns the destination", Stopped: "came into %s, and did not leave it",
			OnTheWay: "left %s, and came into no other node", Unseen: "left %s for where nothing was recorded",
		}[l.End]
		if l.End == Unseen && !l.Last().Out {
			how = "came into %s, and whether it left is not recorded"
		}
		at[how+"\x00"+l.Node]++
	}
	for _, place := range slices.Sorted(maps.Keys(at)) {
		how, node, _ := strings.Cut(place, "\x00")
		lines = append(lines, fmt.Sprintf("%d of %s without a SYN-ACK: ", at[place], number(len(d.SYNs), "SYN"))+fmt.Sprintf(how, node))
	}
	return lines
}

// WhyNone says why no cause is told, in one line.
func (d Diagnosis) WhyNone() string {
	if len(d.Others) == 0 {
		return "no cause that twlab knows fits all that was seen"
	}
	var ids []string
	for _, f := range d.Others {
		ids = append(ids, f.Cause.ID)
	}
	more := ""
	if n := len(ids) - mostOpen; n > 0 {
		ids, more = ids[:mostOpen], fmt.Sprintf(" and %d more", n)
	}
	return "what was recorded does not say why; possible: " + strings.Join(ids, ", ") + more
}

// mostOpen is how many causes are named for which nothing speaks.
const mostOpen = 5

// Lines explains the diagnosis in at most twelve lines: who ended what, why, the proof, what it
// is not, what to do, and what that costs. What is not proved says what would decide.
func (d Diagnosis) Lines() []string {
	if d.Symptom == Fine {
		return nil
	}
	lines := []string{fmt.Sprintf("why: %s", d.Short())}
	if len(d.Findings) == 0 {
		lines = append(lines, "     "+d.WhyNone())
		for _, place := range d.Account() {
			lines = append(lines, "     "+place)
		}
		return lines
	}
	if len(d.Findings) > 1 {
		for _, f := range d.Findings[:min(3, len(d.Findings))] {
			lines = append(lines, "     "+f.Cause.ID+": "+f.Cause.Why)
			if len(f.Open) > 0 {
				lines = append(lines, "       open: "+f.Open[0].Says)
			}
		}
		return lines
	}
	f := d.Findings[0]
	lines = append(lines, "     "+f.Cause.Why)
	for i, then := range d.Then {
		if i == 1 {
			break
		}
		lines = append(lines, "     then: "+then.Cause.Why)
	}
	for i, fact := range f.Proof {
		if i == 4 {
			break
		}
		lines = append(lines, fmt.Sprintf("     proof: %s (%s)", fact.Says, fact.By))
	}
	for i, fact := range f.Open {
		if i == 2 {
			break
		}
		lines = append(lines, fmt.Sprintf("     open: %s (%s is %s)", fact.Says, fact.By, fact.Is))
	}
	for i, e := range f.NotThese {
		if i == 2 {
			break
		}
		lines = append(lines, fmt.Sprintf("     not %s: %s", e.ID, e.By.Says))
	}
	return append(lines, "     do: "+f.Cause.Do, "     cost: "+f.Cause.Cost)
}
