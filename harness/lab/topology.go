//go:build linux

// Package lab turns a [Topology], a plain description of machines, links, NAT and
// sysctls (package topo), into a [Lab]: the same thing made of network namespaces,
// veth pairs and iptables rules on the running kernel. A lab owns all that it made
// and takes it down again.
//
//	client0 ─┐
//	client1 ─┼─ gateway ── balancer ─┬─ server0
//	   ...  ─┘                       └─ server1
//
// Without a gateway the clients hang off the balancer. Every link is a veth pair
// of its own, both ends born inside their namespaces; the end at the outer node
// is called eth0, the end at the inner one (gateway or balancer) is named after
// the outer node. Routes are host routes and neighbours are static, so a lab has
// no ARP, and as many clients as there are addresses (a Linux bridge ends at
// 1023 ports, the kernel's neighbour table at 1024 learnt entries for the whole
// machine).
//
// A node may be of another kind, such as a guest, a virtual machine with a kernel of its own
// ([Topology].Kinds). The end of its link at the neighbour then is a tap device. What
// balances by a program, and what emulates or watches a node, plugs in from other
// packages, which lab does not know: see [Maker], topo.Program, [Lab.Inside] and
// [Lab.CloseWith].
package lab

import "twlab/harness/topo"

// What a lab is made from is package topo's. These are its names for those who make
// labs, so that they need no second package.
type (
	// Topology describes the lab wanted.
	Topology = topo.Topology
	// Role is what a node is for.
	Role = topo.Role
	// Setting is one sysctl on one node, or on every node of a role.
	Setting = topo.Setting
	// Settings is a list of sysctls, made by [On] and [OnNode].
	Settings = topo.Settings
	// GatewaySpec describes the gateway.
	GatewaySpec = topo.GatewaySpec
	// RandomMode is how MASQUERADE chooses a source port.
	RandomMode = topo.RandomMode
	// GatewayKind is what a gateway does with packets.
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
