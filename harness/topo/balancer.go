package topo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"

	"twlab/harness/kernel"
)

// BalancerKind says what the balancer does with connections by itself.
type BalancerKind string

// The kinds. The zero value is an endpoint: the balancer does only what is asked of its
// node, such as listening.
const (
	Endpoint BalancerKind = ""
	// DNAT rewrites the address of the balancer to that of a server, and forwards the
	// packets of the connection (iptables DNAT with the statistic match, as kube-proxy
	// does). The balancer has no socket for it.
	DNAT BalancerKind = "dnat"
)

// StatisticMode says how DNAT chooses a server for a connection (xt_statistic).
type StatisticMode string

// The modes. The zero value chooses at random, as kube-proxy does.
const (
	ByChance StatisticMode = ""
	InTurn   StatisticMode = "nth"
)

func (m StatisticMode) validate() []error {
	switch m {
	case ByChance, InTurn:
		return nil
	default:
		return []error{fmt.Errorf("unknown statistic mode %q: want %q or none", m, InTurn)}
	}
}

// BalancerSpec describes the balancer. Its zero value is an endpoint.
type BalancerSpec struct {
	Kind BalancerKind
	// Port is the port that clients connect to, ServerPort the port that the servers listen
	// on; 0 is 80. See [Topology.VIP] and [Topology.Behind].
	Port, ServerPort uint16
	// Program balances instead of a Kind, with two TCP connections for each connection of a
	// client. Packages haproxy and nginx provide one each.
	Program Program
	// Statistic, for DNAT, says how a server is chosen.
	Statistic StatisticMode
}

// Program is a program that balances. To add one, see CONTRIBUTING.md.
type Program interface {
	// Name is the usual name of the program: "haproxy".
	Name() string
	// Validate returns an error for what the program cannot do there. It reads only its
	// receiver and at.
	Validate(at Place) error
	// Start starts the program through inside, which runs functions in the balancer's
	// namespace, and returns when the program listens.
	Start(ctx context.Context, inside func(func() error) error, at Place) (Running, error)
}

// Place says where a program balances.
type Place struct {
	// At is the address that clients connect to, Servers are the addresses that the servers
	// listen on.
	At      netip.AddrPort
	Servers []netip.AddrPort
	// Own is the balancer's own address on the servers' side.
	Own netip.Addr
}

// ErrEnded means that a program has ended although nothing closed it.
var ErrEnded = errors.New("program has ended")

// Running is a program that runs as the balancer.
type Running interface {
	// Configuration returns the configuration as the program reads it.
	Configuration() string
	// Log returns what the program has logged so far.
	Log() (string, error)
	// Stats returns the program's own statistics; empty when it keeps none.
	Stats(ctx context.Context) (kernel.Counters, error)
	// Failure returns nil while the program runs. Afterwards it says how the program ended,
	// and wraps [ErrEnded].
	Failure() error
	// Close ends the program. The error is that of Failure when the program had ended
	// before.
	Close() error
}

const usualPort = 80

func (s BalancerSpec) port() uint16 { return cmp.Or(s.Port, usualPort) }

// IsEndpoint reports whether the balancer does only what is asked of its node.
func (s BalancerSpec) IsEndpoint() bool { return s.Program == nil && s.Kind == Endpoint }

// validate returns what is wrong with the description, but for what is wrong with its
// servers, its translation and its program: see Network.
func (s BalancerSpec) validate() (errs []error) {
	bad := func(err error) { errs = append(errs, fmt.Errorf("balancer: %w", err)) }
	switch s.Kind {
	case Endpoint, DNAT:
	default:
		bad(fmt.Errorf("unknown kind %q: want %q or none", s.Kind, DNAT))
	}
	if s.Program != nil && s.Kind != Endpoint {
		bad(fmt.Errorf("kind %q and the program %s: want one of them", s.Kind, s.Program.Name()))
	}
	if s.Statistic != ByChance && s.Kind != DNAT {
		bad(fmt.Errorf("statistic mode needs kind %q", DNAT))
	}
	return errs
}

// VIP returns what clients connect to: the balancer's address and its port. In a dual-stack
// network it is the IPv4 address.
func (t Topology) VIP() netip.AddrPort { return t.VIPOf(t.IP.primary()) }

// VIPOf returns the VIP of one version, IPv4 or IPv6; not valid when the network has none.
func (t Topology) VIPOf(v IPVersion) netip.AddrPort {
	if !t.IP.Has(v) {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(t.IP.addr(v, balancerAddr), t.Balancer.port())
}

// Place returns where the balancer's program balances. In a dual-stack network it balances
// at the IPv4 address.
func (t Topology) Place() Place {
	return Place{At: t.VIP(), Servers: t.Behind(), Own: t.IP.addr(t.IP.primary(), inner(serverNet))}
}

// Behind returns the addresses, in the order of the servers, that these must listen on so
// that the balancer finds them. In a dual-stack network they are the IPv4 addresses.
func (t Topology) Behind() []netip.AddrPort { return t.BehindOf(t.IP.primary()) }

// BehindOf returns what Behind returns, of one version, IPv4 or IPv6; nothing when the
// network has no such addresses.
func (t Topology) BehindOf(v IPVersion) (all []netip.AddrPort) {
	if !t.IP.Has(v) {
		return nil
	}
	for i := range min(t.Servers, capacity(serverNet)) {
		addr := t.IP.addr(v, outer(serverNet, i))
		all = append(all, netip.AddrPortFrom(addr, cmp.Or(t.Balancer.ServerPort, usualPort)))
	}
	return all
}
