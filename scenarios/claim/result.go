package claim

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"twlab/harness/kernel"
	"twlab/harness/topo"
)

// Result is one cell that was driven: what its rule expects, and what was seen.
type Result struct {
	Family string            `json:"family"`
	Cell   map[string]string `json:"cell"`
	// Emulated says that an emulation replaced the kernel: this is not the kernel's
	// outcome.
	Emulated bool `json:"emulated,omitempty"`
	// Rule is the name of the rule; empty when no claim covers the cell.
	Rule    string `json:"rule"`
	Because string `json:"because"`
	Source  string `json:"source"`
	// Cause is why not all goes well, as the rule says: the name of a cause in the catalogue of
	// harness/diagnose; empty where all goes well.
	Cause string `json:"cause,omitempty"`
	Lines []Line `json:"lines"`
	// Seen has only those counters that moved.
	Seen Seen `json:"seen"`
}

// Judge compares what was seen with what the rule expects.
func Judge(f Family, c Cell, r Rule, seen Seen) Result {
	lines := Compare(r.Want, seen)
	moved := map[topo.Role]kernel.Counters{}
	for role, counters := range seen.Moved {
		moved[role] = counters.Moved()
	}
	seen.Moved = moved
	return Result{
		Family: f.Name, Cell: f.set(c), Emulated: f.Emulated != "", Rule: r.Name, Because: r.Because, Source: r.Source,
		Cause: r.CauseOf(c), Lines: lines, Seen: seen,
	}
}

// Agrees tells whether a rule covers the cell and everything is as expected.
func (r Result) Agrees() bool { return r.Rule != "" && Agree(r.Lines) }

// Outcome is the most important value that was seen: the outcome of the attempt, if there is
// one.
func (r Result) Outcome() string {
	for _, w := range r.Seen.Observations {
		if w.What == "outcome" {
			return w.Got
		}
	}
	if len(r.Lines) > 0 {
		return r.Lines[0].What + ": " + r.Lines[0].Got
	}
	for _, w := range r.Seen.Observations {
		return w.What + ": " + w.Got
	}
	return "nothing seen"
}

// writeLines writes a table of what was wanted and what was seen, wrong lines marked.
func writeLines(to *strings.Builder, lines []Line) { writeTable(to, lines, "wanted", "<-- wrong") }

func writeTable(to *strings.Builder, lines []Line, wanted, other string) {
	table := tabwriter.NewWriter(to, 0, 8, 2, ' ', 0)
	if len(lines) > 0 {
		fmt.Fprintf(table, "  \t%s\tgot\t\n", wanted)
	}
	for _, l := range lines {
		mark := ""
		if !l.Right {
			mark = other
		}
		fmt.Fprintf(table, "  %s\t%s\t%s\t%s\n", l.What, l.Wanted, l.Got, mark)
	}
	_ = table.Flush() // writes to memory
}

// String is a table of what was expected and what was seen, with wrong lines marked, and
// then the rule's reason and everything else that was seen.
func (r Result) String() string { return r.text("wanted", "<-- wrong") }

// Unclaimed is String for a cell that no claim covers: the rule is only the nearest one.
func (r Result) Unclaimed() string { return r.text("the nearest rule wants", "<-- differs") }

func (r Result) text(wanted, other string) string {
	var text strings.Builder
	if r.Emulated {
		fmt.Fprintf(&text, "EMULATED: this says nothing about any kernel\n")
	}
	compared := map[string]bool{}
	for _, l := range r.Lines {
		compared[l.What] = true
	}
	writeTable(&text, r.Lines, wanted, other)
	if r.Rule == "" {
		fmt.Fprintf(&text, "no claim covers this\n")
	} else {
		fmt.Fprintf(&text, "rule %s: %s\n(%s)\n", r.Rule, r.Because, r.Source)
	}
	var rest []string
	for _, w := range r.Seen.Observations {
		if !compared[w.What] {
			rest = append(rest, w.What+": "+w.Got)
		}
	}
	if len(rest) > 0 {
		fmt.Fprintf(&text, "also seen: %s\n", strings.Join(rest, "; "))
	}
	for _, role := range slices.Sorted(maps.Keys(r.Seen.Moved)) {
		telling := kernel.Counters{}
		for name, by := range r.Seen.Moved[role] {
			// Numbers of packets and octets, and neighbour discovery, are not interesting.
			if !strings.HasPrefix(name, "Ip") && !strings.HasPrefix(name, "Icmp6") {
				telling[name] = by
			}
		}
		if len(telling) > 0 {
			fmt.Fprintf(&text, "%s counters: %v\n", role, telling)
		}
	}
	return text.String()
}
