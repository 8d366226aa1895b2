//go:build linux

package load_test

import (
	"context"
	"fmt"

	"twlab/harness/lab"
	"twlab/harness/load"
	"twlab/harness/tcp"
	"twlab/harness/topo"
)

// Three clients share the ten ports of a gateway, and keep their connections.
func ExampleRun() {
	if err := tenPorts(context.Background()); err != nil {
		fmt.Println(err)
	}
	// Output:
	// map[Connected:10 TimedOut:2]
	// the gateway had 10 ports in use
}

func tenPorts(ctx context.Context) error {
	l, err := lab.Build(ctx, lab.Topology{
		Clients: 3,
		Gateway: lab.GatewaySpec{Kind: lab.Masquerade, Ports: lab.PortRange{First: 40001, Last: 40010}},
		Sysctls: lab.On(lab.Client, "net.ipv4.tcp_syn_retries=1"),
	})
	if err != nil {
		return err
	}
	defer l.Close() //nolint:errcheck // an example

	if _, err := l.Balancer().Listen(ctx, tcp.ListenSpec{At: l.VIP()}); err != nil {
		return err
	}
	result, err := load.Run(ctx, load.Plan{
		Clients: l.Nodes(lab.Client), Attempt: tcp.Attempt{To: l.VIP()}, Each: 4,
		Watched: l.Nodes(lab.Gateway),
	})
	if err != nil {
		return err
	}
	fmt.Println(result.Outcomes)
	last := result.Series[len(result.Series)-1]
	fmt.Println("the gateway had", last.Flows[topo.Gateway], "ports in use")
	return nil
}
