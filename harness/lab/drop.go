//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"

	"github.com/coreos/go-iptables/iptables"

	"twlab/harness/observe"
	"twlab/harness/topo"
)

// Drops is a [Fault] that drops packets.
type Drops struct {
	*Fault
	lab    *Lab
	first  int         // 0 for all
	chains []dropChain // one for each version of IP
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
	if err := d.Validate(m.Planned, l.ip); err != nil {
		return nil, err
	}
	wall, err := newFirewall(l.ip)
	if err != nil {
		return nil, err
	}
	drops := &Drops{lab: l, first: d.First}
	if err := drops.make(d, m, wall); err != nil {
		return nil, fmt.Errorf("%s: %w", d, err)
	}
	lasts := d.For
	if d.First > 0 && lasts == 0 {
		lasts = topo.LongestFirst
	}
	drops.Fault = l.lasting(d.String(), lasts, drops.remove)
	return drops, nil
}

// make makes a chain for each version.
func (d *Drops) make(what topo.Drop, m *machine, wall firewall) error {
	d.lab.mu.Lock()
	defer d.lab.mu.Unlock()
	d.lab.drops++
	for _, v := range what.Versions(d.lab.ip) {
		c := dropChain{wall: wall, inside: m.space.Do, name: fmt.Sprintf("drop%d", d.lab.drops)}
		c.jump = what.Rule(m.Planned, c.name)
		c.jump.IP = v
		if err := c.make(what.First); err != nil {
			_, undone := d.removeChains()
			return errors.Join(err, undone)
		}
		d.chains = append(d.chains, c)
	}
	return nil
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
	}
	sum := uint64(0)
	for _, c := range d.chains {
		n, err := c.count()
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

func (d *Drops) remove() error {
	d.lab.mu.Lock()
	defer d.lab.mu.Unlock()
	var err error
	d.count, err = d.removeChains()
	d.gone = err == nil
	return err
}

// removeChains removes the chains, and returns what they have dropped.
func (d *Drops) removeChains() (sum uint64, err error) {
	var errs []error
	for _, c := range d.chains {
		n, err := c.remove()
		sum += n
		errs = append(errs, err)
	}
	return sum, errors.Join(errs...)
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

func (c dropChain) program() *iptables.IPTables { return c.wall.programs[c.jump.IP] }

// perBucket is how many packets one rule counts. A bucket of xt_hashlimit gets a packet back
// each hour, and only about 37 such packets fit into its 64 bits (user2credits).
const perBucket = 30

// rules are those of the chain. Neither of two other matches counts packets: xt_quota counts
// bytes, and xt_statistic forgets its count when iptables-legacy replaces the table, which it
// does for every change of any rule. A bucket of xt_hashlimit has a name, by which the new
// table finds it (htable_find_get), and a lock (hashlimit_mt_common).
func (c dropChain) rules(first int) (rules []Rule) {
	rule := Rule{Node: c.jump.Node, IP: c.jump.IP, Table: c.jump.Table, Chain: c.name, Spec: "-j DROP"}
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
		if err := c.program().NewChain(c.jump.Table, c.name); err != nil {
			return fmt.Errorf("%s -t %s -N %s: %w%s", programs[c.jump.IP], c.jump.Table, c.name, err, c.wall.hint(err))
		}
		_, err := c.wall.apply(c.rules(first))
		if err == nil {
			err = c.wall.insert(c.jump)
		}
		if err != nil {
			return errors.Join(err, c.program().ClearAndDeleteChain(c.jump.Table, c.name))
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
		if err := c.program().ClearAndDeleteChain(c.jump.Table, c.name); err != nil {
			return fmt.Errorf("%s -t %s -X %s: %w", programs[c.jump.IP], c.jump.Table, c.name, err)
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
	stats, err := c.program().StructuredStats(c.jump.Table, c.name)
	if err != nil {
		return 0, fmt.Errorf("%s -t %s -L %s: %w", programs[c.jump.IP], c.jump.Table, c.name, err)
	}
	for _, s := range stats {
		count += s.Packets
	}
	return count, nil
}
