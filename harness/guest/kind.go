//go:build linux

package guest

import (
	"context"
	"errors"

	"twlab/harness/kernel"
	"twlab/harness/lab"
	"twlab/harness/topo"
)

// Kind makes the nodes of a role guests: see topo.Topology.Kinds.
type Kind struct {
	Host
	Kernel kernel.Image
	// Conntrack is how these guests track connections; the zero value is not at all.
	Conntrack Conntrack
}

var (
	_ lab.Maker    = Kind{}
	_ topo.Tracker = Kind{}
)

// Validate returns what is missing.
func (k Kind) Validate() error {
	var errs []error
	if k.Kernel.Path == "" {
		errs = append(errs, errors.New("no kernel image; leave the role out for the running kernel"))
	}
	if k.Agent == "" {
		errs = append(errs, errors.New("no guest agent: build hack/cmd/agent and give its path in Host.Agent"))
	}
	errs = append(errs, k.Conntrack.validate())
	return errors.Join(errs...)
}

// MostLinks returns the maximum number of network cards of a guest.
func (k Kind) MostLinks() int { return MostCards }

// Tracking returns the kind with Conntrack.Always.
func (k Kind) Tracking() topo.NodeKind {
	k.Conntrack.Always = true
	return k
}

// Prepare checks that there is memory for all guests of the lab together: guests that boot
// at the same time would each find enough for one. It also selects the accelerator.
func (k Kind) Prepare(ctx context.Context, all []topo.NodeKind) (lab.Maker, error) {
	guests := 0
	for _, other := range all {
		if _, guest := other.(Kind); guest {
			guests++
		}
	}
	if err := k.EnoughMemory(guests); err != nil {
		return nil, err
	}
	if k.Accelerator == Automatic {
		var err error
		if k.Accelerator, err = Accelerate(ctx, k.Kernel); err != nil {
			return nil, err
		}
	}
	return k, nil
}

// Make boots a guest.
func (k Kind) Make(ctx context.Context, b lab.Blueprint) (lab.Made, error) {
	m, err := Boot(ctx, Config{
		Host: k.Host, Node: b.Node, Kernel: k.Kernel, Conntrack: k.Conntrack, Cards: b.Cards, Own: b.Own, Routes: b.Routes,
		Modules: b.Modules,
	})
	if err != nil {
		return nil, err
	}
	return m, nil
}
