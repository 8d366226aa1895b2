//go:build linux

package lab

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sync/errgroup"

	"twlab/harness/kernel"
	"twlab/harness/node"
	"twlab/harness/observe"
	"twlab/harness/topo"
)

// plug makes the near ends of all links that lead to a guest: a tap device in the
// namespace of the neighbour.
func (b *builder) plug() error {
	for _, m := range b.lab.machines {
		for _, e := range m.Ends {
			far := b.lab.byName[e.Peer]
			if m.IsGuest() || !far.IsGuest() {
				continue
			}
			if err := b.plugEnd(m, far, e); err != nil {
				return fmt.Errorf("%s: %w", m.Name, err)
			}
		}
	}
	return nil
}

// plugEnd makes the end of a link at a node whose other end is a guest's.
func (b *builder) plugEnd(m, guest *machine, e topo.End) error {
	if m.links == nil { // a leaf, which has closed them
		var err error
		if m.links, err = m.open(); err != nil {
			return err
		}
	}
	near := end{m.links, e.Pairs(), hardwareAddr(e.Outer, e.Link)}
	card, _ := guest.Toward(m.Name)
	return guest.plugInto(m, e.Interface, near, Card{
		Name: card.Interface, Hardware: hardwareAddr(!e.Outer, e.Link),
		Pairs: card.Pairs(), PeerHardware: near.hardware,
	})
}

// plugInto makes a tap device in the namespace of a neighbour, configures it as the near
// end of a link, and keeps it for m's card at the far end.
func (m *machine) plugInto(neighbour *machine, tap string, near end, c Card) error {
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
	return near.configure(tap, c.Hardware)
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
			err := b.bootRow(building, row, makers[row[0]])
			if err != nil {
				stop()
			}
			return err
		})
	}
	return booting.Wait()
}

// makers prepares a maker for each guest; guests of one kind share theirs.
func (b *builder) makers(ctx context.Context) (map[*machine]Maker, error) {
	var guests []*machine
	var kinds []topo.NodeKind
	for _, m := range b.lab.machines {
		if m.IsGuest() {
			guests = append(guests, m)
			kinds = append(kinds, m.Kind)
		}
	}
	makers := map[*machine]Maker{}
	for i, m := range guests {
		if alike := slices.IndexFunc(kinds[:i], func(k topo.NodeKind) bool { return reflect.DeepEqual(k, m.Kind) }); alike >= 0 {
			makers[m] = makers[guests[alike]]
			continue
		}
		maker, ok := m.Kind.(Maker)
		if !ok {
			return nil, fmt.Errorf("%s: a node of kind %T cannot be made here", m.Name, m.Kind)
		}
		var err error
		if makers[m], err = maker.Prepare(ctx, kinds); err != nil {
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
		case m.Role == Client && b.plan.Network.BootGap > 0:
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
			event := fmt.Sprintf("%s to be %v old", row[i-1].Name, b.plan.Network.BootGap)
			err := observe.Await(ctx, event, func() (bool, error) { return time.Since(up) >= b.plan.Network.BootGap, nil })
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
	plan := Blueprint{Node: m.Identity, Cards: cards, Own: m.Loopback, Routes: m.hops()}
	if program, is := m.ByKernel(); is {
		plan.Modules = program.Modules()
	}
	made, err := maker.Make(ctx, plan)
	if err != nil {
		return err
	}
	m.own = made
	if _, is := m.ByKernel(); is {
		if _, err := made.VirtualServices(ctx); err != nil { // before its sysctls, which its module brings
			return err
		}
	}
	if err := setCommon(ctx, m.own, b.plan.Network.Common()); err != nil {
		return fmt.Errorf("baseline: %w", err)
	}
	for _, s := range b.plan.SysctlsOf(m.Planned) {
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

// hops are all routes of the node.
func (m *machine) hops() (all []topo.Hop) {
	for _, e := range m.Ends {
		all = append(all, m.HopsOver(e)...)
	}
	return all
}

// setCommon writes those settings that the kernel has.
func setCommon(ctx context.Context, n node.Node, settings []Setting) error {
	release, err := n.Release(ctx)
	if err != nil {
		return err
	}
	for _, s := range settingsFor(release, settings) {
		if err := n.SetSysctl(ctx, s.Name, s.Value); err != nil && !absent(err) {
			return err
		}
	}
	return nil
}

// settingsFor returns the settings, adapted to what their values mean on that kernel.
func settingsFor(release kernel.Release, settings []Setting) []Setting {
	all := slices.Clone(settings)
	for i, s := range all {
		// 2, loopback only, is the default since Linux 4.19 (commit 79e9fed46038). Before,
		// every value except 0 means 1, and 0 is the default.
		if s.Name == "net.ipv4.tcp_tw_reuse" && release.Before(4, 19) {
			all[i].Value = "0"
		}
	}
	return all
}
