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
	// IP, when it is IPv4 or IPv6, restricts the rule to that version, and so to iptables or
	// ip6tables. The zero value is every version that the network has.
	IP IPVersion
	// Spec is the rest of the rule, as after `iptables -A CHAIN`: words separated by spaces.
	// Text between double quotes is one word. The interface at the inner node of a link has
	// the name of the outer node; at the outer node it is eth0 (see [Link]).
	Spec string
}

// On reports whether the rule applies to a node.
func (r Rule) On(name string, role Role) bool {
	return r.Role != "" && r.Role == role || r.Node != "" && r.Node == name
}

// For returns the rule as it is in a network of version ip: once for each version that both
// have.
func (r Rule) For(ip IPVersion) (rules []Rule) {
	for _, v := range ip.Versions() {
		if r.IP == "" || r.IP == v {
			one := r
			one.IP = v
			rules = append(rules, one)
		}
	}
	return rules
}

// Validate returns what is wrong with the rule in a lab of version ip with these nodes,
// given by name.
func (r Rule) Validate(ip IPVersion, roles map[string]Role) error {
	return errors.Join(r.validate(ip, roles)...)
}

// Words returns the words of Spec.
func (r Rule) Words() (words []string, err error) {
	for i, part := range strings.Split(r.Spec, `"`) {
		if i%2 == 1 {
			words = append(words, part)
			continue
		}
		words = append(words, strings.Fields(part)...)
	}
	if strings.Count(r.Spec, `"`)%2 == 1 {
		return nil, errors.New("a double quote is not closed")
	}
	return words, nil
}

func (r Rule) validate(ip IPVersion, roles map[string]Role) (errs []error) {
	switch {
	case r.IP == "":
	case r.IP != IPv4 && r.IP != IPv6:
		errs = append(errs, fmt.Errorf("rule %q: unknown version of IP %q: want %q, %q or none", r.Spec, r.IP, IPv4, IPv6))
	case !ip.Has(r.IP):
		errs = append(errs, fmt.Errorf("rule %q: %w", r.Spec, ip.lacks(r.IP)))
	}
	if err := target(r.Role, r.Node, roles); err != nil {
		errs = append(errs, fmt.Errorf("rule %q: %w", r.Spec, err))
	}
	if r.Table == "" || r.Chain == "" || strings.TrimSpace(r.Spec) == "" {
		errs = append(errs, fmt.Errorf("rule %q of chain %q in table %q: want all three", r.Spec, r.Chain, r.Table))
	}
	if _, err := r.Words(); err != nil {
		errs = append(errs, fmt.Errorf("rule %q: %w", r.Spec, err))
	}
	return errs
}
