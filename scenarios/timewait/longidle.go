package timewait

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"twlab/harness/kernel"
	"twlab/harness/lab"
	"twlab/harness/node"
	"twlab/harness/observe"
	"twlab/harness/tcp"
	"twlab/scenarios/claim"
	"twlab/scenarios/situation"
)

// longIdle is a connection on which nothing is sent for a long time.
type longIdle struct {
	client, balancer node.Node
	idle             time.Duration
	putBack          bool // set the client's clock back before it sends again
}

// open connects and sends one byte, whose timestamp the balancer remembers.
func (s longIdle) open(ctx context.Context, from netip.AddrPort) (out tcp.Result, conn tcp.Handle, err error) {
	listener, err := s.balancer.Listen(ctx, tcp.ListenSpec{})
	if err != nil {
		return out, conn, err
	}
	if out, err = situation.Connect(ctx, s.client, tcp.Attempt{To: listener.Addr, From: from, ReuseAddr: true}); err != nil {
		return out, conn, err
	}
	if conn, err = situation.Accept(ctx, s.balancer, listener, out.Local); err != nil {
		return out, conn, err
	}
	if _, err := s.client.Send(ctx, out.Conn, 1); err != nil {
		return out, conn, err
	}
	return out, conn, s.awaitBytes(ctx, out.Local, 1)
}

func (s longIdle) awaitBytes(ctx context.Context, from netip.AddrPort, n uint32) error {
	return observe.Await(ctx, fmt.Sprintf("byte %d", n), func() (bool, error) {
		got, err := s.received(ctx, from)
		return got == n, err
	})
}

// received is how many bytes the balancer has of the connection.
func (s longIdle) received(ctx context.Context, from netip.AddrPort) (uint32, error) {
	all, err := s.balancer.Sockets(ctx)
	mine := all.Between(netip.AddrPort{}, from).In(observe.Established)
	if err != nil || len(mine) != 1 {
		return 0, err
	}
	return mine[0].RecvQueue, nil
}

// pass lets the time pass.
func (s longIdle) pass(ctx context.Context) error {
	return observe.Pass(ctx, s.idle, s.idle.String()+" to pass")
}

func (s longIdle) established(ctx context.Context) (seen claim.Seen, err error) {
	out, _, err := s.open(ctx, netip.AddrPort{})
	if err != nil {
		return seen, err
	}
	before, err := s.client.Clock(ctx, out.Conn)
	if err != nil {
		return seen, err
	}
	if err := s.pass(ctx); err != nil {
		return seen, err
	}
	if err := s.noteLeft(ctx, out.Local, &seen); err != nil {
		return seen, err
	}
	if s.putBack {
		now, err := s.client.Clock(ctx, out.Conn)
		if err != nil {
			return seen, err
		}
		back := int32(before.Ticks-uint32(situation.ClockLead)-now.Ticks) &^ 1
		if err := s.client.AdvanceClock(ctx, out.Conn, back); err != nil {
			return seen, err
		}
	}
	now, err := s.client.Clock(ctx, out.Conn)
	if err != nil {
		return seen, err
	}
	looks := "newer"
	if situation.CompareClocks(before.Ticks, now.Ticks) == situation.Older {
		looks = "older"
	}
	count, err := situation.CountMoves(ctx, s.client, s.balancer)
	if err != nil {
		return seen, err
	}
	if _, err := s.client.Send(ctx, out.Conn, 1); err != nil {
		return seen, err
	}
	segment := "accepted"
	err = observe.Await(ctx, "the second byte to arrive or to be rejected twice", func() (bool, error) {
		got, err := s.received(ctx, out.Local)
		if err != nil || got == 2 {
			return got == 2, err
		}
		moved, err := count(ctx)
		if err != nil || kernel.PAWSEstablished.Of(moved[1]) < 2 {
			return false, err
		}
		segment = "rejected"
		return true, nil
	})
	if err != nil {
		return seen, err
	}
	moved, err := count(ctx)
	if err != nil {
		return seen, err
	}
	seen.Moved = map[lab.Role]kernel.Counters{lab.Client: moved[0], lab.Balancer: moved[1]}
	seen.Note("segment", segment)
	seen.Note("looks", looks)
	return seen, nil
}

// noteLeft notes what the balancer has of the connection.
func (s longIdle) noteLeft(ctx context.Context, from netip.AddrPort, seen *claim.Seen) error {
	all, err := s.balancer.Sockets(ctx)
	if err != nil {
		return err
	}
	left := "nothing"
	if mine := all.Between(netip.AddrPort{}, from); len(mine) > 0 {
		left = string(mine[0].State)
	}
	seen.Note("left", left)
	return nil
}

// timeWait leaves a TIME_WAIT at the balancer, waits, and connects again from the same
// port.
func (s longIdle) timeWait(ctx context.Context) (seen claim.Seen, err error) {
	from := netip.AddrPortFrom(netip.Addr{}, situation.SourcePort)
	out, conn, err := s.open(ctx, from)
	if err != nil {
		return seen, err
	}
	all, err := s.balancer.Sockets(ctx)
	if err != nil {
		return seen, err
	}
	listener := all.Between(netip.AddrPort{}, out.Local)[0].Local
	_, err = situation.CloseInTurn(ctx,
		situation.Side{Node: s.balancer, Conn: conn, Local: listener, Remote: out.Local},
		situation.Side{Node: s.client, Conn: out.Conn, Local: out.Local, Remote: listener})
	if err != nil {
		return seen, err
	}
	if err := s.pass(ctx); err != nil {
		return seen, err
	}
	if err := s.noteLeft(ctx, out.Local, &seen); err != nil {
		return seen, err
	}
	outs, err := s.client.Attempt(ctx, []tcp.Attempt{{To: listener, From: from, ReuseAddr: true, Ending: tcp.Abort}})
	if err != nil {
		return seen, err
	}
	seen.Note("outcome", string(outs[0].Outcome))
	seen.Count("syns", int64(outs[0].SYNs))
	return seen, nil
}

// idleEvidence is what [longIdle] notes.
func idleEvidence() []claim.Evidence {
	return []claim.Evidence{
		{Name: "segment", Unit: "accepted or rejected", Means: "what the balancer did with the segment after the idle time"},
		{Name: "looks", Unit: "older or newer", Means: "that segment's timestamp compared with the last one, by the sign of the difference"},
		{Name: "left", Unit: "a state, or nothing", Means: "what the balancer had of the connection at the end of the idle time"},
		situation.OutcomeEvidence, situation.SYNsEvidence,
	}
}
