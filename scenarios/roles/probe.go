package roles

import (
	"context"
	"fmt"

	"twlab/harness/kernel"
	"twlab/harness/node"
	"twlab/scenarios/situation"
)

// Probe finds out about the kernel of a node. It needs no privileges there.
func Probe(ctx context.Context, n node.Node) (kernel.Facts, error) {
	release, err := n.Release(ctx)
	if err != nil {
		return kernel.Facts{}, fmt.Errorf("probe: %w", err)
	}
	facts := kernel.FactsOf(release)
	for _, f := range kernel.Features() {
		var fact kernel.Fact
		var err error
		switch {
		case f.Sysctl != "":
			fact, err = situation.HasSysctl(ctx, n, f.Sysctl)
		case f.Counter != "":
			fact, err = hasCounter(ctx, n, f.Counter)
		case f.Symbol != "":
			fact, err = n.HasSymbol(ctx, f.Symbol)
		}
		if err != nil {
			return kernel.Facts{}, fmt.Errorf("probe %s: %w", f.Feature, err)
		}
		if fact != kernel.Unknown {
			facts.Features[f.Feature] = fact
		}
	}
	return facts, nil
}

func hasCounter(ctx context.Context, n node.Node, name string) (kernel.Fact, error) {
	counters, err := n.Counters(ctx)
	if err != nil {
		return kernel.Unknown, err
	}
	if _, counted := counters[name]; !counted {
		return kernel.No, nil
	}
	return kernel.Yes, nil
}
