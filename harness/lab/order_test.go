//go:build linux

package lab

import (
	"testing"

	"twlab/harness/internal/nstest"
)

func TestBothEndsOfALinkKeepTheOrder(t *testing.T) {
	if err := nstest.New(t).Close(); err != nil {
		t.Fatal(err)
	}
	l, err := Build(t.Context(), Topology{Clients: 2, Gateway: GatewaySpec{Kind: Masquerade}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}()
	for node, link := range map[string]string{"client0": "eth0", "client1": "eth0", "gateway": "client1", "balancer": "eth0"} {
		err := l.byName[node].space.Do(func() error {
			ends, err := openLinks()
			if err != nil {
				return err
			}
			defer ends.Close()
			offload, err := ends.ethtool(link, ethtoolGetGRO, 0)
			if err == nil && offload != 1 {
				t.Errorf("%s at %s has no receive offload: packets can overtake each other", link, node)
			}
			return err
		})
		if err != nil {
			t.Errorf("%s at %s: %v", link, node, err)
		}
	}
}
