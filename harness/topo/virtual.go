package topo

import (
	"cmp"
	"context"
	"net/netip"
)

// VirtualService is an address at which a kernel spreads TCP connections over destinations
// (IPVS). It forwards their packets by NAT (IP_VS_CONN_F_MASQ): destinations see the address
// of the client, and must send their replies back through the node.
type VirtualService struct {
	At netip.AddrPort
	// Scheduler chooses the destination of a new connection: "rr" in turn (module ip_vs_rr),
	// which is the zero value, "wrr", "lc", "wlc", "sh" and others.
	Scheduler    string
	Destinations []Destination
}

// DefaultScheduler is the scheduler of a [VirtualService] without one.
const DefaultScheduler = "rr"

// SchedulerName returns the scheduler by its name.
func (s VirtualService) SchedulerName() string { return cmp.Or(s.Scheduler, DefaultScheduler) }

// Destination is a server of a [VirtualService].
type Destination struct {
	At netip.AddrPort
	// Weight is its share of new connections. One with weight 0 gets none, and keeps those
	// that it has.
	Weight uint32
	// What follows is what the kernel counts; it is not set. Connections is the number of
	// connections since the destination was added, as of up to two seconds ago, when the
	// kernel last summed it (estimation_timer, ip_vs_est.c). Active is the number of entries
	// for established connections, Inactive for others (ip_vs_tcp_state_table).
	Connections, Active, Inactive uint32
}

// VirtualServices is the table of virtual services of a node's kernel.
type VirtualServices interface {
	// VirtualServices reads the table. The error says so when the kernel has no IPVS.
	VirtualServices(ctx context.Context) ([]VirtualService, error)
	// SetVirtualServices makes these the virtual services of the node. Connections stay as
	// far as the kernel keeps them: those of a service or destination that stays do.
	SetVirtualServices(ctx context.Context, all []VirtualService) error
}

// KernelProgram is a [Program] that is no process but work of a node's own kernel: a node of
// any kind can have it, and forwards.
type KernelProgram interface {
	Program
	// Modules are the kernel modules that it takes, where they are not built in.
	Modules() []string
	// Available returns an error when the kernel of the namespace in which inside runs
	// functions cannot do it.
	Available(inside func(func() error) error) error
	// StartOn starts the program on a node of any kind.
	StartOn(ctx context.Context, n VirtualServices, at Place) (Running, error)
}

// ByKernel returns the program of the node when it is work of the kernel.
func (n Node) ByKernel() (program KernelProgram, is bool) {
	program, is = n.Program.(KernelProgram)
	return program, is
}
