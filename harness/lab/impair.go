//go:build linux

package lab

import (
	"context"
	"fmt"

	"twlab/harness/internal/shape"
	"twlab/harness/topo"
)

// ErrNoNetem means that the kernel of a node cannot impair what the node sends: that of a
// namespace is the running one.
var ErrNoNetem = shape.ErrNoNetem

// Shaper is a [Made] that can shape its own end of a link. A kind need not.
type Shaper interface {
	// SetMTU sets the MTU of the node's interface, in bytes.
	SetMTU(ctx context.Context, link string, mtu int) error
	// Impair sets what becomes of packets that leave the node over its interface; the zero
	// value is nothing. The error says so when the node's kernel cannot.
	Impair(ctx context.Context, link string, i topo.Impairment) error
}

// Impair sets from now on what becomes of packets that a node sends to a neighbour. The zero
// value of the impairment is nothing. Packets that wait are lost. The error wraps [ErrNoNetem]
// when the kernel of the node, a namespace or a guest, lacks it.
func (l *Lab) Impair(ctx context.Context, from, to string, i topo.Impairment) error {
	m, found := l.byName[from]
	if !found {
		return fmt.Errorf("impair: no node %q in this lab", from)
	}
	end, found := m.Toward(to)
	if !found {
		return fmt.Errorf("impair: %s has no link to %q", from, to)
	}
	if err := i.Validate(); err != nil {
		return fmt.Errorf("impair what %s sends to %s: %w", from, to, err)
	}
	if err := m.impair(ctx, end, i); err != nil {
		return fmt.Errorf("%s: %w", from, err)
	}
	return nil
}

func (m *machine) impair(ctx context.Context, e topo.End, i topo.Impairment) error {
	if m.IsGuest() {
		guest, can := m.own.(Shaper)
		if !can {
			return fmt.Errorf("a node of kind %T cannot impair what it sends", m.Kind)
		}
		return guest.Impair(ctx, e.Interface, i)
	}
	own, err := m.open()
	if err != nil {
		return err
	}
	defer own.Close() //nolint:errcheck // nothing is written to it that could be lost
	return shape.Egress(own.Handle, e.Interface, i)
}

func (m *machine) setMTU(ctx context.Context, e topo.End, mtu int) error {
	if m.IsGuest() {
		guest, can := m.own.(Shaper)
		if !can {
			return fmt.Errorf("a node of kind %T has an MTU of its own", m.Kind)
		}
		return guest.SetMTU(ctx, e.Interface, mtu)
	}
	own, err := m.open()
	if err != nil {
		return err
	}
	defer own.Close() //nolint:errcheck // nothing is written to it that could be lost
	return shape.MTU(own.Handle, e.Interface, mtu)
}

// shape sets the MTU of all links, and what becomes of the packets that their ends send.
func (b *builder) shape(ctx context.Context) error {
	for _, m := range b.lab.machines {
		for _, e := range m.Ends {
			link := b.plan.Network.Links[e.Link]
			sends := link.InnerSends
			if e.Outer {
				sends = link.OuterSends
			}
			if link.MTU != 0 {
				if err := m.setMTU(ctx, e, link.MTU); err != nil {
					return fmt.Errorf("%s: %w", m.Name, err)
				}
			}
			if sends != (topo.Impairment{}) {
				if err := m.impair(ctx, e, sends); err != nil {
					return fmt.Errorf("%s: %w", m.Name, err)
				}
			}
		}
	}
	return nil
}
