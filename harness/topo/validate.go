package topo

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Plan returns the plan of the network, or everything that is wrong with the network. It
// needs no privileges and reads only n.
func (n Network) Plan() (Plan, error) {
	p, errs := n.check()
	if len(errs) > 0 {
		return Plan{}, fmt.Errorf("network: %w", errors.Join(errs...))
	}
	return p, nil
}

// check is Plan for whoever has errors of its own to add.
func (n Network) check() (p Plan, errs []error) {
	p = n.plan()
	errs = slices.Concat(n.validateNames(), p.validateLinks(), p.validateAddresses(), p.validateRoutes())
	for _, d := range p.Nodes {
		for _, err := range d.validate(n.IP) {
			errs = append(errs, fmt.Errorf("%s: %w", d.Name, err))
		}
	}
	errs = append(errs, p.validateSettings()...)
	errs = append(errs, p.validateGuests()...)
	if n.BootGap < 0 {
		errs = append(errs, fmt.Errorf("boot gap %v: want 0 or more", n.BootGap))
	}
	return p, errs
}

// Validate returns everything that is wrong with the network.
func (n Network) Validate() error {
	_, err := n.Plan()
	return err
}

func (n Network) validateNames() (errs []error) {
	seen := map[string]bool{}
	for _, d := range n.Nodes {
		if !nodeName.MatchString(d.Name) || d.Name == "lo" {
			errs = append(errs, fmt.Errorf("node %q: want 1 to 15 of a-z, 0-9, - and _, a letter first, and not lo", d.Name))
		}
		if seen[d.Name] {
			errs = append(errs, fmt.Errorf("two nodes named %q", d.Name))
		}
		seen[d.Name] = true
	}
	return errs
}

func (p Plan) validateLinks() (errs []error) {
	linked := map[[2]string]bool{}
	for _, l := range p.Network.Links {
		for _, name := range []string{l.Outer, l.Inner} {
			if _, found := p.byName[name]; !found {
				errs = append(errs, fmt.Errorf("link of %q and %q: no node %q", l.Outer, l.Inner, name))
			}
		}
		if l.Outer == l.Inner {
			errs = append(errs, fmt.Errorf("link of %q with itself", l.Outer))
		}
		pair := [2]string{min(l.Outer, l.Inner), max(l.Outer, l.Inner)}
		if linked[pair] {
			errs = append(errs, fmt.Errorf("two links between %q and %q", l.Outer, l.Inner))
		}
		linked[pair] = true
		errs = append(errs, l.validateShape()...)
	}
	for _, d := range p.Nodes {
		names := map[string]bool{}
		for _, e := range d.Ends {
			if names[e.Interface] {
				errs = append(errs, fmt.Errorf("%s: two interfaces named %q: give the node at the other end another name", d.Name, e.Interface))
			}
			names[e.Interface] = true
		}
		if len(d.Ends) == 0 && len(p.Nodes) > 1 {
			errs = append(errs, fmt.Errorf("%s: no link to anybody", d.Name))
		}
	}
	return errs
}

// String is "10.0.0.0/8", or "everywhere".
func (r Route) String() string {
	if isDefault(r) {
		return "everywhere"
	}
	return r.To.String()
}

func (n Planned) validate(ip IPVersion) (errs []error) {
	if !n.Forwards && (len(n.SourceNAT) > 0 || len(n.DestinationNAT) > 0) {
		errs = append(errs, errors.New("NAT on a node that does not forward"))
	}
	for _, s := range n.SourceNAT {
		errs = append(errs, s.validate(ip, n)...)
	}
	for _, d := range n.DestinationNAT {
		errs = append(errs, d.validate(ip)...)
	}
	switch n.Replies {
	case ByRoute, AsTheyCame, ByAcceptMark:
	default:
		errs = append(errs, fmt.Errorf("unknown way of replies %q: want %q, %q or none", n.Replies, AsTheyCame, ByAcceptMark))
	}
	switch n.Tracking {
	case AsRulesWant, Always, Never, Arriving:
	default:
		errs = append(errs, fmt.Errorf("unknown tracking %q: want %q, %q, %q or none", n.Tracking, Always, Never, Arriving))
	}
	if n.Tracking == Never && (len(n.SourceNAT) > 0 || len(n.DestinationNAT) > 0 || n.Replies == AsTheyCame) {
		errs = append(errs, fmt.Errorf("tracking %q with NAT, or replies %q: both go by conntrack entries", Never, AsTheyCame))
	}
	switch {
	case n.Program == nil:
	case len(n.Place.Servers) == 0:
		errs = append(errs, fmt.Errorf("%s needs servers", n.Program.Name()))
	case n.Place.At.IsValid() && !ip.Has(versionOf(n.Place.At.Addr())):
		errs = append(errs, fmt.Errorf("%s at %v: %w", n.Program.Name(), n.Place.At, ip.lacks(versionOf(n.Place.At.Addr()))))
	default:
		if err := n.Program.Validate(n.Place); err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

func (p Plan) validateSettings() (errs []error) {
	roles := map[string]Role{}
	for _, d := range p.Nodes {
		roles[d.Name] = d.Role
	}
	for _, s := range p.Network.Sysctls {
		if err := target(s.Role, s.Node, roles); err != nil {
			errs = append(errs, fmt.Errorf("sysctl %s: %w", s.Name, err))
		}
		if s.Name == "" || s.Value == "" || strings.ContainsAny(s.Name, "/ ") {
			errs = append(errs, fmt.Errorf("sysctl %q with value %q: want net.some.name=value", s.Name, s.Value))
		}
	}
	for _, r := range p.Network.Rules {
		errs = append(errs, r.validate(p.Network.IP, roles)...)
	}
	return errs
}

// validateGuests says what guests cannot do where they are.
func (p Plan) validateGuests() (errs []error) {
	for _, d := range p.Nodes {
		if !d.IsGuest() {
			continue
		}
		bad := func(err error) { errs = append(errs, fmt.Errorf("%s: %w", d.Name, err)) }
		if err := d.Kind.Validate(); err != nil {
			bad(err)
		}
		if len(d.Ends) > d.Kind.MostLinks() {
			bad(fmt.Errorf("%d links: a guest has at most %d", len(d.Ends), d.Kind.MostLinks()))
		}
		for _, e := range d.Ends {
			if peer, _ := p.Node(e.Peer); peer.IsGuest() && e.Outer {
				bad(fmt.Errorf("%s and %s are both guests and share a link: put a gateway between them", d.Name, e.Peer))
			}
		}
		if _, kernel := d.ByKernel(); d.Program != nil && !kernel {
			bad(fmt.Errorf("a guest runs no programs, so %s cannot run there", d.Program.Name()))
		}
		for _, r := range p.RulesOf(d) {
			bad(fmt.Errorf("no iptables rules there: %q", r.Spec))
		}
	}
	return errs
}
