package topo

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// SourceNAT gives connections that leave over a link another source.
type SourceNAT struct {
	// Towards is the neighbour that they leave for.
	Towards string
	// From is whose connections; its zero value is everybody's. From and To are of one
	// version of IP. Without either, the connections of every version are translated.
	From netip.Prefix
	// To is the new address; without one it is that of the link (MASQUERADE).
	To netip.Addr
	// Ports is the range of new source ports; its zero value leaves the choice to the
	// kernel. Random is how a port is chosen.
	Ports  PortRange
	Random RandomMode
}

// DestinationNAT gives connections to an address other destinations, of the same version of
// IP.
type DestinationNAT struct {
	At netip.AddrPort
	To []netip.AddrPort
	// Statistic is how one of several is chosen.
	Statistic StatisticMode
}

func (s SourceNAT) validate(ip IPVersion, at Planned) (errs []error) {
	if _, found := at.Toward(s.Towards); !found {
		errs = append(errs, fmt.Errorf("source NAT towards %q: no link to it", s.Towards))
	}
	if s.From.IsValid() && s.To.IsValid() && versionOf(s.From.Addr()) != versionOf(s.To) {
		errs = append(errs, fmt.Errorf("source NAT towards %q: from %v to %v: want both of one version of IP", s.Towards, s.From, s.To))
	}
	for _, a := range []netip.Addr{s.From.Addr(), s.To} {
		if a.IsValid() && !ip.Has(versionOf(a)) {
			errs = append(errs, fmt.Errorf("source NAT towards %q: %v: %w", s.Towards, a, ip.lacks(versionOf(a))))
		}
	}
	for _, err := range slices.Concat(s.Random.validate(), s.Ports.validate()) {
		errs = append(errs, fmt.Errorf("source NAT towards %q: %w", s.Towards, err))
	}
	return errs
}

func (d DestinationNAT) validate(ip IPVersion) (errs []error) {
	bad := func(err error) { errs = append(errs, fmt.Errorf("destination NAT at %v: %w", d.At, err)) }
	if !d.At.Addr().IsValid() || d.At.Port() == 0 {
		bad(errors.New("want an address and a port"))
	} else if v := versionOf(d.At.Addr()); !ip.Has(v) {
		bad(ip.lacks(v))
	}
	if len(d.To) == 0 {
		bad(errors.New("no destination: it needs servers"))
	}
	for _, to := range d.To {
		switch {
		case !to.Addr().IsValid() || to.Port() == 0:
			bad(fmt.Errorf("destination %v: want an address and a port", to))
		case d.At.Addr().IsValid() && versionOf(to.Addr()) != versionOf(d.At.Addr()):
			bad(fmt.Errorf("destination %v: want the same version of IP at both", to))
		}
	}
	for _, err := range d.Statistic.validate() {
		bad(err)
	}
	return errs
}

// version is that of its addresses; the zero value, for every version, when it has none.
func (s SourceNAT) version() IPVersion {
	for _, a := range []netip.Addr{s.From.Addr(), s.To} {
		if a.IsValid() {
			return versionOf(a)
		}
	}
	return ""
}

// rule is how iptables writes it; out is the interface of the link.
func (s SourceNAT) rule(node, out string) Rule {
	var spec []string
	if s.From.IsValid() {
		from := s.From.String()
		if s.From.IsSingleIP() {
			from = s.From.Addr().String()
		}
		spec = append(spec, "-s", from)
	}
	spec = append(spec, "-o", out, "-p", "tcp", "-j")
	anyPort := s.Ports == PortRange{}
	switch {
	case !s.To.IsValid() && anyPort:
		spec = append(spec, "MASQUERADE")
	case !s.To.IsValid():
		spec = append(spec, "MASQUERADE", "--to-ports", s.Ports.String())
	case anyPort:
		spec = append(spec, "SNAT", "--to-source", s.To.String())
	case s.To.Is6():
		spec = append(spec, "SNAT", "--to-source", fmt.Sprintf("[%v]:%v", s.To, s.Ports))
	default:
		spec = append(spec, "SNAT", "--to-source", fmt.Sprintf("%v:%v", s.To, s.Ports))
	}
	if s.Random != KeepPort {
		spec = append(spec, string(s.Random))
	}
	return Rule{Node: node, Table: "nat", Chain: "POSTROUTING", Spec: strings.Join(spec, " "), IP: s.version()}
}

// rules are how iptables writes it. The first of n destinations gets one in n
// connections, the second one in n-1 of the rest, and so on: all get the same.
func (d DestinationNAT) rules(node string) (rules []Rule) {
	for i, to := range d.To {
		share := ""
		switch left := len(d.To) - i; {
		case left == 1:
		case d.Statistic == InTurn:
			share = fmt.Sprintf("-m statistic --mode nth --every %d --packet 0 ", left)
		default:
			share = fmt.Sprintf("-m statistic --mode random --probability %.10f ", 1/float64(left))
		}
		rules = append(rules, Rule{
			Node: node, Table: "nat", Chain: "PREROUTING", IP: versionOf(d.At.Addr()),
			Spec: fmt.Sprintf("-d %v -p tcp --dport %d %s-j DNAT --to-destination %v", d.At.Addr(), d.At.Port(), share, to),
		})
	}
	return rules
}
