package e2e

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"

	. "github.com/onsi/ginkgo/v2"
	gtypes "github.com/onsi/ginkgo/v2/types"

	"twlab/scenarios"
	"twlab/scenarios/claim"
	"twlab/scenarios/situation"
	"twlab/scenarios/timewait"
)

// Every process of a run has the same specs. To find out which takes half a second
// of the processor and more (the kernel's symbols, the pairs that the chosen cells
// cover, the lab in which a rule must fail), so one process does and tells the
// others. hack/e2e asks for both.
var (
	planFile = flag.String("plan", "", "go by what -plan-to has written, instead of finding out again")
	planTo   = flag.String("plan-to", "", "`directory` for plan.json, and for \"selected\": how many specs the flags select, and how many of them wait long; with a dry run")
)

// plan is which cells a run has as specs, and the kernels that say so.
type plan struct {
	Kernels claim.Kernels
	Specs   []planned
	LeftOut int // cells that take hours
}

// planned is one cell or mutation.
type planned struct {
	Family, Emulated string
	Cell             map[string]string
	Rule             string // none where no rule covers the cell
	// Of a mutation, Own the rule that holds in its l.
	Axis, To string
	Mutated  map[string]string
	Own      string
}

// planOnce is the plan, which takes a while to make.
var planOnce = sync.OnceValues(thePlan)

// thePlan reads the plan, or makes one.
func thePlan() (p plan, err error) {
	if *planFile != "" {
		text, err := os.ReadFile(*planFile)
		if err != nil {
			return p, err
		}
		return p, json.Unmarshal(text, &p)
	}
	if p.Kernels, err = runningKernels(); err != nil {
		return p, err
	}
	switch {
	case *questionsFile != "":
	case *mutations != "":
		p.mutations()
	default:
		p.cells()
	}
	if *planTo == "" {
		return p, nil
	}
	text, err := json.Marshal(p)
	return p, errors.Join(err, os.WriteFile(filepath.Join(*planTo, "plan.json"), text, 0o644))
}

// rule finds the rule of that name.
func rule(f situation.Family, name string) (r claim.Rule, found bool) {
	for i := range f.Rules { // a rule is too large to copy each
		if f.Rules[i].Name == name {
			return f.Rules[i], true
		}
	}
	return r, false
}

// specs makes the specs that are planned.
func (p plan) specs() {
	type key struct{ name, emulated string }
	families := map[key]situation.Family{}
	for _, f := range scenarios.Families() {
		families[key{f.Name, ""}] = f
	}
	for _, e := range timewait.Emulations() {
		f := e.Family()
		families[key{f.Name, f.Emulated}] = f
	}
	for _, s := range p.Specs {
		f := families[key{s.Family, s.Emulated}]
		r, covered := rule(f, s.Rule)
		cell := claim.Cell{Values: s.Cell}
		if s.Axis == "" {
			cellSpec(f, cell, r, covered)
			continue
		}
		own, found := rule(f, s.Own)
		if !covered || !found {
			AbortSuite(fmt.Sprintf("the plan has a mutation of rule %q in the cell of rule %q, and family %s lacks one of them: build the suite again", s.Rule, s.Own, s.Family))
		}
		mutationSpec(f, claim.Mutation{
			Rule: r, Cell: cell, Axis: s.Axis, To: s.To, Mutated: claim.Cell{Values: s.Mutated}, Own: own,
		})
	}
}

// The last of a dry run is to say how many specs were selected.
var _ = ReportAfterSuite("selected", func(report Report) {
	if *planTo == "" {
		return
	}
	selected, slow := 0, 0
	for _, spec := range report.SpecReports.WithLeafNodeType(gtypes.NodeTypeIt) {
		if spec.State == gtypes.SpecStateSkipped || spec.State == gtypes.SpecStatePending {
			continue
		}
		selected++
		if slices.Contains(spec.Labels(), "slow") {
			slow++
		}
	}
	noError(os.WriteFile(filepath.Join(*planTo, "selected"), fmt.Appendln(nil, selected, slow), 0o644))
})
