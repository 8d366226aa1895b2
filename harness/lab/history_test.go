//go:build linux

package lab

import (
	"testing"

	"twlab/harness/kernel"
	"twlab/harness/topo"
)

// A value has another meaning on a kernel that does not know it.
func TestBaselineKnowsTheKernel(t *testing.T) {
	for release, want := range map[kernel.Release]string{{Major: 4, Minor: 2}: "0", {Major: 4, Minor: 19}: "2", {Major: 6, Minor: 1}: "2"} {
		for _, s := range settingsFor(release, topo.Baseline) {
			if s.Name == "net.ipv4.tcp_tw_reuse" && s.Value != want {
				t.Errorf("on %v: %s=%s, want %s", release, s.Name, s.Value, want)
			}
		}
	}
}
