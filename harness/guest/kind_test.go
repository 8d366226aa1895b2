//go:build linux

package guest_test

import (
	"strings"
	"testing"

	"twlab/harness/guest"
	"twlab/harness/kernel"
	"twlab/harness/topo"
)

// A topology says what its guests lack, before anything is booted.
func TestTopologyKnowsWhatItsGuestsLack(t *testing.T) {
	for want, kind := range map[string]guest.Kind{
		"client0: no guest agent: build hack/cmd/agent": {Kernel: kernel.Image{Path: "/boot/old"}},
		"client0: no kernel image":                      {Host: guest.Host{Agent: "agent"}, Kernel: kernel.Image{Modules: "/lib"}},
		"client0: conntrack: buckets for connections that are not tracked": {
			Host: guest.Host{Agent: "agent"}, Kernel: kernel.Image{Path: "/boot/old"}, Conntrack: guest.Conntrack{Buckets: 1},
		},
		"client0: conntrack: -1 buckets: want 1 to": {
			Host: guest.Host{Agent: "agent"}, Kernel: kernel.Image{Path: "/boot/old"}, Conntrack: guest.Conntrack{Buckets: -1, Always: true},
		},
	} {
		topology := topo.Topology{Clients: 1, Kinds: map[topo.Role]topo.NodeKind{topo.Client: kind}}
		if err := topology.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", kind, err, want)
		}
	}
	whole := guest.Kind{Host: guest.Host{Agent: "agent"}, Kernel: kernel.Image{Path: "/boot/old"}}
	many := topo.Topology{Clients: 25, Kinds: map[topo.Role]topo.NodeKind{topo.Balancer: whole}}
	if err := many.Validate(); err == nil || !strings.Contains(err.Error(), "balancer: 25 links: a guest has at most 24") {
		t.Errorf("25 links: %v", err)
	}
}
