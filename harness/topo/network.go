package topo

import (
	"net/netip"
	"time"
)

// Network is a lab of any shape: nodes, and links between them. A [Topology] is one of a
// certain shape, see [Topology.Network].
type Network struct {
	Nodes []Node
	Links []Link
	// Sysctls are the differences from [Baseline]; later ones win. One that the
	// kernel has for the whole machine only (kernel.ErrSysctlGlobal) may be asked for
	// when the machine has that value.
	Sysctls Settings
	// NoBaseline leaves every node as the kernel makes a new namespace, but for Sysctls.
	NoBaseline bool
	// Rules are iptables rules in addition to those of the nodes.
	Rules []Rule
	// BootGap boots the clients that are guests one after the other, each that long after
	// the one before it is up. Zero boots all guests side by side.
	BootGap time.Duration
}

// Node is a machine of a network.
type Node struct {
	// Identity: the name is wanted, the role may be empty, and without an address the
	// node has the one of its first link.
	Identity
	// Kind is nil for a namespace of the running kernel.
	Kind NodeKind
	// Forwards lets packets through that are for others (ip_forward).
	Forwards bool
	// Own are addresses that the node has beside those of its links: VIPs, on lo.
	Own []netip.Addr
	// Routes are in addition to those to the other ends of its links. An outer node has a
	// default route over its first link, unless one of these is.
	Routes []Route
	// Replies is which way packets go back that belong to a connection from elsewhere.
	Replies Replies
	// Tracking is what connection tracking sees of the node's packets.
	Tracking Tracking
	// SourceNAT and DestinationNAT translate connections; the first that matches counts.
	SourceNAT      []SourceNAT
	DestinationNAT []DestinationNAT
	// Program balances, at Place.
	Program Program
	Place   Place
}

// IsGuest tells whether the node is no namespace of the running kernel.
func (n Node) IsGuest() bool { return n.Kind != nil }

// Link is a link between two nodes. What is called the outer one of them is nearer to
// the edge of the network: its end is called eth0, or eth1 and so on when the node is
// the outer one of several links, and the other end has the outer node's name.
type Link struct {
	Outer, Inner string
	// OuterAddrs and InnerAddrs are the addresses of the ends. Without any, the network
	// gives each end one of its own.
	OuterAddrs, InnerAddrs []netip.Addr
}

// Route leads packets to some addresses to a neighbour.
type Route struct {
	// To is where; its zero value is everywhere else (a default route).
	To netip.Prefix
	// Via is the name of a node at the other end of one of the node's links.
	Via string
}

// Replies is which way a node sends packets of connections that came from elsewhere.
type Replies string

// The ways. The zero value goes by the routes, whatever way a connection came.
const (
	ByRoute Replies = ""
	// AsTheyCame sends them back over the link that the connection came by: its first
	// packet leaves a mark at the conntrack entry, which its others get
	// (xt_connmark), and a rule of routing for each link goes by the mark (fib_rules).
	AsTheyCame Replies = "as they came"
	// ByAcceptMark does so without connection tracking, for connections that end at the
	// node: a socket keeps the mark of its SYN (tcp_fwmark_accept).
	ByAcceptMark Replies = "by accept mark"
)

// Tracking is what connection tracking sees of a node's packets. In a new namespace it
// sees nothing until a rule wants it (nf_ct_netns_get).
type Tracking string

// What it sees. The zero value is what the rules make of it.
const (
	AsRulesWant Tracking = ""
	// Always sees every packet from the first on.
	Always Tracking = "always"
	// Never sees none (the target NOTRACK of table raw).
	Never Tracking = "never"
	// Arriving sees only the packets that come over the first link of the node, which is
	// how a connection looks whose answers take another way.
	Arriving Tracking = "arriving"
)

// Network is the topology as a network.
func (t Topology) Network() Network {
	n := Network{Sysctls: t.Sysctls, NoBaseline: t.NoBaseline, Rules: t.Rules, BootGap: t.BootGap}
	for _, m := range t.Members() {
		d := Node{Identity: m.Identity, Kind: m.Kind}
		switch m.Role {
		case Gateway:
			d.Forwards, d.SourceNAT = true, t.sourceNAT()
		case Balancer:
			d.Program, d.Place = t.Balancer.Program, t.Place()
			if t.Balancer.Kind == DNAT {
				d.Forwards = true
				d.DestinationNAT = []DestinationNAT{{At: t.VIP(), To: t.Behind(), Statistic: t.Balancer.Statistic}}
			}
		case Client, Server:
		}
		n.Nodes = append(n.Nodes, d)
		if m.Inner != "" {
			n.Links = append(n.Links, Link{
				Outer: m.Name, Inner: m.Inner, OuterAddrs: []netip.Addr{m.Addr}, InnerAddrs: []netip.Addr{m.InnerAddr},
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
	if g.PerClient == 0 {
		return []SourceNAT{one}
	}
	for i := range t.Clients {
		addr := outer(clientNet, i)
		one.From, one.Ports = netip.PrefixFrom(addr, addr.BitLen()), g.Ports.block(i, g.PerClient)
		all = append(all, one)
	}
	return all
}
