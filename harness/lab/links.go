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
		if err := l.AddrAdd(lo, &netlink.Addr{IPNet: host(a)}); err != nil {
			return fmt.Errorf("add address %v to lo: %w", a, err)
		}
	}
	return nil
}

// join makes the link between an outer node and its inner node, of which e is the outer
// end. Neighbours are static: no ARP, and no share of the neighbour table, whose limit
// (net.ipv4.neigh.default.gc_thresh3) is one for all namespaces.
func join(outer, inner *machine, e topo.End) error {
	outerEnd := end{outer.links, e.Addr, hardwareAddr(true, e.Link)}
	innerEnd := end{inner.links, e.PeerAddr, hardwareAddr(false, e.Link)}
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
	if err := innerEnd.configure(outer.Name, outerEnd); err != nil {
		return fmt.Errorf("%s: %w", inner.Name, err)
	}
	return outerEnd.configure(e.Interface, innerEnd)
}

// end is one end of a link.
type end struct {
	links    *links
	addr     netip.Addr
	hardware net.HardwareAddr
}

// configure gives the end its address and its only neighbour, and brings it up.
func (e end) configure(name string, far end) error {
	link, err := e.links.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find link %s: %w", name, err)
	}
	if err := e.links.LinkSetUp(link); err != nil {
		return fmt.Errorf("set link %s up: %w", name, err)
	}
	err = e.links.AddrAdd(link, &netlink.Addr{IPNet: host(e.addr), Peer: host(far.addr)})
	if err != nil {
		return fmt.Errorf("add address %v to %s: %w", e.addr, name, err)
	}
	return e.links.setNeighbour(link, far)
}

// setNeighbour makes the far end of a link the neighbour that it is.
func (l *links) setNeighbour(link netlink.Link, far end) error {
	err := l.NeighSet(&netlink.Neigh{
		LinkIndex:    link.Attrs().Index,
		State:        netlink.NUD_PERMANENT,
		IP:           far.addr.AsSlice(),
		HardwareAddr: far.hardware,
	})
	if err != nil {
		return fmt.Errorf("set neighbour %v of %s: %w", far.addr, link.Attrs().Name, err)
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

func host(a netip.Addr) *net.IPNet {
	return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(32, 32)}
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
