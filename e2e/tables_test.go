package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	. "github.com/onsi/ginkgo/v2"
	gtypes "github.com/onsi/ginkgo/v2/types"

	"twlab/scenarios"
	"twlab/scenarios/claim"
)

// The names of the report entries that the tables are made of.
const (
	cellEntry     = "cell"
	emulatedEntry = "emulated"
	mutationEntry = "mutation"
	questionEntry = "question"
)

// When all is done, a table for each family says what happened in its cells, and
// one which rules were tried against a lab in which they must fail. What was
// measured within bounds is for the file alone: nobody looks at it every time.
var _ = ReportAfterSuite("tables", func(report Report) {
	for _, t := range []struct{ name, text, more string }{
		{"cells", cellTable(report), measuredTable(report)},
		{"mutations", mutationTable(report), ""},
	} {
		if t.text == "" {
			continue
		}
		AddReportEntry(t.name, "\n"+t.text, ReportEntryVisibilityAlways)
		noError(os.WriteFile(filepath.Join(outputDir(), t.name+".txt"), []byte(t.text+t.more), 0o644))
	}
})

// Where roles have kernels that no situation can have, all is skipped, which is no
// success.
var _ = ReportAfterSuite("kernels of roles", func(report Report) {
	why, ran := "", false
	for _, spec := range report.SpecReports.WithLeafNodeType(gtypes.NodeTypeIt) {
		switch {
		case spec.State != gtypes.SpecStateSkipped && spec.State != gtypes.SpecStatePending:
			ran = true
		case spec.Failure.Message != "":
			why = spec.Failure.Message
		}
	}
	if !ran && why != "" {
		Fail("nothing could be tried: " + why)
	}
})

// entries finds the report entries of a name. Of specs that other processes ran
// only their JSON is left.
func entries[T any](report Report, name string, each func(T, gtypes.SpecReport)) {
	for _, spec := range report.SpecReports {
		for _, e := range spec.ReportEntries {
			if e.Name != name {
				continue
			}
			value, here := e.GetRawValue().(T)
			if !here {
				noError(json.Unmarshal([]byte(e.Value.AsJSON), &value))
			}
			each(value, spec)
		}
	}
}

// cellTable has a line for each rule that was tried: what it says, and in how
// many cells it was so. What was emulated stands apart.
func cellTable(report Report) string {
	text := ruleTable(report, cellEntry)
	if emulated := ruleTable(report, emulatedEntry); emulated != "" {
		text += "\nEMULATED by BPF on the running kernel: it says nothing of any kernel, and is in no count above\n" + emulated
	}
	return text + skippedLines(report)
}

// skippedLines says how many specs were left out, and why. Ginkgo shows neither by
// itself.
func skippedLines(report Report) string {
	count := map[string]int{}
	for _, spec := range report.SpecReports {
		if spec.State != gtypes.SpecStateSkipped || spec.Failure.Message == "" {
			continue
		}
		because := spec.Failure.Message
		if slices.Contains(spec.Labels(), emulatedEntry) {
			because = "EMULATED: " + because
		}
		count[because]++
	}
	var text strings.Builder
	for _, because := range slices.Sorted(maps.Keys(count)) {
		fmt.Fprintf(&text, "\nSKIPPED: %d specs: %s\n", count[because], because)
	}
	return text.String()
}

// ruleTable is the table of the cells under one name of report entries.
func ruleTable(report Report, entry string) string {
	type count struct{ agree, cells int }
	byRule := map[string]count{}
	var longest time.Duration
	entries(report, entry, func(r claim.Result, spec gtypes.SpecReport) {
		c := byRule[r.Rule]
		c.cells++
		if r.Agrees() {
			c.agree++
		}
		byRule[r.Rule] = c
		longest = max(longest, spec.RunTime)
	})
	if len(byRule) == 0 {
		return ""
	}
	var text strings.Builder
	table := tabwriter.NewWriter(&text, 0, 8, 2, ' ', 0)
	cells, rules := 0, 0
	for _, f := range scenarios.Families() {
		titled := false
		for _, r := range f.Rules {
			c := byRule[r.Name]
			if c.cells == 0 {
				continue
			}
			if !titled {
				fmt.Fprintf(table, "%s\twhat is seen\tagree\n", strings.ToUpper(f.Name))
				titled = true
			}
			mark := ""
			if c.agree < c.cells {
				mark = "  <-- WRONG"
			}
			fmt.Fprintf(table, "  %s\t%s\t%d/%d%s\n", strings.TrimPrefix(r.Name, f.Name+"-"), r.Headline(), c.agree, c.cells, mark)
			cells += c.cells
			rules++
		}
	}
	noError(table.Flush())
	fmt.Fprintf(&text, "%d cells, %d rules; the longest cell took %v\n", cells, rules, longest.Round(10*time.Millisecond))
	if leftOut > 0 {
		fmt.Fprintf(&text, "%d more cells take hours or days: hack/e2e --kernel all=NAME --virtual-time --label-filter virtual-time\n", leftOut)
	}
	return text.String()
}

// measured is what the cells of one rule gave for one of its expectations.
type measured struct {
	cells           int
	lowest, highest int64
	texts           map[string]bool // where no number is wanted
}

func (m *measured) add(got string) {
	m.cells++
	n, err := strconv.ParseInt(got, 10, 64)
	if err != nil {
		m.texts[got] = true
		return
	}
	if m.cells == 1 {
		m.lowest, m.highest = n, n
	}
	m.lowest, m.highest = min(m.lowest, n), max(m.highest, n)
}

// String is "4", "2 to 7", or the texts.
func (m *measured) String() string {
	switch {
	case len(m.texts) > 0:
		return strings.Join(slices.Sorted(maps.Keys(m.texts)), " or ")
	case m.lowest == m.highest:
		return strconv.FormatInt(m.lowest, 10)
	default:
		return fmt.Sprintf("%d to %d", m.lowest, m.highest)
	}
}

// leavesRoom tells whether more than one thing is right for the expectation.
func leavesRoom(e claim.Expectation) bool {
	return len(e.OneOf) > 1 || len(e.OneOf) == 0 && e.Least < e.Most
}

// measuredTable puts beside each expectation that leaves room what the cells gave
// in which everything was right: a bound that is much wider than what is seen may
// hide a wrong reason.
func measuredTable(report Report) string {
	byLine := map[string]map[string]*measured{} // by rule, and by what is expected
	entries(report, cellEntry, func(r claim.Result, _ gtypes.SpecReport) {
		if !r.Agrees() {
			return
		}
		if byLine[r.Rule] == nil {
			byLine[r.Rule] = map[string]*measured{}
		}
		for _, l := range r.Lines {
			key := l.What + ": " + l.Wanted
			if byLine[r.Rule][key] == nil {
				byLine[r.Rule][key] = &measured{texts: map[string]bool{}}
			}
			byLine[r.Rule][key].add(l.Got)
		}
	})
	var text strings.Builder
	table := tabwriter.NewWriter(&text, 0, 8, 2, ' ', 0)
	for _, f := range scenarios.Families() {
		for _, r := range f.Rules {
			for _, e := range r.Want {
				if m := byLine[r.Name][e.String()]; m != nil && leavesRoom(e) {
					fmt.Fprintf(table, "%s\t%s\t%s\t%v\t%d\n", r.Name, e.What, e.Wanted(), m, m.cells)
				}
			}
		}
	}
	noError(table.Flush())
	if text.Len() == 0 {
		return ""
	}
	return "\nBOUNDS beside what was measured in the cells that agree (rule, what, wanted, seen, cells)\n" + text.String()
}

// mutationTable has a line for each mutation, how many there are of each outcome, and
// what none of them has shown to be able to fail.
func mutationTable(report Report) string {
	var trials []claim.Trial
	entries(report, mutationEntry, func(t claim.Trial, _ gtypes.SpecReport) { trials = append(trials, t) })
	undriven := undrivenMutations(report)
	if len(trials)+len(undriven) == 0 {
		return ""
	}
	var text strings.Builder
	table := tabwriter.NewWriter(&text, 0, 8, 2, ' ', 0)
	count := map[claim.Catch]int{}
	for _, t := range trials {
		count[t.Catch]++
		rule := t.Rule
		if t.Emulated {
			rule += " (emulated)"
		}
		fmt.Fprintf(table, "%s\t%s -> %s\t%s\n", rule, t.Axis, t.To, t.Outcome())
	}
	for _, name := range undriven {
		fmt.Fprintf(table, "%s: NOT DRIVEN\n", name)
	}
	noError(table.Flush())
	lines := strings.Split(strings.TrimSpace(text.String()), "\n")
	slices.Sort(lines)
	sum := fmt.Sprintf("%d of %d caught", count[claim.Caught], len(trials)+len(undriven))
	for _, c := range []claim.Catch{claim.Missed, claim.WrongLine, claim.OwnBroken} {
		if count[c] > 0 {
			sum += fmt.Sprintf(", %d %s", count[c], c)
		}
	}
	if len(undriven) > 0 {
		sum += fmt.Sprintf(", %d NOT DRIVEN", len(undriven))
	}
	return strings.Join(append(lines, sum), "\n") + "\n" + neverWrong(trials)
}

// undrivenMutations are the specs of mutations that failed before anything could be
// judged.
func undrivenMutations(report Report) (names []string) {
	for _, spec := range report.SpecReports {
		mutation := slices.Contains(spec.Labels(), mutationEntry) && spec.State.Is(gtypes.SpecStateFailureStates)
		if mutation && !slices.ContainsFunc(spec.ReportEntries, func(e gtypes.ReportEntry) bool { return e.Name == mutationEntry }) {
			names = append(names, spec.LeafNodeText)
		}
	}
	return names
}

// neverWrong lists, by family, the evidence that was as wanted in every mutated lab.
// That is no mistake in itself: much of it is there to notice what must not happen.
func neverWrong(trials []claim.Trial) string {
	wrong := map[string]map[string]bool{} // by family and evidence
	for _, t := range trials {
		if wrong[t.Family] == nil {
			wrong[t.Family] = map[string]bool{}
		}
		for _, l := range t.Lines {
			wrong[t.Family][l.What] = wrong[t.Family][l.What] || !l.Right
		}
	}
	var text strings.Builder
	for _, f := range slices.Sorted(maps.Keys(wrong)) {
		var never []string
		for _, what := range slices.Sorted(maps.Keys(wrong[f])) {
			if !wrong[f][what] {
				never = append(never, what)
			}
		}
		if len(never) > 0 {
			fmt.Fprintf(&text, "  %s: %s\n", f, strings.Join(never, ", "))
		}
	}
	if text.Len() == 0 {
		return ""
	}
	return "\nEvidence that no mutation of this run made wrong, in whatever rule:\n" + text.String()
}
