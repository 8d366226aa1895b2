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
	// From is whose connections; its zero value is everybody's.
	From netip.Prefix
	// To is the new address; without one it is that of the link (MASQUERADE).
	To netip.Addr
	// Ports is the range of new source ports; its zero value leaves the choice to the
	// kernel. Random is how a port is chosen.
	Ports  PortRange
	Random RandomMode
}

// DestinationNAT gives connections to an address other destinations.
type DestinationNAT struct {
	At netip.AddrPort
	To []netip.AddrPort
	// Statistic is how one of several is chosen.
	Statistic StatisticMode
}

func (s SourceNAT) validate(at Planned) (errs []error) {
	if _, found := at.Toward(s.Towards); !found {
		errs = append(errs, fmt.Errorf("source NAT towards %q: no link to it", s.Towards))
	}
	if s.From.IsValid() && !s.From.Addr().Is4() || s.To.IsValid() && !s.To.Is4() {
		errs = append(errs, fmt.Errorf("source NAT towards %q: from %v to %v: networks are IPv4", s.Towards, s.From, s.To))
	}
	for _, err := range slices.Concat(s.Random.validate(), s.Ports.validate()) {
		errs = append(errs, fmt.Errorf("source NAT towards %q: %w", s.Towards, err))
	}
	return errs
}

func (d DestinationNAT) validate() (errs []error) {
	bad := func(err error) { errs = append(errs, fmt.Errorf("destination NAT at %v: %w", d.At, err)) }
	if !d.At.Addr().Is4() || d.At.Port() == 0 {
		bad(errors.New("want an IPv4 address and a port"))
	}
	if len(d.To) == 0 {
		bad(errors.New("no destination: it needs servers"))
	}
	for _, to := range d.To {
		if !to.Addr().Is4() || to.Port() == 0 {
			bad(fmt.Errorf("destination %v: want an IPv4 address and a port", to))
		}
	}
	for _, err := range d.Statistic.validate() {
		bad(err)
	}
	return errs
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
	default:
		spec = append(spec, "SNAT", "--to-source", fmt.Sprintf("%v:%v", s.To, s.Ports))
	}
	if s.Random != KeepPort {
		spec = append(spec, string(s.Random))
	}
	return Rule{Node: node, Table: "nat", Chain: "POSTROUTING", Spec: strings.Join(spec, " ")}
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
			Node: node, Table: "nat", Chain: "PREROUTING",
			Spec: fmt.Sprintf("-d %v -p tcp --dport %d %s-j DNAT --to-destination %v", d.At.Addr(), d.At.Port(), share, to),
		})
	}
	return rules
}
