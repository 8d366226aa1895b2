package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	. "github.com/onsi/ginkgo/v2"
	gtypes "github.com/onsi/ginkgo/v2/types"
	. "github.com/onsi/gomega"

	"twlab/scenarios"
)

// The names of the report entries that the tables are made of.
const (
	cellEntry     = "cell"
	mutationEntry = "mutation"
	leftOutEntry  = "left out"
)

// mutated is what came of one mutation.
type mutated struct {
	Family, Rule, Axis, To string
	Caught                 bool
}

// When all is done, a table for each family says what happened in its cells, and
// one which rules were tried against a world in which they must fail.
var _ = ReportAfterSuite("tables", func(report Report) {
	for _, t := range []struct{ name, text string }{
		{"cells", cellTable(report)},
		{"mutations", mutationTable(report)},
	} {
		if t.text == "" {
			continue
		}
		AddReportEntry(t.name, "\n"+t.text, ReportEntryVisibilityAlways)
		Expect(os.WriteFile(filepath.Join(outputDir(), t.name+".txt"), []byte(t.text), 0o644)).To(Succeed())
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
				Expect(json.Unmarshal([]byte(e.Value.AsJSON), &value)).To(Succeed())
			}
			each(value, spec)
		}
	}
}

// cellTable has a line for each rule that was tried: what it says, and in how
// many cells it was so. Below is why cells were left out.
func cellTable(report Report) string {
	type count struct{ agree, cells int }
	byRule := map[string]count{}
	var longest time.Duration
	entries(report, cellEntry, func(r scenarios.Result, spec gtypes.SpecReport) {
		c := byRule[r.Rule]
		c.cells++
		if r.Agrees() {
			c.agree++
		}
		byRule[r.Rule] = c
		longest = max(longest, spec.RunTime)
	})
	omitted := leftOut(report)
	if len(byRule) == 0 {
		return omitted
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
	Expect(table.Flush()).To(Succeed())
	fmt.Fprintf(&text, "%d cells, %d rules; the longest cell took %v\n%s", cells, rules, longest.Round(10*time.Millisecond), omitted)
	return text.String()
}

// leftOut has a line for each reason why specs were skipped here.
func leftOut(report Report) string {
	skipped := map[string]int{}
	entries(report, leftOutEntry, func(because string, _ gtypes.SpecReport) { skipped[because]++ })
	var text strings.Builder
	for _, because := range slices.Sorted(maps.Keys(skipped)) {
		fmt.Fprintf(&text, "left out: %d, because %s\n", skipped[because], because)
	}
	return text.String()
}

// mutationTable has a line for each mutation.
func mutationTable(report Report) string {
	var text strings.Builder
	table := tabwriter.NewWriter(&text, 0, 8, 2, ' ', 0)
	caught, all := 0, 0
	entries(report, mutationEntry, func(m mutated, _ gtypes.SpecReport) {
		outcome := "MISSED"
		if m.Caught {
			outcome = "caught"
			caught++
		}
		all++
		fmt.Fprintf(table, "%s\t%s -> %s\t%s\n", m.Rule, m.Axis, m.To, outcome)
	})
	if all == 0 {
		return ""
	}
	Expect(table.Flush()).To(Succeed())
	lines := strings.Split(strings.TrimSpace(text.String()), "\n")
	slices.Sort(lines)
	return fmt.Sprintf("%s\n%d of %d caught\n", strings.Join(lines, "\n"), caught, all)
}
