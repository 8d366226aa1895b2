//go:build linux

// Package node is what one machine of a lab can do, and doing it on the kernel
// that this process runs on.
//
// The [Node] interface takes and returns plain data: no function and no
// descriptor crosses it. So a namespace of the running kernel and a machine with
// a kernel of its own are the same to their callers, and [Local] is the one
// implementation of each operation: called directly for a namespace, and by an
// agent inside a machine.
package node

import (
	"context"
	"net/netip"
	"time"

	"twlab/harness/http"
	"twlab/harness/kernel"
	"twlab/harness/observe"
	"twlab/harness/tcp"
	"twlab/harness/topo"
)

// Node is one machine of a lab: all that the interfaces below say together, for whoever
// needs less. Its methods may be called from any goroutine. Errors name the node and
// the step.
type Node interface {
	Identity() topo.Identity
	Kernel
	Sysctls
	Evidence
	Flows
	Sockets
	Data
	Clocks
	HTTP
}

// Kernel is what a node's kernel is and has.
type Kernel interface {
	// Release is the release of the node's kernel.
	Release(ctx context.Context) (kernel.Release, error)
	// HasSymbol tells whether the node's kernel has a function or variable of
	// that name.
	HasSymbol(ctx context.Context, name string) (kernel.Fact, error)
}

// Sysctls are a node's settings.
type Sysctls interface {
	// Sysctl reads a sysctl of the node ("net.ipv4.tcp_tw_reuse"); SetSysctl
	// sets it and reads it back. Their errors wrap a *kernel.SysctlError.
	Sysctl(ctx context.Context, name string) (string, error)
	SetSysctl(ctx context.Context, name, value string) error
}

// Evidence is what bears evidence at a node, read now.
type Evidence interface {
	Counters(ctx context.Context) (kernel.Counters, error)
	Occupancy(ctx context.Context) (observe.Occupancy, error)
	Sockets(ctx context.Context) (observe.Sockets, error)
	Rules(ctx context.Context) ([]observe.RuleHits, error)
}

// Flows is a node's conntrack table.
type Flows interface {
	Flows(ctx context.Context) ([]observe.Flow, error)
	// DeleteFlows removes conntrack entries and returns how many.
	DeleteFlows(ctx context.Context, match observe.FlowMatch) (int, error)
}

// Sockets makes and ends connections, as tcp.Host does. A handle is of one node: given
// to another one it is an error that wraps tcp.ErrForeign.
type Sockets interface {
	Listen(ctx context.Context, spec tcp.ListenSpec) (Listening, error)
	// Connect is Attempt for one.
	Connect(ctx context.Context, attempt tcp.Attempt) (tcp.Result, error)
	Attempt(ctx context.Context, attempts []tcp.Attempt) ([]tcp.Result, error)
	Accept(ctx context.Context, listening tcp.Handle, peer netip.AddrPort) (tcp.Handle, error)
	End(ctx context.Context, conn tcp.Handle, how tcp.Ending) error
}

// Data writes to connections and reads them, as tcp.Host does.
type Data interface {
	Send(ctx context.Context, conn tcp.Handle, n int) (taken int, err error)
	Receive(ctx context.Context, conn tcp.Handle) (tcp.Received, error)
}

// Clocks are the clocks of connections, as tcp.Host reads and moves them.
type Clocks interface {
	Clock(ctx context.Context, conn tcp.Handle) (tcp.ClockReading, error)
	AdvanceClock(ctx context.Context, conn tcp.Handle, ticks int32) error
	RTO(ctx context.Context, conn tcp.Handle) (time.Duration, error)
}

// HTTP makes exchanges, and serves, as http.Host does.
type HTTP interface {
	Serve(ctx context.Context, spec http.ListenSpec) (Listening, error)
	Exchange(ctx context.Context, exchanges []http.Exchange, atOnce int) ([]http.Exchanged, error)
	Served(ctx context.Context, listening tcp.Handle) (http.Served, error)
}

// Listening is an open listening socket of a node.
type Listening struct {
	Handle tcp.Handle
	// Addr is where others reach it: the node's own address when the socket
	// listens on all of them.
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
