package results

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"twlab/harness/report"
	"twlab/scenarios"
	"twlab/scenarios/claim"
	"twlab/scenarios/situation"
	"twlab/scenarios/timewait"
)

// family is a family with all cells that were driven on any kernel.
type family struct {
	ID, Name, About, Emulated string
	Axes                      []claim.Axis
	Rows                      []gridRow
	Rules                     []rule
	Cells                     int
}

// gridRow are the cells that have the same values of the first axes.
type gridRow struct {
	Label   string
	Squares []*cell
}

// rule is a rule with its cells on the newest kernel that has any.
type rule struct {
	Name, Headline, Because, Source string
	ID                              string
	Class                           Class
	Agree                           int
	Cells                           []*cell
	Causes                          []causeOf
	None                            string // what must not happen in any of its cells, and has not
}

// known finds the families that cells can be of: by their keys, which are names, and for emulations
// their titles. The keys are in the order of the registry.
func known() (all map[string]situation.Family, keys []string) {
	all = map[string]situation.Family{}
	add := func(key string, f situation.Family) {
		all[key] = f
		keys = append(keys, key)
	}
	for _, f := range scenarios.Families() {
		add(f.Name, f)
	}
	for _, e := range timewait.Emulations() {
		f := e.Family()
		add(emulatedKey(f), f)
	}
	return all, keys
}

func emulatedKey(f situation.Family) string { return "emulated (" + f.Emulated + "): " + f.Name }

// keyOf is the key of the family of a cell.
func keyOf(c *Cell) string {
	if c.Result.Emulated {
		before, _, _ := strings.Cut(c.Title, ": ")
		return before + ": " + c.Result.Family
	}
	return c.Result.Family
}

// families are those of which any cell was driven, in the order of the registry. What is emulated
// comes last.
func families(runs []Run) (all []*family) {
	of, keys := known()
	cells := map[string]map[string]*cell{} // by family and title
	for i := range runs {
		for j := range runs[i].Cells {
			one := &runs[i].Cells[j]
			key := keyOf(one)
			if cells[key] == nil {
				cells[key] = map[string]*cell{}
			}
			if cells[key][one.Title] == nil {
				cells[key][one.Title] = &cell{on: make([]*Cell, len(runs)), values: one.Result.Cell}
			}
			cells[key][one.Title].on[i] = one
		}
	}
	for _, key := range slices.Sorted(maps.Keys(cells)) { // of another version of this program
		if !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	number := 0
	for _, key := range keys {
		if len(cells[key]) == 0 {
			continue
		}
		f := &family{ID: "family-" + anchor(key), Name: report.Plain(key), Cells: len(cells[key])}
		if k, there := of[key]; there {
			f.About, f.Axes, f.Emulated = k.About, k.Axes, k.Emulated
		}
		var sorted []*cell
		for _, title := range slices.Sorted(maps.Keys(cells[key])) {
			sorted = append(sorted, cells[key][title])
		}
		f.sort(sorted)
		for _, c := range sorted {
			number++
			c.ID = fmt.Sprintf("c%d", number)
			c.fill(runs, f)
			c.again(f, of[key])
		}
		f.grid(sorted)
		f.rules(of[key], sorted)
		all = append(all, f)
	}
	return all
}

// anchor makes a text an anchor.
func anchor(text string) string {
	return strings.Trim(strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' {
			return r
		}
		return '-'
	}, strings.ToLower(text)), "-")
}

// sort orders cells by the axes, each in the order of its values.
func (f *family) sort(cells []*cell) {
	slices.SortStableFunc(cells, func(a, b *cell) int {
		for _, axis := range f.Axes {
			x, y := slices.Index(axis.Values, a.values[axis.Name]), slices.Index(axis.Values, b.values[axis.Name])
			if x != y {
				return x - y
			}
		}
		return 0
	})
}

// A grid has at most so many rows, and at least so many cells in each on average, unless its first
// axis makes other ones.
const (
	mostGridRows = 18
	leastInRow   = 4
)

// grid puts cells in rows by the values of the first axes: of as many axes as leave few rows.
func (f *family) grid(cells []*cell) {
	label := func(c *cell, axes int) string {
		var parts []string
		for _, a := range f.Axes[:axes] {
			parts = append(parts, a.Name+"="+c.values[a.Name])
		}
		return report.Plain(strings.Join(parts, " "))
	}
	axes := 0
	for n := 1; n <= len(f.Axes); n++ {
		rows := map[string]bool{}
		for _, c := range cells {
			rows[label(c, n)] = true
		}
		if n > 1 && (len(rows) > mostGridRows || len(cells) < leastInRow*len(rows)) {
			break
		}
		axes = n
	}
	at := map[string]int{}
	for _, c := range cells {
		l := label(c, axes)
		if _, there := at[l]; !there {
			at[l] = len(f.Rows)
			f.Rows = append(f.Rows, gridRow{Label: l})
		}
		f.Rows[at[l]].Squares = append(f.Rows[at[l]].Squares, c)
	}
}

// rules groups cells by the rule that holds on the newest kernel that has them.
func (f *family) rules(of situation.Family, cells []*cell) {
	at := map[string]int{}
	add := func(name string) {
		if _, there := at[name]; !there {
			at[name] = len(f.Rules)
			f.Rules = append(f.Rules, rule{Name: report.Plain(name)})
		}
	}
	for i := range of.Rules {
		for _, c := range cells {
			if c.Rule == of.Rules[i].Name {
				add(c.Rule)
				break
			}
		}
	}
	for _, c := range cells {
		add(c.Rule)
		r := &f.Rules[at[c.Rule]]
		r.Cells = append(r.Cells, c)
		if !c.Wrong {
			r.Agree++
		}
		r.Class = c.Class
		for _, one := range c.on {
			if one != nil {
				r.Because, r.Source = report.Plain(one.Result.Because), report.Plain(one.Result.Source)
				break
			}
		}
	}
	for i := range of.Rules {
		if n, there := at[of.Rules[i].Name]; there {
			f.Rules[n].Headline = of.Rules[i].Headline()
		}
	}
	for i := range f.Rules {
		f.Rules[i].ID = strings.TrimPrefix(f.ID, "family-") + "-rule-" + anchor(f.Rules[i].Name)
		f.Rules[i].share()
	}
}

// share says once what must not happen, where that is the same in all cells.
func (r *rule) share() {
	none := r.Cells[0].Seen.None
	if slices.ContainsFunc(r.Cells, func(c *cell) bool { return c.Seen.None != none }) {
		return
	}
	r.None = none
	for _, c := range r.Cells {
		c.Seen.None = ""
	}
}
