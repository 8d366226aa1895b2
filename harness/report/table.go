package report

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"twlab/harness/recording"
)

// Run is what the scenarios have shown on one choice of kernels.
type Run struct {
	// Kernel is what the user calls it; empty where there is only one.
	Kernel string
	// Recordings are in the order of the files.
	Recordings []recording.Recording
	// Problem is why recordings are missing; empty if none are.
	Problem string
}

// Worst is the worst conclusion of all.
func Worst(runs []Run) recording.Verdict {
	worst := recording.AsExpected
	for _, run := range runs {
		for _, r := range run.Recordings {
			worst = max(worst, r.Conclusion())
		}
		if run.Problem != "" {
			worst = max(worst, recording.CannotHere)
		}
	}
	return worst
}

// Table writes a line for each scenario.
func Table(to io.Writer, all []recording.Recording) error {
	var p page
	for _, r := range all {
		p.line("%-18s %s", r.Conclusion(), r.Scenario)
	}
	_, err := io.WriteString(to, p.String())
	return err
}

// which identifies a scenario among those of several runs.
type which struct {
	file, scenario string
	twin           bool
}

func of(r recording.Recording) which { return which{r.File.Name, r.Scenario, r.Twin} }

// find is the recording of a scenario.
func (r Run) find(w which) (recording.Recording, bool) {
	i := slices.IndexFunc(r.Recordings, func(r recording.Recording) bool { return of(r) == w })
	if i < 0 {
		return recording.Recording{}, false
	}
	return r.Recordings[i], true
}

// scenarios are those of all runs, in the order of the first that has them.
func scenarios(runs []Run) (all []which) {
	for _, run := range runs {
		for _, r := range run.Recordings {
			if !slices.Contains(all, of(r)) {
				all = append(all, of(r))
			}
		}
	}
	return all
}

// Kernels writes the conclusions of several runs, scenario by kernel, and below them of each
// scenario that differs the first thing that does.
func Kernels(to io.Writer, runs []Run) error {
	var p page
	wide := 0
	for _, s := range scenarios(runs) {
		wide = max(wide, utf8.RuneCountInString(Plain(s.scenario)))
	}
	head, differ := fmt.Sprintf("%-*s", wide, "scenario"), []string(nil)
	for _, run := range runs {
		head += fmt.Sprintf("  %-*s", column(run), run.Kernel)
	}
	p.line("%s", strings.TrimRight(head, " "))
	for _, s := range scenarios(runs) {
		row := fmt.Sprintf("%-*s", wide, Plain(s.scenario))
		for _, run := range runs {
			verdict := "-"
			if r, there := run.find(s); there {
				verdict = r.Conclusion().String()
			}
			row += fmt.Sprintf("  %-*s", column(run), verdict)
		}
		p.line("%s", strings.TrimRight(row, " "))
		if d := difference(runs, s); d != "" {
			differ = append(differ, s.scenario+": "+d)
		}
	}
	for _, run := range runs {
		if run.Problem != "" {
			p.line("%s: %s", run.Kernel, run.Problem)
		}
	}
	if len(differ) > 0 {
		p.line("")
		p.line("The first difference of each (one run on each kernel: it may be chance):")
	}
	for _, d := range differ {
		p.line("  %s", d)
	}
	_, err := io.WriteString(to, p.String())
	return err
}

// column is how wide the column of a run is.
func column(run Run) int {
	return max(utf8.RuneCountInString(Plain(run.Kernel)), len(recording.NotBroughtAbout.String()))
}

// seen is what one run says of a step.
type seen struct{ kernel, says string }

// difference is the first step of a scenario that ends differently on two kernels, with what
// each says; else the first that shows something else, although all are as expected. What is
// not as expected, and the same on all of them, is said, too.
func difference(runs []Run, s which) string {
	most := 0
	for _, run := range runs {
		r, _ := run.find(s)
		most = max(most, len(r.Steps))
	}
	for _, says := range []func(recording.Step) []string{endings, findings} {
		if d := unbuilt(runs, s); d != "" {
			return d
		}
		for i := range most {
			if d := differs(runs, s, i, says); d != "" {
				return d
			}
		}
	}
	if r, there := runs[0].find(s); there && r.Conclusion() != recording.AsExpected {
		return "none, on all of them " + Why(r)
	}
	return ""
}

// unbuilt says on which kernels there was no network.
func unbuilt(runs []Run, s which) string {
	var parts []string
	for _, run := range runs {
		if r, there := run.find(s); there && r.Unbuilt != "" {
			parts = append(parts, fmt.Sprintf("on %s: %s", run.Kernel, r.Problem()))
		}
	}
	return strings.Join(parts, "; ")
}

// differs compares one step on all kernels, line by line.
func differs(runs []Run, s which, i int, says func(recording.Step) []string) string {
	var words [][]string
	var kernels []string
	what, most := "", 0
	for _, run := range runs {
		r, there := run.find(s)
		if !there || r.Unbuilt != "" {
			continue
		}
		var lines []string
		if i < len(r.Steps) {
			what = cmp.Or(what, fmt.Sprintf("step %d, %s", i+1, r.Steps[i].What))
			lines = says(r.Steps[i])
		}
		words, kernels, most = append(words, lines), append(kernels, run.Kernel), max(most, len(lines))
	}
	for line := range most {
		var all []seen
		for k, lines := range words {
			text := "nothing"
			if line < len(lines) {
				text = lines[line]
			}
			all = append(all, seen{kernels[k], text})
		}
		if slices.ContainsFunc(all, func(one seen) bool { return one.says != all[0].says }) {
			return what + ": " + listed(all)
		}
	}
	return ""
}

// endings are what made a step end as it did, without what was as expected.
func endings(s recording.Step) (lines []string) {
	switch {
	case s.Skipped != "":
		return []string{"left out"}
	case s.Problem != "":
		return []string{s.Problem}
	}
	for _, f := range s.Findings {
		if !f.Met {
			lines = append(lines, fmt.Sprintf("%s %s instead of %s", f.What, f.Seen, f.Wanted))
		}
	}
	return append(lines, "as expected")[:1]
}

// findings are all that was seen.
func findings(s recording.Step) (lines []string) {
	for _, f := range s.Findings {
		lines = append(lines, f.What+" "+f.Seen)
	}
	return lines
}

// listed joins what kernels say: those that say the same are named together.
func listed(all []seen) string {
	var order []string
	by := map[string][]string{}
	for _, s := range all {
		if by[s.says] == nil {
			order = append(order, s.says)
		}
		by[s.says] = append(by[s.says], s.kernel)
	}
	for i, says := range order {
		order[i] = says + " on " + strings.Join(by[says], ", ")
	}
	return strings.Join(order, "; ")
}
