package matrix

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"twlab/scenarios"
	"twlab/scenarios/document"
)

// What a matrix can end by.
var (
	// errNeverDriven: a cell was left out on every kernel, so that nobody knows
	// what is so there.
	errNeverDriven = errors.New("skipped on every kernel")
	// errFailed: on some kernel, not everything was as the suite says.
	errFailed = errors.New("did not pass")
)

// print writes the tables, and what is wrong.
func (m matrix) print(out io.Writer) error {
	var text strings.Builder
	text.WriteString("KERNELS\n")
	m.legend(&text)
	if m.answers(&text); len(m.cells()) == 0 && m.asked() > 0 {
		problems := m.problems(&text)
		_, err := io.WriteString(out, text.String())
		return errors.Join(err, problems)
	}
	text.WriteString("\nCLAIMS of the document, numbered as in scenarios/CLAIMS.md: in how many cells all was as the rules say, of those\n" +
		"tried (-: none), and the kernels since which some cells go by another rule\n")
	m.claims(&text)
	text.WriteString("\nRULES: in how many cells each was found true, of those in which it was expected (-: none), and what is seen then\n")
	m.rules(&text)
	text.WriteString("\nCHANGES: where a newer kernel does something else in the same cell\n")
	m.changes(&text)
	problems := m.problems(&text)
	if _, err := io.WriteString(out, text.String()); err != nil {
		return err
	}
	return problems
}

// legend has a line for each kernel: which it is, and how its run went.
func (m matrix) legend(out io.Writer) {
	table := newTable(out)
	for i, r := range m {
		how := fmt.Sprintf("specs passed: %d", r.passed)
		if len(r.failed) > 0 {
			how += fmt.Sprintf(", FAILED: %d", len(r.failed))
		}
		if r.broken != "" {
			how += ", FAILED: " + r.broken
		}
		fmt.Fprintf(table, "  %s\tLinux %s\tresults in %s\t%s\n", m.headings()[i], r.release, r.name, how)
	}
	_ = table.Flush() // writes to memory
}

// asked is the number of cells of the user's own: the last one's place in the file.
func (m matrix) asked() (last int) {
	for _, r := range m {
		for number := range r.answers {
			last = max(last, number)
		}
	}
	return last
}

// answers has a line for each cell of the user's own, in the order of the file.
func (m matrix) answers(out io.Writer) {
	if m.asked() == 0 {
		return
	}
	fmt.Fprintf(out, "\nYOUR CELLS: the result of each (FAILED: it could not be created; WRONG: a rule predicts something else)\n")
	table := newTable(out)
	fmt.Fprintf(table, "  \t\t%s\t\n", strings.Join(m.headings(), "\t"))
	for number := 1; number <= m.asked(); number++ {
		outcomes := make([]string, len(m))
		var known scenarios.Answered
		for i, r := range m {
			outcomes[i] = notTried
			if a, tried := r.answers[number]; tried {
				known, outcomes[i] = a, a.Outcome()
			}
		}
		if known.Number > 0 {
			fmt.Fprintf(table, "  %d\t%s\t%s\t%s\n", number, known.Name, strings.Join(outcomes, "\t"), known.Title)
		}
	}
	_ = table.Flush() // writes to memory
}

// claims has a line for each sentence that was tried on any kernel.
func (m matrix) claims(out io.Writer) {
	table := newTable(out)
	fmt.Fprintf(table, "  \t%s\tchanges at\tthe document says, or leaves open\n", strings.Join(m.headings(), "\t"))
	changed := m.changed()
	var untried []string
	number := 0
	for _, section := range document.Document() {
		for _, c := range section.Claims {
			number++
			var rules []string
			for _, r := range c.Proofs() {
				rules = append(rules, r.Name)
			}
			scores, tried := m.scores(rules...)
			if !tried {
				untried = append(untried, fmt.Sprint(number))
				continue
			}
			at := notTried
			if since := m.since(changed, rules); len(since) > 0 {
				at = strings.Join(since, ", ")
			}
			fmt.Fprintf(table, "  %d\t%s\t%s\t[%s] %s\n", number, strings.Join(scores, "\t"), at, c.Mark, c.English)
		}
	}
	_ = table.Flush()
	if len(untried) > 0 {
		fmt.Fprintf(out, "  not tried in these runs: %s\n", strings.Join(untried, ", "))
	}
}

// rules has a line for each rule that was tried on any kernel.
func (m matrix) rules(out io.Writer) {
	table := newTable(out)
	for _, f := range scenarios.Families() {
		titled := false
		for _, rule := range f.Rules {
			scores, tried := m.scores(rule.Name)
			if !tried {
				continue
			}
			if !titled {
				fmt.Fprintf(table, "%s\t%s\t\n", f.Name, strings.Join(m.headings(), "\t"))
				titled = true
			}
			fmt.Fprintf(table, "  %s\t%s\t%s\n", rule.Name, strings.Join(scores, "\t"), rule.Headline())
		}
	}
	_ = table.Flush()
}

func newTable(out io.Writer) *tabwriter.Writer { return tabwriter.NewWriter(out, 0, 8, 2, ' ', 0) }

const notTried = "-"

// scores are "23/23" or "22/23 WRONG" for each kernel, of all cells that go by one
// of the rules there.
func (m matrix) scores(rules ...string) (scores []string, tried bool) {
	for _, r := range m {
		agree, cells := 0, 0
		for _, one := range r.cells {
			if !slices.Contains(rules, one.Rule) {
				continue
			}
			cells++
			if one.Agrees() {
				agree++
			}
		}
		score := fmt.Sprintf("%d/%d", agree, cells)
		switch {
		case cells == 0:
			score = notTried
		case agree < cells:
			score += " WRONG"
		}
		scores = append(scores, score)
		tried = tried || cells > 0
	}
	return scores, tried
}

// headings are the kernels' mainline versions, or the names of their results where
// two have the same.
func (m matrix) headings() []string {
	names := make([]string, len(m))
	count := map[string]int{}
	for i, r := range m {
		names[i] = fmt.Sprintf("%d.%d", r.release.Major, r.release.Minor)
		count[names[i]]++
	}
	for i, r := range m {
		if count[names[i]] > 1 {
			names[i] = r.name
		}
	}
	return names
}

// change is one rule that takes the place of another: at a kernel, after the next
// older one on which the cell was driven.
type change struct {
	at, after int // in the matrix
	from, to  string
}

// changed counts the cells of each change.
func (m matrix) changed() map[change]int {
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
					count[change{i, previous, before.Rule, now.Rule}]++
				}
			}
			previous = i
		}
	}
	return count
}

// since lists the kernels at which one of the rules begins or ends to hold.
func (m matrix) since(changed map[change]int, rules []string) (kernels []string) {
	for i, heading := range m.headings() {
		for c := range changed {
			if c.at == i && (slices.Contains(rules, c.from) || slices.Contains(rules, c.to)) {
				kernels = append(kernels, heading)
				break
			}
		}
	}
	return kernels
}

// changes tells each change, and what is seen otherwise since.
func (m matrix) changes(out io.Writer) {
	changed := m.changed()
	if len(changed) == 0 {
		fmt.Fprintln(out, "  none between these kernels")
		return
	}
	wants := map[string][]string{}
	for _, f := range scenarios.Families() {
		for _, r := range f.Rules {
			for _, e := range r.Want {
				wants[r.Name] = append(wants[r.Name], e.String())
			}
		}
	}
	oldestFirst := func(a, b change) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.after, b.after), cmp.Compare(a.from, b.from), cmp.Compare(a.to, b.to))
	}
	for _, c := range slices.SortedFunc(maps.Keys(changed), oldestFirst) {
		before, since := only(wants[c.from], wants[c.to]), only(wants[c.to], wants[c.from])
		if before == "" && since == "" {
			before, since = "the same", "for another reason"
		}
		fmt.Fprintf(out, "  %s, and not yet %s (cells: %d)\n", m.headings()[c.at], m.headings()[c.after], changed[c])
		fmt.Fprintf(out, "    before: %s: %s\n", c.from, cmp.Or(before, "not that"))
		fmt.Fprintf(out, "    since:  %s: %s\n", c.to, cmp.Or(since, "not that"))
	}
}

// only is what the first rule wants and the second does not.
func only(wants, others []string) string {
	return strings.Join(slices.DeleteFunc(slices.Clone(wants), func(w string) bool { return slices.Contains(others, w) }), "; ")
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

// mostFailures is how many failed specs of a kernel are named: more of them have
// one reason.
const mostFailures = 10

// problems lists what failed and what nobody drove, and returns what is wrong.
func (m matrix) problems(out io.Writer) error {
	var problems []error
	for _, r := range m {
		if len(r.failed) == 0 && r.broken == "" {
			continue
		}
		problems = append(problems, fmt.Errorf("%s: %w", r.name, errFailed))
		for _, name := range r.failed[:min(len(r.failed), mostFailures)] {
			fmt.Fprintf(out, "\nFAILED in %s: %s", r.name, name)
		}
		if more := len(r.failed) - mostFailures; more > 0 {
			fmt.Fprintf(out, "\nFAILED in %s: %d more", r.name, more)
		}
		fmt.Fprintln(out)
	}
	never := m.neverDriven()
	for _, line := range never {
		fmt.Fprintf(out, "SKIPPED ON EVERY KERNEL: %s\n", line)
	}
	if len(never) > 0 {
		problems = append(problems, fmt.Errorf("%d cells: %w", len(never), errNeverDriven))
	}
	return errors.Join(problems...)
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
