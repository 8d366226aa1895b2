package roles

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"

	"twlab/harness/guest"
	"twlab/harness/kernel"
	"twlab/harness/lab"
	"twlab/harness/topo"
	"twlab/scenarios/claim"
)

// Assignment says which roles are guests, with which kernels, and what these kernels can do.
// It is plain data: one process writes it, and others read it.
type Assignment struct {
	Machines guest.Host
	Kernels  map[lab.Role]kernel.Image
	Facts    map[lab.Role]kernel.Facts
}

// ProbeKernels boots each kernel once, in a guest of its own, and probes its features.
func ProbeKernels(ctx context.Context, machines guest.Host, kernels map[lab.Role]kernel.Image) (Assignment, error) {
	a := Assignment{Machines: machines, Kernels: kernels, Facts: map[lab.Role]kernel.Facts{}}
	known := map[kernel.Image]kernel.Facts{}
	for role, k := range kernels {
		if a.Machines.Accelerator == guest.Automatic {
			var err error
			if a.Machines.Accelerator, err = guest.Accelerate(ctx, k); err != nil {
				return a, fmt.Errorf("%s: %w", role, err)
			}
		}
		if _, done := known[k]; !done {
			facts, err := probeKernel(ctx, a.Machines, k)
			if err != nil {
				return a, fmt.Errorf("%s: %w", role, err)
			}
			known[k] = facts
		}
		a.Facts[role] = known[k]
	}
	return a, nil
}

func probeKernel(ctx context.Context, machines guest.Host, k kernel.Image) (kernel.Facts, error) {
	m, err := guest.Boot(ctx, guest.Config{
		Host: machines, Kernel: k,
		Node: topo.Identity{Name: "probed", Addr: netip.AddrFrom4([4]byte{10, 0, 0, 1})},
	})
	if err != nil {
		return kernel.Facts{}, err
	}
	facts, err := Probe(ctx, m)
	if err == nil {
		err = tryFeatures(ctx, facts, m)
	}
	return facts.AsGuests(), errors.Join(err, m.Close())
}

// ReadAssignment reads an assignment from a JSON file.
func ReadAssignment(path string) (a Assignment, err error) {
	text, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(text, &a)
	}
	if err != nil {
		return a, fmt.Errorf("kernels of roles: %w", err)
	}
	return a, nil
}

// On gives the roles in the topology their kernels.
func (a Assignment) On(t lab.Topology) lab.Topology {
	for role, k := range a.Kernels {
		if role == lab.Gateway && t.Gateway.Kind == lab.NoGateway || role == lab.Server && t.Servers == 0 {
			continue
		}
		if t.Kinds == nil {
			t.Kinds = map[lab.Role]topo.NodeKind{}
		}
		t.Kinds[role] = guest.Kind{Host: a.Machines, Kernel: k}
	}
	return t
}

// Lines has a line for each role that does not run on this machine's own kernel: "kernel of
// the client: Linux 5.10.0-32-cloud-amd64 (/path/to/vmlinuz)".
func (a Assignment) Lines() (lines []string) {
	for _, role := range slices.Sorted(maps.Keys(a.Kernels)) {
		lines = append(lines, fmt.Sprintf("kernel of the %s: Linux %v (%s)", role, a.Facts[role].Release, a.Kernels[role].Path))
	}
	return lines
}

// Known is what is known of every role's kernel. Roles without their own kernel run on the
// kernel that running describes.
func (a Assignment) Known(running kernel.Facts) claim.Kernels {
	all := claim.Alike(running)
	for role, facts := range a.Facts {
		all[role] = facts
	}
	return all
}
