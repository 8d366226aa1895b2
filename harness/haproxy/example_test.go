//go:build linux

package haproxy_test

import (
	"context"
	"fmt"

	"twlab/harness/haproxy"
	"twlab/harness/lab"
	"twlab/harness/tcp"
)

// HAProxy between clients behind a gateway and two servers, and what it counts.
func ExampleBalancer() {
	if err := behindHAProxy(context.Background()); err != nil {
		fmt.Println(err)
	}
	// Output: 1
}

func behindHAProxy(ctx context.Context) error {
	closing := haproxy.Config{Mode: haproxy.HTTP, Connections: haproxy.CloseBoth}
	l, err := lab.Build(ctx, lab.Topology{
		Clients: 10, Gateway: lab.GatewaySpec{Kind: lab.Masquerade}, Servers: 2,
		Balancer: lab.BalancerSpec{Program: haproxy.Balancer{Config: closing}},
	})
	if err != nil {
		return err
	}
	defer l.Close() //nolint:errcheck // an example

	if _, err := l.Client(0).Connect(ctx, tcp.Attempt{To: l.VIP(), Ending: tcp.CloseFirst}); err != nil {
		return err
	}
	program, err := l.Program()
	if err != nil {
		return err
	}
	stats, err := program.Stats(ctx)
	fmt.Println(stats["frontend.conn_tot"])
	return err
}
