//go:build linux

package ipvs

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"

	"twlab/harness/kernel"
	"twlab/harness/topo"
)

// Balancer is IPVS, in NAT mode, as the balancer of a lab.
type Balancer struct {
	// Scheduler is that of topo.VirtualService; empty is "rr".
	Scheduler string
	// Weights are the weights of servers, 1 for one that is not named. With weight 0 a server
	// gets no new connections.
	Weights map[netip.AddrPort]uint32
	// Without are servers that are no destinations.
	Without []netip.AddrPort
}

var _ topo.KernelProgram = Balancer{}

// Name returns "ipvs".
func (b Balancer) Name() string { return "ipvs" }

// Modules are ip_vs, and the scheduler's.
func (b Balancer) Modules() []string {
	return []string{"ip_vs", "ip_vs_" + topo.VirtualService{Scheduler: b.Scheduler}.SchedulerName()}
}

// Validate returns an error for servers of another IP version than the place, which NAT cannot
// reach, and for weights of nobody.
func (b Balancer) Validate(at topo.Place) error {
	known := map[netip.AddrPort]bool{}
	for _, s := range at.Servers {
		if s.Addr().Is4() != at.At.Addr().Is4() {
			return fmt.Errorf("ipvs at %v: the server %v has another IP version, and NAT keeps the version", at.At, s)
		}
		known[s] = true
	}
	for s := range b.Weights {
		if !known[s] {
			return fmt.Errorf("ipvs at %v: a weight for %v, which is no server of it", at.At, s)
		}
	}
	for _, s := range b.Without {
		if !known[s] {
			return fmt.Errorf("ipvs at %v: without %v, which is no server of it", at.At, s)
		}
	}
	return nil
}

// Available returns [ErrMissing] when the kernel has no IPVS.
func (b Balancer) Available(inside func(func() error) error) error {
	return inside(func() error {
		_, err := open()
		return err
	})
}

// Start makes the service in the namespace in which inside runs functions.
func (b Balancer) Start(ctx context.Context, inside func(func() error) error, at topo.Place) (topo.Running, error) {
	return b.StartOn(ctx, namespace{inside}, at)
}

// StartOn makes the service at a node of any kind.
func (b Balancer) StartOn(ctx context.Context, n topo.VirtualServices, at topo.Place) (topo.Running, error) {
	r := &running{node: n, at: at}
	if err := r.Reload(ctx, b); err != nil {
		return nil, err
	}
	return r, nil
}

// service is the service at a place.
func (b Balancer) service(at topo.Place) topo.VirtualService {
	s := topo.VirtualService{At: at.At, Scheduler: b.Scheduler}
	without := map[netip.AddrPort]bool{}
	for _, server := range b.Without {
		without[server] = true
	}
	for _, server := range at.Servers {
		if without[server] {
			continue
		}
		weight, named := b.Weights[server]
		if !named {
			weight = 1
		}
		s.Destinations = append(s.Destinations, topo.Destination{At: server, Weight: weight})
	}
	return s
}

// namespace is the table of the namespace in which inside runs functions.
type namespace struct{ inside func(func() error) error }

// VirtualServices is Read.
func (n namespace) VirtualServices(context.Context) (all []topo.VirtualService, err error) {
	err = n.inside(func() error {
		all, err = Read()
		return err
	})
	return all, err
}

// SetVirtualServices is Set.
func (n namespace) SetVirtualServices(_ context.Context, all []topo.VirtualService) error {
	return n.inside(func() error { return Set(all) })
}

// running is IPVS as the balancer of a node.
type running struct {
	node topo.VirtualServices
	at   topo.Place

	mu      sync.Mutex
	service topo.VirtualService
	closed  bool
}

var (
	_ topo.Running    = (*running)(nil)
	_ topo.Reloadable = (*running)(nil)
)

// Reload changes weights and destinations. Connections of destinations that stay go on, those
// of others as net.ipv4.vs.expire_nodest_conn says.
func (r *running) Reload(ctx context.Context, to topo.Program) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if to == nil {
		return r.node.SetVirtualServices(ctx, []topo.VirtualService{r.service})
	}
	b, same := to.(Balancer)
	if !same {
		return fmt.Errorf("reload ipvs: its configuration cannot be one of %s", to.Name())
	}
	if err := b.Validate(r.at); err != nil {
		return err
	}
	s := b.service(r.at)
	if err := r.node.SetVirtualServices(ctx, []topo.VirtualService{s}); err != nil {
		return err
	}
	r.service = s
	return nil
}

// Configuration returns the service as ipvsadm-save(8) writes it.
func (r *running) Configuration() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var text strings.Builder
	fmt.Fprintf(&text, "-A -t %v -s %s\n", r.service.At, r.service.SchedulerName())
	for _, d := range r.service.Destinations {
		fmt.Fprintf(&text, "-a -t %v -r %v -m -w %d\n", r.service.At, d.At, d.Weight)
	}
	return text.String()
}

// Log returns nothing: the kernel keeps no log of connections.
func (r *running) Log() (string, error) { return "", nil }

// Stats returns, for each server by its number, the connections that it got (connections, up
// to two seconds late: see topo.Destination), and the entries of established (active) and other (inactive) connections.
func (r *running) Stats(ctx context.Context) (kernel.Counters, error) {
	all, err := r.node.VirtualServices(ctx)
	if err != nil {
		return nil, err
	}
	stats := kernel.Counters{}
	i := find(all, r.at.At)
	if i < 0 {
		return nil, fmt.Errorf("the virtual service %v is gone", r.at.At)
	}
	number := map[netip.AddrPort]int{}
	for k, server := range r.at.Servers {
		number[server] = k
	}
	for _, d := range all[i].Destinations {
		name := fmt.Sprintf("server%d.", number[d.At])
		stats[name+"connections"] = uint64(d.Connections)
		stats[name+"active"] = uint64(d.Active)
		stats[name+"inactive"] = uint64(d.Inactive)
	}
	return stats, nil
}

// Processes returns none.
func (r *running) Processes() ([]topo.Process, error) { return nil, nil }

// Failure returns nil: what no process does cannot end.
func (r *running) Failure() error { return nil }

// farewell is how long a node has to remove its services.
const farewell = 5 * time.Second

// Close removes the service. A second Close does nothing.
func (r *running) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil
	}
	r.closed = true
	ctx, stop := context.WithTimeout(context.Background(), farewell)
	defer stop()
	if err := r.node.SetVirtualServices(ctx, nil); err != nil {
		return fmt.Errorf("remove the virtual services: %w", err)
	}
	return nil
}
