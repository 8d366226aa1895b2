package topo

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Drop says which packets a node loses and for how long: the first few, or all for a time,
// or all until somebody ends it. A share of all packets is a Match:
// "-m statistic --mode random --probability 0.1".
type Drop struct {
	// Node is the name of a node that is a namespace of the running kernel.
	Node string
	// IP is the version of the packets; its zero value is every version of the network. First
	// counts one version.
	IP IPVersion
	// Table and Chain are those of iptables; see [Rule]. In table raw connection tracking has
	// not seen the packet. In mangle and filter it has, but a new entry is in the table only
	// after the last chain (nf_conntrack_confirm): a first packet that is dropped leaves none.
	Table, Chain string
	// Match is what packets must match, written as in [Rule], without a target
	// ("-p tcp --tcp-flags FIN FIN"). The empty string matches all.
	Match string
	// From and To are neighbours of the node: the packets must come over the link to From, and
	// leave over the link to To. The empty string is any link.
	From, To string
	// First is the number of packets to drop, at most [MostFirst]; 0 drops all. The kernel
	// counts them.
	First int
	// For is how long it lasts; 0 is until it is ended, or with First for [LongestFirst].
	For time.Duration
}

const (
	// MostFirst is the largest number of first packets that a [Drop] counts.
	MostFirst = 300
	// LongestFirst is how long a [Drop] can count first packets. It is shorter than the hour
	// in which the kernel's counter (xt_hashlimit) would count one packet less.
	LongestFirst = 30 * time.Minute
)

// dropChains are the chains in which a packet can be dropped. Table nat sees the first
// packet of a connection only (nf_nat_inet_fn), and iptables refuses to drop there.
var dropChains = map[string][]string{
	"raw":    {"PREROUTING", "OUTPUT"},
	"mangle": {"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"},
	"filter": {"INPUT", "FORWARD", "OUTPUT"},
}

// String describes the drop in a few words, for errors.
func (d Drop) String() string {
	what := "every packet"
	if d.Match != "" {
		what = fmt.Sprintf("%q", d.Match)
	}
	if d.First > 0 {
		what = fmt.Sprintf("the first %d of %s", d.First, what)
	}
	return fmt.Sprintf("drop of %s at %s", what, d.Node)
}

// Validate returns everything that is wrong with the drop at its node.
func (d Drop) Validate(at Planned, ip IPVersion) error {
	var errs []error
	bad := func(err error) { errs = append(errs, err) }
	if d.IP != "" && !ip.Has(d.IP) {
		bad(ip.lacks(d.IP))
	}
	if d.First > 0 && len(d.Versions(ip)) > 1 {
		bad(fmt.Errorf("the first %d packets of two versions: give IP", d.First))
	}
	if at.IsGuest() {
		bad(errors.New("no iptables rules on a guest: drop at its neighbour"))
	}
	if chains, found := dropChains[d.Table]; !found {
		bad(fmt.Errorf("table %q: want raw, mangle or filter", d.Table))
	} else if !slices.Contains(chains, d.Chain) {
		bad(fmt.Errorf("chain %q: table %s has %s", d.Chain, d.Table, strings.Join(chains, ", ")))
	}
	words, err := Rule{Spec: d.Match}.Words()
	if err != nil {
		bad(fmt.Errorf("match %q: %w", d.Match, err))
	}
	for _, target := range []string{"-j", "--jump", "-g", "--goto"} {
		if slices.Contains(words, target) {
			bad(fmt.Errorf("match %q: %s: a match without a target", d.Match, target))
		}
	}
	for _, neighbour := range []string{d.From, d.To} {
		if _, found := at.Toward(neighbour); neighbour != "" && !found {
			bad(fmt.Errorf("no link to %q", neighbour))
		}
	}
	switch {
	case d.First < 0 || d.First > MostFirst:
		bad(fmt.Errorf("the first %d packets: want 1 to %d, or 0 for all", d.First, MostFirst))
	case d.For < 0:
		bad(fmt.Errorf("for %v: want more than 0, or 0 for no limit", d.For))
	case d.First > 0 && d.For > LongestFirst:
		bad(fmt.Errorf("the first %d packets for %v: want at most %v", d.First, d.For, LongestFirst))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("%s: %w", d, err)
	}
	return nil
}

// Versions are those of the packets in a network of version ip.
func (d Drop) Versions(ip IPVersion) []IPVersion {
	if d.IP != "" {
		return []IPVersion{d.IP}
	}
	return ip.Versions()
}

// Rule is the rule that sends the packets to another chain. The drop must be valid.
func (d Drop) Rule(at Planned, chain string) Rule {
	var spec []string
	for _, link := range []struct{ flag, neighbour string }{{"-i", d.From}, {"-o", d.To}} {
		if end, found := at.Toward(link.neighbour); found {
			spec = append(spec, link.flag, end.Interface)
		}
	}
	if d.Match != "" {
		spec = append(spec, d.Match)
	}
	spec = append(spec, "-j", chain)
	return Rule{Node: d.Node, Table: d.Table, Chain: d.Chain, Spec: strings.Join(spec, " ")}
}
