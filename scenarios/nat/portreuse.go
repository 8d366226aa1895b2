package nat

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sync/errgroup"

	"twlab/harness/kernel"
	"twlab/harness/lab"
	"twlab/harness/node"
	"twlab/harness/observe"
	"twlab/harness/tcp"
	"twlab/scenarios/claim"
	"twlab/scenarios/situation"
)

// portReuse is the situation in which a MASQUERADE gateway gives, or does not give, the
// address and port of earlier connections to a new one. If the lab has a second client,
// that one connects; otherwise the first client connects again.
type portReuse struct {
	lab                              *lab.Lab
	first, second, gateway, balancer node.Node

	// earlier is the number of earlier connections: as many as the gateway has ports,
	// or one if it has plenty.
	earlier uint16
	// left is what they leave at the balancer: LeftTimeWait, LeftEstablished or
	// LeftNothing.
	left situation.Left
	// expired says that the gateway's entries of them expire before the new one starts.
	expired bool
	// timeout is how long the gateway keeps the entry of an ended connection.
	timeout time.Duration
	// olderClock says that the new connection's timestamp clock is older than that of the
	// earlier ones, olderISN the same of its sequence number; otherwise they are newer.
	olderClock, olderISN bool
	// from is the source port of the new connection. Those of the earlier ones begin at
	// situation.SourcePort.
	from uint16
	// draws says that the gateway chooses the port at random, out of all.
	draws bool
	// listed says that the gateway's entries are listed all the time, which removes
	// expired ones at once, without waiting for the garbage collector.
	listed bool

	listener node.Listening
	outs     []netip.AddrPort // the earlier connections as the balancer saw them
}

// otherPort is a source port that is not among those of the earlier connections.
const otherPort uint16 = 41000

// errUnlucky says that the situation could not be created, but may be the next time.
var errUnlucky = errors.New("unlucky")

// drive creates the situation, and tries the new connection once.
func (g *portReuse) drive(ctx context.Context) (claim.Seen, error) {
	err := g.lab.Capture(g.first.Identity().Name, g.second.Identity().Name, g.balancer.Identity().Name)
	if err != nil {
		return claim.Seen{}, err
	}
	const tries = 12
	var seen portReuseSeen
	for range tries {
		// A listener of its own each time, so that nothing is left of the last try.
		if g.listener, err = g.balancer.Listen(ctx, tcp.ListenSpec{}); err != nil {
			return claim.Seen{}, err
		}
		seen, err = g.once(ctx)
		// The chance to draw a certain port is one in 64512. A gateway that gives it
		// every time is still noticed.
		drawn := err == nil && g.draws && g.portGiven(seen.as()) != portNew
		if !drawn && !errors.Is(err, errUnlucky) {
			break
		}
	}
	if err != nil {
		return claim.Seen{}, fmt.Errorf("port reuse: %w", err)
	}
	return g.observations(seen), nil
}

func (g *portReuse) once(ctx context.Context) (portReuseSeen, error) {
	conns, err := g.open(ctx)
	if err != nil {
		return portReuseSeen{}, fmt.Errorf("open: %w", err)
	}
	began := time.Now()
	for _, c := range conns {
		if err := g.end(ctx, c); err != nil {
			return portReuseSeen{}, fmt.Errorf("end: %w", err)
		}
	}
	if err := g.settle(ctx); err != nil {
		return portReuseSeen{}, err
	}
	if err := g.age(ctx); err != nil {
		return portReuseSeen{}, err
	}
	seen, err := g.meet(ctx)
	if err != nil {
		return portReuseSeen{}, fmt.Errorf("new connection: %w", err)
	}
	return seen, g.inTime(began, seen)
}

// meet lets the second client connect.
func (g *portReuse) meet(ctx context.Context) (seen portReuseSeen, err error) {
	count, err := situation.CountMoves(ctx, g.second, g.gateway, g.balancer)
	if err != nil {
		return seen, err
	}
	mark := g.lab.Mark()
	sockets, err := g.balancer.Sockets(ctx)
	if err != nil {
		return seen, err
	}
	seen.sockets = sockets.Between(g.listener.Addr, netip.AddrPort{})
	outs, err := g.attempt(ctx)
	if err != nil {
		return seen, err
	}
	seen.outcome = outs[0]
	if seen.flows, err = g.flows(ctx); err != nil {
		return seen, err
	}
	moved, err := count(ctx)
	if err != nil {
		return seen, err
	}
	seen.moved = map[lab.Role]kernel.Counters{lab.Client: moved[0], lab.Gateway: moved[1], lab.Balancer: moved[2]}
	packets, err := g.lab.PacketsSince(mark)
	if err != nil {
		return seen, err
	}
	path := g.lab.Path(g.second.Identity().Name)
	seen.syns = observe.AccountSYNs(packets, path, seen.outcome.Local, g.listener.Addr)
	if seen.syns.Sent == 0 {
		return seen, fmt.Errorf("no SYN was seen: %v", seen.outcome)
	}
	return seen, nil
}

// attempt makes the new connection.
func (g *portReuse) attempt(ctx context.Context) ([]tcp.Result, error) {
	over, stop := context.WithCancel(ctx)
	defer stop()
	var lister errgroup.Group
	if g.listed {
		lister.Go(func() error {
			return observe.Await(ctx, "the attempt to be over", func() (bool, error) {
				_, err := g.flows(ctx)
				return over.Err() != nil, err
			})
		})
	}
	outs, err := g.second.Attempt(ctx, []tcp.Attempt{{
		To: g.listener.Addr, From: netip.AddrPortFrom(netip.Addr{}, g.from), ReuseAddr: true, ISN: g.secondISN(),
	}})
	stop()
	return outs, errors.Join(err, lister.Wait())
}

// secondISN is chosen relative to the number that the balancer expects next: the SYN and
// the FIN of an earlier connection count one each.
func (g *portReuse) secondISN() uint32 {
	if g.olderISN {
		return situation.FirstISN + 2 - situation.IsnGap
	}
	return situation.FirstISN + 2 + situation.IsnGap
}

// inTime returns an error if so much time has passed since the earlier connections began
// to end that the gateway may have forgotten them, although it had to keep them.
func (g *portReuse) inTime(began time.Time, seen portReuseSeen) error {
	met := time.Now()
	if seen.syns.Sent > 1 {
		met = seen.syns.SYNs[0].Sent
	}
	const margin = 100 * time.Millisecond
	if g.left == situation.LeftTimeWait && !g.expired && met.Sub(began) > g.timeout-margin {
		return fmt.Errorf("%w: the new connection came %v after the earlier ones, whose entries last %v",
			errUnlucky, met.Sub(began), g.timeout)
	}
	return nil
}
