//go:build linux

package lab

import (
	"context"
	"fmt"

	"github.com/vishvananda/netlink"

	"twlab/harness/observe"
)

// SetLink takes a link down at its outer node, or up again; names are those of [Lab.Capture].
// A link that is down loses every packet. The outer node loses the routes over it, so that its
// connects fail with ENETUNREACH; the other end keeps its routes. SetLink returns when the
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
	if err := outer.set(up); err != nil {
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
// the neighbour (neigh_ifdown) and the routes (fib_sync_down_dev).
func (p port) set(up bool) error {
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
	if err := own.setNeighbour(link, end{addr: p.end.PeerAddr, hardware: hardwareAddr(!p.end.Outer, p.end.Link)}); err != nil {
		return err
	}
	return p.machine.addRoutesOver(own, p.end)
}
