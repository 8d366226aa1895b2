package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"twlab/scenarios"
)

// errNeverDriven is what a matrix ends by in which a cell was left out on every
// kernel: nobody knows what is so there.
var errNeverDriven = errors.New("skipped on every kernel")

// print writes the table, the changes, and what nobody has driven.
func (m matrix) print(out io.Writer) error {
	var text strings.Builder
	m.rules(&text)
	m.changes(&text)
	never := m.neverDriven()
	for _, line := range never {
		fmt.Fprintf(&text, "SKIPPED ON EVERY KERNEL: %s\n", line)
	}
	if _, err := io.WriteString(out, text.String()); err != nil {
		return err
	}
	if len(never) > 0 {
		return fmt.Errorf("%d cells: %w", len(never), errNeverDriven)
	}
	return nil
}

// rules has a line for each rule that was tried on any kernel, with what is seen
// then, and for each kernel in how many cells it was so.
func (m matrix) rules(out io.Writer) {
	table := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	for _, f := range scenarios.Families() {
		titled := false
		for _, rule := range f.Rules {
			columns := make([]string, len(m))
			tried := false
			for i, r := range m {
				columns[i] = r.score(rule.Name)
				tried = tried || columns[i] != notTried
			}
			if !tried {
				continue
			}
			if !titled {
				fmt.Fprintf(table, "%s\t%s\twhat is seen\n", strings.ToUpper(f.Name), strings.Join(m.kernels(), "\t"))
				titled = true
			}
			fmt.Fprintf(table, "  %s\t%s\t%s\n", strings.TrimPrefix(rule.Name, f.Name+"-"), strings.Join(columns, "\t"), rule.Headline())
		}
	}
	_ = table.Flush() // writes to memory
}

const notTried = "-"

// score is "23/23" or "22/23 WRONG".
func (r results) score(rule string) string {
	agree, cells := 0, 0
	for _, one := range r.cells {
		if one.Rule != rule {
			continue
		}
		cells++
		if one.Agrees() {
			agree++
		}
	}
	switch {
	case cells == 0:
		return notTried
	case agree < cells:
		return fmt.Sprintf("%d/%d WRONG", agree, cells)
	default:
		return fmt.Sprintf("%d/%d", agree, cells)
	}
}

func (m matrix) kernels() []string {
	names := make([]string, len(m))
	for i, r := range m {
		names[i] = fmt.Sprintf("%d.%d", r.release.Major, r.release.Minor)
	}
	return names
}

// change is one story that becomes another one.
type change struct{ from, to, at, since string }

// changes says in how many cells the next newer kernel, of those on which the cell
// was driven, goes by another rule.
func (m matrix) changes(out io.Writer) {
	count := map[change]int{}
	for _, cell := range m.cells() {
		previous := -1
		for i, r := range m {
			now, driven := r.cells[cell]
			if !driven {
				continue
			}
			if previous >= 0 {
				if before := m[previous].cells[cell]; before.Rule != now.Rule {
					count[change{before.Rule, now.Rule, r.release.String(), m[previous].release.String()}]++
				}
			}
			previous = i
		}
	}
	if len(count) == 0 {
		fmt.Fprintln(out, "NO CHANGES between these kernels")
		return
	}
	fmt.Fprintln(out, "CHANGES")
	var lines []string
	for c, n := range count {
		lines = append(lines, fmt.Sprintf("  at %s, after %s: %s becomes %s in %d cells", c.at, c.since, c.from, c.to, n))
	}
	slices.Sort(lines)
	fmt.Fprintln(out, strings.Join(lines, "\n"))
}

// cells are all that were driven anywhere.
func (m matrix) cells() []string {
	all := map[string]bool{}
	for _, r := range m {
		for cell := range r.cells {
			all[cell] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// neverDriven are the cells that were skipped where they were met, with a reason.
func (m matrix) neverDriven() []string {
	driven := m.cells()
	reasons := map[string]string{}
	for _, r := range m {
		for cell, reason := range r.skipped {
			if _, found := slices.BinarySearch(driven, cell); !found {
				reasons[cell] = reason
			}
		}
	}
	var lines []string
	for _, cell := range slices.Sorted(maps.Keys(reasons)) {
		lines = append(lines, cell+": "+reasons[cell])
	}
	return lines
}
