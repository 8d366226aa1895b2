package e2e

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"twlab/harness/kernels"
	"twlab/harness/lab"
	"twlab/harness/microvm"
	"twlab/scenarios"
)

// What hack/e2e --kernel asks for.
var kernelsOfRoles = flag.String("kernel", "", "kernels of roles, such as \"balancer=debian-6.1 client=/boot/vmlinuz,/lib/modules/6.1\"")

// roles are the names that -kernel knows; lb is short for balancer.
var roles = map[string]lab.Role{"client": lab.Client, "balancer": lab.Balancer, "lb": lab.Balancer, "server": lab.Server}

// roleKernels reads -kernel: for each role that has one, a kernel of its own.
func roleKernels() (map[lab.Role]microvm.Kernel, error) {
	own := map[lab.Role]microvm.Kernel{}
	for _, assignment := range strings.Fields(*kernelsOfRoles) {
		name, which, _ := strings.Cut(assignment, "=")
		role, known := roles[name]
		if !known || which == "" {
			return nil, fmt.Errorf("-kernel %s: want client, lb or server, \"=\", and the name or path of a kernel", assignment)
		}
		if _, twice := own[role]; twice {
			return nil, fmt.Errorf("-kernel %s: the %s has a kernel already", assignment, role)
		}
		k, err := findKernel(which)
		if err != nil {
			return nil, fmt.Errorf("-kernel %s: %w", assignment, err)
		}
		own[role] = k
	}
	return own, nil
}

// findKernel takes IMAGE or IMAGE,MODULES for paths, and anything without a slash
// for a name of the catalogue.
func findKernel(which string) (microvm.Kernel, error) {
	if strings.Contains(which, "/") {
		image, modules, _ := strings.Cut(which, ",")
		return microvm.Kernel{Image: image, Modules: modules}, nil
	}
	dir, err := kernels.DefaultCache()
	if err != nil {
		return microvm.Kernel{}, err
	}
	k, err := dir.Find(which)
	return microvm.Kernel{Image: k.Image, Modules: k.Modules}, err
}

// withKernels gives the roles of a topology the kernels that -kernel asks for.
func withKernels(t lab.Topology) lab.Topology {
	GinkgoHelper()
	own, err := roleKernels()
	Expect(err).NotTo(HaveOccurred())
	if len(own) == 0 {
		return t
	}
	t.Kernels = map[lab.Role]microvm.Kernel{}
	for role, k := range own {
		if role != lab.Server || t.Servers > 0 {
			t.Kernels[role] = k
		}
	}
	t.Machines.Agent = os.Getenv("TWLAB_AGENT")
	return t
}

// expectedKernels is what the releases of the images tell, before anything is
// booted: it decides which specs there are.
func expectedKernels() (scenarios.Kernels, error) {
	known, err := runningKernels()
	if err != nil {
		return known, err
	}
	own, err := roleKernels()
	if err != nil {
		return known, err
	}
	for role, k := range own {
		release, err := k.Release()
		if err != nil {
			return known, fmt.Errorf("kernel of the %s: %w", role, err)
		}
		known[role] = scenarios.FactsOf(release)
	}
	return known, nil
}

// kernels is what the nodes of the lab themselves tell.
func (w world) kernels(ctx context.Context, expected scenarios.Kernels) scenarios.Kernels {
	GinkgoHelper()
	known := scenarios.Kernels{}
	for role, facts := range expected {
		known[role] = facts
		if _, own := w.Topology().Kernels[role]; own {
			var err error
			known[role], err = scenarios.Probe(ctx, w.Nodes(role)[0])
			Expect(err).NotTo(HaveOccurred())
		}
	}
	return known
}
