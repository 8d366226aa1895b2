package lab_test

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"twlab/harness/haproxy"
	"twlab/harness/lab"
	"twlab/harness/observe"
	"twlab/harness/tcp"
)

// Whatever balances, and whatever stands before it, connections reach all of the
// servers and come back; who the servers see is what tells the kinds apart.
func TestBalancersReachAllServers(t *testing.T) {
	privileged(t)
	client, gateway, balancer := netip.MustParseAddr("10.10.0.2"), netip.MustParseAddr("10.20.0.1"), netip.MustParseAddr("10.30.0.1")
	for name, c := range map[string]struct {
		gateway  lab.GatewayKind
		balancer lab.BalancerSpec
		seen     netip.Addr // by the servers
	}{
		"haproxy behind masquerade": {lab.Masquerade, lab.BalancerSpec{Kind: lab.HAProxy}, balancer},
		"haproxy alone":             {lab.NoGateway, lab.BalancerSpec{Kind: lab.HAProxy, Port: 8000, ServerPort: 9000}, balancer},
		"haproxy behind a router":   {lab.Routed, lab.BalancerSpec{Kind: lab.HAProxy, HAProxy: haproxy.Config{Balance: "leastconn"}}, balancer},
		"dnat behind masquerade":    {lab.Masquerade, lab.BalancerSpec{Kind: lab.DNAT, Statistic: lab.InTurn}, gateway},
		"dnat behind a router":      {lab.Routed, lab.BalancerSpec{Kind: lab.DNAT, Port: 8000, ServerPort: 9000}, client},
		"dnat alone":                {lab.NoGateway, lab.BalancerSpec{Kind: lab.DNAT}, client},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			l := build(t, lab.Topology{Clients: 1, Servers: 3, Gateway: lab.GatewaySpec{Kind: c.gateway}, Balancer: c.balancer})
			serve(ctx, t, l)
			const connects = 60
			for range connects {
				outs, err := l.Nodes(lab.Client)[0].Attempt(ctx, []tcp.Attempt{{To: l.Door()}})
				if err != nil || outs[0].Verdict != tcp.Connected {
					t.Fatal(outs, err)
				}
			}
			within, cancel := context.WithTimeout(ctx, 10*time.Second)
			defer cancel()
			if err := observe.Await(within, "every connection to be at a server", func() (bool, error) {
				all, err := atServers(ctx, l)
				return len(all) == connects, err
			}); err != nil {
				t.Fatal(err)
			}
			for i, n := range l.Nodes(lab.Server) {
				all, err := n.Sockets(ctx)
				if err != nil {
					t.Fatal(err)
				}
				there := all.In(observe.Established)
				if len(there) == 0 {
					t.Errorf("server%d got none of %d connections", i, connects)
				}
				if c.balancer.Statistic == lab.InTurn && len(there) != connects/3 {
					t.Errorf("server%d got %d of %d connections, want a third", i, len(there), connects)
				}
				from := map[netip.Addr]bool{}
				for _, s := range there {
					from[s.Remote.Addr()] = true
				}
				if !maps.Equal(from, map[netip.Addr]bool{c.seen: true}) {
					t.Errorf("server%d sees %v, want %v", i, slices.Collect(maps.Keys(from)), c.seen)
				}
			}
		})
	}
}

// serve listens at all the servers of a lab.
func serve(ctx context.Context, t *testing.T, l *lab.Lab) {
	t.Helper()
	for i, n := range l.Nodes(lab.Server) {
		if _, err := n.Listen(ctx, tcp.ListenSpec{At: l.Behind()[i]}); err != nil {
			t.Fatal(err)
		}
	}
}

func atServers(ctx context.Context, l *lab.Lab) (established observe.Sockets, err error) {
	for _, n := range l.Nodes(lab.Server) {
		all, err := n.Sockets(ctx)
		if err != nil {
			return nil, err
		}
		established = append(established, all.In(observe.Established)...)
	}
	return established, nil
}
