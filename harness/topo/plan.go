package topo

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
)

// Plan is a network with everything that its description leaves out: the addresses, routes
// and interfaces of each node.
type Plan struct {
	Network Network
	Nodes   []Planned
	byName  map[string]int
}

// Planned is a node of a plan. It has an address, and its default route.
type Planned struct {
	Node
	// Ends are the ends of its links, in the order of the links.
	Ends []End
	// Loopback are the addresses that it has on lo.
	Loopback []netip.Addr
}

// End is one end of a link, at a node.
type End struct {
	// Link is the place of the link in the network, Outer whether this is its outer end.
	Link  int
	Outer bool
	// Interface is what the node calls it.
	Interface string
	// Peer is the node at the other end.
	Peer string
	// Addr is the node's own address, PeerAddr that of the peer.
	Addr, PeerAddr netip.Addr
	// Addr6 and PeerAddr6 are the IPv6 addresses of a link that has both versions.
	Addr6, PeerAddr6 netip.Addr
}

// Pair are the addresses of a link, of one version, as one of its ends sees them.
type Pair struct{ Addr, Peer netip.Addr }

// Pairs are the addresses of the link, of each version that it has.
func (e End) Pairs() []Pair {
	pairs := []Pair{{e.Addr, e.PeerAddr}}
	if e.Addr6.IsValid() {
		pairs = append(pairs, Pair{e.Addr6, e.PeerAddr6})
	}
	return pairs
}

// Hop is a route as a kernel has it: a destination, and the address of a neighbour.
type Hop struct {
	To  netip.Prefix
	Via netip.Addr
}

// Hops are a route over the link, of each version that the link and the destination have.
func (e End) Hops(r Route) (hops []Hop) {
	for _, p := range e.Pairs() {
		switch {
		case isDefault(r):
			var anywhere netip.Addr
			if p.Peer.Is6() {
				anywhere = netip.IPv6Unspecified()
			} else {
				anywhere = netip.IPv4Unspecified()
			}
			hops = append(hops, Hop{netip.PrefixFrom(anywhere, 0), p.Peer})
		case versionOf(p.Peer) == versionOf(r.To.Addr()):
			hops = append(hops, Hop{r.To.Masked(), p.Peer})
		}
	}
	return hops
}

// HopsOver are the node's routes over one of its links.
func (n Planned) HopsOver(e End) (hops []Hop) {
	for _, r := range n.Routes {
		if r.Via == e.Peer {
			hops = append(hops, e.Hops(r)...)
		}
	}
	return hops
}

// Node finds a node by name.
func (p Plan) Node(name string) (Planned, bool) {
	i, found := p.byName[name]
	if !found {
		return Planned{}, false
	}
	return p.Nodes[i], true
}

// Toward is the end of the node's link to a neighbour.
func (n Planned) Toward(neighbour string) (End, bool) {
	i := slices.IndexFunc(n.Ends, func(e End) bool { return e.Peer == neighbour })
	if i < 0 {
		return End{}, false
	}
	return n.Ends[i], true
}

// linkNet has the addresses of links that are given none: four for each, of which the
// inner end has the second and the outer end the third.
var linkNet = netip.MustParsePrefix("10.64.0.0/10")

func linkAddrs(link int) (outer, inner netip.Addr) {
	base := linkNet.Addr().As4()
	binary.BigEndian.PutUint32(base[:], binary.BigEndian.Uint32(base[:])+4*uint32(link)+1) //nolint:gosec // as many as a slice has
	inner = netip.AddrFrom4(base)
	return inner.Next(), inner
}

// fill gives the i-th link the addresses that it is not given.
func (v IPVersion) fill(l Link, i int) Link {
	outer, inner := linkAddrs(i)
	outer1, outer6 := v.addrs(outer)
	inner1, inner6 := v.addrs(inner)
	if !l.OuterAddr.IsValid() && !l.InnerAddr.IsValid() {
		l.OuterAddr, l.InnerAddr = outer1, inner1
	}
	if !l.OuterAddr6.IsValid() && !l.InnerAddr6.IsValid() {
		l.OuterAddr6, l.InnerAddr6 = outer6, inner6
	}
	return l
}

// plan makes the plan. It does not check anything: see check.
func (n Network) plan() Plan {
	p := Plan{Network: n, byName: map[string]int{}}
	for i, d := range n.Nodes {
		d.Routes = slices.Clone(d.Routes)
		if _, is := d.ByKernel(); is {
			d.Forwards = true
		}
		p.Nodes = append(p.Nodes, Planned{Node: d})
		if _, twice := p.byName[d.Name]; !twice {
			p.byName[d.Name] = i
		}
	}
	outers := map[string]int{} // how many links a node is the outer one of
	for i, l := range n.Links {
		l = n.IP.fill(l, i)
		if at, found := p.byName[l.Outer]; found {
			d := &p.Nodes[at]
			d.Ends = append(d.Ends, End{
				Link: i, Outer: true, Interface: fmt.Sprintf("eth%d", outers[l.Outer]),
				Peer: l.Inner, Addr: l.OuterAddr, PeerAddr: l.InnerAddr, Addr6: l.OuterAddr6, PeerAddr6: l.InnerAddr6,
			})
			if outers[l.Outer] == 0 && !slices.ContainsFunc(d.Routes, isDefault) {
				d.Routes = append(d.Routes, Route{Via: l.Inner})
			}
		}
		if at, found := p.byName[l.Inner]; found {
			d := &p.Nodes[at]
			d.Ends = append(d.Ends, End{
				Link: i, Interface: l.Outer,
				Peer: l.Outer, Addr: l.InnerAddr, PeerAddr: l.OuterAddr, Addr6: l.InnerAddr6, PeerAddr6: l.OuterAddr6,
			})
		}
		outers[l.Outer]++
	}
	for i := range p.Nodes {
		p.Nodes[i].address(n.IP)
	}
	return p
}

func isDefault(r Route) bool { return r.To == netip.Prefix{} }

// address gives the node the addresses by which others know it, and lo its addresses.
func (n *Planned) address(ip IPVersion) {
	n.Loopback = slices.Clone(n.Own)
	n.Addr = n.addressOf(ip.primary(), n.Addr)
	if ip == DualStack {
		n.Addr6 = n.addressOf(IPv6, n.Addr6)
	}
}

// addressOf returns the address, of one version, by which others know the node, which is
// given or else its first one. One that no link has is on lo.
func (n *Planned) addressOf(v IPVersion, given netip.Addr) netip.Addr {
	all := n.Addrs()
	switch {
	case given.IsValid() && !slices.Contains(all, given):
		n.Loopback = append(n.Loopback, given)
	case !given.IsValid():
		if i := slices.IndexFunc(all, func(a netip.Addr) bool { return a.IsValid() && versionOf(a) == v }); i >= 0 {
			return all[i]
		}
	}
	return given
}

// Addrs are all addresses of the node.
func (n Planned) Addrs() []netip.Addr {
	all := slices.Clone(n.Loopback)
	for _, e := range n.Ends {
		for _, p := range e.Pairs() {
			all = append(all, p.Addr)
		}
	}
	return all
}

// next is the neighbour to whom the node sends packets to an address.
func (n Planned) next(to netip.Addr) (neighbour string, found bool) {
	for _, e := range n.Ends {
		if to.IsValid() && (e.PeerAddr == to || e.PeerAddr6 == to) {
			return e.Peer, true
		}
	}
	longest := -1
	for _, r := range n.Routes {
		bits := 0
		if !isDefault(r) {
			if !r.To.Contains(to) {
				continue
			}
			bits = r.To.Bits()
		}
		if bits > longest {
			longest, neighbour, found = bits, r.Via, true
		}
	}
	return neighbour, found
}

// RulesOf are the rules of a node: those of its NAT, its tracking and its way of replies,
// and then those of the network.
func (p Plan) RulesOf(d Planned) (rules []Rule) {
	rules = append(d.tracked(), d.marks()...)
	for _, s := range d.SourceNAT {
		end, _ := d.Toward(s.Towards)
		rules = append(rules, s.rule(d.Name, end.Interface))
	}
	for _, t := range d.DestinationNAT {
		rules = append(rules, t.rules(d.Name)...)
	}
	for _, r := range p.Network.Rules {
		if r.On(d.Name, d.Role) {
			rules = append(rules, r)
		}
	}
	return rules
}

// SysctlsOf are the sysctls of a node, which the baseline does not touch.
func (p Plan) SysctlsOf(d Planned) (own []Setting) {
	if d.Forwards && p.Network.IP.Has(IPv4) {
		own = append(own, Setting{Name: "net.ipv4.ip_forward", Value: "1"})
	}
	if d.Forwards && p.Network.IP.Has(IPv6) {
		own = append(own, Setting{Name: Forwarding6, Value: "1"})
	}
	if _, kernel := d.ByKernel(); d.Program != nil && !kernel {
		// A program that is killed closes its connections by a FIN, which nobody
		// answers when the lab goes with it: without this the orphans would keep
		// the namespace for minutes (tcp_orphan_retries, 8 instead of 0).
		own = append(own, Setting{Name: "net.ipv4.tcp_orphan_retries", Value: "1", IfPresent: true})
	}
	if d.Replies == ByAcceptMark {
		own = append(own, Setting{Name: "net.ipv4.tcp_fwmark_accept", Value: "1"})
	}
	for _, s := range p.Network.Sysctls {
		if s.Role != "" && s.Role == d.Role || s.Node == d.Name {
			own = append(own, s)
		}
	}
	return own
}
