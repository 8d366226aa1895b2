package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"twlab/harness/node"
	"twlab/harness/observe"
	"twlab/harness/tcp"
	"twlab/scenarios/claim"
	"twlab/scenarios/situation"
)

// end makes one side end the connection, and then the other side.
func (r *samePort) end(ctx context.Context, atClient, atServer tcp.Handle, seen *claim.Seen) error {
	closing, closed, how := r.client, r.server, tcp.CloseFirst
	one, other := atClient, atServer
	switch r.Closer {
	case ClientCloses:
	case BalancerCloses:
		closing, closed, one, other = closed, closing, other, one
	case ClientResets:
		how = tcp.Abort
	}
	done := make(chan error, 1)
	go func() { done <- closing.End(ctx, one, how) }()
	ending, err := r.follow(ctx, closed, other)
	seen.Note("end", ending)
	return errors.Join(err, <-done)
}

// follow waits until the peer has ended the connection, tells whether it was a FIN or
// a RST, and closes.
//
// The ACK of a FIN is sent by a timer, which may run on another processor than the FIN
// that follows it. If the ACK arrives after that FIN, the TIME_WAIT answers it, and this
// answer meets no connection, so it is answered with a RST. The RST ends the TIME_WAIT
// (RFC 1337). So follow waits for the ACK before it closes.
func (r *samePort) follow(ctx context.Context, closed node.Node, conn tcp.Handle) (ending string, err error) {
	got, err := closed.Receive(ctx, conn)
	if err != nil {
		return "", err
	}
	ending = "RST"
	if got.Errno == 0 {
		ending = "FIN"
		err = observe.Await(ctx, "the FIN to be acknowledged", func() (bool, error) {
			e, err := r.ends(ctx)
			return len(append(e.client, e.server...).In(observe.FinWait2)) == 1, err
		})
	}
	if err != nil {
		return ending, err
	}
	return ending, closed.End(ctx, conn, tcp.CloseNow)
}

// bothEnds are the sockets of the two ends of the connection.
type bothEnds struct{ client, server observe.Sockets }

func (r *samePort) ends(ctx context.Context) (e bothEnds, err error) {
	at, err := r.client.Sockets(ctx)
	if err != nil {
		return e, err
	}
	there, err := r.server.Sockets(ctx)
	if err != nil {
		return e, err
	}
	return bothEnds{at.Between(r.source(), r.listener.Addr), there.Between(r.listener.Addr, r.seenFrom())}, nil
}

// longest is the longest time that any of the sockets still has to run.
func (e bothEnds) longest() (left time.Duration) {
	for _, s := range append(e.client, e.server...) {
		left = max(left, s.Expires)
	}
	return left
}

// timeWaits notes how many TIME_WAITs there are at each end.
func (e bothEnds) timeWaits(seen *claim.Seen, when string) {
	seen.Count("client time-wait"+when, int64(len(e.client.In(observe.TimeWait))))
	seen.Count("balancer time-wait"+when, int64(len(e.server.In(observe.TimeWait))))
}

// grow waits until both ends are closed or in TIME_WAIT, and then until the TIME_WAIT,
// if there is one, is old enough.
func (r *samePort) grow(ctx context.Context, seen *claim.Seen) error {
	var left bothEnds
	err := observe.Await(ctx, "both ends to be closed or in TIME_WAIT", func() (rest bool, err error) {
		left, err = r.ends(ctx)
		all := len(left.client) + len(left.server)
		return len(left.client.In(observe.TimeWait))+len(left.server.In(observe.TimeWait)) == all, err
	})
	if err != nil {
		return err
	}
	left.timeWaits(seen, "")
	age := r.age()
	if age == 0 || len(left.client)+len(left.server) == 0 {
		return nil
	}
	for {
		early := left.longest() - (situation.TimeWaitLength - age)
		if early <= 0 {
			return nil
		}
		if err := observe.Pass(ctx, early, fmt.Sprintf("the TIME_WAIT to be %v old", age)); err != nil {
			return err
		}
		if left, err = r.ends(ctx); err != nil {
			return err
		}
	}
}

// age is how old the TIME_WAIT must be when the client connects again.
func (r *samePort) age() time.Duration {
	switch {
	case r.Older && r.delay > 0:
		return r.delay + situation.AgingSlack
	case r.Older:
		return situation.OldReuseDelay + situation.AgingSlack
	case r.delay > situation.DefaultReuseDelay:
		return situation.DefaultReuseDelay + situation.AgingSlack
	default:
		return 0
	}
}
