package topo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"

	"twlab/harness/kernel"
)

// BalancerKind is what the balancer does with connections by itself.
type BalancerKind string

// The kinds. The zero value is an end point: the balancer does nothing but what
// is asked of its node, such as listening.
const (
	Endpoint BalancerKind = ""
	// DNAT rewrites the address of the balancer to that of a server, and lets
	// the rest of the connection through (iptables DNAT under the statistic
	// match, as kube-proxy does). The balancer has no socket in it.
	DNAT BalancerKind = "dnat"
)

// StatisticMode is how DNAT chooses a server for a connection (xt_statistic).
type StatisticMode string

// The modes. The zero value is by chance, as kube-proxy does.
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

// BalancerSpec describes the balancer. Its zero value is an end point.
type BalancerSpec struct {
	Kind BalancerKind
	// Port is where clients connect to, and ServerPort where the servers listen;
	// 0 is 80. See [Topology.VIP] and [Topology.Behind].
	Port, ServerPort uint16
	// Program balances, instead of the kind: two connections for each of the
	// clients'. Packages haproxy and nginx have one.
	Program Program
	// Statistic, for DNAT, is how a server is chosen.
	Statistic StatisticMode
}

// Program is a program that balances. To add one, see CONTRIBUTING.md.
type Program interface {
	// Name is what people call it: "haproxy".
	Name() string
	// Validate says what it cannot do there. It looks at nothing but the two.
	Validate(at Place) error
	// Start starts it by a function that runs others in the balancer's namespace,
	// and returns when it listens.
	Start(ctx context.Context, inside func(func() error) error, at Place) (Running, error)
}

// Place is where a program balances.
type Place struct {
	// At is where clients connect to, Servers where the servers listen.
	At      netip.AddrPort
	Servers []netip.AddrPort
	// Own is the balancer's own address towards the servers.
	Own netip.Addr
}

// ErrEnded says that a program is not there any more, though nobody ended it.
var ErrEnded = errors.New("program has ended")

// Running is a program that balances.
type Running interface {
	// Configuration is what it was told, as it reads it.
	Configuration() string
	// Log is what it has said so far.
	Log() (string, error)
	// Stats is its own statistics; a program that keeps none has none.
	Stats(ctx context.Context) (kernel.Counters, error)
	// Failure is nil while it runs; afterwards it says how it ended, and wraps
	// [ErrEnded].
	Failure() error
	// Close ends it. The error is that of Failure when it had ended before.
	Close() error
}

const usualPort = 80

func (s BalancerSpec) port() uint16 { return cmp.Or(s.Port, usualPort) }

// IsEndpoint tells whether the balancer does nothing but what is asked of its node.
func (s BalancerSpec) IsEndpoint() bool { return s.Program == nil && s.Kind == Endpoint }

// validate says what cannot be there.
func (s BalancerSpec) validate(at Place) (errs []error) {
	bad := func(err error) { errs = append(errs, fmt.Errorf("balancer: %w", err)) }
	what := string(s.Kind)
	switch s.Kind {
	case Endpoint, DNAT:
	default:
		bad(fmt.Errorf("unknown kind %q: want %q or none", s.Kind, DNAT))
	}
	if s.Program != nil {
		what = s.Program.Name()
		if s.Kind != Endpoint {
			bad(fmt.Errorf("kind %q and the program %s: want one of them", s.Kind, what))
		}
	}
	if (s.Program != nil || s.Kind == DNAT) && len(at.Servers) == 0 {
		bad(fmt.Errorf("kind %q needs servers", what))
	}
	for _, err := range s.Statistic.validate() {
		bad(err)
	}
	if s.Statistic != ByChance && s.Kind != DNAT {
		bad(fmt.Errorf("statistic mode needs kind %q", DNAT))
	}
	if s.Program != nil && len(at.Servers) > 0 {
		if err := s.Program.Validate(at); err != nil {
			bad(err)
		}
	}
	return errs
}

// VIP is where clients connect to: the balancer's address, and its port.
func (t Topology) VIP() netip.AddrPort { return netip.AddrPortFrom(balancerAddr, t.Balancer.port()) }

// Place is where the balancer's program is.
func (t Topology) Place() Place {
	return Place{At: t.VIP(), Servers: t.Behind(), Own: inner(serverNet)}
}

// Behind is where the servers are to listen, in their order, so that the balancer
// finds them.
func (t Topology) Behind() []netip.AddrPort {
	var all []netip.AddrPort
	for i := range min(t.Servers, capacity(serverNet)) {
		all = append(all, netip.AddrPortFrom(outer(serverNet, i), cmp.Or(t.Balancer.ServerPort, usualPort)))
	}
	return all
}
