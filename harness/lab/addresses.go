//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"twlab/harness/internal/wire"
	"twlab/harness/kernel"
	"twlab/harness/ns"
	"twlab/harness/observe"
	"twlab/harness/topo"
)

// ErrNoIPv6 means that a network has IPv6, and a kernel has none: that of a guest, or the
// running one.
var ErrNoIPv6 = wire.ErrNoIPv6

// requireIPv6 returns an error when the network needs IPv6, and namespaces of this kernel
// have none.
func (b *builder) requireIPv6() error {
	if !b.plan.Network.IP.Has(topo.IPv6) {
		return nil
	}
	fresh, err := ns.New()
	if err != nil {
		return fmt.Errorf("look for IPv6: %w", err)
	}
	return errors.Join(fresh.Do(wire.RequireIPv6), fresh.Close())
}

// forward lets the nodes forward IPv6 packets that are to.
func (b *builder) forward() error {
	for _, m := range b.lab.machines {
		if m.IsGuest() {
			continue
		}
		for _, s := range b.plan.SysctlsOf(m.Planned) {
			if s.Name != topo.Forwarding6 {
				continue
			}
			if err := m.space.Do(func() error { return kernel.WriteSysctl(s.Name, s.Value) }); err != nil {
				return fmt.Errorf("%s: %w", m.Name, err)
			}
		}
	}
	return nil
}

// arrives notes whether packets to all IPv6 addresses of the node arrive.
func (m *machine) arrives(own *links) (bool, error) {
	for _, a := range m.addrs6() {
		if there, err := wire.Arrives(own.Handle, a); err != nil || !there {
			return false, err
		}
	}
	m.ready = true
	return true, nil
}

// addrs6 are the IPv6 addresses of the node.
func (m *machine) addrs6() (all []netip.Addr) {
	for _, a := range m.Addrs() {
		if a.Is6() {
			all = append(all, a)
		}
	}
	return all
}

// awaitAddresses waits until packets to all IPv6 addresses of the node arrive.
func (m *machine) awaitAddresses(ctx context.Context, own *links) error {
	event := fmt.Sprintf("the IPv6 addresses of %s to be there", m.Name)
	return observe.Await(ctx, event, func() (bool, error) { return m.arrives(own) })
}

// awaitAddresses waits for the IPv6 addresses of all nodes.
func (b *builder) awaitAddresses(ctx context.Context) error {
	if !b.plan.Network.IP.Has(topo.IPv6) {
		return nil
	}
	for _, m := range b.lab.machines {
		if m.IsGuest() || m.ready {
			continue
		}
		if m.links == nil { // a leaf, which has closed them
			var err error
			if m.links, err = m.open(); err != nil {
				return err
			}
		}
		err := m.awaitAddresses(ctx, m.links)
		m.closeLinks()
		if err != nil {
			return err
		}
	}
	return nil
}
