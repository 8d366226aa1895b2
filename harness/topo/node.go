package topo

import (
	"fmt"
	"net/netip"
)

// Role is what a node is for.
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
	// Addr is the address at which others reach the node.
	Addr netip.Addr
}

// NodeKind is what a node is instead of a namespace of the running kernel. To make a
// node of it, it is a lab.Maker too.
type NodeKind interface {
	// Validate says what is wrong with it, by looking at nothing but itself.
	Validate() error
	// MostLinks is how many links a node of the kind has room for.
	MostLinks() int
}

// Member is a node of the lab to be, and where its own link ends.
type Member struct {
	Identity
	Inner     string     // name of the inner node; "" for a node without a link of its own
	InnerAddr netip.Addr // the inner node's address on that link
	Kind      NodeKind   // nil for a namespace of the running kernel
}

// IsGuest tells whether the node is no namespace of the running kernel.
func (m Member) IsGuest() bool { return m.Kind != nil }

// Members lists who is in the lab, each after the node that its link ends at.
func (t Topology) Members() []Member {
	balancer := Member{Identity: Identity{Name: string(Balancer), Role: Balancer, Addr: balancerAddr}}
	all := []Member{balancer}
	front := string(Balancer)
	if t.Gateway.Kind != NoGateway {
		front = string(Gateway)
		balancer.Inner, balancer.InnerAddr = front, gatewayOutside
		gateway := Identity{Name: front, Role: Gateway, Addr: gatewayOutside}
		all = []Member{{Identity: gateway}, balancer}
	}
	for i := range min(t.Clients, capacity(clientNet)) {
		name := fmt.Sprintf("client%d", i)
		if i < len(t.Names) {
			name = t.Names[i]
		}
		id := Identity{Name: name, Role: Client, Addr: outer(clientNet, i)}
		all = append(all, Member{Identity: id, Inner: front, InnerAddr: inner(clientNet)})
	}
	for i := range min(t.Servers, capacity(serverNet)) {
		id := Identity{Name: fmt.Sprintf("server%d", i), Role: Server, Addr: outer(serverNet, i)}
		all = append(all, Member{Identity: id, Inner: string(Balancer), InnerAddr: inner(serverNet)})
	}
	for i := range all {
		all[i].Kind = t.Kinds[all[i].Role]
	}
	return all
}
