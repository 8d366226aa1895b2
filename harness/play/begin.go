//go:build linux

package play

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"twlab/harness/kernel"
	"twlab/harness/recording"
	"twlab/harness/script"
	"twlab/harness/topo"
)

// begin begins the recording.
func (p *player) begin(ctx context.Context) (err error) {
	var links []string
	for _, n := range p.plan.Nodes {
		for _, e := range n.Ends {
			if e.Outer {
				links = append(links, n.Name+"/"+e.Interface)
			}
		}
	}
	if err := p.lab.Capture(links...); err != nil {
		return err
	}
	p.recording.Nodes = map[string]recording.Node{}
	acting := p.acting()
	for _, n := range p.plan.Nodes {
		if p.facts[n.Name], err = p.probing()(ctx, p.node(n.Name)); err != nil {
			return err
		}
		one := recording.Node{
			Role: string(n.Role), Addresses: addresses(n), Kernel: p.facts[n.Name].Release.String(), Guest: n.IsGuest(),
		}
		if acting[n.Name] {
			if one.Settings, err = p.settings(ctx, n); err != nil {
				return err
			}
		}
		p.recording.Nodes[n.Name] = one
	}
	if p.recording.Before, err = p.states(ctx); err != nil {
		return err
	}
	if err := p.watchReasons(); err != nil {
		return err
	}
	p.began = time.Now()
	p.recording.Began = p.began.UTC() // without the monotonic clock, as a reader gets it
	return nil
}

// probing is how kernels are asked. A probe takes longer than many a scenario, and few of them
// ask for a feature.
func (p *player) probing() Probe {
	if asksFeature(p.scenario.When) {
		return p.Probe
	}
	for _, step := range p.scenario.Steps {
		if asksFeature(step.When) || slices.ContainsFunc(step.Expect, func(e script.Expectation) bool { return asksFeature(e.When) }) {
			return p.Probe
		}
	}
	return ByRelease
}

func asksFeature(w script.Condition) bool { return w.Feature != "" || w.Without != "" }

// addresses are all addresses of a node.
func addresses(n topo.Planned) (all []netip.Addr) {
	add := func(a netip.Addr) {
		if a.IsValid() && !slices.Contains(all, a) {
			all = append(all, a)
		}
	}
	add(n.Addr)
	for _, a := range n.Loopback {
		add(a)
	}
	for _, e := range n.Ends {
		add(e.Addr)
		add(e.Addr6)
	}
	return all
}

// acting are the nodes that connect, listen or balance; of a group, whose nodes are alike, the
// first.
func (p *player) acting() map[string]bool {
	acting := map[string]bool{}
	for name := range p.scenario.Programs {
		acting[name] = true
	}
	for _, step := range p.scenario.Steps {
		switch a := step.Do.(type) {
		case script.Listen:
			acting[a.Node] = true
		case script.Connect:
			acting[p.firstOf(a.From)] = true
		case script.Exchange:
			acting[p.firstOf(a.From)] = true
		}
	}
	return acting
}

// settings reads the sysctls of a node that recordings have, as far as its kernel has them.
func (p *player) settings(ctx context.Context, n topo.Planned) (map[string]recording.Setting, error) {
	all := map[string]recording.Setting{}
	for _, name := range recording.Settings() {
		value, err := p.node(n.Name).Sysctl(ctx, name)
		var absent *kernel.SysctlError
		if errors.As(err, &absent) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", n.Name, err)
		}
		all[name] = recording.Setting{Value: value, Said: p.says(n, name)}
	}
	return all, nil
}

// says reports whether the scenario sets a sysctl of a node.
func (p *player) says(n topo.Planned, name string) bool {
	for _, s := range p.scenario.Network.Sysctls {
		if s.Name == name && (s.Node == n.Name || s.Node == "" && s.Role == n.Role) {
			return true
		}
	}
	return slices.ContainsFunc(p.scenario.Steps, func(s script.Step) bool {
		a, sets := s.Do.(script.Set)
		return sets && a.Node == n.Name && slices.ContainsFunc(a.Sysctls, func(s script.Sysctl) bool { return s.Name == name })
	})
}

// states reads the tables of all nodes.
func (p *player) states(ctx context.Context) (map[string]recording.State, error) {
	all := map[string]recording.State{}
	for _, who := range p.plan.Nodes {
		n := p.node(who.Name)
		var s recording.State
		counters, err := n.Counters(ctx)
		if err != nil {
			return nil, err
		}
		s.Counters = counters
		table, err := n.Sockets(ctx)
		if err != nil {
			return nil, err
		}
		s.Sockets = sockets(table)
		asks := len(p.plan.RulesOf(who)) > 0 || p.hasRules(who.Name)
		if asks || p.tracks[who.Name] {
			entries, err := n.Flows(ctx)
			if err != nil {
				return nil, err
			}
			s.Flows = flows(entries)
		}
		if asks {
			hits, err := n.Rules(ctx)
			if err != nil {
				return nil, err
			}
			s.Rules = rules(hits)
		}
		all[who.Name] = s
	}
	return all, nil
}

// hasRules reports whether a step adds rules to a node.
func (p *player) hasRules(name string) bool {
	return slices.ContainsFunc(p.scenario.Steps, func(s script.Step) bool {
		switch a := s.Do.(type) {
		case script.AddRule:
			return a.Node == name
		case script.Drop:
			return a.Node == name
		default:
			return false
		}
	})
}
