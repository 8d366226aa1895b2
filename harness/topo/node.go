package topo

import (
	"fmt"
	"net/netip"
)

// Role is the function of a node in the lab.
type Role string

// The roles.
const (
	Client   Role = "client"
	Gateway  Role = "gateway"
	Balancer Role = "balancer"
	Server   Role = "server"
)

// Identity says who a node is.
type Identity struct {
	// Name is unique in its lab: "client2", "gateway".
	Name string
	Role Role
	// Addr is the address at which others reach the node. It is an IPv6 address in an IPv6
	// network, and the IPv4 address in a dual-stack network.
	Addr netip.Addr
	// Addr6 is the IPv6 address of a node in a dual-stack network, and else not valid.
	Addr6 netip.Addr
}

// AddrOf returns the address of one version, IPv4 or IPv6; not valid when the node has none.
func (i Identity) AddrOf(v IPVersion) netip.Addr {
	for _, a := range []netip.Addr{i.Addr, i.Addr6} {
		if a.IsValid() && versionOf(a) == v.primary() {
			return a
		}
	}
	return netip.Addr{}
}

// NodeKind describes a node that is not a namespace of the running kernel. A kind from
// which nodes can be made also implements lab.Maker.
type NodeKind interface {
	// Validate returns what is wrong with the kind. It reads only its receiver.
	Validate() error
	// MostLinks returns the maximum number of links of a node of this kind.
	MostLinks() int
}

// Tracker is a kind whose nodes can track connections without a rule that wants it.
type Tracker interface {
	NodeKind
	// Tracking returns the kind with every packet tracked, from the first one on.
	Tracking() NodeKind
}

// member is a node of the lab that will be built, with the far end of its own link.
type member struct {
	Identity
	Inner      string     // name of the inner node; "" for a node without a link of its own
	InnerAddr  netip.Addr // the inner node's address on that link
	InnerAddr6 netip.Addr // and its IPv6 address when it has both
	Kind       NodeKind   // nil for a namespace of the running kernel
}

// members lists the nodes of the lab, each after the node at the far end of its link.
func (t Topology) members() []member {
	balancer := member{Identity: t.identity(string(Balancer), Balancer, balancerAddr)}
	all := []member{balancer}
	front := string(Balancer)
	if t.Gateway.Kind != NoGateway {
		front = string(Gateway)
		all = []member{{Identity: t.identity(front, Gateway, gatewayOutside)}, t.linked(balancer.Identity, front, gatewayOutside)}
	}
	for i := range min(t.Clients, capacity(clientNet)) {
		name := fmt.Sprintf("client%d", i)
		if i < len(t.Names) {
			name = t.Names[i]
		}
		id := t.identity(name, Client, outer(clientNet, i))
		all = append(all, t.linked(id, front, inner(clientNet)))
	}
	for i := range min(t.Servers, capacity(serverNet)) {
		id := t.identity(fmt.Sprintf("server%d", i), Server, outer(serverNet, i))
		all = append(all, t.linked(id, string(Balancer), inner(serverNet)))
	}
	for i := range all {
		all[i].Kind = t.Kinds[all[i].Role]
	}
	return all
}

// identity is a node whose IPv4 address would be addr.
func (t Topology) identity(name string, role Role, addr netip.Addr) Identity {
	id := Identity{Name: name, Role: role}
	id.Addr, id.Addr6 = t.IP.addrs(addr)
	return id
}

// linked is a node with a link to an inner node, whose IPv4 address there would be at.
func (t Topology) linked(id Identity, inner string, at netip.Addr) member {
	m := member{Identity: id, Inner: inner}
	m.InnerAddr, m.InnerAddr6 = t.IP.addrs(at)
	return m
}
