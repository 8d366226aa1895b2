//go:build linux

package lab_test

import (
	"errors"
	"testing"

	"twlab/harness/kernel"
	"twlab/harness/lab"
	"twlab/harness/ns"
	"twlab/harness/topo"
)

// Without the baseline a node is like any new namespace, with it like the
// baseline, in everything that the baseline names.
func TestNoBaselineLeavesTheKernelsOwnDefaults(t *testing.T) {
	untouched := get(t, build(t, lab.Topology{Clients: 1, NoBaseline: true}), "client0")
	written := get(t, build(t, lab.Topology{Clients: 1}), "client0")
	fresh, err := ns.New()
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := fresh.Close(); err != nil {
			t.Error(err)
		}
	}()
	different := 0
	for _, s := range topo.Baseline {
		var own string
		err := fresh.Do(func() (err error) {
			own, err = kernel.ReadSysctl(s.Name)
			return err
		})
		if errors.Is(err, kernel.ErrSysctlNotYet) || errors.Is(err, kernel.ErrSysctlGlobal) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if own != s.Value {
			different++
		}
		if got, err := untouched.Sysctl(t.Context(), s.Name); err != nil || got != own {
			t.Errorf("without baseline: %s = %q (%v), want %q as in a new namespace", s.Name, got, err, own)
		}
		if got, err := written.Sysctl(t.Context(), s.Name); err != nil || got != s.Value {
			t.Errorf("with baseline: %s = %q (%v), want %q", s.Name, got, err, s.Value)
		}
	}
	if different == 0 {
		t.Skip("a new namespace of this kernel is as the baseline")
	}
}
