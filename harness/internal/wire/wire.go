//go:build linux

// Package wire configures an interface at whose far end is its only neighbour: addresses
// that need no duplicate address detection, a static neighbour, and no packets of the
// kernel's own.
package wire

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"twlab/harness/topo"
)

// ErrNoIPv6 means that the running kernel has no IPv6.
var ErrNoIPv6 = errors.New("this kernel has no IPv6: boot it without ipv6.disable=1, or load the module ipv6 first")

// RequireIPv6 returns an error that wraps [ErrNoIPv6] when the kernel of the calling thread
// has no IPv6. It needs /proc.
func RequireIPv6() error {
	_, err := os.Stat("/proc/sys/net/ipv6/conf") // made by addrconf_init
	if errors.Is(err, fs.ErrNotExist) {
		return ErrNoIPv6
	}
	return err
}

// HasIPv6 reports whether one of the pairs is of IPv6.
func HasIPv6(pairs []topo.Pair) bool {
	for _, p := range pairs {
		if p.Addr.Is6() {
			return true
		}
	}
	return false
}

// SetUpQuietly brings an interface up that will get IPv6 addresses, without IFF_MULTICAST
// and with IFF_NOARP. It then joins no group for an address (addrconf_join_solict) and none
// of routers (dev_forward_change), which it would report twice within two seconds
// (mld_ifc_event). Neighbours are static, so nobody sends to these groups. The socket is of
// the interface's namespace.
func SetUpQuietly(socket *os.File, name string) error {
	request, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_UP | unix.IFF_NOARP)
	raw, err := socket.SyscallConn()
	if err != nil {
		return err
	}
	var refused error
	err = raw.Control(func(fd uintptr) { refused = unix.IoctlIfreq(int(fd), unix.SIOCSIFFLAGS, request) })
	return errors.Join(err, refused)
}

// AddAddress gives an interface its address, and the route to its peer. An IPv6 address
// that is there stays. It may be used at once as a source (IFA_F_NODAD); whether packets to
// it arrive, says [Arrives].
func AddAddress(h *netlink.Handle, link netlink.Link, p topo.Pair) error {
	if err := addAddress(h, link, p); err != nil {
		return fmt.Errorf("add address %v to %s: %w", p.Addr, link.Attrs().Name, err)
	}
	return nil
}

func addAddress(h *netlink.Handle, link netlink.Link, p topo.Pair) error {
	if p.Addr.Is4() {
		return h.AddrAdd(link, &netlink.Addr{IPNet: host(p.Addr), Peer: host(p.Peer)})
	}
	// The route of an address with a peer is added by a work item (addrconf_dad_work), too
	// late for routes that lead via the peer.
	addr := &netlink.Addr{IPNet: host(p.Addr), Flags: unix.IFA_F_NODAD | unix.IFA_F_NOPREFIXROUTE}
	if err := h.AddrReplace(link, addr); err != nil {
		return err
	}
	return h.RouteReplace(&netlink.Route{Dst: host(p.Peer), LinkIndex: link.Attrs().Index})
}

// AddLoopback gives lo an address of the node.
func AddLoopback(h *netlink.Handle, lo netlink.Link, a netip.Addr) error {
	addr := &netlink.Addr{IPNet: host(a)}
	if a.Is6() {
		addr.Flags = unix.IFA_F_NODAD
	}
	if err := h.AddrAdd(lo, addr); err != nil {
		return fmt.Errorf("add address %v to lo: %w", a, err)
	}
	return nil
}

// Arrives reports whether packets to an IPv6 address of the node arrive: it has a local
// route, which a work item adds some time after the address (addrconf_dad_work,
// __ipv6_ifa_notify).
func Arrives(h *netlink.Handle, a netip.Addr) (bool, error) {
	routes, err := h.RouteGet(a.AsSlice())
	if errors.Is(err, unix.ENETUNREACH) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("get route to %v: %w", a, err)
	}
	return len(routes) == 1 && routes[0].Type == unix.RTN_LOCAL, nil
}

// SetNeighbour makes the far end of an interface its neighbour for good: no ARP, no
// neighbour discovery, and no share of the neighbour tables, whose limits
// (net.ipv4.neigh.default.gc_thresh3, and that of ipv6) are one for all namespaces.
func SetNeighbour(h *netlink.Handle, link netlink.Link, peer netip.Addr, hardware net.HardwareAddr) error {
	err := h.NeighSet(&netlink.Neigh{
		LinkIndex:    link.Attrs().Index,
		State:        netlink.NUD_PERMANENT,
		IP:           peer.AsSlice(),
		HardwareAddr: hardware,
	})
	if err != nil {
		return fmt.Errorf("set neighbour %v of %s: %w", peer, link.Attrs().Name, err)
	}
	return nil
}

// SetRoute adds a route over an interface to a routing table. A route to the same
// destination goes.
func SetRoute(h *netlink.Handle, link netlink.Link, hop topo.Hop, table int) error {
	route := &netlink.Route{Gw: hop.Via.AsSlice(), LinkIndex: link.Attrs().Index, Table: table}
	if hop.To.Bits() > 0 {
		route.Dst = &net.IPNet{IP: hop.To.Addr().AsSlice(), Mask: net.CIDRMask(hop.To.Bits(), hop.To.Addr().BitLen())}
	}
	if err := h.RouteReplace(route); err != nil {
		return fmt.Errorf("add route to %v via %v: %w", hop.To, hop.Via, err)
	}
	return nil
}

func host(a netip.Addr) *net.IPNet {
	return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}
}
