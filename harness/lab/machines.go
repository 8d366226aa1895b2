//go:build linux

package lab

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sync/errgroup"

	"twlab/harness/kernel"
	"twlab/harness/node"
	"twlab/harness/observe"
	"twlab/harness/topo"
)

// plug makes the near ends of all links that lead to a guest: a tap device in the namespace
// of the neighbour.
func (b *builder) plug() error {
	for _, outer := range b.lab.machines {
		if outer.Inner == "" {
			continue
		}
		inner := b.lab.byName[outer.Inner]
		var err error
		switch {
		case outer.IsGuest():
			err = plugOuter(outer, inner)
		case inner.IsGuest():
			err = plugInner(outer, inner)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", outer.Name, err)
		}
	}
	return nil
}

// plugOuter makes the link of an outer node that is a guest.
func plugOuter(outer, inner *machine) error {
	near := end{inner.links, outer.InnerAddr, hardwareAddr(1, outer.Addr)}
	far := end{addr: outer.Addr, hardware: hardwareAddr(0, outer.Addr)}
	if err := outer.plugInto(inner, outer.Name, near, far, outerLink); err != nil {
		return fmt.Errorf("%s: %w", inner.Name, err)
	}
	return nil
}

// plugInner makes the link of an outer node whose inner node is a guest.
func plugInner(outer, inner *machine) (err error) {
	defer outer.closeLinks()
	err = outer.space.Do(func() (err error) {
		outer.links, err = openLinks()
		return err
	})
	if err != nil {
		return err
	}
	near := end{outer.links, outer.Addr, hardwareAddr(0, outer.Addr)}
	far := end{addr: outer.InnerAddr, hardware: hardwareAddr(1, outer.Addr)}
	if err := inner.plugInto(outer, outerLink, near, far, outer.Name); err != nil {
		return err
	}
	return outer.links.defaultRoute(outer.InnerAddr)
}

// plugInto makes a tap device in the namespace of a neighbour, configures it as the near
// end of a link, and keeps it for m's card at the far end.
func (m *machine) plugInto(neighbour *machine, tap string, near, far end, card string) error {
	c := Card{
		Name: card, Hardware: far.hardware, Addr: far.addr,
		Peer: near.addr, PeerHardware: near.hardware,
	}
	err := neighbour.space.Do(func() (err error) {
		c.Tap, err = openTap(tap)
		return err
	})
	if err != nil {
		return err
	}
	m.cards = append(m.cards, c)
	device := &netlink.Device{LinkAttrs: netlink.LinkAttrs{Name: tap}}
	if err := near.links.LinkSetHardwareAddr(device, near.hardware); err != nil {
		return fmt.Errorf("set hardware address of %s: %w", tap, err)
	}
	return near.configure(tap, far)
}

// boot makes the guests and sets their sysctls.
func (b *builder) boot(ctx context.Context) error {
	makers, err := b.makers(ctx)
	if err != nil {
		return err
	}
	var booting errgroup.Group
	building, stop := context.WithCancel(ctx)
	defer stop()
	for _, row := range b.rows() {
		booting.Go(func() error {
			err := b.bootRow(building, row, makers[row[0].Role])
			if err != nil {
				stop()
			}
			return err
		})
	}
	return booting.Wait()
}

// makers returns the maker of each role whose nodes are guests, after Prepare.
func (b *builder) makers(ctx context.Context) (map[Role]Maker, error) {
	var all []topo.NodeKind
	first := map[Role]*machine{}
	for _, m := range b.lab.machines {
		if !m.IsGuest() {
			continue
		}
		all = append(all, m.Kind)
		if first[m.Role] == nil {
			first[m.Role] = m
		}
	}
	makers := map[Role]Maker{}
	for _, role := range slices.Sorted(maps.Keys(first)) {
		m := first[role]
		maker, ok := m.Kind.(Maker)
		if !ok {
			return nil, fmt.Errorf("%s: a node of kind %T cannot be made here", m.Name, m.Kind)
		}
		var err error
		if makers[role], err = maker.Prepare(ctx, all); err != nil {
			return nil, fmt.Errorf("%s: %w", m.Name, err)
		}
	}
	return makers, nil
}

// rows returns the guests in rows: the guests of a row boot one after the other, the rows
// in parallel.
func (b *builder) rows() (rows [][]*machine) {
	var byAge []*machine
	for _, m := range b.lab.machines {
		switch {
		case !m.IsGuest():
		case m.Role == Client && b.topology.BootGap > 0:
			byAge = append(byAge, m)
		default:
			rows = append(rows, []*machine{m})
		}
	}
	if len(byAge) > 0 {
		rows = append(rows, byAge)
	}
	return rows
}

// bootRow boots guests one after the other, each BootGap after the previous one.
func (b *builder) bootRow(ctx context.Context, row []*machine, maker Maker) error {
	for i, m := range row {
		if i > 0 {
			up := time.Now()
			event := fmt.Sprintf("%s to be %v old", row[i-1].Name, b.topology.BootGap)
			err := observe.Await(ctx, event, func() (bool, error) { return time.Since(up) >= b.topology.BootGap, nil })
			if err != nil {
				return err
			}
		}
		if err := b.bootOne(ctx, m, maker); err != nil {
			return fmt.Errorf("%s: %w", m.Name, err)
		}
	}
	return nil
}

func (b *builder) bootOne(ctx context.Context, m *machine, maker Maker) error {
	cards := m.cards
	m.cards = nil // Make closes them
	made, err := maker.Make(ctx, Blueprint{Node: m.Identity, Cards: cards, Gateway: m.InnerAddr})
	if err != nil {
		return err
	}
	m.own = made
	if !b.topology.NoBaseline {
		if err := setBaseline(ctx, m.own); err != nil {
			return fmt.Errorf("baseline: %w", err)
		}
	}
	for _, s := range b.topology.SysctlsOf(m.Member) {
		err := m.own.SetSysctl(ctx, s.Name, s.Value)
		if s.IfPresent && absent(err) {
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// setBaseline writes the part of Baseline that the kernel has.
func setBaseline(ctx context.Context, n node.Node) error {
	release, err := n.Release(ctx)
	if err != nil {
		return err
	}
	for _, s := range baselineFor(release) {
		if err := n.SetSysctl(ctx, s.Name, s.Value); err != nil && !absent(err) {
			return err
		}
	}
	return nil
}

// baselineFor returns Baseline, adapted to what its values mean on that kernel.
func baselineFor(release kernel.Release) []Setting {
	all := slices.Clone(topo.Baseline)
	for i, s := range all {
		// 2, loopback only, is the default since Linux 4.19 (commit 79e9fed46038). Before,
		// every value except 0 means 1, and 0 is the default.
		if s.Name == "net.ipv4.tcp_tw_reuse" && release.Before(4, 19) {
			all[i].Value = "0"
		}
	}
	return all
}
