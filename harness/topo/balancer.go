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
	// Processes returns the processes of the program, the oldest first; none when the kernel
	// itself balances.
	Processes() ([]Process, error)
	// Failure returns nil while the program runs, and when it has ended because somebody
	// asked for that (see [Stoppable]). Otherwise it says how the program ended, and wraps
	// [ErrEnded].
	Failure() error
	// Close ends the program. The error is that of Failure when the program had ended
	// before.
	Close() error
}

// Stoppable is a program that can be stopped, and started again.
type Stoppable interface {
	// Stop stops the program. After a soft stop it returns when the program does not listen
	// any more; old connections may still be open. After a hard stop it returns when all
	// its processes have ended. What the program has logged and counted stays readable.
	Stop(ctx context.Context, how StopMode) error
	// Start starts a stopped program again, with the same configuration, and returns when
	// it listens.
	Start(ctx context.Context) error
}

// StopMode says how a program stops.
type StopMode string

// The modes.
const (
	// SoftStop: the program stops to listen, serves the connections that it has, and ends
	// with the last of them. What becomes of idle ones is the program's own choice.
	SoftStop StopMode = "soft"
	// HardStop: the program ends at once, with all connections.
	HardStop StopMode = "hard"
)

// Reloadable is a program that can read its configuration again while it runs.
type Reloadable interface {
	// Reload makes the program use another configuration, that of to, which must be of the
	// same kind; nil is the one that it has. It returns when the new process listens and
	// the old one does not; the old one may still serve old connections. When the program
	// rejects the configuration, the error has its own words, and the old process serves
	// on.
	Reload(ctx context.Context, to Program) error
}

// Pausable is a program that can be held still, so that a race has a certain winner.
type Pausable interface {
	// Pause stops the processes that listen (SIGSTOP) and returns when they stand still.
	// The kernel still completes handshakes for them.
	Pause(ctx context.Context) error
	// Continue lets all processes run again (SIGCONT).
	Continue() error
}

// Process is one process of a program.
type Process struct {
	PID   int
	State ProcessState
	// Connections is the number of TCP connections, to clients and to servers, whose
	// sockets the process has. Those in an accept queue are not among them.
	Connections int
	// Stats are the program's statistics from just before this process was told to stop;
	// nil until then, and when it could not be asked.
	Stats kernel.Counters
}

// ProcessState says what a process of a program does.
type ProcessState string

// The states.
const (
	Serving     ProcessState = "serving"     // it listens
	Leaving     ProcessState = "leaving"     // it listens no more, and serves its connections
	Paused      ProcessState = "paused"      // a signal has stopped it
	Supervising ProcessState = "supervising" // it is the master of others
	Ended       ProcessState = "ended"
)

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
