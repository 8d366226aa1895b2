//go:build linux

package lab

import (
	"fmt"
	"net"

	"github.com/vishvananda/netlink"

	"twlab/harness/topo"
)

// firstTable is the routing table of the first link over which replies go back by a mark;
// the tables of the kernel's own are 253 to 255.
const firstTable = 100

// addRoutes gives a node its routes, and the tables of links over which replies go back by
// a mark. Its links are there.
func (m *machine) addRoutes() error {
	for _, r := range m.Routes {
		end, _ := m.Toward(r.Via)
		if err := m.links.addRoute(r, end, 0); err != nil {
			return err
		}
	}
	for _, k := range m.Marked() {
		table := firstTable + k.Mark
		if err := m.links.addRoute(topo.Route{Via: k.End.Peer}, k.End, table); err != nil {
			return err
		}
		for _, a := range k.End.Addrs {
			rule := netlink.NewRule()
			rule.Mark, rule.Table = uint32(k.Mark), table //nolint:gosec // it counts links
			rule.Family = netlink.FAMILY_V4
			if a.Is6() {
				rule.Family = netlink.FAMILY_V6
			}
			if err := m.links.RuleAdd(rule); err != nil {
				return fmt.Errorf("add a rule of routing for mark %d: %w", k.Mark, err)
			}
		}
	}
	return nil
}

// addRoute adds a route over a link, for each family that it is about and the link has;
// table 0 is the main one.
func (l *links) addRoute(r topo.Route, over topo.End, table int) error {
	for _, via := range over.PeerAddrs {
		route := &netlink.Route{Gw: via.AsSlice(), Table: table}
		if r.To.IsValid() {
			if r.To.Addr().Is4() != via.Is4() {
				continue
			}
			route.Dst = &net.IPNet{IP: r.To.Masked().Addr().AsSlice(), Mask: net.CIDRMask(r.To.Bits(), via.BitLen())}
		}
		if table != 0 {
			link, err := l.LinkByName(over.Interface)
			if err != nil {
				return fmt.Errorf("find link %s: %w", over.Interface, err)
			}
			route.LinkIndex = link.Attrs().Index
		}
		if err := l.RouteAdd(route); err != nil {
			return fmt.Errorf("add route to %v via %v: %w", r, via, err)
		}
	}
	return nil
}
