package claim_test

import (
	"fmt"

	"twlab/harness/kernel"
	"twlab/harness/topo"
	"twlab/scenarios/claim"
)

// A family is axes and rules. Whoever brings a cell about notes what was seen, and the
// rule says whether that is right.
func Example() {
	reuse := claim.Family{
		Name: "reuse",
		Axes: []claim.Axis{{Name: "tw-reuse", Values: []string{"0", "1"}, Product: true}},
		Rules: []claim.Rule{
			{
				Name: "reuse-off", Cells: claim.Cells{{"tw-reuse": {"0"}}},
				Want:    []claim.Expectation{claim.Is("outcome", "NoPort"), claim.Stays(topo.Client, kernel.TimeWaitsReused.Name)},
				Because: "a port in TIME_WAIT is not given again", Source: "tcp_twsk_unique",
			},
			{
				Name: "reuse-on", Cells: claim.Cells{{}},
				Want:    []claim.Expectation{claim.Is("outcome", "Connected"), claim.Rises(topo.Client, kernel.TimeWaitsReused.Name)},
				Because: "connect takes over the port of a TIME_WAIT", Source: "tcp_twsk_unique",
			},
		},
	}
	kernels := claim.Alike(kernel.FactsOf(kernel.Mainline(6, 12)))
	for _, cell := range reuse.Chosen(kernels) {
		rule, _ := reuse.Rule(cell, kernels)
		var seen claim.Seen // as a driver notes it: here the same in both cells
		seen.Note("outcome", "NoPort")
		seen.Moved = map[topo.Role]kernel.Counters{topo.Client: {kernel.TimeWaitsReused.Name: 0}}
		result := claim.Judge(reuse, cell, rule, seen)
		fmt.Printf("%s is as %s says: %v\n", reuse.Describe(cell), result.Rule, result.Agrees())
	}
	// Output:
	// tw-reuse=0 is as reuse-off says: true
	// tw-reuse=1 is as reuse-on says: false
}
