package scenarios

import "slices"

// Mutation is a world in which a rule must fail: what the rule wants in one cell
// is compared with what is seen when one axis has another value.
type Mutation struct {
	// Rule is the rule that is tried, Cell the one that its expectation is for.
	Rule Rule
	Cell Cell
	// Axis is the axis that is changed behind the rule's back, To its value in
	// World, the cell that is driven.
	Axis, To string
	World    Cell
}

// Mutations lists, for each rule that has a cell on these kernels, one mutation
// for each axis that can make it fail: the first value, in the first such cell,
// for which the kernels' own rule contradicts this one. Fast cells come before
// slow ones.
func (f Family) Mutations(k Kernels) []Mutation {
	cells := f.Chosen(k)
	slices.SortStableFunc(cells, func(a, b Cell) int { return order(f.IsSlow(a)) - order(f.IsSlow(b)) })
	var all []Mutation
	for _, r := range f.Rules {
		for _, a := range f.Axes {
			if m, found := f.mutation(cells, r, a, k); found {
				all = append(all, m)
			}
		}
	}
	return all
}

func order(slow bool) int {
	if slow {
		return 1
	}
	return 0
}

func (f Family) mutation(cells []Cell, r Rule, a Axis, k Kernels) (Mutation, bool) {
	for _, slow := range []bool{false, true} {
		for _, c := range cells {
			if own, covered := f.Rule(c, k); !covered || own.Name != r.Name {
				continue
			}
			for _, v := range a.Values {
				world := c.with(a.Name, v)
				if _, possible := f.Possible(world); !possible || f.IsSlow(world) != slow {
					continue
				}
				if other, covered := f.Rule(world, k); covered && contradict(r.Want, other.Want) {
					return Mutation{Rule: r, Cell: c, Axis: a.Name, To: v, World: world}, true
				}
			}
		}
	}
	return Mutation{}, false
}

// contradict tells whether some witness cannot satisfy both.
func contradict(a, b []Expectation) bool {
	return slices.ContainsFunc(a, func(x Expectation) bool { return slices.ContainsFunc(b, x.contradicts) })
}
