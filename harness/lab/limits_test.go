//go:build linux

package lab_test

import (
	"errors"
	"fmt"
	"testing"

	"twlab/harness/guest"
	"twlab/harness/internal/labtest"
	"twlab/harness/kernel"
	"twlab/harness/lab"
	"twlab/harness/node"
	"twlab/harness/topo"
)

// What the history says of values is what the running kernel does, and each kernel that there
// is to test with.
func TestLimitsAreThoseOfTheKernel(t *testing.T) {
	topology := lab.Topology{Clients: 1, NoBaseline: true, Gateway: lab.GatewaySpec{Kind: lab.Masquerade}}
	t.Run("running", func(t *testing.T) {
		keepsTheHistory(t, build(t, topology).Gateway())
	})
	for _, k := range labtest.Kernels() {
		t.Run(k.Path, func(t *testing.T) {
			privileged(t)
			host, err := machines()
			if err != nil {
				t.Fatal(err)
			}
			topology := lab.Topology{Clients: 1, NoBaseline: true}
			topology.Kinds = map[lab.Role]topo.NodeKind{lab.Balancer: guest.Kind{Host: host, Kernel: k}}
			keepsTheHistory(t, build(t, topology).Balancer())
		})
	}
}

// keepsTheHistory compares a node on which no sysctl has been set with the history.
func keepsTheHistory(t *testing.T, n node.Node) {
	t.Helper()
	release, err := n.Release(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	compared := 0
	for _, s := range kernel.Sysctls() {
		value, err := n.Sysctl(t.Context(), s.Name)
		if err != nil {
			t.Logf("Linux %v: %v", release, err)
			continue
		}
		if want, known := s.DefaultIn(release); known && value != want {
			t.Errorf("Linux %v: %s is %s by default, not %s", release, s.Name, value, want)
		}
		numbers, known := s.NumbersIn(release)
		if !known {
			continue
		}
		compared++
		for text, taken := range limitsOf(s, numbers) {
			err := n.SetSysctl(t.Context(), s.Name, text)
			if (err == nil) != taken || err != nil && !errors.Is(err, kernel.ErrSysctlValue) {
				t.Errorf("Linux %v: %s=%s: %v, want it taken: %v", release, s.Name, text, err, taken)
			}
		}
	}
	if compared == 0 {
		t.Errorf("Linux %v: no limit was compared", release)
	}
}

// limitsOf are values at the limits, and whether the kernel takes them.
func limitsOf(s kernel.Sysctl, n kernel.Numbers) map[string]bool {
	if s.Pair {
		pair := func(first, second int) string { return fmt.Sprintf("%d %d", first, second) }
		return map[string]bool{
			pair(n.Least, n.Most): true, pair(n.Least-1, n.Most): false, pair(n.Least, n.Most+1): false, pair(n.Most, n.Least): false,
		}
	}
	return map[string]bool{
		fmt.Sprint(n.Least): true, fmt.Sprint(n.Most): true, fmt.Sprint(n.Least - 1): false, fmt.Sprint(n.Most + 1): false,
	}
}
