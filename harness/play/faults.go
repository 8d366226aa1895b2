//go:build linux

package play

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"twlab/harness/observe"
	"twlab/harness/script"
	"twlab/harness/topo"
)

// addRule adds a rule, with its ID as comment, by which its hits are found.
func (p *player) addRule(id string, r topo.Rule) error {
	if id != "" {
		r.Spec = commented(r.Spec, id)
	}
	if err := p.lab.AddRules(r); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rules[id] = r
	return nil
}

// commented puts a comment before the target of a rule.
func commented(spec, id string) string {
	comment := fmt.Sprintf("-m comment --comment %s ", id)
	if before, after, found := strings.Cut(spec, "-j "); found {
		return before + comment + "-j " + after
	}
	return spec + " " + strings.TrimSpace(comment)
}

// removeRule ends a rule, or packets that are dropped.
func (p *player) removeRule(_ context.Context, id string) (Result, error) {
	p.mu.Lock()
	r, rule := p.rules[id]
	d, drops := p.drops[id]
	p.mu.Unlock()
	switch {
	case rule:
		return Result{}, p.lab.RemoveRules(r)
	case drops:
		if err := d.End(); err != nil {
			return Result{}, err
		}
		n, err := d.Dropped()
		return Result{Dropped: int64(n)}, err //nolint:gosec // it counts packets
	default:
		return Result{}, fmt.Errorf("there is no rule %q: its step was left out", id)
	}
}

// drop loses packets at a node.
func (p *player) drop(id string, a script.Drop) error {
	d, err := p.lab.Drop(topo.Drop{
		Node: a.Node, Table: "mangle", Chain: p.chain(a), Match: p.matchOf(a), From: a.In, To: a.Out, First: a.First, For: a.For,
	})
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drops[id] = d
	return nil
}

// chain is where packets that come from a neighbour, or leave for one, all pass.
func (p *player) chain(a script.Drop) string {
	if a.In != "" {
		return "PREROUTING"
	}
	return "POSTROUTING"
}

// matchOf writes what a packet must be.
func (p *player) matchOf(a script.Drop) string {
	words := []string{"-p tcp"}
	if a.Flags != "" {
		words = append(words, "--tcp-flags "+a.Flags+" "+a.Flags)
	}
	for _, end := range []struct {
		e          script.Endpoint
		addr, port string
	}{{a.From, "-s", "--sport"}, {a.To, "-d", "--dport"}} {
		if end.e.Name != "" {
			words = append(words, fmt.Sprintf("%s %v", end.addr, p.addr(end.e).Addr()))
		}
		if end.e.Port != 0 {
			words = append(words, fmt.Sprintf("%s %d", end.port, end.e.Port))
		}
	}
	return strings.Join(words, " ")
}

// hits is how many packets a rule has matched, or a fault has dropped.
func (p *player) hits(ctx context.Context, at, id string) (int64, error) {
	p.mu.Lock()
	d, drops := p.drops[id]
	p.mu.Unlock()
	if drops {
		n, err := d.Dropped()
		return int64(n), err //nolint:gosec // it counts packets
	}
	rules, err := p.node(at).Rules(ctx)
	if err != nil {
		return 0, err
	}
	for _, r := range rules {
		if hasComment(r.Rule, id) {
			return int64(r.Packets), nil //nolint:gosec // it counts packets
		}
	}
	return 0, fmt.Errorf("%s has no rule %q any more", at, id)
}

// hasComment reports whether iptables-save has written a rule with this comment.
func hasComment(rule, id string) bool {
	for _, written := range []string{id, `"` + id + `"`} {
		if strings.Contains(rule+" ", "--comment "+written+" ") {
			return true
		}
	}
	return false
}

// forget deletes conntrack entries.
func (p *player) forget(ctx context.Context, a script.ForgetFlows) (r Result, err error) {
	flows, err := p.flows(ctx, a.Node, a.Flow)
	if err != nil {
		return r, err
	}
	for _, f := range flows {
		n, err := p.node(a.Node).DeleteFlows(ctx, observe.FlowMatch{Original: f.Original})
		if err != nil {
			return r, err
		}
		r.Forgotten += n
	}
	return r, nil
}

// flows lists the conntrack entries of a node that a scenario means.
func (p *player) flows(ctx context.Context, at string, want script.Flow) ([]observe.Flow, error) {
	all, err := p.node(at).Flows(ctx)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(f observe.Flow) bool {
		return want.State != "" && want.State != f.State || !p.is(want.From, f.Original.Src) || !p.is(want.To, f.Original.Dst) ||
			!p.is(want.As, f.Reply.Dst) || !p.is(want.At, f.Reply.Src)
	}), nil
}

// set sets sysctls.
func (p *player) set(ctx context.Context, a script.Set) error {
	for _, s := range a.Sysctls {
		if err := p.node(a.Node).SetSysctl(ctx, s.Name, s.Value); err != nil {
			return err
		}
	}
	return nil
}
