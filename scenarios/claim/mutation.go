package claim

import (
	"fmt"
	"slices"
	"strings"
)

// Mutation is a lab in which a rule must fail: what the rule expects in one cell is compared
// with what is seen when one axis has another value.
type Mutation struct {
	// Rule is the rule that is tried, Cell the cell for which it expects something.
	Rule Rule
	Cell Cell
	// Axis is the axis that is changed without the rule's knowledge, To its value in
	// Mutated, the cell that is driven.
	Axis, To string
	Mutated  Cell
	// Own is the rule that holds in Mutated.
	Own Rule
}

// Predicted are the expectations of Rule that Own contradicts: they must be wrong in
// Mutated.
func (m Mutation) Predicted() []Expectation { return contradicted(m.Rule.Want, m.Own.Want) }

// Mutations lists, for each rule that has a cell on these kernels, one mutation for each axis
// that can make it fail: the first value of the axis, in the first such cell, whose own rule
// contradicts this one. Fast cells come before slow ones.
func (f Family) Mutations(k Kernels) []Mutation {
	cells := f.Chosen(k)
	slices.SortStableFunc(cells, func(a, b Cell) int { return order(f.IsSlow(a)) - order(f.IsSlow(b)) })
	of := map[string][]Cell{} // the cells of each rule
	for _, c := range cells {
		if own, covered := f.Rule(c, k); covered {
			of[own.Name] = append(of[own.Name], c)
		}
	}
	var all []Mutation
	for _, r := range f.Rules {
		for _, a := range f.Axes {
			if m, found := f.mutation(of[r.Name], r, a, k); found {
				all = append(all, m)
			}
		}
	}
	return all
}

// Sample has the first mutation of each rule, unless that one is slow.
func Sample(f Family, all []Mutation) (sample []Mutation) {
	taken := map[string]bool{}
	for _, m := range all {
		if !taken[m.Rule.Name] && !f.IsSlow(m.Mutated) {
			taken[m.Rule.Name] = true
			sample = append(sample, m)
		}
	}
	return sample
}

func order(slow bool) int {
	if slow {
		return 1
	}
	return 0
}

// mutation is the one of a rule's cells and an axis.
func (f Family) mutation(cells []Cell, r Rule, a Axis, k Kernels) (Mutation, bool) {
	for _, slow := range []bool{false, true} {
		for _, c := range cells {
			for _, v := range a.Values {
				mutated := c.with(a.Name, v)
				if _, possible := f.Possible(mutated); !possible || f.IsSlow(mutated) != slow {
					continue
				}
				if other, covered := f.Rule(mutated, k); covered && len(contradicted(r.Want, other.Want)) > 0 {
					return Mutation{Rule: r, Cell: c, Axis: a.Name, To: v, Mutated: mutated, Own: other}, true
				}
			}
		}
	}
	return Mutation{}, false
}

// contradicted are the expectations in want that others contradict.
func contradicted(want, others []Expectation) (all []Expectation) {
	for _, e := range want {
		if slices.ContainsFunc(others, e.contradicts) {
			all = append(all, e)
		}
	}
	return all
}

// Catch is the result of a mutation.
type Catch string

// The possible results of a mutation.
const (
	// Caught: what the other rule contradicts was wrong, and the other rule held.
	Caught Catch = "caught"
	// Missed: the rule held where it must not.
	Missed Catch = "MISSED"
	// WrongLine: the rule failed, but not in what the other rule contradicts.
	WrongLine Catch = "WRONG LINE"
	// OwnBroken: what the other rule contradicts was wrong, but the other rule did not
	// hold in its own lab either, so the result means nothing.
	OwnBroken Catch = "OWN RULE BROKEN"
)

// Trial is a mutation that was driven.
type Trial struct {
	Family string `json:"family"`
	// Emulated says that an emulation replaced the kernel.
	Emulated bool `json:"emulated,omitempty"`
	// Rule is the rule that was tried, Own the one that holds where Axis is To.
	Rule string `json:"rule"`
	Axis string `json:"axis"`
	To   string `json:"to"`
	Own  string `json:"own"`
	// Predicted are the names of the evidence about which Own contradicts Rule.
	Predicted []string `json:"predicted"`
	Catch     Catch    `json:"catch"`
	// Lines are Rule's, and OwnLines Own's, beside what was seen.
	Lines    []Line `json:"lines"`
	OwnLines []Line `json:"ownLines"`
}

// Judge compares what was seen in the cell Mutated with both rules. Evidence that was not
// noted does not count as wrong.
func (m Mutation) Judge(f Family, seen Seen) Trial {
	t := Trial{
		Family: f.Name, Emulated: f.Emulated != "", Rule: m.Rule.Name, Axis: m.Axis, To: m.To, Own: m.Own.Name,
		Lines: Compare(m.Rule.Want, seen), OwnLines: Compare(m.Own.Want, seen),
	}
	for _, e := range m.Predicted() {
		t.Predicted = append(t.Predicted, e.What)
	}
	asPredicted := slices.ContainsFunc(Compare(m.Predicted(), seen), func(l Line) bool { return !l.Right && !l.Missing })
	switch {
	case Agree(t.Lines):
		t.Catch = Missed
	case !asPredicted:
		t.Catch = WrongLine
	case !Agree(t.OwnLines):
		t.Catch = OwnBroken
	default:
		t.Catch = Caught
	}
	return t
}

// Outcome says in one line what the result is, and by which evidence.
func (t Trial) Outcome() string {
	predicted := strings.Join(t.Predicted, ", ")
	switch t.Catch {
	case Caught:
		also := slices.DeleteFunc(slices.Clone(t.Lines), func(l Line) bool { return l.Right || slices.Contains(t.Predicted, l.What) })
		if len(also) > 0 {
			predicted += "; also wrong: " + wrong(also)
		}
		return fmt.Sprintf("caught by %s", predicted)
	case Missed:
		return fmt.Sprintf("MISSED: all of it holds in the lab of %s too, even %s", t.Own, predicted)
	case WrongLine:
		return fmt.Sprintf("WRONG LINE: wrong: %s; not wrong, although %s contradicts it: %s", wrong(t.Lines), t.Own, predicted)
	default:
		return fmt.Sprintf("OWN RULE BROKEN: %s does not hold in its own cell; wrong: %s", t.Own, wrong(t.OwnLines))
	}
}

// wrong names the evidence that is not as expected.
func wrong(lines []Line) string {
	var names []string
	for _, l := range lines {
		switch {
		case l.Missing:
			names = append(names, l.What+" (not noted)")
		case !l.Right:
			names = append(names, l.What)
		}
	}
	return strings.Join(names, ", ")
}

// String is the outcome, and then what each of the two rules expects beside what was seen.
func (t Trial) String() string {
	var text strings.Builder
	fmt.Fprintf(&text, "%s with %s=%s: %s\n\nwhat %s expects:\n", t.Rule, t.Axis, t.To, t.Outcome(), t.Rule)
	writeLines(&text, t.Lines)
	fmt.Fprintf(&text, "\nwhat %s expects, which is the rule of this cell:\n", t.Own)
	writeLines(&text, t.OwnLines)
	return text.String()
}
