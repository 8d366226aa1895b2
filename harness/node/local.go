//go:build linux

package node

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"twlab/harness/http"
	"twlab/harness/ipvs"
	"twlab/harness/kernel"
	"twlab/harness/observe"
	"twlab/harness/tcp"
	"twlab/harness/topo"
)

// Local is a Node on the running kernel. Make one with [NewLocal]; Close ends
// its sockets.
type Local struct {
	id     topo.Identity
	inside func(func() error) error
	host   *tcp.Host
	web    *http.Host // on host

	services sync.Mutex // of one change of the virtual services at a time
}

var _ Node = (*Local)(nil)

// NewLocal makes a node whose operations run through inside, such as ns.Namespace.Do.
func NewLocal(id topo.Identity, inside func(func() error) error) *Local {
	return NewOwned(id, tcp.NewOwner(), inside)
}

// NewOwned is NewLocal with the owner that the handles of the node carry; see
// [tcp.NewOwnedHost].
func NewOwned(id topo.Identity, owner tcp.Owner, inside func(func() error) error) *Local {
	host := tcp.NewOwnedHost(id.Name, owner, inside)
	return &Local{id: id, inside: inside, host: host, web: http.NewHost(host)}
}

// Close closes all sockets of the node.
func (l *Local) Close() error { return l.wrap(l.host.CloseAll()) }

// Identity says who the node is.
func (l *Local) Identity() topo.Identity { return l.id }

// Release returns the running kernel's release.
func (l *Local) Release(context.Context) (kernel.Release, error) {
	r, err := kernel.Running()
	return r, l.wrap(err)
}

// Sysctl reads a sysctl of the node's namespace, or of the machine when the kernel has a
// single one for all namespaces: the node uses that one. It can be read only when this
// process is in the initial namespace.
func (l *Local) Sysctl(_ context.Context, name string) (string, error) {
	value, err := inside(l, func() (string, error) { return kernel.ReadSysctl(name) })
	if errors.Is(err, kernel.ErrSysctlGlobal) {
		if common, outside := kernel.ReadSysctl(name); outside == nil {
			return common, nil
		}
	}
	return value, err
}

// SetSysctl sets a sysctl of the node's namespace.
func (l *Local) SetSysctl(_ context.Context, name, value string) error {
	return l.wrap(l.inside(func() error { return kernel.WriteSysctl(name, value) }))
}

// Counters reads the counters of the node's namespace.
func (l *Local) Counters(context.Context) (kernel.Counters, error) {
	return inside(l, observe.ReadCounters)
}

// Occupancy counts the entries in the tables of the node's namespace.
func (l *Local) Occupancy(context.Context) (observe.Occupancy, error) {
	return inside(l, observe.ReadOccupancy)
}

// Sockets reads the TCP sockets of the node's namespace.
func (l *Local) Sockets(context.Context) (observe.Sockets, error) {
	return inside(l, observe.ReadSockets)
}

// Flows reads the conntrack table of the node's namespace.
func (l *Local) Flows(context.Context) ([]observe.Flow, error) {
	return inside(l, observe.ReadFlows)
}

// Rules reads the iptables rules of the node's namespace and their hits.
func (l *Local) Rules(ctx context.Context) ([]observe.RuleHits, error) {
	return inside(l, func() ([]observe.RuleHits, error) { return observe.ReadRules(ctx, "") })
}

// DeleteFlows deletes conntrack entries of the node's namespace.
func (l *Local) DeleteFlows(_ context.Context, match observe.FlowMatch) (int, error) {
	return inside(l, func() (int, error) { return observe.DeleteFlows(match) })
}

// VirtualServices reads the virtual services of the node's namespace. The error wraps
// ipvs.ErrMissing when the running kernel has none.
func (l *Local) VirtualServices(context.Context) ([]topo.VirtualService, error) {
	return inside(l, ipvs.Read)
}

// SetVirtualServices makes these the virtual services of the node's namespace.
func (l *Local) SetVirtualServices(_ context.Context, all []topo.VirtualService) error {
	l.services.Lock()
	defer l.services.Unlock()
	return l.wrap(l.inside(func() error { return ipvs.Set(all) }))
}

// HasSymbol looks for a name in the running kernel's symbol table.
func (l *Local) HasSymbol(_ context.Context, name string) (kernel.Fact, error) {
	fact, err := kernel.HasSymbol(name)
	return fact, l.wrap(err)
}

// Connect makes one attempt from the node.
func (l *Local) Connect(ctx context.Context, attempt tcp.Attempt) (tcp.Result, error) {
	outcome, err := l.host.Connect(ctx, attempt)
	return outcome, l.wrap(err)
}

// Attempt makes the attempts from the node.
func (l *Local) Attempt(ctx context.Context, attempts []tcp.Attempt) ([]tcp.Result, error) {
	outcomes, err := l.host.Attempt(ctx, attempts)
	return outcomes, l.wrap(err)
}

// Exchange makes HTTP exchanges from the node, at most atOnce at the same time.
func (l *Local) Exchange(ctx context.Context, exchanges []http.Exchange, atOnce int) ([]http.Exchanged, error) {
	exchanged, err := l.web.Exchange(ctx, exchanges, atOnce)
	return exchanged, l.wrap(err)
}

// Served reports what an HTTP listener of the node has done so far.
func (l *Local) Served(_ context.Context, listening tcp.Handle) (http.Served, error) {
	served, err := l.web.Served(listening)
	return served, l.wrap(err)
}

// Accept waits for a connection from peer on a listening socket of the node.
func (l *Local) Accept(ctx context.Context, listening tcp.Handle, peer netip.AddrPort) (tcp.Handle, error) {
	conn, err := l.host.Accept(ctx, listening, peer)
	return conn, l.wrap(err)
}

// End ends a connection of the node.
func (l *Local) End(ctx context.Context, conn tcp.Handle, how tcp.Ending) error {
	return l.wrap(l.host.End(ctx, conn, how))
}

// Clock reads the timestamp clock of one connection of the node.
func (l *Local) Clock(_ context.Context, conn tcp.Handle) (tcp.ClockReading, error) {
	reading, err := l.host.Clock(conn)
	return reading, l.wrap(err)
}

// AdvanceClock advances the timestamp clock of one connection of the node.
func (l *Local) AdvanceClock(_ context.Context, conn tcp.Handle, ticks int32) error {
	return l.wrap(l.host.AdvanceClock(conn, ticks))
}

// RTO reads the retransmission timeout of one connection of the node.
func (l *Local) RTO(_ context.Context, conn tcp.Handle) (time.Duration, error) {
	rto, err := l.host.RTO(conn)
	return rto, l.wrap(err)
}

func (l *Local) wrap(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", l.id.Name, err)
}

// inside reads a value in the node's namespace.
func inside[T any](l *Local, read func() (T, error)) (T, error) {
	var value T
	err := l.inside(func() (err error) {
		value, err = read()
		return err
	})
	return value, l.wrap(err)
}
