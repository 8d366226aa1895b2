//go:build linux

// Package lab builds a [Lab] from a [Topology], a plain description of machines, links, NAT
// and sysctls (package topo). The lab consists of network namespaces, veth pairs and
// iptables rules on the running kernel. A lab owns all that it made, and removes it again.
//
//	client0 ─┐
//	client1 ─┼─ gateway ── balancer ─┬─ server0
//	   ...  ─┘                       └─ server1
//
// Without a gateway the clients are linked to the balancer. Every link is a veth pair of
// its own, and both ends are created inside their namespaces. The end at the outer node is
// called eth0; the end at the inner one (gateway or balancer) has the name of the outer
// node. Routes are host routes and neighbours are static, so a lab has no ARP, and can have
// as many clients as there are addresses (a Linux bridge has at most 1023 ports, the
// kernel's neighbour table at most 1024 learnt entries for the whole machine). With IPv6
// ([Topology].IP) no address is tentative, and the kernel sends nothing of its own: see
// harness/internal/wire. Without, IPv6 is off on the links.
//
// A node may be of another kind, such as a guest: a virtual machine with its own kernel
// ([Topology].Kinds). The neighbour's end of its link is then a tap device. Programs that
// balance, and whatever emulates something on a node or watches it, plug in from other
// packages, which lab does not know: see [Maker], topo.Program, [Lab.Inside] and
// [Lab.CloseWith].
package lab

import "twlab/harness/topo"

// The types of package topo that describe a lab, so that a caller needs only this package.
type (
	// Topology describes a lab.
	Topology = topo.Topology
	// Role is the function of a node in the lab.
	Role = topo.Role
	// Setting is one sysctl on one node, or on every node of a role.
	Setting = topo.Setting
	// Settings is a list of sysctls, made by [On] and [OnNode].
	Settings = topo.Settings
	// GatewaySpec describes the gateway.
	GatewaySpec = topo.GatewaySpec
	// RandomMode says how MASQUERADE chooses a source port.
	RandomMode = topo.RandomMode
	// GatewayKind says what a gateway does with packets.
	GatewayKind = topo.GatewayKind
	// PortRange is a range of ports, both ends included.
	PortRange = topo.PortRange
	// Rule is one iptables rule on one node, or on every node of a role.
	Rule = topo.Rule
	// BalancerSpec describes the balancer.
	BalancerSpec = topo.BalancerSpec
)

// The roles, and the kinds of gateways and balancers: see topo.
const (
	Client   = topo.Client
	Gateway  = topo.Gateway
	Balancer = topo.Balancer
	Server   = topo.Server

	NoGateway  = topo.NoGateway
	Routed     = topo.Routed
	Masquerade = topo.Masquerade

	KeepPort    = topo.KeepPort
	Random      = topo.Random
	FullyRandom = topo.FullyRandom

	Endpoint = topo.Endpoint
	DNAT     = topo.DNAT
	InTurn   = topo.InTurn
)

// On sets sysctls, each given as "name=value", on every node of a role.
func On(role Role, assignments ...string) Settings { return topo.On(role, assignments...) }

// OnNode sets sysctls, each given as "name=value", on the node of that name.
func OnNode(name string, assignments ...string) Settings { return topo.OnNode(name, assignments...) }
