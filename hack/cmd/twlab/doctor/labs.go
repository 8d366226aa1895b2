package doctor

import (
	"context"
	"fmt"

	"twlab/harness/haproxy"
	"twlab/harness/topo"

	"twlab/harness/kernel"
	"twlab/harness/lab"
	"twlab/harness/node"
	"twlab/harness/recycle"
	"twlab/scenarios"
	"twlab/scenarios/claim"
	"twlab/scenarios/roles"
	"twlab/scenarios/timewait"
)

// labs tries what labs and their evidence need.
func labs(ctx context.Context) []finding {
	release, err := kernel.Running()
	if err != nil {
		return []finding{{State: missing, Thing: "kernel", Detail: err.Error(), Cost: "nothing can be run"}}
	}
	found := []finding{{State: ok, Thing: "kernel", Detail: "Linux " + release.String()}}
	costs, err := costs(ctx)
	if err != nil {
		found = append(found, finding{State: absent, Thing: "features", Detail: err.Error(), Cost: "cells go by the kernel's release alone"})
	}
	for _, f := range kernel.Examine(ctx, append(lab.Requirements(), haproxy.Requirement(), recycle.Requirement())) {
		found = append(found, of(f, costs))
	}
	return found
}

// of is a requirement's finding, for people.
func of(f kernel.Finding, costs map[string]string) finding {
	is := finding{State: ok, Thing: f.Requirement.Name, Detail: f.Detail}
	if f.Fact == kernel.Yes {
		return is
	}
	if is.State, is.Cost = missing, "nothing can be run"; f.Requirement.Optional {
		is.State, is.Cost = absent, costs[f.Requirement.Name]
	}
	if f.Fact == kernel.Unknown {
		is.Detail = "could not be told: " + f.Detail
	}
	is.Mend = f.Requirement.Hint
	return is
}

// costs are the cells of an ordinary run on this kernel that go with a requirement.
func costs(ctx context.Context) (map[string]string, error) {
	here := node.NewLocal(topo.Identity{Name: "this machine"}, func(f func() error) error { return f() })
	defer here.Close()
	facts, err := roles.Probe(ctx, here)
	if err != nil {
		return nil, fmt.Errorf("what this kernel can do is not known: %w", err)
	}
	kernels := claim.Alike(facts)
	all, proxied, translated := 0, 0, 0
	for _, f := range scenarios.Families() {
		for _, c := range f.Chosen(kernels) {
			if f.NeedsVirtualTime(c) {
				continue
			}
			all++
			switch b := f.Topology(c).Balancer; {
			case b.Program != nil:
				proxied++
			case b.Kind == topo.DNAT:
				translated++
			}
		}
	}
	emulated := 0
	for _, e := range timewait.Emulations() {
		if e.Needed(kernels) {
			emulated += len(e.Chosen(kernels, false))
		}
	}
	fail := func(n int) string { return fmt.Sprintf("%d of %d cells fail, and the specs like them", n, all) }
	return map[string]string{
		haproxy.Requirement().Name:                    fail(proxied),
		"iptables DNAT to a share of the connections": fail(translated),
		recycle.Requirement().Name:                    fmt.Sprintf("%d emulated cells are skipped", emulated),
	}, nil
}
