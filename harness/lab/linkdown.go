//go:build linux

package lab

import (
	"context"
	"fmt"

	"github.com/vishvananda/netlink"

	"twlab/harness/observe"
	"twlab/harness/topo"
)

// SetLink takes a link down at its outer node, or up again; names are those of [Lab.Capture].
// A link that is down loses every packet, and the outer node loses the routes over it: its
// connects fail with ENETUNREACH, while the other end does not notice. It returns when the
// link can send again, or when it is down.
func (l *Lab) SetLink(ctx context.Context, name string, up bool) error {
	ends, err := l.ends(name)
	if err != nil {
		return fmt.Errorf("set link: %w", err)
	}
	if len(ends) != 2 {
		return fmt.Errorf("set link: %q does not have both ends here: it is a loopback, or an end is a guest", name)
	}
	outer, inner := ends[0], ends[1]
	if err := outer.machine.inside(func(own *links) error { return outer.set(own, up) }); err != nil {
		return fmt.Errorf("set link %s: %w", name, err)
	}
	event := fmt.Sprintf("the link of %s to be %s at %s", name, map[bool]string{true: "up", false: "down"}[up], inner.machine.Name)
	return observe.Await(ctx, event, func() (reached bool, err error) {
		err = inner.machine.inside(func(own *links) error {
			link, err := own.LinkByName(inner.name)
			if err == nil {
				reached = (link.Attrs().OperState == netlink.OperUp) == up
			}
			return err
		})
		return reached, err
	})
}

// inside runs a function with a handle on the links of the machine.
func (m *machine) inside(use func(*links) error) error {
	return m.space.Do(func() (err error) {
		own, err := openLinks()
		if err != nil {
			return err
		}
		defer own.Close() //nolint:errcheck // nothing is written to it that could be lost
		return use(own)
	})
}

// set takes the interface down, or up again with what the kernel removed when it went down:
// the neighbour (neigh_ifdown) and the routes (fib_sync_down_dev).
func (p port) set(own *links, up bool) error {
	link, err := own.LinkByName(p.name)
	if err != nil {
		return err
	}
	if !up {
		return own.LinkSetDown(link)
	}
	var here topo.End
	for _, e := range p.machine.Ends {
		if e.Interface == p.name {
			here = e
		}
	}
	if err := own.LinkSetUp(link); err != nil {
		return err
	}
	for _, addr := range here.PeerAddrs {
		err := own.NeighSet(&netlink.Neigh{
			LinkIndex: link.Attrs().Index, State: netlink.NUD_PERMANENT, IP: addr.AsSlice(), HardwareAddr: hardwareAddr(1, here.Link),
		})
		if err != nil {
			return fmt.Errorf("add neighbour %v: %w", addr, err)
		}
	}
	for _, r := range p.machine.Routes {
		if r.Via != here.Peer {
			continue
		}
		if err := own.addRoute(r, here, 0); err != nil {
			return err
		}
	}
	return nil
}
