//go:build linux

package lab

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"twlab/harness/observe"

	"twlab/harness/topo"
)

// outerLink is the name of a link's end at its outer node.
const outerLink = "eth0"

// links configures the links of one namespace. It can be used from any namespace.
type links struct {
	*netlink.Handle
	control *os.File // for ethtool
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

// loopback brings lo up. A node without a link of its own has its address on lo.
func (l *links) loopback(who topo.Member) error {
	lo, err := l.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find lo: %w", err)
	}
	if err := l.LinkSetUp(lo); err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	if who.Inner == "" {
		if err := l.AddrAdd(lo, &netlink.Addr{IPNet: host(who.Addr)}); err != nil {
			return fmt.Errorf("add address %v to lo: %w", who.Addr, err)
		}
	}
	return nil
}

// join makes the link between an outer node and its inner node. Neighbours are static:
// there is no ARP, and no entry in the neighbour table, whose limit
// (net.ipv4.neigh.default.gc_thresh3) is shared by all namespaces.
func join(outer, inner *machine) error {
	outerEnd := end{outer.links, outer.Addr, hardwareAddr(0, outer.Addr)}
	innerEnd := end{inner.links, outer.InnerAddr, hardwareAddr(1, outer.Addr)}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = outerLink
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
	if err := outer.links.keepOrder(outerLink); err != nil {
		return err
	}
	// The inner end comes up first. The end of a veth pair that comes up last can send at
	// once, the other one a moment later (see awaitLinks).
	if err := innerEnd.configure(outer.Name, outerEnd); err != nil {
		return fmt.Errorf("%s: %w", inner.Name, err)
	}
	if err := outerEnd.configure(outerLink, innerEnd); err != nil {
		return err
	}
	return outer.links.defaultRoute(outer.InnerAddr)
}

func (l *links) defaultRoute(via netip.Addr) error {
	if err := l.RouteAdd(&netlink.Route{Gw: via.AsSlice()}); err != nil {
		return fmt.Errorf("add default route via %v: %w", via, err)
	}
	return nil
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
	err = e.links.NeighAdd(&netlink.Neigh{
		LinkIndex:    link.Attrs().Index,
		State:        netlink.NUD_PERMANENT,
		IP:           far.addr.AsSlice(),
		HardwareAddr: far.hardware,
	})
	if err != nil {
		return fmt.Errorf("add neighbour %v to %s: %w", far.addr, name, err)
	}
	return nil
}

// awaitLinks waits until every link can send at both ends. The kernel activates the queue
// of the end that came up first from a work item (linkwatch), and drops what is sent before
// that; the operational state shows it.
func (b *builder) awaitLinks(ctx context.Context) error {
	for _, m := range b.lab.machines {
		if m.Inner == "" || m.IsGuest() || b.lab.byName[m.Inner].IsGuest() {
			continue
		}
		event := fmt.Sprintf("the link of %s to come up at %s", m.Name, m.Inner)
		err := observe.Await(ctx, event, func() (bool, error) {
			link, err := b.lab.byName[m.Inner].links.LinkByName(m.Name)
			if err != nil {
				return false, err
			}
			return link.Attrs().OperState == netlink.OperUp, nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func host(a netip.Addr) *net.IPNet {
	return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(32, 32)}
}

// hardwareAddr is a locally administered address that shows the outer node's IP
// address and which end it is: 0 the outer, 1 the inner.
func hardwareAddr(side byte, outer netip.Addr) net.HardwareAddr {
	ip := outer.As4()
	return net.HardwareAddr{2, side, ip[0], ip[1], ip[2], ip[3]}
}
