package timewait

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"twlab/harness/kernel"
	"twlab/harness/node"
	"twlab/harness/observe"
	"twlab/harness/tcp"
	"twlab/scenarios/claim"
	"twlab/scenarios/situation"
)

// sides are the two sides of the connections of the family Length.
type sides struct {
	client, balancer node.Node
	byClient         bool // the client closes first
	listener         node.Listening
}

// lasts tells the length of the closer's timer, which was set after began.
func (e sides) lasts(ctx context.Context, left observe.Socket, began time.Time) (string, error) {
	elapsed := time.Since(began)
	release, err := e.closer().Release(ctx)
	return lasting(release, left.Expires, elapsed), err
}

// closer is the node that closes first, other the other one.
func (e sides) closer() node.Node {
	if e.byClient {
		return e.client
	}
	return e.balancer
}

func (e sides) other() node.Node {
	if e.byClient {
		return e.balancer
	}
	return e.client
}

// sidesConn is one connection: the closer's socket with its two addresses, and the other
// side's socket.
type sidesConn struct {
	mine, theirs  tcp.Handle
	local, remote netip.AddrPort
}

// open connects, from a port that the client's kernel chooses.
func (e sides) open(ctx context.Context) (sidesConn, error) {
	out, err := situation.Connect(ctx, e.client, tcp.Attempt{To: e.listener.Addr})
	if err != nil {
		return sidesConn{}, err
	}
	accepted, err := situation.Accept(ctx, e.balancer, e.listener, out.Local)
	if err != nil {
		return sidesConn{}, err
	}
	if e.byClient {
		return sidesConn{mine: out.Conn, theirs: accepted, local: out.Local, remote: e.listener.Addr}, nil
	}
	return sidesConn{mine: accepted, theirs: out.Conn, local: e.listener.Addr, remote: out.Local}, nil
}

// beginning leaves a TIME_WAIT and a FIN_WAIT2 and reads the timers of both.
func (e sides) beginning(ctx context.Context) (seen claim.Seen, err error) {
	if e.listener, err = e.balancer.Listen(ctx, tcp.ListenSpec{}); err != nil {
		return seen, err
	}
	if _, err := e.timeWait(ctx, &seen); err != nil {
		return seen, err
	}
	seen.Note("at the end", "not waited for")
	half, err := e.open(ctx)
	if err != nil {
		return seen, err
	}
	began := time.Now()
	if err := e.closer().End(ctx, half.mine, tcp.CloseNow); err != nil {
		return seen, err
	}
	left, err := e.await(ctx, half, observe.FinWait2)
	if err != nil {
		return seen, err
	}
	kind := "full socket"
	if left.Mini() {
		kind = "minisocket"
	}
	seen.Note("fin-wait-2", kind)
	lasts, err := e.lasts(ctx, left, began)
	seen.Note("fin-wait-2 lasts", lasts)
	return seen, err
}

// end leaves a TIME_WAIT, waits until it is gone, and connects again.
func (e sides) end(ctx context.Context) (seen claim.Seen, err error) {
	if e.listener, err = e.balancer.Listen(ctx, tcp.ListenSpec{}); err != nil {
		return seen, err
	}
	count, err := situation.CountMoves(ctx, e.closer(), e.client)
	if err != nil {
		return seen, err
	}
	began := time.Now()
	over, err := e.timeWait(ctx, &seen)
	if err != nil {
		return seen, err
	}
	there := time.Now()
	before := "not tried"
	if e.byClient {
		if before, err = e.outcomeNow(ctx); err != nil {
			return seen, err
		}
	}
	seen.Note("outcome before", before)
	var still time.Duration
	err = observe.Await(ctx, "the end of TIME_WAIT", func() (bool, error) {
		looked := time.Since(there)
		all, err := e.closer().Sockets(ctx)
		if len(all.Between(over.local, over.remote)) == 0 {
			return true, err
		}
		still = looked
		return false, err
	})
	gone := time.Since(began)
	if err != nil {
		return seen, err
	}
	release, err := e.closer().Release(ctx)
	if err != nil {
		return seen, err
	}
	seen.Note("at the end", "gone")
	seen.Note("gone after", goneAfter(release, still, gone))
	afterwards, err := e.outcomeNow(ctx)
	if err != nil {
		return seen, err
	}
	seen.Note("outcome afterwards", afterwards)
	moved, err := count(ctx)
	if err != nil {
		return seen, err
	}
	// With a tcp_fin_timeout of up to 4 s, a TIME_WAIT that was a minisocket in
	// FIN_WAIT2 before counts as TWKilled (inet_twsk_schedule).
	seen.Count("time-waits counted", kernel.TimeWaits.Of(moved[0])+kernel.TimeWaitsKilled.Of(moved[0]))
	seen.Count("ports taken over", kernel.TimeWaitsReused.Of(moved[1]))
	return seen, nil
}

// outcomeNow is the outcome of one more connection. It is reset at once.
func (e sides) outcomeNow(ctx context.Context) (string, error) {
	outs, err := e.client.Attempt(ctx, []tcp.Attempt{{To: e.listener.Addr, Ending: tcp.Abort}})
	if err != nil {
		return "", err
	}
	return string(outs[0].Outcome), nil
}

// timeWait closes a connection at both sides, and notes what the closer and the other side
// have of it then.
func (e sides) timeWait(ctx context.Context, seen *claim.Seen) (sidesConn, error) {
	closed, err := e.open(ctx)
	if err != nil {
		return closed, err
	}
	if err := e.closer().End(ctx, closed.mine, tcp.CloseNow); err != nil {
		return closed, err
	}
	began := time.Now() // TIME_WAIT begins with the other side's FIN, not before
	if err := e.other().End(ctx, closed.theirs, tcp.CloseAfterPeer); err != nil {
		return closed, err
	}
	left, err := e.await(ctx, closed, observe.TimeWait)
	if err != nil {
		return closed, err
	}
	lasts, err := e.lasts(ctx, left, began)
	if err != nil {
		return closed, err
	}
	seen.Note("time-wait", lasts)
	return closed, e.notePeer(ctx, closed, seen)
}

// await waits until the closer's socket is in a state.
func (e sides) await(ctx context.Context, of sidesConn, state observe.State) (left observe.Socket, err error) {
	err = observe.Await(ctx, fmt.Sprintf("%s at %s", state, e.closer().Identity().Name), func() (bool, error) {
		all, err := e.closer().Sockets(ctx)
		mine := all.Between(of.local, of.remote).In(state)
		if len(mine) > 0 {
			left = mine[0]
		}
		return len(mine) > 0, err
	})
	return left, err
}

// notePeer notes what the other side has of a connection that both sides have closed. The
// closer's last ACK takes it out of LAST_ACK.
func (e sides) notePeer(ctx context.Context, of sidesConn, seen *claim.Seen) error {
	peer := "nothing"
	err := observe.Await(ctx, "the other side to get the last ACK", func() (bool, error) {
		all, err := e.other().Sockets(ctx)
		theirs := all.Between(of.remote, of.local)
		if err != nil || len(theirs) == 0 {
			return true, err
		}
		peer = string(theirs[0].State)
		return theirs[0].State != observe.LastAck, nil
	})
	seen.Note("peer", peer)
	return err
}

// lasting tells the length of a kernel timer of a TIME_WAIT or FIN_WAIT2 that was set at
// most elapsed ago and still has left to run. If none of the possible lengths fits, the
// result is left itself.
func lasting(on kernel.Release, left, elapsed time.Duration) string {
	for _, length := range []time.Duration{time.Second, 5 * time.Second, situation.TimeWaitLength, 120 * time.Second} {
		if left <= length+situation.TimerExtra(on, length) && length <= left+elapsed+situation.JiffyAtMost {
			return fmt.Sprintf("%.0f s", length.Seconds())
		}
	}
	return left.String()
}

// goneAfter tells whether a TIME_WAIT that still existed after still, and was gone after
// gone, can have lasted 60 s. Since Linux 4.8 a timer fires up to 1/8 late (timer wheel).
// Before 4.1 all TIME_WAITs share eight slots of 1/8, and the first slot may be almost over
// when a TIME_WAIT begins (inet_twsk_schedule: INET_TWDR_TWKILL_SLOTS).
func goneAfter(on kernel.Release, still, gone time.Duration) string {
	least, most := situation.TimeWaitLength-situation.JiffyAtMost, situation.TimeWaitLength+situation.JiffyAtMost
	switch {
	case on.Before(4, 1):
		least -= situation.TimeWaitLength / 8
	case !on.Before(4, 8):
		most += situation.TimeWaitLength / 8
	}
	if gone >= least && still <= most {
		return situation.FullTimeWait
	}
	return fmt.Sprintf("%v to %v", still, gone)
}

// lengthEvidence is what [sides] notes.
func lengthEvidence() []claim.Evidence {
	return []claim.Evidence{
		situation.TimeWaitEvidence,
		{Name: "at the end", Unit: "gone, or not waited for", Means: "whether the TIME_WAIT was gone at the end"},
		{Name: "fin-wait-2", Unit: "full socket or minisocket", Means: "which kind of socket the side that closed first has in FIN_WAIT2"},
		{Name: "fin-wait-2 lasts", Unit: "a length", Means: "how long FIN_WAIT2 lasts, read from the kernel's timer"},
		{Name: "peer", Unit: "a state, or nothing", Means: "what the other side still has of the connection when both sides have closed"},
		{Name: "outcome before", Unit: situation.AnOutcome, Means: "the result of an attempt from the client's only port during TIME_WAIT"},
		{Name: "gone after", Unit: "a length", Means: "after how long the TIME_WAIT was gone, measured without its timer"},
		{Name: "outcome afterwards", Unit: situation.AnOutcome, Means: "the result of an attempt from the client's only port after TIME_WAIT"},
		{Name: "time-waits counted", Unit: situation.Sockets, Means: "TIME_WAITs according to the counters of the side that closed first: TW and TWKilled"},
		{Name: "ports taken over", Unit: situation.Sockets, Means: "TIME_WAITs whose port the client took over: TWRecycled"},
	}
}
