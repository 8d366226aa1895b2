//go:build linux

package lab

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"twlab/harness/internal/wire"
	"twlab/harness/observe"

	"twlab/harness/topo"
)

// links configures the links of one namespace. It can be used from any namespace.
type links struct {
	*netlink.Handle
	control *os.File // for ethtool
}

// open opens a handle on the links of the machine, which has a namespace.
func (m *machine) open() (own *links, err error) {
	err = m.space.Do(func() (err error) {
		own, err = openLinks()
		return err
	})
	return own, err
}

// openLinks opens a handle on the calling thread's namespace.
func openLinks() (*links, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open rtnetlink: %w", err)
	}
	control, err := openControl()
	if err != nil {
		h.Close()
		return nil, err
	}
	return &links{h, control}, nil
}

// loopback brings lo up, with addresses of the node.
func (l *links) loopback(addrs []netip.Addr) error {
	lo, err := l.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find lo: %w", err)
	}
	if err := l.LinkSetUp(lo); err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	for _, a := range addrs {
		if err := wire.AddLoopback(l.Handle, lo, a); err != nil {
			return err
		}
	}
	return nil
}

// join makes the link between an outer node and its inner node, of which e is the outer
// end.
func join(outer, inner *machine, e topo.End) error {
	pairs := e.Pairs()
	outerEnd := end{outer.links, pairs, hardwareAddr(true, e.Link)}
	innerEnd := end{inner.links, farSide(pairs), hardwareAddr(false, e.Link)}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = e.Interface
	attrs.HardwareAddr = outerEnd.hardware
	veth := &netlink.Veth{
		LinkAttrs:        attrs,
		PeerName:         outer.Name,
		PeerHardwareAddr: innerEnd.hardware,
	}
	err := inner.space.Use(func(fd int) error {
		veth.PeerNamespace = netlink.NsFd(fd)
		return outer.links.LinkAdd(veth)
	})
	if err != nil {
		return fmt.Errorf("add veth to %s: %w", inner.Name, err)
	}
	if err := inner.links.keepOrder(outer.Name); err != nil {
		return fmt.Errorf("%s: %w", inner.Name, err)
	}
	if err := outer.links.keepOrder(e.Interface); err != nil {
		return err
	}
	// The inner end comes up first. The end of a veth pair that comes up last can send at
	// once, the other one a moment later (see awaitLinks).
	if err := innerEnd.configure(outer.Name, outerEnd.hardware); err != nil {
		return fmt.Errorf("%s: %w", inner.Name, err)
	}
	return outerEnd.configure(e.Interface, innerEnd.hardware)
}

// end is one end of a link.
type end struct {
	links    *links
	pairs    []topo.Pair
	hardware net.HardwareAddr
}

// farSide returns the addresses of a link as the other end sees them.
func farSide(pairs []topo.Pair) (far []topo.Pair) {
	for _, p := range pairs {
		far = append(far, topo.Pair{Addr: p.Peer, Peer: p.Addr})
	}
	return far
}

// configure brings the end up, and gives it its addresses and its only neighbour.
func (e end) configure(name string, far net.HardwareAddr) error {
	link, err := e.links.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find link %s: %w", name, err)
	}
	if wire.HasIPv6(e.pairs) {
		err = wire.SetUpQuietly(e.links.control, name)
	} else {
		err = e.links.LinkSetUp(link)
	}
	if err != nil {
		return fmt.Errorf("set link %s up: %w", name, err)
	}
	for _, p := range e.pairs {
		if err := wire.AddAddress(e.links.Handle, link, p); err != nil {
			return err
		}
		if err := wire.SetNeighbour(e.links.Handle, link, p.Peer, far); err != nil {
			return err
		}
	}
	return nil
}

// awaitLinks waits until every link can send at both ends. The kernel activates the queue
// of the end that came up first from a work item (linkwatch), and drops what is sent before
// that; the operational state shows it.
func (b *builder) awaitLinks(ctx context.Context) error {
	for _, m := range b.lab.machines {
		for _, e := range m.Ends {
			if e.Outer || m.IsGuest() || b.lab.byName[e.Peer].IsGuest() {
				continue
			}
			event := fmt.Sprintf("the link of %s to come up at %s", e.Peer, m.Name)
			err := observe.Await(ctx, event, func() (bool, error) {
				link, err := m.links.LinkByName(e.Interface)
				if err != nil {
					return false, err
				}
				return link.Attrs().OperState == netlink.OperUp, nil
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// hardwareAddr is a locally administered address that shows which link it is of, and
// which end it is: 0 the outer, 1 the inner.
func hardwareAddr(outer bool, link int) net.HardwareAddr {
	side := byte(1)
	if outer {
		side = 0
	}
	return binary.BigEndian.AppendUint32(net.HardwareAddr{2, side}, uint32(link)) //nolint:gosec // there are fewer links
}
