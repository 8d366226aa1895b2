package topo

import (
	"net/netip"
	"time"
)

// Network describes a lab of any shape: nodes, and links between them. A [Topology] is a network of one shape: see [Topology.Network].
type Network struct {
	Nodes []Node
	Links []Link
	// IP says which addresses the nodes have; its zero value is IPv4. What is left out gets
	// addresses of that version, or of both.
	IP IPVersion
	// Sysctls are the differences from [Baseline]; later ones win. One that the
	// kernel has for the whole machine only (kernel.ErrSysctlGlobal) may be asked for
	// when the machine has that value.
	Sysctls Settings
	// NoBaseline leaves every node as the kernel makes a new namespace, but for Sysctls.
	NoBaseline bool
	// Rules are iptables rules in addition to those of the nodes.
	Rules []Rule
	// BootGap is the time between the boots of clients that are guests: each is booted that
	// long after the one before it is up. Zero boots all guests in parallel.
	BootGap time.Duration
}

// Node is a machine of a network.
type Node struct {
	// Identity must have a name. The role may be empty. A node without an address gets the
	// address of its first link.
	Identity
	// Kind is nil for a namespace of the running kernel.
	Kind NodeKind
	// Forwards lets the node forward packets to other nodes (net.ipv4.ip_forward and
	// net.ipv6.conf.all.forwarding).
	Forwards bool
	// Own are addresses in addition to those of its links: VIPs, on lo.
	Own []netip.Addr
	// Routes are routes in addition to those to its neighbours. An outer node has a default
	// route over its first link, unless Routes has a default route.
	Routes []Route
	// Replies says over which link the node sends replies.
	Replies Replies
	// Tracking says which packets connection tracking sees.
	Tracking Tracking
	// SourceNAT and DestinationNAT translate connections; the first that matches counts.
	SourceNAT      []SourceNAT
	DestinationNAT []DestinationNAT
	// Program balances, at Place.
	Program Program
	Place   Place
}

// IsGuest reports whether the node is not a namespace of the running kernel.
func (n Node) IsGuest() bool { return n.Kind != nil }

// Link is a link between two nodes. The outer node is the one nearer to the edge of the
// network. Its interface is eth0, or eth1 and so on if it is the outer node of several links.
// The interface at the inner node has the name of the outer node.
type Link struct {
	Outer, Inner string
	// OuterAddr and InnerAddr are the addresses of the ends: IPv6 addresses in an IPv6
	// network, IPv4 addresses in others. A link without either gets both.
	OuterAddr, InnerAddr netip.Addr
	// OuterAddr6 and InnerAddr6 are the IPv6 addresses in a dual-stack network. A link
	// without either gets both.
	OuterAddr6, InnerAddr6 netip.Addr
	// MTU is the largest packet, in bytes without the Ethernet header; 0 is 1500.
	MTU int
	// OuterSends and InnerSends are what becomes of packets that an end sends.
	OuterSends, InnerSends Impairment
}

// Route sends packets for some addresses to a neighbour.
type Route struct {
	// To is the destination; its zero value is a default route, of each version that the
	// network has.
	To netip.Prefix
	// Via is the name of the neighbour.
	Via string
}

// Replies says over which link a node sends the packets of a connection that another node
// opened.
type Replies string

// The ways. The zero value uses the routes, over whatever link the connection came.
const (
	ByRoute Replies = ""
	// AsTheyCame uses the link over which the connection came. Its first packet sets the
	// mark of the conntrack entry (xt_connmark), replies get that mark, and a routing rule
	// (fib_rules) selects the link by the mark.
	AsTheyCame Replies = "as they came"
	// ByAcceptMark does the same without connection tracking, for connections that end at
	// the node: a socket keeps the mark of its SYN (tcp_fwmark_accept).
	ByAcceptMark Replies = "by accept mark"
)

// Tracking says which packets of a node connection tracking sees. In a new namespace it
// sees none until a rule needs it (nf_ct_netns_get).
type Tracking string

// The values. With the zero value it depends on the node's rules.
const (
	AsRulesWant Tracking = ""
	// Always: every packet, from the first one on.
	Always Tracking = "always"
	// Never: no packet (CT --notrack in table raw).
	Never Tracking = "never"
	// Arriving: only packets that arrive over the first link. So does a connection look
	// whose replies take another way.
	Arriving Tracking = "arriving"
)

// Network is the topology as a network.
func (t Topology) Network() Network {
	n := Network{IP: t.IP, Sysctls: t.Sysctls, NoBaseline: t.NoBaseline, Rules: t.Rules, BootGap: t.BootGap}
	for _, m := range t.members() {
		d := Node{Identity: m.Identity, Kind: m.Kind}
		switch m.Role {
		case Gateway:
			d.Forwards, d.SourceNAT = true, t.sourceNAT()
		case Balancer:
			d.Program, d.Place = t.Balancer.Program, t.Place()
			if t.Balancer.Kind == DNAT {
				d.Forwards = true
				for _, v := range t.IP.Versions() {
					d.DestinationNAT = append(d.DestinationNAT,
						DestinationNAT{At: t.VIPOf(v), To: t.BehindOf(v), Statistic: t.Balancer.Statistic})
				}
			}
		case Client, Server:
		}
		n.Nodes = append(n.Nodes, d)
		if m.Inner != "" {
			n.Links = append(n.Links, Link{
				Outer: m.Name, Inner: m.Inner, OuterAddr: m.Addr, InnerAddr: m.InnerAddr,
				OuterAddr6: m.Addr6, InnerAddr6: m.InnerAddr6,
			})
		}
	}
	return n
}

// sourceNAT is how the gateway translates: the same for all clients, or for each that has
// ports of its own.
func (t Topology) sourceNAT() (all []SourceNAT) {
	g := t.Gateway
	if g.Kind != Masquerade {
		return nil
	}
	one := SourceNAT{Towards: string(Balancer), Ports: g.Ports, Random: g.Random}
	if g.PerClient == 0 || len(g.validate(t.Clients)) > 0 {
		return []SourceNAT{one}
	}
	for i := range t.Clients {
		one.Ports = g.Ports.block(i, g.PerClient)
		for _, v := range t.IP.Versions() {
			addr := t.IP.addr(v, outer(clientNet, i))
			one.From = netip.PrefixFrom(addr, addr.BitLen())
			all = append(all, one)
		}
	}
	return all
}
