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

// Outcome expects an outcome of the attempt that the cell is about.
func Outcome(v tcp.Outcome) claim.Expectation { return claim.Is("outcome", string(v)) }

// TickAtMost is longer than any tick of the timestamp clock: 1 ms since Linux 4.13, a
// jiffy before. After that time the clock shows a newer timestamp.
const TickAtMost = 20 * time.Millisecond

// AwaitFinWait2 waits until a FIN has been acknowledged. Only then may the other side
// close. Otherwise its FIN could overtake its ACK on another processor: the ACK would
// meet a TIME_WAIT, which answers with an ACK of its own, and the RST that answers this
// one would end the TIME_WAIT (RFC 1337).
func AwaitFinWait2(ctx context.Context, closed node.Node, local, remote netip.AddrPort) error {
	return observe.Await(ctx, "the FIN of "+closed.Identity().Name+" to be acknowledged", func() (bool, error) {
		all, err := closed.Sockets(ctx)
		return len(all.In(observe.FinWait2).Between(local, remote)) == 1, err
	})
}

// Connect makes one attempt, which must succeed, or the situation cannot be created.
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
// Accept checks whether another one has come instead.
const arrival = time.Second

// Accept accepts the connection that has come from peer. The client must be connected
// already, so the balancer knows the connection at least as half open. If the balancer has
// only other connections, the client used another address or port than intended, or the
// gateway changed it, and Accept returns an error.
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

// CountMoves reads the counters of some nodes. The function that it returns tells by how
// much they have risen since.
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

// Route is the two ends of a connection: the side that connected, and the side that it
// connected to.
type Route struct{ From, To netip.AddrPort }

// Waiting are the routes that have a TIME_WAIT among the sockets: at the side that
// connected (atBeginning), or at the other side.
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

// HowMany tells whether all, some or none of the routes are among those found.
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
