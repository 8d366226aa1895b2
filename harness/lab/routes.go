//go:build linux

package lab

import (
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"twlab/harness/topo"
)

// firstTable is the number of the first routing table of a link over which replies go back
// by a mark. The kernel's own tables are 253 to 255.
const firstTable = 100

// addRoutes adds the node's routes, and the routing rules of its marks. Its links are there.
func (m *machine) addRoutes() error {
	for _, e := range m.Ends {
		if err := m.addRoutesOver(m.links, e); err != nil {
			return err
		}
	}
	for _, k := range m.Marked() {
		rule := netlink.NewRule()
		rule.Mark, rule.Table = uint32(k.Mark), firstTable+k.Mark //nolint:gosec // it counts links
		if err := m.links.RuleAdd(rule); err != nil {
			return fmt.Errorf("add the routing rule of mark %d: %w", k.Mark, err)
		}
	}
	return nil
}

// addRoutesOver adds the routes that lead over one of the node's links. Routes that are
// there stay.
func (m *machine) addRoutesOver(own *links, e topo.End) error {
	link, err := own.LinkByName(e.Interface)
	if err != nil {
		return fmt.Errorf("find link %s: %w", e.Interface, err)
	}
	add := func(r topo.Route, table int) error {
		route := &netlink.Route{Gw: e.PeerAddr.AsSlice(), LinkIndex: link.Attrs().Index, Table: table}
		if r.To.IsValid() {
			route.Dst = &net.IPNet{IP: r.To.Masked().Addr().AsSlice(), Mask: net.CIDRMask(r.To.Bits(), 32)}
		}
		if err := own.RouteReplace(route); err != nil {
			return fmt.Errorf("add route to %v via %v: %w", r, e.PeerAddr, err)
		}
		return nil
	}
	for _, r := range m.Routes {
		if r.Via != e.Peer {
			continue
		}
		if err := add(r, unix.RT_TABLE_MAIN); err != nil {
			return err
		}
	}
	for _, k := range m.Marked() {
		if k.End.Link != e.Link {
			continue
		}
		if err := add(topo.Route{}, firstTable+k.Mark); err != nil {
			return err
		}
	}
	return nil
}
