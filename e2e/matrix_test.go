package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	gtypes "github.com/onsi/ginkgo/v2/types"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/gcustom"
	"github.com/onsi/gomega/types"

	"twlab/harness/kernel"
	"twlab/harness/lab"
	"twlab/harness/node"
	"twlab/harness/recycle"
	"twlab/harness/topo"
	"twlab/scenarios"
	"twlab/scenarios/claim"
	"twlab/scenarios/roles"
	"twlab/scenarios/situation"
	"twlab/scenarios/timewait"
)

// What hack/e2e --cell and --kernel and hack/twlab mutate ask for, after the "--" of Ginkgo's flags.
var (
	questionsFile = flag.String("cell", "", "YAML file with cells of your own; their specs have the label \"yours\"")
	kernelsFile   = flag.String("kernels", "", "what twlab probe has written of the roles that are guests")
	virtual       = flag.Bool("virtual-time", false, "idle time passes at once here, so that cells with the label \"virtual-time\" can be waited for")
	mutations     = flag.String("mutate", "", "\"all\" rules in labs in which they must fail, or a \"sample\"; label \"mutation\"")
)

// leftOut is how many cells an ordinary run leaves out because they take hours.
var leftOut int

// wantsVirtualTime tells whether the run is for the cells that take hours and days.
func wantsVirtualTime() bool { return strings.Contains(GinkgoLabelFilter(), "virtual-time") }

// Every combination is a spec of its own. An ordinary run has the chosen cells of
// each family; a label filter that names "full" brings in all the others, one that
// names "virtual-time" those that take hours.
var _ = Describe("Cell", func() {
	p, err := planOnce()
	BeforeEach(func() { noError(err, "what this kernel can do is not known") })
	leftOut = p.LeftOut
	if *questionsFile != "" {
		for _, q := range questions() {
			questionSpec(q, p.Kernels)
		}
	}
	p.specs()
})

// wantsAll tells whether the run is for every possible cell.
func wantsAll() bool { return strings.Contains(GinkgoLabelFilter(), "full") }

// cells plans the chosen cells, or all that the label filter selects: each process of a run
// keeps its own report of every spec, and all cells would take a gigabyte in each.
func (p *plan) cells() {
	selects := gtypes.LabelFilter(func([]string) bool { return true })
	if parsed, err := gtypes.ParseLabelFilter(GinkgoLabelFilter()); err == nil && wantsAll() { // Ginkgo says what is wrong with it
		selects = parsed
	}
	add := func(f situation.Family, c claim.Cell, kernels claim.Kernels) {
		rule, _ := f.Rule(c, kernels)
		if !selects(cellLabels(f, c, rule)) {
			return
		}
		p.Specs = append(p.Specs, planned{Family: f.Name, Emulated: f.Emulated, Cell: c.Values, Rule: rule.Name})
	}
	for _, f := range scenarios.Families() {
		cells := f.All()
		if !wantsAll() {
			cells = f.Chosen(p.Kernels)
		}
		for _, c := range cells {
			if f.NeedsVirtualTime(c) && !wantsVirtualTime() {
				p.LeftOut++
				continue
			}
			add(f, c, p.Kernels)
		}
	}
	for _, e := range timewait.Emulations() {
		if !canEmulate(e, p.Kernels) {
			continue
		}
		for _, c := range e.Chosen(p.Kernels, wantsAll()) {
			add(e.Family(), c, e.Kernels(p.Kernels))
		}
	}
}

// mutations plans the mutations that -mutate asks for.
func (p *plan) mutations() {
	add := func(f situation.Family, m claim.Mutation) {
		p.Specs = append(p.Specs, planned{
			Family: f.Name, Emulated: f.Emulated, Cell: m.Cell.Values, Rule: m.Rule.Name,
			Axis: m.Axis, To: m.To, Mutated: m.Mutated.Values, Own: m.Own.Name,
		})
	}
	for _, f := range scenarios.Families() {
		for _, m := range chosenMutations(f, p.Kernels) {
			if !f.NeedsVirtualTime(m.Mutated) {
				add(f, m)
			}
		}
	}
	// The first emulation has a cell for every rule that the others go by.
	if e := timewait.Emulations()[0]; canEmulate(e, p.Kernels) {
		f := e.Family()
		for _, m := range chosenMutations(f, e.Kernels(p.Kernels)) {
			add(f, m)
		}
	}
}

// canEmulate tells whether the emulation has something to stand in for, on nodes
// where it can be.
func canEmulate(e timewait.Emulation, kernels claim.Kernels) bool {
	return *kernelsFile == "" && e.Needed(kernels)
}

// emulates says whether this machine lets tcp_tw_recycle be emulated, and what is
// missing.
var emulates = sync.OnceValue(func() kernel.Finding {
	return kernel.Examine(context.Background(), []kernel.Requirement{recycle.Requirement()})[0]
})

// skipUnlessEmulated skips a spec of an emulated family where there can be no
// emulation.
func skipUnlessEmulated(f situation.Family) {
	GinkgoHelper()
	if f.Emulated != "" && emulates().Fact != kernel.Yes {
		Skip(emulates().String())
	}
}

// kind is the label and the report entry of a family's cells.
func kind(f situation.Family) string {
	if f.Emulated != "" {
		return emulatedEntry
	}
	return cellEntry
}

// title is a family and a cell, and whether that is emulated.
func title(f situation.Family, c claim.Cell) string {
	text := f.Name + " " + f.Describe(c)
	if f.Emulated != "" {
		text = "emulated (" + f.Emulated + "): " + text
	}
	return text
}

// runningKernels finds out about the kernels that the roles run on.
func runningKernels() (claim.Kernels, error) {
	here := node.NewLocal(topo.Identity{Name: "this machine"}, func(f func() error) error { return f() })
	facts, err := roles.Probe(context.Background(), here)
	assigned, unreadable := otherKernels()
	return assigned.Known(facts), errors.Join(err, here.Close(), unreadable)
}

// otherKernels says which roles do not run on the running kernel.
func otherKernels() (roles.Assignment, error) {
	if *kernelsFile == "" {
		return roles.Assignment{}, nil
	}
	return roles.ReadAssignment(*kernelsFile)
}

// cellLabels are the labels of the spec of a cell.
func cellLabels(f situation.Family, c claim.Cell, rule claim.Rule) Labels {
	labels := append(Labels{kind(f)}, f.Labels(c, rule)...)
	if wantsAll() {
		labels = append(labels, "full")
	}
	return withSlow(f, c, labels)
}

// cellSpec makes the spec of one cell.
func cellSpec(f situation.Family, c claim.Cell, rule claim.Rule, covered bool) {
	It(title(f, c)+" is "+rule.Name, cellLabels(f, c, rule), priority(f, c), func(ctx SpecContext) {
		skipUnlessEmulated(f)
		if rule.OutOfReach {
			Skip("not with these kernels: " + rule.Because)
		}
		Expect(covered).To(BeTrue(), "no rule for this cell on this kernel")
		Expect(f.NeedsVirtualTime(c) && !*virtual).To(BeFalse(), "this cell takes hours or days: run it by hack/e2e --kernel all=NAME --virtual-time --label-filter virtual-time")
		seen, _ := drive(ctx, f, c)
		result := claim.Judge(f.Family, c, rule, seen)
		AddReportEntry(kind(f), result, ReportEntryVisibilityNever)
		Expect(result).To(agree())
	})
}

// mutationSpec makes the spec in which a rule must fail.
func mutationSpec(f situation.Family, m claim.Mutation) {
	labels := []string{"mutation", "family:" + f.Name, "rule:" + m.Rule.Name}
	name := m.Rule.Name
	if f.Emulated != "" {
		labels = append(labels, emulatedEntry)
		name += " (emulated)"
	}
	It(fmt.Sprintf("%s does not survive %s=%s in %s", name, m.Axis, m.To, f.Describe(m.Cell)), withSlow(f, m.Mutated, labels), priority(f, m.Mutated), func(ctx SpecContext) {
		skipUnlessEmulated(f)
		seen, _ := drive(ctx, f, m.Mutated)
		trial := m.Judge(f.Family, seen)
		AddReportEntry(mutationEntry, trial, ReportEntryVisibilityNever)
		Expect(trial).To(beCaught())
	})
}

// chosenMutations lists the mutations of a family that -mutate asks for.
func chosenMutations(f situation.Family, kernels claim.Kernels) []claim.Mutation {
	switch *mutations {
	case "all":
		return f.Mutations(kernels)
	case "sample":
		return claim.Sample(f.Family, f.Mutations(kernels))
	default:
		Fail(fmt.Sprintf("-mutate=%s: want all or sample", *mutations))
		return nil
	}
}

// questionSpec makes the spec of a cell that a user asks for. Where no rule
// covers the cell, whatever is seen is an answer.
func questionSpec(q scenarios.Question, kernels claim.Kernels) {
	It(q.Name+": "+q.Title(), withSlow(q.Family, q.Cell, Labels{"yours"}), priority(q.Family, q.Cell), func(ctx SpecContext) {
		answered := scenarios.Answered{Number: q.Number, Name: q.Name, Title: q.Title()}
		AddReportEntry(questionEntry, answered, ReportEntryVisibilityNever) // there is no answer yet
		rule, covered, reservation := q.Rule(kernels)
		if rule.OutOfReach {
			Fail("this cell cannot be on these kernels: " + rule.Because)
		}
		seen, l := drive(ctx, q.Family, q.Cell)
		result := claim.Judge(q.Family.Family, q.Cell, rule, seen)
		answer := "as the rule says"
		switch lost := l.overwritten(ctx, q.Cell.Extra); {
		case len(lost) > 0:
			Fail("the situation needs other values of its own: " + strings.Join(lost, "; ") + ". Leave them out, or choose another family.")
		case !covered:
			answer = "no claim covers this: " + reservation
		case !result.Agrees():
			answer = "NOT as the rule says"
		}
		answered.Covered, answered.Result = covered, &result
		AddReportEntry(questionEntry, answered, ReportEntryVisibilityNever)
		if !covered {
			AddReportEntry(q.Name+": "+answer, "\n"+result.Unclaimed())
		} else {
			AddReportEntry(q.Name+": "+answer, "\n"+result.String())
			Expect(result).To(agree())
		}
	})
}

// questions reads the file that -cell names. hack/e2e has checked it before.
func questions() []scenarios.Question {
	file, err := os.Open(*questionsFile)
	if err != nil {
		Fail(err.Error())
	}
	defer file.Close()
	all, err := scenarios.ReadQuestions(file)
	if err != nil {
		Fail(fmt.Sprintf("%s: %v", *questionsFile, err))
	}
	return all
}

func withSlow(f situation.Family, c claim.Cell, labels Labels) Labels {
	if f.NeedsVirtualTime(c) {
		labels = append(labels, "virtual-time")
	}
	if f.IsSlow(c) {
		labels = append(labels, "slow")
	}
	return labels
}

// priority lets specs that wait long begin first: the others run meanwhile, and
// nobody waits for the last alone.
func priority(f situation.Family, c claim.Cell) SpecPriority {
	return SpecPriority(f.Wait(c) / time.Second)
}

// drive brings a cell about in a lab of its own.
func drive(ctx SpecContext, f situation.Family, c claim.Cell) (claim.Seen, specLab) {
	GinkgoHelper()
	budget := timeout
	if f.IsSlow(c) {
		budget += 3 * time.Minute
	}
	if f.NeedsVirtualTime(c) {
		budget += 100 * 24 * time.Hour
	}
	w := up(ctx, f.Lab(c))
	within, cancel := context.WithTimeout(ctx, budget)
	defer cancel()
	seen, err := f.Try(within, c, w.Lab)
	noError(err, noSituation)
	w.keepPackets(title(f, c))
	if len(seen.Series) > 0 {
		keepSeries(f.Name+" "+f.Describe(c), seen.Series)
	}
	return seen, w
}

// overwritten lists the sysctls that are no longer as they were set, because the
// situation is made by setting them otherwise.
func (l specLab) overwritten(ctx context.Context, wanted lab.Settings) (lost []string) {
	GinkgoHelper()
	for _, s := range wanted {
		for _, n := range l.Nodes(s.Role) {
			got, err := n.Sysctl(ctx, s.Name)
			noError(err)
			if got != strings.Join(strings.Fields(s.Value), " ") {
				lost = append(lost, fmt.Sprintf("%s=%s on %s, not %s", s.Name, got, n.Identity().Name, s.Value))
			}
		}
	}
	return lost
}

// agree matches a result in which everything is as the rule says.
func agree() types.GomegaMatcher {
	return gcustom.MakeMatcher(func(r claim.Result) (bool, error) { return r.Agrees(), nil }).
		WithTemplate("Expected what is seen {{.To}} be what the rule says:\n{{.Actual}}")
}

// beCaught matches a mutation by which the rule failed as the other rule predicts.
func beCaught() types.GomegaMatcher {
	return gcustom.MakeMatcher(func(t claim.Trial) (bool, error) { return t.Catch == claim.Caught, nil }).
		WithTemplate("Expected the mutation {{.To}} be caught:\n{{.Actual}}")
}
