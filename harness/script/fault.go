package script

import (
	"time"

	"twlab/harness/topo"
)

// AddRule adds an iptables rule, which the ID of its step names.
type AddRule struct {
	Node string
	// Table, Chain and Spec are those of topo.Rule.
	Table, Chain, Spec string
	// IP restricts the rule to one version of IP, as that of topo.Rule does.
	IP topo.IPVersion
}

// RemoveRule ends what the step of this ID began: a rule, or packets that are dropped.
type RemoveRule struct{ Step string }

// Drop loses packets at a node.
type Drop struct {
	Node string
	// In is the neighbour that they come from, Out the one that they are for; one of them.
	In, Out string
	// Flags are the TCP flags that a packet has: "SYN", "SYN,ACK"; empty means any packet.
	Flags string
	// From and To are the ends of the packets, if they matter.
	From, To Endpoint
	// First is after how many packets it ends by itself, For after which time. Without them it
	// lasts until [RemoveRule] or the end.
	First int
	For   time.Duration
}

// SetLink takes a link down, or up again.
type SetLink struct {
	// A and B are its nodes.
	A, B string
	Up   bool
	// For is the time after which the link is as before; 0 means never.
	For time.Duration
}

// ForgetFlows deletes conntrack entries of a node.
type ForgetFlows struct {
	Node string
	Flow Flow
}

// Flow selects conntrack entries. Without any field it is every entry.
type Flow struct {
	// From and To are the ends as the first packet had them, As the source after translation,
	// At the destination after it.
	From, To, As, At Endpoint
	// State is that of conntrack: "SYN_SENT".
	State string
}

// Set sets sysctls of a node.
type Set struct {
	Node    string
	Sysctls []Sysctl
}

// Sysctl is a sysctl and its value.
type Sysctl struct{ Name, Value string }

// Stop ends the balancer's program at a node.
type Stop struct {
	Node string
	// Soft lets it serve the connections that it has (SIGUSR1 to HAProxy).
	Soft bool
}

// Start starts a program again that was stopped.
type Start struct{ Node string }

// Reload makes a program read its configuration again.
type Reload struct {
	Node string
	// Weights are, for IPVS, the weights of servers from now on, 1 for one that is not named;
	// Without are servers that are no destinations any more.
	Weights []Weight
	Without []Endpoint
}

// Weight is the share of new connections that a server gets.
type Weight struct {
	Server Endpoint
	Weight int
}

// Await waits for the end of a step in the background. What is expected of that step is
// expected by Await's own expectations.
type Await struct{ Step string }

// Sleep does nothing for a time.
type Sleep struct{ For time.Duration }
