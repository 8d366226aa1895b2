// Package script describes a scenario: a network, steps that are taken in it, and what is
// expected of each. It is plain data that can be checked on any system; package play runs it.
package script

import (
	"net/netip"
	"time"

	"twlab/harness/topo"
)

// Scenario is a network, and steps that are taken in it one after the other.
type Scenario struct {
	// Name says what happens, in a few words.
	Name string
	// Belief is what people think, Truth what is the case: a sentence each.
	Belief, Truth string
	// Sources are the addresses of reports of it.
	Sources []string
	// When is where it can be run. Elsewhere it says nothing.
	When    Condition
	Network topo.Network
	// Programs are the programs that balance, by their node.
	Programs map[string]Program
	// Groups are names that stand for several nodes.
	Groups map[string][]string
	// Addresses are names of addresses that are not the first one of a node: VIPs, whoever
	// owns them, if anybody does. Addresses6 are the IPv6 addresses of the same names in a
	// dual-stack network.
	Addresses, Addresses6 map[string]netip.Addr
	Steps                 []Step
}

// Step is one thing that is done, and what is expected of it.
type Step struct {
	// ID is the name by which later steps refer to the step, and to the connection or rule
	// that it makes.
	ID string
	// After is the time between the end of the step before and the beginning of this one. A
	// step in the background counts as ended when it has begun.
	After time.Duration
	// Background lets the next step begin as soon as this one has begun. [Await] waits for
	// its end.
	Background bool
	// When leaves the step out where it does not apply.
	When Condition
	// Do is what is done.
	Do Action
	// Expect is what is expected of the step: of its result, and of what changed in the
	// network between its beginning and its end.
	Expect []Expectation
}

// Action is what a step does. It is implemented by the types of this package whose doc
// comments begin with the verb of their files.
type Action interface {
	// Verb is the name of the action in files: "half-close".
	Verb() string
	// check notes what is wrong with the action.
	check(c *checker)
}

// Condition says where a step or an expectation applies. Its zero value applies everywhere.
type Condition struct {
	// At is the node whose kernel decides. It may be left out where all nodes have the same
	// kernel.
	At string
	// Since and Before limit the release of the kernel ("5.14"): Since is the first to which
	// it applies, Before the first to which it does not.
	Since, Before string
	// Feature is a feature that the kernel must have (kernel.Feature), Without one that it
	// must lack.
	Feature, Without string
}

// Names of addresses that every node has, unless the scenario gives them to a node or an entry of
// [Scenario.Addresses]. In a dual-stack network they are those of IPv4, and with Six of IPv6.
const (
	// Loopback is the address by which a node reaches itself: 127.0.0.1, or ::1.
	Loopback = "loopback"
	// Everywhere is where a listener has all addresses of a version: 0.0.0.0, or ::.
	Everywhere = "all"
)

// Endpoint is an address, given by the name of a node, of a group, of an entry of
// [Scenario.Addresses] or by [Loopback], and a port: "client0:50000". Port 0 leaves the port to the
// kernel.
type Endpoint struct {
	Name string
	Port uint16
	// Six is the IPv6 address of a name that has both: "web.ipv6:80".
	Six bool
}

// Usual returns a scenario without steps whose network is that of a topology, with the names
// that the short form of files has: a group for each role, and the address "vip".
func Usual(shape topo.Topology) Scenario {
	s := Scenario{Network: shape.Network(), Groups: map[string][]string{}}
	for _, n := range s.Network.Nodes {
		role := string(n.Role) + "s"
		s.Groups[role] = append(s.Groups[role], n.Name)
	}
	s.Addresses = map[string]netip.Addr{"vip": shape.VIP().Addr()}
	if shape.IP == topo.DualStack {
		s.Addresses6 = map[string]netip.Addr{"vip": shape.VIPOf(topo.IPv6).Addr()}
	}
	return s
}
