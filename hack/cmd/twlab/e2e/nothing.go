package e2e

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"twlab/harness/kernel"
	"twlab/harness/nearest"
	"twlab/scenarios"
	"twlab/scenarios/claim"
)

// labelWithValue is what a label of a family, a rule or an axis looks like in a filter.
var labelWithValue = regexp.MustCompile(`([a-z0-9-]+):\s*([A-Za-z0-9._-]+)`)

// ofScenarios are the labels with a value of specs that play scenario files, and not cells.
var ofScenarios = []string{"file", "shown"}

// nothingSelected is the error of filters that no spec passes. It names the labels that no
// spec has, and what is near them.
func (r Request) nothingSelected() error {
	var by, unknown []string
	if r.LabelFilter != "" {
		by = append(by, fmt.Sprintf("--label-filter %q", r.LabelFilter))
	}
	for _, word := range r.ginkgo {
		if value, found := strings.CutPrefix(word, "--focus="); found {
			by = append(by, fmt.Sprintf("--focus %q", value))
		}
	}
	var known []string
	for _, f := range scenarios.Families() {
		known = append(known, f.AllLabels()...)
	}
	running := claim.Newest()
	if release, err := kernel.Running(); err == nil {
		running = claim.Alike(kernel.FactsOf(release))
	}
	for _, found := range labelWithValue.FindAllStringSubmatch(r.LabelFilter, -1) {
		label := found[1] + ":" + found[2]
		if slices.Contains(ofScenarios, found[1]) {
			continue
		}
		if !slices.Contains(known, label) {
			unknown = append(unknown, fmt.Sprintf("no spec has the label %s%s", label, nearest.Hint(label, known)))
		} else if on, others := scenarios.OnOthers(found[2], running); found[1] == "rule" && others {
			unknown = append(unknown, fmt.Sprintf("rule %s is of other kernels, such as Linux %v (--kernel ROLE=KERNEL)", found[2], on))
		}
	}
	what := "no spec is selected"
	if len(by) > 0 {
		what += " by " + strings.Join(by, " and ")
	}
	if len(unknown) > 0 {
		return fmt.Errorf("%s: %s", what, strings.Join(unknown, "; "))
	}
	return fmt.Errorf("%s; hack/e2e --dry-run -v shows all, with their labels", what)
}
