//go:build linux

package play

import (
	"net/netip"
	"testing"

	"twlab/harness/script"
	"twlab/harness/topo"
)

// The short form of a topology names the balancer's address "vip", and its files say balancer.
func TestANodeIsCalledByItsName(t *testing.T) {
	own, apart := netip.MustParseAddr("10.20.0.2"), netip.MustParseAddr("10.99.0.1")
	balancer := topo.Planned{}
	balancer.Name, balancer.Addr = "balancer", own
	p := player{
		plan:     topo.Plan{Nodes: []topo.Planned{balancer}},
		scenario: script.Scenario{Addresses: map[string]netip.Addr{"vip": own, "service": apart}},
	}
	for addr, want := range map[netip.Addr]string{own: "balancer:80", apart: "service:80"} {
		if got := p.named(netip.AddrPortFrom(addr, 80)); got != want {
			t.Errorf("%v: got %s, want %s", addr, got, want)
		}
	}
}
