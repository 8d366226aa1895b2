//go:build linux

package agent

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"twlab/harness/observe"
)

// configure gives the links their names, addresses and neighbours, as package lab does for
// namespaces.
func configure(ctx context.Context, s Setup) error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find lo: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	if !slices.ContainsFunc(s.Links, func(l Link) bool { return l.Addr == s.Node.Addr }) {
		if err := netlink.AddrAdd(lo, &netlink.Addr{IPNet: host(s.Node.Addr)}); err != nil {
			return fmt.Errorf("add address %v to lo: %w", s.Node.Addr, err)
		}
	}
	cards, err := net.Interfaces()
	if err != nil {
		return fmt.Errorf("list network cards: %w", err)
	}
	// Temporary names first, because a card may have the name that another one will get.
	for i, l := range s.Links {
		card, err := find(cards, l.Hardware)
		if err != nil {
			return fmt.Errorf("link %s: %w", l.Name, err)
		}
		if err := netlink.LinkSetName(card, fmt.Sprintf("card%d", i)); err != nil {
			return fmt.Errorf("link %s: rename %s: %w", l.Name, card.Attrs().Name, err)
		}
	}
	for i, l := range s.Links {
		if err := l.configure(fmt.Sprintf("card%d", i)); err != nil {
			return fmt.Errorf("link %s: %w", l.Name, err)
		}
	}
	if s.Gateway.IsValid() {
		if err := netlink.RouteAdd(&netlink.Route{Gw: s.Gateway.AsSlice()}); err != nil {
			return fmt.Errorf("add default route via %v: %w", s.Gateway, err)
		}
	}
	for _, l := range s.Links {
		if err := awaitCarrier(ctx, l.Name); err != nil {
			return err
		}
	}
	if err := keepMoving(s.Links); err != nil {
		return fmt.Errorf("keep packets moving: %w", err)
	}
	return nil
}

func find(cards []net.Interface, hardware string) (netlink.Link, error) {
	for _, c := range cards {
		if c.HardwareAddr.String() == hardware {
			return netlink.LinkByIndex(c.Index)
		}
	}
	return nil, fmt.Errorf("%w: %s", ErrNoCard, hardware)
}

func (l Link) configure(card string) error {
	link, err := netlink.LinkByName(card)
	if err != nil {
		return fmt.Errorf("find: %w", err)
	}
	if err := netlink.LinkSetName(link, l.Name); err != nil {
		return fmt.Errorf("rename: %w", err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("set up: %w", err)
	}
	if err := netlink.AddrAdd(link, &netlink.Addr{IPNet: host(l.Addr), Peer: host(l.Peer)}); err != nil {
		return fmt.Errorf("add address %v: %w", l.Addr, err)
	}
	far, err := net.ParseMAC(l.PeerHardwareAddr)
	if err != nil {
		return fmt.Errorf("neighbour %v: %w", l.Peer, err)
	}
	err = netlink.NeighAdd(&netlink.Neigh{
		LinkIndex:    link.Attrs().Index,
		State:        netlink.NUD_PERMANENT,
		IP:           l.Peer.AsSlice(),
		HardwareAddr: far,
	})
	if err != nil {
		return fmt.Errorf("add neighbour %v: %w", l.Peer, err)
	}
	return nil
}

// awaitCarrier waits until the link can send, which takes some time with e1000.
func awaitCarrier(ctx context.Context, name string) error {
	return observe.Await(ctx, "a carrier on "+name, func() (bool, error) {
		link, err := netlink.LinkByName(name)
		if err != nil {
			return false, err
		}
		return link.Attrs().RawFlags&runningFlag != 0, nil
	})
}

// onLink gives change a handle on the links of the guest.
func onLink(change func(*netlink.Handle) error) error {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open rtnetlink: %w", err)
	}
	defer h.Close()
	return change(h)
}

// runningFlag is IFF_RUNNING of include/uapi/linux/if.h.
const runningFlag = 1 << 6

func host(a netip.Addr) *net.IPNet {
	return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(32, 32)}
}
