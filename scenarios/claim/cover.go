package claim

import (
	"fmt"
	"math"
	"slices"
)

// All lists every possible cell of the family.
func (f Family) All() (all []Cell) {
	f.each(everyAxis, func(c Cell, _ []int) { all = append(all, c.clone()) })
	return all
}

func everyAxis(Axis) bool { return true }

// Chosen lists the cells that an ordinary run tries. These are all combinations of the axes
// that the document names, all combinations within each crossed group (the other axes have
// their usual values), and then more cells until each pair of values of two axes occurs, as
// far as that is possible, and until each rule that can apply on these kernels has a cell.
// The choice is the same each time.
func (f Family) Chosen(k Kernels) (chosen []Cell) {
	cover, seen := newCover(f), map[string]bool{}
	product := func(varies func(Axis) bool) {
		f.each(varies, func(c Cell, at []int) {
			numbers := cover.at(at)
			if key := fmt.Sprint(numbers); !seen[key] {
				seen[key] = true
				chosen = append(chosen, c.clone())
				cover.add(numbers)
			}
		})
	}
	product(func(a Axis) bool { return a.Product })
	for _, group := range f.Crossed {
		product(func(a Axis) bool { return slices.Contains(group, a.Name) })
	}
	return f.untried(append(chosen, f.pairs(cover)...), k)
}

// pairs finds cells until each pair of values occurs: the cell with the most new pairs, the first
// one if there are several, until no cell has a new pair.
func (f Family) pairs(cover *cover) (chosen []Cell) {
	var all [][]int
	f.each(everyAxis, func(_ Cell, at []int) { all = append(all, cover.at(at)) })
	atMost := make([]int, len(all)) // a cell never has more new pairs than when it was last looked at
	for i := range atMost {
		atMost[i] = math.MaxInt
	}
	for {
		best, most := 0, 0
		for i, numbers := range all {
			if atMost[i] <= most {
				continue
			}
			if atMost[i] = cover.fresh(numbers); atMost[i] > most {
				best, most = i, atMost[i]
			}
		}
		if most == 0 {
			return chosen
		}
		cover.add(all[best])
		chosen = append(chosen, cover.cell(all[best]))
	}
}

// untried appends to the chosen cells one for each rule that holds in some cell, but in none of
// these: a fast cell if there is one.
func (f Family) untried(chosen []Cell, k Kernels) []Cell {
	tried := map[string]bool{}
	for _, c := range chosen {
		r, _ := f.Rule(c, k)
		tried[r.Name] = true
	}
	var left []Cells // of the rules that may hold
	for i := range f.Rules {
		if r := &f.Rules[i]; !tried[r.Name] && r.about(k) {
			left = append(left, r.Cells)
		}
	}
	if len(left) == 0 {
		return chosen
	}
	for _, slow := range []bool{false, true} {
		f.each(everyAxis, func(c Cell, _ []int) {
			if !slices.ContainsFunc(left, func(cells Cells) bool { return cells.Matches(c) }) || f.IsSlow(c) != slow {
				return
			}
			if r, covered := f.Rule(c, k); covered && !tried[r.Name] {
				tried[r.Name] = true
				chosen = append(chosen, c.clone())
			}
		})
	}
	return chosen
}

// each visits the possible cells in which the axes that vary have each of their values, and the
// others their usual ones. It gives the place of each axis's value, too. The cell and the places are
// the same ones each time: whoever keeps them, clones them.
func (f Family) each(varies func(Axis) bool, visit func(c Cell, at []int)) {
	c, at := f.Usual(), make([]int, len(f.Axes))
	impossible := f.impossible()
	var from func(axis int)
	from = func(axis int) {
		switch {
		case axis == len(f.Axes):
			if !slices.ContainsFunc(impossible, func(p pattern) bool { return p.matches(at) }) {
				visit(c, at)
			}
		case !varies(f.Axes[axis]):
			from(axis + 1)
		default:
			for i, v := range f.Axes[axis].Values {
				c.Values[f.Axes[axis].Name], at[axis] = v, i
				from(axis + 1)
			}
		}
	}
	from(0)
}

// pattern is a [Where] for cells that are given by the places of their values: families have up to
// some thousand, and to look up the names in each takes long.
type pattern []choice

// choice is an axis that a pattern names, and for each of its values whether that is one of those
// named.
type choice struct {
	axis  int
	named []bool
}

func (p pattern) matches(at []int) bool {
	for _, c := range p {
		if !c.named[at[c.axis]] {
			return false
		}
	}
	return true
}

// impossible are the patterns of the family's impossible cells.
func (f Family) impossible() (all []pattern) {
	for _, i := range f.Impossible {
		for _, w := range i.Cells {
			var p pattern
			for axis, a := range f.Axes {
				values, names := w[a.Name]
				if !names {
					continue
				}
				c := choice{axis, make([]bool, len(a.Values))}
				for k, v := range a.Values {
					c.named[k] = slices.Contains(values, v)
				}
				p = append(p, c)
			}
			if len(p) == len(w) { // one that names another axis matches no cell
				all = append(all, p)
			}
		}
	}
	return all
}

// Unmet is a possible cell with pairs of values that occur in none of the chosen cells, and
// the number of these pairs; it is 0 if all pairs occur.
func (f Family) Unmet(chosen []Cell) (unmet Cell, pairs int) {
	cover := newCover(f)
	for _, c := range chosen {
		cover.add(cover.numbers(c))
	}
	f.each(everyAxis, func(c Cell, at []int) {
		if n := cover.fresh(cover.at(at)); n > 0 && pairs == 0 {
			unmet, pairs = c.clone(), n
		}
	})
	return unmet, pairs
}

// cover records which pairs of values occur together. Every value of every axis has a
// number; met has a row for each number.
type cover struct {
	axes   []Axis
	first  []int            // the number of an axis's first value
	number []map[string]int // by axis
	values []string         // by number
	met    [][]bool
}

func newCover(f Family) *cover {
	c := &cover{axes: f.Axes}
	for _, a := range f.Axes {
		numbers := map[string]int{}
		c.first = append(c.first, len(c.values))
		for _, v := range a.Values {
			numbers[v] = len(c.values)
			c.values = append(c.values, v)
		}
		c.number = append(c.number, numbers)
	}
	for range c.values {
		c.met = append(c.met, make([]bool, len(c.values)))
	}
	return c
}

// cell is the one whose values have these numbers.
func (c *cover) cell(numbers []int) Cell {
	cell := Cell{Values: map[string]string{}}
	for i, n := range numbers {
		cell.Values[c.axes[i].Name] = c.values[n]
	}
	return cell
}

// numbers are those of the cell's values.
func (c *cover) numbers(cell Cell) []int {
	numbers := make([]int, len(c.axes))
	for i, a := range c.axes {
		numbers[i] = c.number[i][cell.Values[a.Name]]
	}
	return numbers
}

// at are the numbers of values by their places.
func (c *cover) at(places []int) []int {
	numbers := make([]int, len(c.axes))
	for i, k := range places {
		numbers[i] = c.first[i] + k
	}
	return numbers
}

func (c *cover) add(numbers []int) {
	for i, a := range numbers {
		for _, b := range numbers[:i] {
			c.met[a][b] = true
		}
	}
}

// fresh counts the pairs of a cell's values that have not occurred yet.
func (c *cover) fresh(numbers []int) (n int) {
	for i, a := range numbers {
		for _, b := range numbers[:i] {
			if !c.met[a][b] {
				n++
			}
		}
	}
	return n
}
