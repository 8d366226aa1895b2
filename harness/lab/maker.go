//go:build linux

package lab

import (
	"context"
	"io"
	"net"
	"net/netip"
	"os"

	"twlab/harness/node"
	"twlab/harness/topo"
)

// Maker is a kind of node that can be made. To add a kind, implement it; nothing else in
// lab depends on the kind.
type Maker interface {
	topo.NodeKind
	// Prepare is called once for the kind of each role, before any node of the lab is made;
	// all are the kinds of all nodes. It returns an error when making the nodes would fail,
	// and otherwise the Maker that makes them.
	Prepare(ctx context.Context, all []topo.NodeKind) (Maker, error)
	// Make makes a node and returns when its network is up. In any case it has to close the
	// taps of the cards.
	Make(ctx context.Context, b Blueprint) (Made, error)
}

// Blueprint describes a node that will be made.
type Blueprint struct {
	Node topo.Identity
	// Cards are its network cards, Own the addresses that it has on lo.
	Cards []Card
	Own   []netip.Addr
	// Routes are its routes, in addition to those to its neighbours.
	Routes []topo.Hop
	// Modules are the kernel modules that its program takes (topo.KernelProgram).
	Modules []string
}

// Card is a network card of a node, with the tap device at the other end of its link.
type Card struct {
	Name     string // its name on the node: "eth0"
	Hardware net.HardwareAddr
	// Pairs are its addresses, each with that of the only neighbour.
	Pairs        []topo.Pair
	PeerHardware net.HardwareAddr
	Tap          *os.File
}

// Made is a node that a [Maker] has made.
type Made interface {
	node.Node
	io.Closer
	// Console returns what the node has printed so far.
	Console() string
}
