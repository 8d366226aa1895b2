//go:build linux

package haproxy_test

import (
	"net/netip"
	"strings"
	"testing"

	"twlab/harness/haproxy"
	"twlab/harness/topo"
)

// A topology says what is wrong with its HAProxy, before anything is started.
func TestTopologyKnowsWhatItsHAProxyCannotBe(t *testing.T) {
	for want, b := range map[string]haproxy.Balancer{
		"set its address and its servers":       {Config: haproxy.Config{Servers: []netip.AddrPort{{}}}},
		`balancer: haproxy: unknown mode "udp"`: {Config: haproxy.Config{Mode: "udp"}},
	} {
		topology := topo.Topology{Clients: 1, Servers: 1, Balancer: topo.BalancerSpec{Program: b}}
		if err := topology.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", b, err, want)
		}
	}
	without := topo.Topology{Clients: 1, Balancer: topo.BalancerSpec{Program: haproxy.Balancer{}}}
	if err := without.Validate(); err == nil || !strings.Contains(err.Error(), "haproxy needs servers") {
		t.Errorf("without servers: %v", err)
	}
}
