package diagnose

import (
	"fmt"
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
	return fmt.Sprintf("%s (%s)", strings.Join(ids, " or "), d.Status)
}

// Lines explains the diagnosis in at most twelve lines: who ended what, why, the proof, what it
// is not, what to do, and what that costs. What is not proved says what would decide.
func (d Diagnosis) Lines() []string {
	if d.Symptom == Fine {
		return nil
	}
	lines := []string{fmt.Sprintf("why: %s", d.Short())}
	if len(d.Findings) == 0 {
		return append(lines, "     no cause that twlab knows fits all that was seen")
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
