package nat

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"twlab/harness/lab"
	"twlab/harness/load"
	"twlab/harness/node"
	"twlab/harness/observe"
	"twlab/harness/tcp"
	"twlab/scenarios/situation"
)

// usedUp is a gateway with a connection on each of its ports.
type usedUp struct {
	clients           []node.Node
	gateway, balancer node.Node
	listener          node.Listening
	ports             int

	conns    [][]tcp.Handle // of each client
	accepted []tcp.Handle   // at the balancer
	closed   time.Time      // when the first connection began to end
	ended    time.Time      // when the last one had ended
}

// useUp makes the clients use up all ports, one client after the other, so that no two of
// them clash over a port. An isn of 0 leaves the sequence numbers to the kernel.
func useUp(ctx context.Context, l *lab.Lab, ports int, isn uint32) (u *usedUp, err error) {
	u = &usedUp{
		clients: l.Nodes(lab.Client), gateway: l.Gateway(), balancer: l.Balancer(), ports: ports,
	}
	if u.listener, err = u.balancer.Listen(ctx, tcp.ListenSpec{}); err != nil {
		return nil, err
	}
	for i, c := range u.clients {
		attempts := make([]tcp.Attempt, ports/len(u.clients))
		for j := range attempts {
			attempts[j] = tcp.Attempt{To: u.listener.Addr, ISN: isn}
		}
		outs, err := c.Attempt(ctx, attempts)
		if err != nil {
			return nil, fmt.Errorf("first load: %w", err)
		}
		u.conns = append(u.conns, nil)
		for _, o := range outs {
			if o.Outcome != tcp.Connected {
				return nil, fmt.Errorf("first load: %s: %v, want a connection", c.Identity().Name, o)
			}
			u.conns[i] = append(u.conns[i], o.Conn)
		}
	}
	var there observe.Sockets
	err = observe.Await(ctx, "the balancer to have all connections", func() (bool, error) {
		all, err := u.balancer.Sockets(ctx)
		there = all.Between(u.listener.Addr, netip.AddrPort{}).In(observe.Established)
		return len(there) == ports, err
	})
	if err != nil {
		return nil, fmt.Errorf("first load: %w", err)
	}
	for _, s := range there {
		conn, err := u.balancer.Accept(ctx, u.listener.Handle, s.Remote)
		if err != nil {
			return nil, err
		}
		u.accepted = append(u.accepted, conn)
	}
	return u, nil
}

// drawClocks sets the clocks of about half of the clients ahead, chosen by the seed, and
// tells how many these are.
func (u *usedUp) drawClocks(ctx context.Context) (hosts int, err error) {
	random := rand.New(rand.NewPCG(shareSeed, 0)) //nolint:gosec // it must be the same in every run
	for i := range u.clients {
		if random.IntN(2) == 0 {
			continue
		}
		hosts++
		if err := u.putAhead(ctx, i); err != nil {
			return hosts, err
		}
	}
	return hosts, nil
}

// putAhead sets the clock of a client ahead of all others.
func (u *usedUp) putAhead(ctx context.Context, client int) error {
	for _, conn := range u.conns[client] {
		if err := u.clients[client].AdvanceClock(ctx, conn, int32(situation.ClockLead)); err != nil {
			return err
		}
	}
	return nil
}

// end closes every connection at the balancer, and then at the clients, and waits for all
// TIME_WAITs.
func (u *usedUp) end(ctx context.Context) error {
	u.closed = time.Now()
	for _, conn := range u.accepted {
		if err := u.balancer.End(ctx, conn, tcp.CloseNow); err != nil {
			return err
		}
	}
	// As in situation.AwaitFinWait2: an ACK that came later would end the TIME_WAIT.
	err := observe.Await(ctx, "the FINs to be acknowledged", func() (bool, error) {
		all, err := u.balancer.Sockets(ctx)
		return len(all.Between(u.listener.Addr, netip.AddrPort{}).In(observe.FinWait2)) == u.ports, err
	})
	if err != nil {
		return err
	}
	for i, c := range u.clients {
		for _, conn := range u.conns[i] {
			if err := c.End(ctx, conn, tcp.CloseAfterPeer); err != nil {
				return err
			}
		}
	}
	tick := time.Now().Add(situation.TickAtMost)
	err = observe.Await(ctx, "the balancer's TIME_WAITs, the last of the clients' sockets, and a tick of the clock", func() (bool, error) {
		full, err := u.balancer.Occupancy(ctx)
		if err != nil || full.TimeWait != u.ports {
			return false, err
		}
		for _, c := range u.clients {
			if full, err := c.Occupancy(ctx); err != nil || full.Sockets > 0 {
				return false, err
			}
		}
		return time.Now().After(tick), nil
	})
	u.ended = time.Now()
	return err
}

// awaitExpired waits until the gateway has no entry of the connections any more.
func (u *usedUp) awaitExpired(ctx context.Context) error {
	timeout, err := conntrackTimeout(ctx, u.gateway)
	if err != nil {
		return err
	}
	return observe.Await(ctx, "the gateway's entries to expire", func() (bool, error) {
		if time.Since(u.ended) < timeout { // listing all entries is expensive
			return false, nil
		}
		flows, err := u.gateway.Flows(ctx)
		return len(flows) == 0, err
	})
}

// conntrackTimeout is how long the gateway keeps the entry of an ended connection.
func conntrackTimeout(ctx context.Context, gateway node.Node) (time.Duration, error) {
	seconds, err := gateway.Sysctl(ctx, "net.netfilter.nf_conntrack_tcp_timeout_time_wait")
	if err != nil {
		return 0, err
	}
	timeout, err := time.ParseDuration(seconds + "s")
	if err != nil {
		return 0, fmt.Errorf("conntrack timeout of the gateway: %w", err)
	}
	return timeout, nil
}

// errOutlived says that TIME_WAITs may have ended by themselves before they were met.
var errOutlived = errors.New("the second load came too late for the TIME_WAITs of the first")

// again makes every client open so many connections, which stay open.
func (u *usedUp) again(ctx context.Context, each int) (load.Result, error) {
	began := time.Since(u.closed)
	r, err := load.Run(ctx, load.Plan{
		Clients: u.clients, Watched: []node.Node{u.gateway, u.balancer}, Each: each, Seed: shareSeed,
		Attempt: tcp.Attempt{To: u.listener.Addr},
		// So that no attempt has to wait for one that is refused. If two clash over a
		// port, the gateway drops one of the SYNs, and it is retransmitted.
		InFlight: u.ports,
	})
	if err == nil && began < situation.TimeWaitLength && time.Since(u.closed) > situation.TimeWaitLength {
		err = fmt.Errorf("%w: from %v to %v", errOutlived, began, time.Since(u.closed))
	}
	return r, err
}
