package e2e

import (
	"context"
	"errors"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/gcustom"
	"github.com/onsi/gomega/types"

	"twlab/harness/node"
	"twlab/scenarios"
)

// Every combination is a spec of its own. An ordinary run has the chosen cells of
// each family; a label filter that names "full" brings in all the others.
var _ = Describe("Cell", func() {
	kernels, err := runningKernels()
	for _, f := range scenarios.Families() {
		for _, c := range f.Chosen() {
			cellSpec(f, c, kernels)
		}
		if strings.Contains(GinkgoLabelFilter(), "full") {
			for _, c := range f.All() {
				cellSpec(f, c, kernels, "full")
			}
		}
	}
	BeforeEach(func() { Expect(err).NotTo(HaveOccurred()) })
})

// runningKernels finds out about the kernel that all roles run on. Where it
// cannot be asked, for want of privileges, the preflight says so.
func runningKernels() (scenarios.Kernels, error) {
	here := node.NewLocal(node.Identity{Name: "this machine"}, func(f func() error) error { return f() })
	facts, err := scenarios.Probe(context.Background(), here)
	return scenarios.Alike(facts), errors.Join(err, here.Close())
}

// cellSpec makes the spec of one cell.
func cellSpec(f scenarios.Family, c scenarios.Cell, kernels scenarios.Kernels, labels ...string) {
	rule, covered := f.Rule(c, kernels)
	labels = append(labels, "family:"+f.Name, "rule:"+rule.Name)
	for _, a := range f.Axes {
		labels = append(labels, a.Name+":"+c.Value(a.Name))
	}
	for _, k := range rule.Kernels {
		if !k.Lacks {
			labels = append(labels, "needs:"+string(k.Feature))
		}
	}
	if f.IsSlow(c) {
		labels = append(labels, "slow")
	}
	It(f.Name+" "+f.Describe(c)+" is "+rule.Name, Label(labels...), func(ctx SpecContext) {
		Expect(covered).To(BeTrue(), "no rule for this cell on this kernel")
		result := drive(ctx, f, c, rule)
		AddReportEntry("cell", result, ReportEntryVisibilityNever)
		Expect(result).To(agree())
	})
}

// drive brings a cell about in a lab of its own and judges what is seen.
func drive(ctx SpecContext, f scenarios.Family, c scenarios.Cell, rule scenarios.Rule) scenarios.Result {
	GinkgoHelper()
	budget := patience
	if f.IsSlow(c) {
		budget += 3 * time.Minute
	}
	world := up(ctx, f.Lab(c))
	within, cancel := context.WithTimeout(ctx, budget)
	defer cancel()
	seen, err := f.Drive(within, c, world.Lab)
	Expect(err).NotTo(HaveOccurred(), "the situation did not come about; this says nothing about the kernel")
	return scenarios.Judge(f, c, rule, seen)
}

// agree matches a result in which everything is as the rule says.
func agree() types.GomegaMatcher {
	return gcustom.MakeMatcher(func(r scenarios.Result) (bool, error) { return r.Agrees(), nil }).
		WithTemplate("What was seen is {{if .To}}not {{end}}what the rule says:\n{{.Actual}}")
}
