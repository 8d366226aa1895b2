package claim

import (
	"fmt"
	"maps"
	"slices"
	"strconv"

	"twlab/harness/topo"
)

// Cell is one combination of a family's axes.
type Cell struct {
	// Values has the value of each axis of the family, by its name.
	Values map[string]string
	// Extra are sysctls of a user's own cell that are not axes.
	Extra topo.Settings
}

// Value is the cell's value of an axis of the family. Any other name is a mistake in the
// code, and panics.
func (c Cell) Value(axis string) string {
	v, found := c.Values[axis]
	if !found {
		panic(fmt.Sprintf("cell has no axis %q", axis))
	}
	return v
}

// Number is the cell's value of an axis whose values are numbers. If it is not a number,
// that is a mistake in the code, and Number panics.
func (c Cell) Number(axis string) int {
	n, err := strconv.Atoi(c.Value(axis))
	if err != nil {
		panic(fmt.Sprintf("axis %s: %v", axis, err))
	}
	return n
}

// Is tells whether the axis has one of the values.
func (c Cell) Is(axis string, values ...string) bool {
	return slices.Contains(values, c.Value(axis))
}

// Either tells whether the axis has the first of two values. It is how a driver reads an axis
// that has no other ones: a third value is a mistake in the code, and Either panics.
func (c Cell) Either(axis, first, second string) bool {
	v := c.Value(axis)
	if v != first && v != second {
		panic(fmt.Sprintf("axis %s: %q is neither %q nor %q", axis, v, first, second))
	}
	return v == first
}

// clone has values of its own.
func (c Cell) clone() Cell { return Cell{Values: maps.Clone(c.Values), Extra: c.Extra} }

// with is the cell with one axis changed.
func (c Cell) with(axis, value string) Cell {
	changed := c.clone()
	changed.Values[axis] = value
	return changed
}

// Where matches cells in which each named axis has one of the named values. Other axes may
// have any value.
type Where map[string][]string

// Matches tells whether each named axis of the cell has one of the named values.
func (w Where) Matches(c Cell) bool {
	for axis, values := range w {
		if !slices.Contains(values, c.Values[axis]) {
			return false
		}
	}
	return true
}

// Cells is a set of cells: those that at least one of its members matches. An empty set
// matches no cell; Cells{{}} matches all.
type Cells []Where

// Matches tells whether the cell is in the set.
func (cs Cells) Matches(c Cell) bool {
	return slices.ContainsFunc(cs, func(w Where) bool { return w.Matches(c) })
}

// And is the part of the set that also matches more. If both name an axis, the values of
// more replace the others.
func (cs Cells) And(more Where) Cells {
	both := make(Cells, len(cs))
	for i, w := range cs {
		both[i] = Where{}
		for axis, values := range w {
			both[i][axis] = values
		}
		for axis, values := range more {
			both[i][axis] = values
		}
	}
	return both
}

// Both is the set of cells that are in a and in b.
func Both(a, b Cells) Cells {
	var cells Cells
	for _, x := range a {
		for _, y := range b {
			if w, meet := x.and(y); meet {
				cells = append(cells, w)
			}
		}
	}
	return cells
}

// and matches the cells that both match. meet is false if an axis has no value that both
// match.
func (w Where) and(other Where) (both Where, meet bool) {
	both = Where{}
	for axis, values := range w {
		both[axis] = values
	}
	for axis, values := range other {
		if own, named := w[axis]; named {
			values = intersect(own, values)
		}
		if len(values) == 0 {
			return nil, false
		}
		both[axis] = values
	}
	return both, true
}

func intersect(a, b []string) []string {
	var common []string
	for _, v := range a {
		if slices.Contains(b, v) {
			common = append(common, v)
		}
	}
	return common
}
