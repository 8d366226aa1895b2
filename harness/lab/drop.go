//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"

	"twlab/harness/observe"
	"twlab/harness/topo"
)

// Drops is a [Fault] that drops packets.
type Drops struct {
	*Fault
	lab   *Lab
	first int // 0 for all
	chain dropChain
	// Guarded by lab.mu: whether the chain is gone, and what it had dropped then.
	gone  bool
	count uint64
}

// Drop makes a node drop packets from now on. They are dropped before any other rule of the
// chain is asked. When the first few are to be dropped, exactly these are, also when packets
// come on several processors and while other rules change.
func (l *Lab) Drop(d topo.Drop) (*Drops, error) {
	m, found := l.byName[d.Node]
	if !found {
		return nil, fmt.Errorf("%s: no node %q in this lab", d, d.Node)
	}
	if err := d.Validate(m.Planned); err != nil {
		return nil, err
	}
	wall, err := newIPTables()
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	l.drops++
	c := dropChain{wall: firewall{iptables: wall}, inside: m.space.Do, name: fmt.Sprintf("drop%d", l.drops)}
	c.jump = d.Rule(m.Planned, c.name)
	err = c.make(d.First)
	l.mu.Unlock()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", d, err)
	}
	lasts := d.For
	if d.First > 0 && lasts == 0 {
		lasts = topo.LongestFirst
	}
	drops := &Drops{lab: l, first: d.First, chain: c}
	drops.Fault = l.lasting(d.String(), lasts, drops.remove)
	return drops, nil
}

// Dropped returns how many packets were dropped so far.
func (d *Drops) Dropped() (uint64, error) {
	d.lab.mu.Lock()
	defer d.lab.mu.Unlock()
	switch {
	case d.gone:
		return d.count, nil
	case d.Ended():
		return 0, d.ended()
	default:
		return d.chain.count()
	}
}

func (d *Drops) remove() error {
	d.lab.mu.Lock()
	defer d.lab.mu.Unlock()
	count, err := d.chain.remove()
	d.gone, d.count = err == nil, count
	return err
}

// Await waits until the fault has ended: all first packets are dropped, its time is over, or
// somebody has called End. It returns the error of the end. It is an error when the time is
// over and fewer packets than the first were dropped, and when ctx ends first.
func (d *Drops) Await(ctx context.Context) error {
	if d.first == 0 {
		return d.Fault.Await(ctx)
	}
	var dropped uint64
	err := observe.Await(ctx, "the end of the "+d.what, func() (bool, error) {
		if d.Ended() {
			return true, nil
		}
		count, err := d.Dropped()
		dropped = count
		return count >= uint64(d.first), err //nolint:gosec // it is valid, so not negative
	})
	if err != nil {
		return fmt.Errorf("%w: %d packets dropped so far", err, dropped)
	}
	if err := d.End(); err != nil {
		return err
	}
	if dropped, err = d.Dropped(); err != nil {
		return err
	}
	if d.timed && dropped < uint64(d.first) { //nolint:gosec // it is valid, so not negative
		return fmt.Errorf("the %s has ended after %v with %d packets dropped: no more came", d.what, d.lasts, dropped)
	}
	return nil
}

// dropChain is a chain of its own that drops packets, and the rule that sends them there.
type dropChain struct {
	wall   firewall
	inside func(func() error) error
	jump   Rule
	name   string
}

// perBucket is how many packets one rule counts. A bucket of xt_hashlimit gets a packet back
// each hour, and only about 37 such packets fit into its 64 bits (user2credits).
const perBucket = 30

// rules are those of the chain. Neither of two other matches counts packets: xt_quota counts
// bytes, and xt_statistic forgets its count when iptables-legacy replaces the table, which it
// does for every change of any rule. A bucket of xt_hashlimit has a name, by which the new
// table finds it (htable_find_get), and a lock (hashlimit_mt_common).
func (c dropChain) rules(first int) (rules []Rule) {
	rule := Rule{Node: c.jump.Node, Table: c.jump.Table, Chain: c.name, Spec: "-j DROP"}
	if first == 0 {
		return []Rule{rule}
	}
	for ; first > 0; first -= perBucket {
		rule.Spec = fmt.Sprintf("-m hashlimit --hashlimit-upto 1/hour --hashlimit-burst %d --hashlimit-name %s-%d -j DROP",
			min(first, perBucket), c.name, len(rules))
		rules = append(rules, rule)
	}
	return rules
}

// make makes the chain, and then lets packets in.
func (c dropChain) make(first int) error {
	return c.inside(func() error {
		if err := c.wall.iptables.NewChain(c.jump.Table, c.name); err != nil {
			return fmt.Errorf("iptables -t %s -N %s: %w%s", c.jump.Table, c.name, err, hint(err))
		}
		_, err := c.wall.apply(c.rules(first))
		if err == nil {
			err = c.wall.insert(c.jump)
		}
		if err != nil {
			return errors.Join(err, c.wall.iptables.ClearAndDeleteChain(c.jump.Table, c.name))
		}
		return nil
	})
}

// remove lets no packet in any more, counts those that were dropped, and removes the chain.
func (c dropChain) remove() (count uint64, err error) {
	err = c.inside(func() error {
		if err := c.wall.remove([]Rule{c.jump}); err != nil {
			return err
		}
		if count, err = c.dropped(); err != nil {
			return err
		}
		if err := c.wall.iptables.ClearAndDeleteChain(c.jump.Table, c.name); err != nil {
			return fmt.Errorf("iptables -t %s -X %s: %w", c.jump.Table, c.name, err)
		}
		return nil
	})
	return count, err
}

func (c dropChain) count() (count uint64, err error) {
	err = c.inside(func() error {
		count, err = c.dropped()
		return err
	})
	return count, err
}

// dropped adds up the hits of the rules of the chain, in the calling thread's namespace.
func (c dropChain) dropped() (count uint64, err error) {
	stats, err := c.wall.iptables.StructuredStats(c.jump.Table, c.name)
	if err != nil {
		return 0, fmt.Errorf("iptables -t %s -L %s: %w", c.jump.Table, c.name, err)
	}
	for _, s := range stats {
		count += s.Packets
	}
	return count, nil
}
