package claim

import (
	"fmt"
	"maps"
	"slices"

	"twlab/harness/kernel"
	"twlab/harness/topo"
)

// Kernels is what is known of the kernel of each role.
type Kernels map[topo.Role]kernel.Facts

// Alike gives every role the same kernel.
func Alike(facts kernel.Facts) Kernels {
	return Kernels{topo.Client: facts, topo.Gateway: facts, topo.Balancer: facts, topo.Server: facts}
}

// Disagreements has a line for each feature about which a probe and the release disagree
// ([kernel.Facts.Disagreements]).
func (k Kernels) Disagreements() (lines []string) {
	for _, role := range slices.Sorted(maps.Keys(k)) {
		for _, line := range k[role].Disagreements() {
			if !slices.Contains(lines, line) {
				lines = append(lines, line)
			}
		}
	}
	return lines
}

// Condition is something that the kernel of one role has or lacks.
type Condition struct {
	Role    topo.Role
	Feature kernel.Feature
	Lacks   bool
}

// Has is the condition that the role's kernel has the feature.
func Has(role topo.Role, f kernel.Feature) Condition { return Condition{Role: role, Feature: f} }

// Lacks is the condition that the role's kernel does not have the feature.
func Lacks(role topo.Role, f kernel.Feature) Condition {
	return Condition{Role: role, Feature: f, Lacks: true}
}

// Holds tells whether the condition is known to be true.
func (q Condition) Holds(k Kernels) bool {
	want := kernel.Yes
	if q.Lacks {
		want = kernel.No
	}
	return k[q.Role].Features[q.Feature] == want
}

// String is a text such as "client has prompt-syn".
func (q Condition) String() string {
	verb := "has"
	if q.Lacks {
		verb = "lacks"
	}
	return fmt.Sprintf("%s %s %s", q.Role, verb, q.Feature)
}

// Newest is the newest known kernel for all roles. The numbers of cells in RULES.md are
// for this kernel.
func Newest() Kernels {
	return Alike(kernel.FactsOf(kernel.KnownReleases()[len(kernel.KnownReleases())-1]))
}
