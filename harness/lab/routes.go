//go:build linux

package lab

import (
	"fmt"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"twlab/harness/internal/wire"
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
		for _, hop := range k.End.Hops(topo.Route{}) {
			rule := netlink.NewRule()
			rule.Mark, rule.Table = uint32(k.Mark), firstTable+k.Mark //nolint:gosec // it counts links
			rule.Family = nl.GetIPFamily(hop.Via.AsSlice())
			if err := m.links.RuleAdd(rule); err != nil {
				return fmt.Errorf("add the routing rule of mark %d via %v: %w", k.Mark, hop.Via, err)
			}
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
	for _, hop := range m.HopsOver(e) {
		if err := wire.SetRoute(own.Handle, link, hop, unix.RT_TABLE_MAIN); err != nil {
			return err
		}
	}
	for _, k := range m.Marked() {
		if k.End.Link != e.Link {
			continue
		}
		for _, hop := range e.Hops(topo.Route{}) {
			if err := wire.SetRoute(own.Handle, link, hop, firstTable+k.Mark); err != nil {
				return err
			}
		}
	}
	return nil
}
