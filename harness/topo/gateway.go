package topo

import "fmt"

// GatewayKind says what a gateway does with packets.
type GatewayKind string

// The kinds. The zero value is no gateway at all.
const (
	NoGateway GatewayKind = ""
	// Routed forwards and changes nothing.
	Routed GatewayKind = "routed"
	// Masquerade translates the addresses of all clients to the gateway's own address
	// (iptables MASQUERADE, nf_nat_masquerade_ipv4).
	Masquerade GatewayKind = "masquerade"
)

// RandomMode says how MASQUERADE chooses a source port (nf_nat_l4proto_unique_tuple).
type RandomMode string

// The modes. The zero value keeps the client's port when it is free.
const (
	KeepPort    RandomMode = ""
	Random      RandomMode = "--random"
	FullyRandom RandomMode = "--random-fully"
)

// GatewaySpec describes the gateway.
type GatewaySpec struct {
	Kind GatewayKind
	// Ports, for Masquerade, is the range of source ports (--to-ports); its
	// zero value leaves the choice to the kernel.
	Ports PortRange
	// Random, for Masquerade, says how the port is chosen.
	Random RandomMode
	// PerClient, for Masquerade with Ports, gives each client a block of this many ports
	// that no other client gets: the first block to client0 and so on, as a carrier's NAT
	// does (RFC 7422). That takes one rule per client.
	PerClient int
}

// PortRange is a range of ports, both ends included.
type PortRange struct{ First, Last uint16 }

// Size returns the number of ports; 0 for the zero value.
func (p PortRange) Size() int {
	if p == (PortRange{}) {
		return 0
	}
	return int(p.Last) - int(p.First) + 1
}

// block returns the i-th block of size ports.
func (p PortRange) block(i, size int) PortRange {
	first := int(p.First) + i*size
	return PortRange{uint16(first), uint16(first + size - 1)}
}

// String returns "1024-65535", as iptables writes it.
func (p PortRange) String() string { return fmt.Sprintf("%d-%d", p.First, p.Last) }

func (p PortRange) validate() []error {
	switch {
	case p == PortRange{}:
		return nil
	case p.First == 0:
		return []error{fmt.Errorf("port range %v: ports begin at 1", p)}
	case p.First > p.Last:
		return []error{fmt.Errorf("port range %v is reversed: the first port is the smaller one", p)}
	default:
		return nil
	}
}

func (m RandomMode) validate() []error {
	switch m {
	case KeepPort, Random, FullyRandom:
		return nil
	default:
		return []error{fmt.Errorf("unknown random mode %q: want %q, %q or none", m, Random, FullyRandom)}
	}
}

func (g GatewaySpec) validate(clients int) (errs []error) {
	bad := func(err error) { errs = append(errs, fmt.Errorf("gateway: %w", err)) }
	switch g.Kind {
	case NoGateway, Routed, Masquerade:
	default:
		bad(fmt.Errorf("unknown kind %q: want %q, %q or none", g.Kind, Routed, Masquerade))
	}
	if g.Kind != Masquerade && (g.Ports != PortRange{} || g.Random != KeepPort || g.PerClient != 0) {
		bad(fmt.Errorf("ports and random mode need kind %q", Masquerade))
	}
	switch n := g.PerClient; {
	case n == 0:
	case n < 0:
		bad(fmt.Errorf("%d ports for each client: want at least 1, or 0 to share them all", n))
	case g.Ports == PortRange{}:
		bad(fmt.Errorf("%d ports for each client: out of which range? Give Ports", n))
	case g.Ports.Size() < n*clients:
		bad(fmt.Errorf("%d ports for each of %d clients: the range %v has only %d", n, clients, g.Ports, g.Ports.Size()))
	}
	return errs
}
