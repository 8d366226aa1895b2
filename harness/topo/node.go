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
	// Addr is the address at which others reach the node.
	Addr netip.Addr
}

// NodeKind describes a node that is not a namespace of the running kernel. A kind from
// which nodes can be made also implements lab.Maker.
type NodeKind interface {
	// Validate returns what is wrong with the kind. It reads only its receiver.
	Validate() error
	// MostLinks returns the maximum number of links of a node of this kind.
	MostLinks() int
}

// member is a node of the lab that will be built, with the far end of its own link.
type member struct {
	Identity
	Inner     string     // name of the inner node; "" for a node without a link of its own
	InnerAddr netip.Addr // the inner node's address on that link
	Kind      NodeKind   // nil for a namespace of the running kernel
}

// members lists the nodes of the lab, each after the node at the far end of its link.
func (t Topology) members() []member {
	balancer := member{Identity: Identity{Name: string(Balancer), Role: Balancer, Addr: balancerAddr}}
	all := []member{balancer}
	front := string(Balancer)
	if t.Gateway.Kind != NoGateway {
		front = string(Gateway)
		balancer.Inner, balancer.InnerAddr = front, gatewayOutside
		gateway := Identity{Name: front, Role: Gateway, Addr: gatewayOutside}
		all = []member{{Identity: gateway}, balancer}
	}
	for i := range min(t.Clients, capacity(clientNet)) {
		name := fmt.Sprintf("client%d", i)
		if i < len(t.Names) {
			name = t.Names[i]
		}
		id := Identity{Name: name, Role: Client, Addr: outer(clientNet, i)}
		all = append(all, member{Identity: id, Inner: front, InnerAddr: inner(clientNet)})
	}
	for i := range min(t.Servers, capacity(serverNet)) {
		id := Identity{Name: fmt.Sprintf("server%d", i), Role: Server, Addr: outer(serverNet, i)}
		all = append(all, member{Identity: id, Inner: string(Balancer), InnerAddr: inner(serverNet)})
	}
	for i := range all {
		all[i].Kind = t.Kinds[all[i].Role]
	}
	return all
}
