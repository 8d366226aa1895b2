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
	members := t.Members()
	b := &builder{topology: t, lab: &Lab{
		topology: t,
		machines: make([]*machine, len(members)),
		byName:   make(map[string]*machine, len(members)),
	}}
	for i, who := range members {
		b.lab.machines[i] = &machine{Member: who}
		b.lab.byName[who.Name] = b.lab.machines[i]
	}
	if err := b.build(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("build lab: %w", err), b.lab.Close())
	}
	return b.lab, nil
}

// builder is a lab under construction.
type builder struct {
	topology Topology
	firewall firewall
	baseline []Setting // to be written on every node
	// machine holds the values outside of the lab of the sysctls that the topology sets:
	// those of the whole machine, for sysctls that a namespace does not have.
	machine map[string]string
	lab     *Lab
}

func (b *builder) build(ctx context.Context) (err error) {
	if b.firewall, err = newFirewall(b.topology.AllRules()); err != nil {
		return err
	}
	if !b.topology.NoBaseline {
		if b.baseline, err = baselineDifferences(); err != nil {
			return err
		}
	}
	b.machine = sysctlsHere(b.topology)
	// Gateway and balancer come first, because the links of the others end there. The
	// others are made in parallel: the kernel's single lock for links (RTNL) covers only a
	// part of the work.
	var side errgroup.Group
	side.SetLimit(runtime.GOMAXPROCS(0))
	building, stop := context.WithCancel(ctx)
	defer stop()
	for _, m := range b.lab.machines {
		if m.IsGuest() {
			continue // see boot
		}
		if m.Role == Gateway || m.Role == Balancer {
			if err := b.add(ctx, m); err != nil {
				return err
			}
			continue
		}
		if building.Err() != nil {
			break
		}
		side.Go(func() error {
			err := b.add(building, m)
			if err != nil {
				stop()
			}
			return err
		})
	}
	if err := side.Wait(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := b.plug(); err != nil {
		return err
	}
	if err := b.awaitLinks(ctx); err != nil {
		return err
	}
	if err := b.boot(ctx); err != nil {
		return err
	}
	for _, m := range b.lab.machines {
		m.closeLinks()
	}
	// Last, so that the program's sockets get the sysctls of the topology.
	return b.balance(ctx)
}

// balance starts the balancer's program, where there is one.
func (b *builder) balance(ctx context.Context) error {
	p := b.topology.Balancer.Program
	if p == nil {
		return nil
	}
	balancer := b.lab.byName[string(Balancer)]
	running, err := p.Start(ctx, balancer.space.Do, b.topology.Place())
	if err != nil {
		return fmt.Errorf("%s: %w", balancer.Name, err)
	}
	b.lab.program = running
	return nil
}

// add makes one node and its link. It stores all it makes in the machine at once, so that
// Close finds it after any failure.
func (b *builder) add(ctx context.Context, m *machine) (err error) {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", m.Name, err)
	}
	if m.space, err = ns.New(); err != nil {
		return fmt.Errorf("%s: %w", m.Name, err)
	}
	m.local = node.NewLocal(m.Identity, m.space.Do)
	err = m.space.Do(func() error {
		// Rules first: they load the modules that some sysctls belong to.
		if _, err := b.firewall.apply(m.Member); err != nil {
			return err
		}
		if m.links, err = openLinks(); err != nil {
			return err
		}
		if err := m.links.loopback(m.Member); err != nil {
			return err
		}
		// Sysctls before links, which inherit some of them, but after an operation that
		// waits for the kernel's lock for links (RTNL): setting ip_forward takes that lock
		// too, and keeps the processor busy until it is free (devinet_sysctl_forward,
		// restart_syscall). The lock is free now.
		return b.applySysctls(m.Member)
	})
	if err == nil && m.Inner != "" && !b.lab.byName[m.Inner].IsGuest() {
		err = join(m, b.lab.byName[m.Inner])
	}
	if m.Role == Client || m.Role == Server {
		m.closeLinks() // no link of others ends here, and descriptors are few
	}
	if err != nil {
		return fmt.Errorf("%s: %w", m.Name, err)
	}
	return nil
}

func (b *builder) applySysctls(who topo.Member) error {
	own := b.topology.SysctlsOf(who) // ip_forward comes first, while the lock is free; see add
	for _, s := range own {
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

// sysctlsHere reads those sysctls of the topology that exist here. In the initial namespace
// all do.
func sysctlsHere(t Topology) map[string]string {
	here := map[string]string{}
	for _, s := range t.Sysctls {
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
