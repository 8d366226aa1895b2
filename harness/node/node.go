//go:build linux

// Package node defines what one machine of a lab can do, and implements it for the kernel
// that this process runs on.
//
// The [Node] interface takes and returns plain data, no functions and no descriptors. So
// callers use a namespace of the running kernel and a guest in the same way. [Local] is the
// only implementation of each operation: it is called directly for a namespace, and by an
// agent inside a guest.
package node

import (
	"context"
	"net/netip"
	"syscall"
	"time"

	"twlab/harness/http"
	"twlab/harness/kernel"
	"twlab/harness/observe"
	"twlab/harness/tcp"
	"twlab/harness/topo"
)

// Node is one machine of a lab. It combines the interfaces below, which are for callers
// that need less. Its methods may be called from any goroutine. Errors name the node and
// the step.
type Node interface {
	Identity() topo.Identity
	Kernel
	Sysctls
	Evidence
	Flows
	topo.VirtualServices
	Sockets
	Data
	Clocks
	HTTP
}

// Kernel describes a node's kernel.
type Kernel interface {
	// Release returns the release of the node's kernel.
	Release(ctx context.Context) (kernel.Release, error)
	// HasSymbol reports whether the node's kernel has a function or variable of that name.
	HasSymbol(ctx context.Context, name string) (kernel.Fact, error)
}

// Sysctls reads and changes a node's sysctls.
type Sysctls interface {
	// Sysctl reads a sysctl of the node ("net.ipv4.tcp_tw_reuse"); SetSysctl
	// sets it and reads it back. Their errors wrap a *kernel.SysctlError.
	Sysctl(ctx context.Context, name string) (string, error)
	SetSysctl(ctx context.Context, name, value string) error
}

// Evidence reads the current evidence at a node.
type Evidence interface {
	Counters(ctx context.Context) (kernel.Counters, error)
	Occupancy(ctx context.Context) (observe.Occupancy, error)
	Sockets(ctx context.Context) (observe.Sockets, error)
	Rules(ctx context.Context) ([]observe.RuleHits, error)
}

// Flows is a node's conntrack table.
type Flows interface {
	Flows(ctx context.Context) ([]observe.Flow, error)
	// DeleteFlows deletes conntrack entries and returns how many.
	DeleteFlows(ctx context.Context, match observe.FlowMatch) (int, error)
}

// Sockets makes and ends connections, as tcp.Host does. A handle belongs to one node;
// another node, one of the same name in another lab too, returns an error that wraps
// tcp.ErrForeign.
type Sockets interface {
	Listen(ctx context.Context, spec tcp.ListenSpec) (Listening, error)
	// TryListen is Listen for a caller that expects one certain outcome. The address of the
	// result is that of Listening.
	TryListen(ctx context.Context, spec tcp.ListenSpec) (tcp.ListenResult, error)
	// Connect is Attempt for one attempt.
	Connect(ctx context.Context, attempt tcp.Attempt) (tcp.Result, error)
	Attempt(ctx context.Context, attempts []tcp.Attempt) ([]tcp.Result, error)
	Accept(ctx context.Context, listening tcp.Handle, peer netip.AddrPort) (tcp.Handle, error)
	End(ctx context.Context, conn tcp.Handle, how tcp.Ending) error
}

// Data writes to connections and reads them, as tcp.Host does.
type Data interface {
	Send(ctx context.Context, conn tcp.Handle, n int) (taken int, err error)
	// TrySend is Send for a caller that expects one certain error number.
	TrySend(ctx context.Context, conn tcp.Handle, n int) (tcp.Sent, error)
	Receive(ctx context.Context, conn tcp.Handle) (tcp.Received, error)
	ReceiveUpTo(ctx context.Context, conn tcp.Handle, limit tcp.Limit) (tcp.Received, error)
	HalfClose(ctx context.Context, conn tcp.Handle) (syscall.Errno, error)
	SocketError(ctx context.Context, conn tcp.Handle) (syscall.Errno, error)
}

// Clocks reads and advances the clocks of connections, as tcp.Host does.
type Clocks interface {
	Clock(ctx context.Context, conn tcp.Handle) (tcp.ClockReading, error)
	AdvanceClock(ctx context.Context, conn tcp.Handle, ticks int32) error
	RTO(ctx context.Context, conn tcp.Handle) (time.Duration, error)
}

// HTTP makes exchanges, and serves, as http.Host does.
type HTTP interface {
	Serve(ctx context.Context, spec http.ListenSpec) (Listening, error)
	// TryServe is Serve for a caller that expects one certain outcome.
	TryServe(ctx context.Context, spec http.ListenSpec) (tcp.ListenResult, error)
	Exchange(ctx context.Context, exchanges []http.Exchange, atOnce int) ([]http.Exchanged, error)
	Served(ctx context.Context, listening tcp.Handle) (http.Served, error)
}

// Listening is an open listening socket of a node.
type Listening struct {
	Handle tcp.Handle
	// Addr is the address at which others reach it: the node's own address of that IP
	// version when the socket listens on all addresses.
	Addr netip.AddrPort
}

// CountersOf reads the counters of several nodes, one after the other.
func CountersOf(ctx context.Context, nodes []Node) ([]kernel.Counters, error) {
	all := make([]kernel.Counters, len(nodes))
	for i, n := range nodes {
		var err error
		if all[i], err = n.Counters(ctx); err != nil {
			return nil, err
		}
	}
	return all, nil
}
