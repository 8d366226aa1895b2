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

// Maker is a kind of nodes that can be made. To add one, implement it; nothing else
// asks which kind a node is.
type Maker interface {
	topo.NodeKind
	// Prepare is called for the kind of each role, before any node of the lab is made,
	// with the kinds of all nodes that are to be. It says what must make that fail,
	// and returns what to make the nodes by.
	Prepare(ctx context.Context, all []topo.NodeKind) (Maker, error)
	// Make makes a node and returns when its network is up. The taps of its cards are
	// the maker's to close, whatever happens.
	Make(ctx context.Context, b Blueprint) (Made, error)
}

// Blueprint is a node that is to be made.
type Blueprint struct {
	Node topo.Identity
	// Cards are its network cards, Gateway where it sends what they do not lead to.
	// When none of them has the node's address, lo has it.
	Cards   []Card
	Gateway netip.Addr
}

// Card is a network card of a node, and the tap device at the other end of its wire.
type Card struct {
	Name         string // what the node calls it: "eth0"
	Hardware     net.HardwareAddr
	Addr         netip.Addr
	Peer         netip.Addr // the only neighbour
	PeerHardware net.HardwareAddr
	Tap          *os.File
}

// Made is a node that a [Maker] has made.
type Made interface {
	node.Node
	io.Closer
	// Console is what it has printed so far.
	Console() string
}
