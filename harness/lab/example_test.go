//go:build linux

package lab_test

import (
	"context"
	"fmt"

	"twlab/harness/lab"
	"twlab/harness/tcp"
)

// Two clients connect through a gateway that masquerades: to the balancer they are one address.
func ExampleBuild() {
	if err := masquerade(context.Background()); err != nil {
		fmt.Println(err)
	}
	// Output:
	// client0 10.10.0.2 is 10.20.0.1 to the balancer
	// client1 10.10.0.3 is 10.20.0.1 to the balancer
}

func masquerade(ctx context.Context) error {
	l, err := lab.Build(ctx, lab.Topology{Clients: 2, Gateway: lab.GatewaySpec{Kind: lab.Masquerade}})
	if err != nil {
		return err
	}
	defer l.Close() //nolint:errcheck // an example

	if _, err := l.Balancer().Listen(ctx, tcp.ListenSpec{At: l.VIP()}); err != nil {
		return err
	}
	for _, client := range l.Nodes(lab.Client) {
		if _, err := client.Connect(ctx, tcp.Attempt{To: l.VIP()}); err != nil {
			return err
		}
		flows, err := l.Gateway().Flows(ctx)
		if err != nil {
			return err
		}
		for _, flow := range flows {
			if id := client.Identity(); flow.Original.Src.Addr() == id.Addr {
				fmt.Println(id.Name, id.Addr, "is", flow.Reply.Dst.Addr(), "to the balancer")
			}
		}
	}
	return nil
}
