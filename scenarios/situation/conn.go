package situation

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"twlab/harness/kernel"
	"twlab/harness/node"
	"twlab/harness/observe"
	"twlab/harness/tcp"
	"twlab/scenarios/claim"
)

// Outcome wants the outcome of the attempt that the cell is about.
func Outcome(v tcp.Outcome) claim.Expectation { return claim.Is("outcome", string(v)) }

// TickAtMost is longer than any tick of the timestamp clock: 1 ms since Linux
// 4.13, a jiffy before. A clock that is to be newer must have gone on.
const TickAtMost = 20 * time.Millisecond

// AwaitFinWait2 waits until a FIN has been acknowledged. Only then may the other
// side close: its FIN could overtake its ACK on another processor, the ACK would
// come to a TIME_WAIT, and the RST that answers the TIME_WAIT's own ACK would end
// it (RFC 1337).
func AwaitFinWait2(ctx context.Context, closed node.Node, local, remote netip.AddrPort) error {
	return observe.Await(ctx, "the FIN of "+closed.Identity().Name+" to be acknowledged", func() (bool, error) {
		all, err := closed.Sockets(ctx)
		return len(all.In(observe.FinWait2).Between(local, remote)) == 1, err
	})
}

// Connect makes one attempt that has to succeed for the situation to come about.
func Connect(ctx context.Context, from node.Node, a tcp.Attempt) (tcp.Result, error) {
	outs, err := from.Attempt(ctx, []tcp.Attempt{a})
	if err != nil {
		return tcp.Result{}, err
	}
	if outs[0].Outcome != tcp.Connected {
		return outs[0], fmt.Errorf("%s: %v, want a connection to begin with", from.Identity().Name, outs[0])
	}
	return outs[0], nil
}

// arrival is how long a connection may take to come out of the accept queue before
// somebody looks who came instead.
const arrival = time.Second

// Accept has a listener hand out the connection that has come from peer. The client
// must know it as connected: the balancer has at least the beginning of it then, and
// when it has only others, the client left from another address or port than was
// wanted, or the gateway has changed it.
func Accept(ctx context.Context, at node.Node, listener node.Listening, peer netip.AddrPort) (tcp.Handle, error) {
	soon, stop := context.WithTimeout(ctx, arrival)
	defer stop()
	conn, err := at.Accept(soon, listener.Handle, peer)
	if !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
		return conn, err
	}
	all, err := at.Sockets(ctx)
	if err != nil {
		return tcp.Handle{}, err
	}
	came := all.Between(listener.Addr, netip.AddrPort{})
	came = slices.DeleteFunc(came, func(s observe.Socket) bool { return s.State == observe.Listen })
	if len(came) > 0 && len(came.Between(listener.Addr, peer)) == 0 {
		return tcp.Handle{}, fmt.Errorf("%s: no connection from %v, want one; what has come: %v", at.Identity().Name, peer, came)
	}
	return at.Accept(ctx, listener.Handle, peer)
}

// CountMoves reads the counters of some nodes; the function that it returns tells
// how they have moved since.
func CountMoves(ctx context.Context, nodes ...node.Node) (func(context.Context) ([]kernel.Counters, error), error) {
	before, err := node.CountersOf(ctx, nodes)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) ([]kernel.Counters, error) {
		after, err := node.CountersOf(ctx, nodes)
		for i := range after {
			after[i] = after[i].Sub(before[i])
		}
		return after, err
	}, nil
}

// Route is the address and port of who has connected, and of whom it has
// connected to.
type Route struct{ From, To netip.AddrPort }

// Waiting are the routes whose end that was connected to, or whose beginning, is
// in TIME_WAIT among the sockets.
func Waiting(all observe.Sockets, atBeginning bool) map[Route]bool {
	found := map[Route]bool{}
	for _, s := range all.In(observe.TimeWait) {
		if atBeginning {
			found[Route{s.Local, s.Remote}] = true
		} else {
			found[Route{s.Remote, s.Local}] = true
		}
	}
	return found
}

// HowMany tells how many of the routes are among those found.
func HowMany(routes, found map[Route]bool) string {
	n := 0
	for r := range routes {
		if found[r] {
			n++
		}
	}
	switch n {
	case 0:
		return "none"
	case len(routes):
		return "all"
	default:
		return "some"
	}
}
