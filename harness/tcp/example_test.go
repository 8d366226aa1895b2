//go:build linux

package tcp_test

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"

	"twlab/harness/ns"
	"twlab/harness/tcp"
)

// A connection that its client closes first, and one that nobody listens for.
func ExampleHost_Connect() {
	if err := closeFirst(context.Background()); err != nil {
		fmt.Println(err)
	}
	// Output:
	// Connected, and the first FIN was ours: true
	// Refused: connection refused
}

func closeFirst(ctx context.Context) error {
	space, err := ns.New()
	if err != nil {
		return err
	}
	defer space.Close() //nolint:errcheck // an example
	err = space.Do(func() error {
		return netlink.LinkSetUp(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Name: "lo"}})
	})
	if err != nil {
		return err
	}
	host := tcp.NewHost("here", space.Do)
	defer host.CloseAll() //nolint:errcheck // an example

	loopback := netip.MustParseAddr("127.0.0.1")
	_, listener, err := host.Listen(ctx, tcp.ListenSpec{At: netip.AddrPortFrom(loopback, 0), Ending: tcp.CloseAfterPeer})
	if err != nil {
		return err
	}
	result, err := host.Connect(ctx, tcp.Attempt{To: listener, Ending: tcp.CloseFirst})
	if err != nil {
		return err
	}
	fmt.Printf("%s, and the first FIN was ours: %v\n", result.Outcome, result.End.First == tcp.Here)
	result, err = host.Connect(ctx, tcp.Attempt{To: netip.AddrPortFrom(loopback, 1)})
	fmt.Printf("%s: %v\n", result.Outcome, result.Errno)
	return err
}
