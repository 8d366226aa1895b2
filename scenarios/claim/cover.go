package claim

import "slices"

// All lists every possible cell of the family.
func (f Family) All() []Cell {
	return f.product(func(Axis) bool { return true })
}

// Chosen lists the cells that an ordinary run tries. These are all combinations of the axes
// that the document names, all combinations within each crossed group (the other axes have
// their usual values), and then more cells until each pair of values of two axes occurs, as
// far as that is possible, and until each rule that can apply on these kernels has a cell.
// The choice is the same each time.
func (f Family) Chosen(k Kernels) []Cell {
	products := f.product(func(a Axis) bool { return a.Product })
	for _, group := range f.Crossed {
		products = append(products, f.product(func(a Axis) bool { return slices.Contains(group, a.Name) })...)
	}
	var chosen []Cell
	cover, seen := newCover(f), map[string]bool{}
	for _, c := range products {
		if name := f.Describe(c); !seen[name] {
			seen[name] = true
			chosen = append(chosen, c)
			cover.add(cover.numbers(c))
		}
	}
	// Take the cell with the most new pairs, the first one if there are several, until
	// no cell has a new pair.
	all := f.All()
	numbers := make([][]int, len(all))
	for i, c := range all {
		numbers[i] = cover.numbers(c)
	}
	for {
		best, most := 0, 0
		for i, n := range numbers {
			if fresh := cover.fresh(n); fresh > most {
				best, most = i, fresh
			}
		}
		if most == 0 {
			return append(chosen, f.untried(chosen, all, k)...)
		}
		cover.add(numbers[best])
		chosen = append(chosen, all[best])
	}
}

// untried finds a cell for each rule that holds in some cell, but in none of the chosen
// ones: a fast cell if there is one.
func (f Family) untried(chosen, all []Cell, k Kernels) (more []Cell) {
	tried := map[string]bool{}
	for _, c := range chosen {
		r, _ := f.Rule(c, k)
		tried[r.Name] = true
	}
	for _, slow := range []bool{false, true} {
		for _, c := range all {
			if f.IsSlow(c) != slow {
				continue
			}
			if r, covered := f.Rule(c, k); covered && !tried[r.Name] {
				tried[r.Name] = true
				more = append(more, c)
			}
		}
	}
	return more
}

// product combines the values of the axes that vary; the others have their usual
// values. Impossible cells are left out.
func (f Family) product(varies func(Axis) bool) []Cell {
	cells := []Cell{f.Usual()}
	for _, a := range f.Axes {
		if !varies(a) {
			continue
		}
		var wider []Cell
		for _, c := range cells {
			for _, v := range a.Values {
				wider = append(wider, c.with(a.Name, v))
			}
		}
		cells = wider
	}
	return slices.DeleteFunc(cells, func(c Cell) bool {
		_, possible := f.Possible(c)
		return !possible
	})
}

// Unmet is a possible cell with pairs of values that occur in none of the chosen cells, and
// the number of these pairs; it is 0 if all pairs occur.
func (f Family) Unmet(chosen []Cell) (c Cell, pairs int) {
	cover := newCover(f)
	for _, c := range chosen {
		cover.add(cover.numbers(c))
	}
	for _, c := range f.All() {
		if n := cover.fresh(cover.numbers(c)); n > 0 {
			return c, n
		}
	}
	return Cell{}, 0
}

// cover records which pairs of values occur together. Every value of every axis has a
// number; met has a row for each number.
type cover struct {
	axes   []Axis
	number []map[string]int // by axis
	met    [][]bool
}

func newCover(f Family) *cover {
	c := &cover{axes: f.Axes}
	total := 0
	for _, a := range f.Axes {
		numbers := map[string]int{}
		for _, v := range a.Values {
			numbers[v] = total
			total++
		}
		c.number = append(c.number, numbers)
	}
	for range total {
		c.met = append(c.met, make([]bool, total))
	}
	return c
}

// numbers are those of the cell's values.
func (c *cover) numbers(cell Cell) []int {
	numbers := make([]int, len(c.axes))
	for i, a := range c.axes {
		numbers[i] = c.number[i][cell.Values[a.Name]]
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
