//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"

	"twlab/harness/kernel"
	"twlab/harness/node"
	"twlab/harness/ns"

	"twlab/harness/topo"
)

// Build builds a lab from a topology. It needs CAP_SYS_ADMIN and CAP_NET_ADMIN: root, or
// the sandbox. When it fails, or ctx ends before it is done, it removes everything it made,
// and the error names the node and the step.
func Build(ctx context.Context, t Topology) (*Lab, error) {
	if err := t.Validate(); err != nil {
		return nil, err
	}
	return build(ctx, t, t.Network())
}

// BuildNetwork builds a lab from a network of any shape, as [Build] does from a topology.
func BuildNetwork(ctx context.Context, n topo.Network) (*Lab, error) {
	return build(ctx, Topology{}, n)
}

func build(ctx context.Context, t Topology, n topo.Network) (*Lab, error) {
	plan, err := n.Plan()
	if err != nil {
		return nil, err
	}
	b := &builder{plan: plan, lab: &Lab{
		topology: t,
		ip:       plan.Network.IP,
		machines: make([]*machine, len(plan.Nodes)),
		byName:   make(map[string]*machine, len(plan.Nodes)),
		programs: map[string]topo.Running{},
	}}
	for i, who := range plan.Nodes {
		b.lab.machines[i] = &machine{Planned: who}
		b.lab.byName[who.Name] = b.lab.machines[i]
	}
	if err := b.build(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("build lab: %w", err), b.lab.Close())
	}
	return b.lab, nil
}

// builder is a lab under construction.
type builder struct {
	plan     topo.Plan
	firewall firewall
	baseline []Setting // to be written on every node
	// machine has the values, outside of the lab, of the sysctls that the network sets: a
	// namespace without a value of its own has the machine's.
	machine map[string]string
	lab     *Lab
}

func (b *builder) build(ctx context.Context) (err error) {
	if err := b.requireIPv6(); err != nil {
		return err
	}
	if b.firewall, err = b.newFirewall(); err != nil {
		return err
	}
	if b.baseline, err = differences(b.plan.Network.Common()); err != nil {
		return err
	}
	b.machine = sysctlsHere(b.plan.Network.Sysctls)
	if err := b.addAll(ctx); err != nil {
		return err
	}
	if err := b.plug(); err != nil {
		return err
	}
	if err := b.forward(); err != nil {
		return err
	}
	if err := b.route(); err != nil {
		return err
	}
	if err := b.awaitLinks(ctx); err != nil {
		return err
	}
	if err := b.awaitAddresses(ctx); err != nil {
		return err
	}
	if err := b.boot(ctx); err != nil {
		return err
	}
	for _, m := range b.lab.machines {
		m.closeLinks()
	}
	if err := b.shape(ctx); err != nil {
		return err
	}
	// Last, so that its sockets begin with the sysctls of the network.
	return b.balance(ctx)
}

// leaf reports whether a node has one link, of which it is the outer end.
func leaf(n topo.Planned) bool { return len(n.Ends) == 1 && n.Ends[0].Outer }

// addAll makes the nodes that are not guests: first those at which links of others end, and
// the links between them, then the leaves in parallel, each with its link. The kernel's one
// lock for links (RTNL) is held for only a part of that.
func (b *builder) addAll(ctx context.Context) error {
	for _, m := range b.lab.machines {
		if m.IsGuest() || leaf(m.Planned) {
			continue
		}
		if err := b.add(ctx, m); err != nil {
			return fmt.Errorf("%s: %w", m.Name, err)
		}
	}
	for _, m := range b.lab.machines {
		if m.space == nil {
			continue
		}
		if err := b.joinAll(m); err != nil {
			return fmt.Errorf("%s: %w", m.Name, err)
		}
	}
	var side errgroup.Group
	side.SetLimit(runtime.GOMAXPROCS(0))
	building, stop := context.WithCancel(ctx)
	defer stop()
	for _, m := range b.lab.machines {
		if m.IsGuest() || m.space != nil {
			continue
		}
		if building.Err() != nil {
			break
		}
		side.Go(func() error {
			err := b.addLeaf(building, m)
			if err != nil {
				stop()
				return fmt.Errorf("%s: %w", m.Name, err)
			}
			return nil
		})
	}
	if err := side.Wait(); err != nil {
		return err
	}
	return ctx.Err()
}

// addLeaf makes a leaf with its link and its routes. It closes the leaf's handle, because no
// other link ends there, and descriptors are few.
func (b *builder) addLeaf(ctx context.Context, m *machine) error {
	defer m.closeLinks()
	if err := b.add(ctx, m); err != nil {
		return err
	}
	if b.lab.byName[m.Ends[0].Peer].IsGuest() {
		return nil // see plug
	}
	if err := b.joinAll(m); err != nil {
		return err
	}
	if err := m.addRoutes(); err != nil {
		return err
	}
	_, err := m.arrives(m.links) // most often; see awaitAddresses
	return err
}

// add makes one node without its links. It stores what it makes in the machine at once, so
// that Close finds it whatever happens next.
func (b *builder) add(ctx context.Context, m *machine) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	if m.space, err = ns.New(); err != nil {
		return err
	}
	m.local = node.NewLocal(m.Identity, m.space.Do)
	if program, is := m.ByKernel(); is {
		if err := program.Available(m.space.Do); err != nil { // before its sysctls, which its module brings
			return err
		}
	}
	return m.space.Do(func() error {
		// Rules first: they load the modules that some sysctls belong to.
		if _, err := b.firewall.apply(b.plan.RulesOf(m.Planned)); err != nil {
			return err
		}
		if m.links, err = openLinks(); err != nil {
			return err
		}
		if err := m.links.loopback(m.Loopback); err != nil {
			return err
		}
		// Sysctls before links, which inherit some of them, but after an operation that
		// waits for the kernel's lock for links (RTNL): setting ip_forward takes that lock
		// too, and keeps the processor busy until it is free (devinet_sysctl_forward,
		// restart_syscall). The lock is free now.
		return b.applySysctls(m.Planned)
	})
}

// joinAll makes the links of which a node is the outer end, except those to a guest.
func (b *builder) joinAll(m *machine) error {
	for _, e := range m.Ends {
		inner := b.lab.byName[e.Peer]
		if !e.Outer || inner.IsGuest() {
			continue
		}
		if err := join(m, inner, e); err != nil {
			return err
		}
	}
	return nil
}

// route adds the routes of all nodes that addLeaf has not finished.
func (b *builder) route() error {
	for _, m := range b.lab.machines {
		if m.IsGuest() || m.links == nil {
			continue
		}
		if err := m.addRoutes(); err != nil {
			return fmt.Errorf("%s: %w", m.Name, err)
		}
	}
	return nil
}

func (b *builder) applySysctls(who topo.Planned) error {
	own := b.plan.SysctlsOf(who) // ip_forward comes first, while the lock is free; see add
	for _, s := range own {
		if s.Name == topo.Forwarding6 {
			continue // see forward
		}
		err := kernel.WriteSysctl(s.Name, s.Value)
		if s.IfPresent && absent(err) || errors.Is(err, kernel.ErrSysctlGlobal) && s.Is(b.machine[s.Name]) {
			continue
		}
		if err != nil {
			return err
		}
	}
	for _, s := range b.baseline {
		if slices.ContainsFunc(own, func(o Setting) bool { return o.Name == s.Name }) {
			continue
		}
		if err := kernel.WriteSysctl(s.Name, s.Value); err != nil {
			return fmt.Errorf("baseline: %w", err)
		}
	}
	return nil
}

// sysctlsHere reads the sysctls that exist here: in the initial namespace all of them do.
func sysctlsHere(all Settings) map[string]string {
	here := map[string]string{}
	for _, s := range all {
		if value, err := kernel.ReadSysctl(s.Name); err == nil {
			here[s.Name] = value
		}
	}
	return here
}

// absent reports whether a sysctl is missing, rather than refused.
func absent(err error) bool {
	for _, reason := range []error{
		kernel.ErrSysctlUnknown, kernel.ErrSysctlGone, kernel.ErrSysctlNotYet, kernel.ErrSysctlGlobal,
	} {
		if errors.Is(err, reason) {
			return true
		}
	}
	return false
}
