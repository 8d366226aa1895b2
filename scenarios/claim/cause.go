package claim

import "slices"

// CauseIn is the cause of some cells of a rule.
type CauseIn struct {
	Cells Cells
	Cause string
}

// CauseOf is why not all goes well in a cell of the rule: the first of OtherCauses that matches,
// else Cause; empty if none is named.
func (r Rule) CauseOf(c Cell) string {
	for _, other := range r.OtherCauses {
		if other.Cells.Matches(c) {
			return other.Cause
		}
	}
	return r.Cause
}

// Causes are all causes that the rule names, each once, that of most cells first.
func (r Rule) Causes() (all []string) {
	add := func(cause string) {
		if cause != "" && !slices.Contains(all, cause) {
			all = append(all, cause)
		}
	}
	add(r.Cause)
	for _, other := range r.OtherCauses {
		add(other.Cause)
	}
	return all
}
