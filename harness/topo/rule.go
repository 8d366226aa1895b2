package topo

import (
	"errors"
	"fmt"
	"strings"
)

// Rule is one iptables rule on one node, or on every node of a role.
type Rule struct {
	Role Role   // every node of this role, or
	Node string // the node of this name
	// Table and Chain are those of iptables ("raw", "PREROUTING").
	Table, Chain string
	// Spec is the rest of the rule, as after `iptables -A CHAIN`, with words separated by
	// spaces. The gateway's interfaces are named after the nodes at their far ends; on all
	// other nodes the link towards the gateway or the balancer is eth0.
	Spec string
}

// On reports whether the rule applies to a node.
func (r Rule) On(name string, role Role) bool { return r.Role == role || r.Node == name }

// Validate returns what is wrong with the rule in a lab with these nodes, given by name.
func (r Rule) Validate(roles map[string]Role) error { return errors.Join(r.validate(roles)...) }

func (r Rule) validate(roles map[string]Role) (errs []error) {
	if err := target(r.Role, r.Node, roles); err != nil {
		errs = append(errs, fmt.Errorf("rule %q: %w", r.Spec, err))
	}
	if r.Table == "" || r.Chain == "" || strings.TrimSpace(r.Spec) == "" {
		errs = append(errs, fmt.Errorf("rule %q of chain %q in table %q: want all three", r.Spec, r.Chain, r.Table))
	}
	return errs
}

// AllRules lists the rules of the gateway and of the balancer, and those of the
// topology.
func (t Topology) AllRules() []Rule {
	own := append(t.translation(), t.Balancer.dnat(t.Behind())...)
	return append(own, t.Rules...)
}

// translation lists the MASQUERADE rules of the gateway: one for all clients, or one for
// each client when it has its own ports.
func (t Topology) translation() (rules []Rule) {
	g := t.Gateway
	if g.Kind != Masquerade {
		return nil
	}
	masquerade := func(match string, ports PortRange) {
		spec := []string{"-o", string(Balancer), "-p", "tcp", "-j", "MASQUERADE"}
		if match != "" {
			spec = append([]string{"-s", match}, spec...)
		}
		if ports != (PortRange{}) {
			spec = append(spec, "--to-ports", ports.String())
		}
		if g.Random != KeepPort {
			spec = append(spec, string(g.Random))
		}
		rules = append(rules, Rule{Role: Gateway, Table: "nat", Chain: "POSTROUTING", Spec: strings.Join(spec, " ")})
	}
	if g.PerClient == 0 {
		masquerade("", g.Ports)
		return rules
	}
	for i := range t.Clients {
		masquerade(outer(clientNet, i).String(), g.Ports.block(i, g.PerClient))
	}
	return rules
}
