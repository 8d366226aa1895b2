//go:build linux

package lab

import (
	"context"
	"fmt"

	"github.com/vishvananda/netlink"

	"twlab/harness/internal/wire"
	"twlab/harness/observe"
)

// SetLink takes a link down at its outer node, or up again; names are those of [Lab.Capture].
// A link that is down loses every packet. The outer node loses the routes over it, so that its
// connects fail with ENETUNREACH, and its IPv6 addresses there, which it then does not have
// over other links either (addrconf_ifdown); the other end keeps both. SetLink returns when the
// link can send again, or when the other end has lost its carrier.
func (l *Lab) SetLink(ctx context.Context, name string, up bool) error {
	ends, err := l.ends(name)
	if err != nil {
		return fmt.Errorf("set link: %w", err)
	}
	if len(ends) != 2 {
		return fmt.Errorf("set link: %q does not have both ends here: it is a loopback, or an end is a guest", name)
	}
	outer, inner := ends[0], ends[1]
	if err := outer.set(ctx, up); err != nil {
		return fmt.Errorf("set link %s: %w", name, err)
	}
	there, err := inner.machine.open()
	if err != nil {
		return fmt.Errorf("set link %s: %w", name, err)
	}
	defer there.Close() //nolint:errcheck // nothing is written to it that could be lost
	word := "down"
	if up {
		word = "up"
	}
	return observe.Await(ctx, fmt.Sprintf("the link of %s to be %s at %s", name, word, inner.machine.Name), func() (bool, error) {
		link, err := there.LinkByName(inner.name)
		if err != nil {
			return false, err
		}
		// Not LOWERLAYERDOWN: the kernel finds out whether there is a lower layer by
		// comparing numbers of two namespaces (default_operstate, dev_get_iflink).
		return (link.Attrs().OperState == netlink.OperUp) == up, nil
	})
}

// set takes the interface down, or up again with what the kernel removed when it went down:
// the neighbour (neigh_ifdown), the routes (fib_sync_down_dev, rt6_disable_ip) and the IPv6
// address (addrconf_ifdown).
func (p port) set(ctx context.Context, up bool) error {
	own, err := p.machine.open()
	if err != nil {
		return err
	}
	defer own.Close() //nolint:errcheck // nothing is written to it that could be lost
	link, err := own.LinkByName(p.name)
	if err != nil {
		return fmt.Errorf("find link %s: %w", p.name, err)
	}
	if !up {
		return own.LinkSetDown(link)
	}
	if err := own.LinkSetUp(link); err != nil {
		return err
	}
	for _, pair := range p.end.Pairs() {
		if pair.Addr.Is6() {
			if err := wire.AddAddress(own.Handle, link, pair); err != nil {
				return err
			}
		}
		if err := wire.SetNeighbour(own.Handle, link, pair.Peer, hardwareAddr(!p.end.Outer, p.end.Link)); err != nil {
			return err
		}
	}
	if err := p.machine.addRoutesOver(own, p.end); err != nil {
		return err
	}
	return p.machine.awaitAddresses(ctx, own)
}
