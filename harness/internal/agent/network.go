//go:build linux

package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"twlab/harness/internal/wire"
	"twlab/harness/kernel"
	"twlab/harness/observe"
	"twlab/harness/topo"
)

// configure gives the guest its addresses, and the links their names and neighbours, as
// package lab does for namespaces.
func configure(ctx context.Context, s Setup) (err error) {
	if s.hasIPv6() {
		if err := wire.RequireIPv6(); err != nil {
			return err
		}
	}
	own, err := openLinks()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, own.close()) }()
	if err := own.loopback(s.Own); err != nil {
		return err
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
		if err := own.LinkSetName(card, fmt.Sprintf("card%d", i)); err != nil {
			return fmt.Errorf("link %s: rename %s: %w", l.Name, card.Attrs().Name, err)
		}
	}
	for i, l := range s.Links {
		if err := own.configure(fmt.Sprintf("card%d", i), l, s.Routes); err != nil {
			return fmt.Errorf("link %s: %w", l.Name, err)
		}
	}
	for _, l := range s.Links {
		if err := awaitCarrier(ctx, l.Name); err != nil {
			return err
		}
	}
	if err := own.awaitAddresses(ctx, s); err != nil {
		return err
	}
	if err := keepMoving(s.Links); err != nil {
		return fmt.Errorf("keep packets moving: %w", err)
	}
	return nil
}

// links configures the links of the guest.
type links struct {
	*netlink.Handle
	control *os.File // for ioctl
}

func openLinks() (*links, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open rtnetlink: %w", err)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		h.Close()
		return nil, fmt.Errorf("open a socket for ioctl: %w", err)
	}
	return &links{h, os.NewFile(uintptr(fd), "ioctl")}, nil
}

func (l *links) close() error {
	l.Close()
	return l.control.Close()
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

// hasIPv6 reports whether the guest has IPv6 addresses.
func (s Setup) hasIPv6() bool { return len(s.addrs6()) > 0 }

// addrs6 are the IPv6 addresses of the guest.
func (s Setup) addrs6() (all []netip.Addr) {
	for _, a := range s.Own {
		if a.Is6() {
			all = append(all, a)
		}
	}
	for _, l := range s.Links {
		for _, p := range l.Pairs {
			if p.Addr.Is6() {
				all = append(all, p.Addr)
			}
		}
	}
	return all
}

// awaitAddresses waits until packets to all IPv6 addresses of the guest arrive.
func (l *links) awaitAddresses(ctx context.Context, s Setup) error {
	for _, a := range s.addrs6() {
		err := observe.Await(ctx, fmt.Sprintf("the address %v to be there", a), func() (bool, error) { return wire.Arrives(l.Handle, a) })
		if err != nil {
			return err
		}
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

// configure names a card, brings it up, and adds its addresses, its neighbour and the
// routes that lead via the neighbour.
func (l *links) configure(card string, as Link, routes []topo.Hop) error {
	link, err := l.LinkByName(card)
	if err != nil {
		return fmt.Errorf("find: %w", err)
	}
	if err := l.LinkSetName(link, as.Name); err != nil {
		return fmt.Errorf("rename: %w", err)
	}
	if wire.HasIPv6(as.Pairs) {
		err = l.setUpQuietly(as.Name)
	} else {
		err = l.LinkSetUp(link)
	}
	if err != nil {
		return fmt.Errorf("set up: %w", err)
	}
	far, err := net.ParseMAC(as.PeerHardwareAddr)
	if err != nil {
		return fmt.Errorf("neighbour: %w", err)
	}
	for _, p := range as.Pairs {
		if err := wire.AddAddress(l.Handle, link, p); err != nil {
			return err
		}
		if err := wire.SetNeighbour(l.Handle, link, p.Peer, far); err != nil {
			return err
		}
		for _, r := range routes {
			if r.Via != p.Peer {
				continue
			}
			if err := wire.SetRoute(l.Handle, link, r, unix.RT_TABLE_MAIN); err != nil {
				return err
			}
		}
	}
	return nil
}

// setUpQuietly brings a card up that existed before the guest had any settings, without
// router solicitations.
func (l *links) setUpQuietly(name string) error {
	if err := kernel.WriteSysctl("net.ipv6.conf."+name+".accept_ra", "0"); err != nil {
		return err
	}
	return wire.SetUpQuietly(l.control, name)
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
