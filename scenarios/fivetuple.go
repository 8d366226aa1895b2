package scenarios

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"twlab/harness/lab"
	"twlab/harness/node"
	"twlab/harness/observe"
	"twlab/harness/tcp"
)

// Order compares something of the second client's with the same thing of the
// first's.
type Order string

// The orders. The zero value leaves it to the kernel.
const (
	AsItComes Order = ""
	Older     Order = "older"
	Newer     Order = "newer"
)

// FiveTuple is the situation that the document fears: a client's connection has
// ended, the balancer closed it first and keeps it in TIME_WAIT, and the gateway
// gives the same address and port to a second client, which connects to the
// same door. The balancer now sees a SYN for a five-tuple that it remembers.
//
// It needs a lab with at least two clients behind a masquerading gateway. The
// clients' clocks can be compared only with net.ipv4.tcp_timestamps=2 on both:
// with 1 each pair of addresses has a random offset (secure_tcp_ts_off).
type FiveTuple struct {
	// Clock is the second client's timestamp clock against what the first
	// showed last: Older by 10000 s, or Newer by some milliseconds.
	Clock Order
	// ISN is the second client's initial sequence number against the one that
	// the balancer expects next on the first client's connection: Older or Newer
	// by a million.
	ISN Order
}

// FiveTupleSeen is what was seen while the second client connected.
type FiveTupleSeen struct {
	// First and Second are the outcomes of the two clients' attempts.
	First, Second tcp.Outcome
	// TimeWait is the balancer's socket just before the second attempt.
	TimeWait observe.Socket
	// SYNs accounts for the second attempt.
	SYNs observe.SYNAccount
	// Client, Gateway and Balancer say how the counters of the second client,
	// the gateway and the balancer moved during the second attempt.
	Client, Gateway, Balancer observe.Counters
}

// What FiveTuple sets: the source port of both clients, and the rest when an
// order is asked for.
const (
	sourcePort uint16 = 40000

	firstISN  uint32 = 1 << 30
	isnGap    uint32 = 1_000_000
	clockLead int32  = 10_000_000 // ticks: 10000 s since Linux 4.13
)

// Drive brings the situation about, lets the second client connect once, and
// keeps that connection open.
func (f FiveTuple) Drive(ctx context.Context, l *lab.Lab) (FiveTupleSeen, error) {
	clients, gateways := l.Nodes(lab.Client), l.Nodes(lab.Gateway)
	if len(clients) < 2 || len(gateways) == 0 {
		return FiveTupleSeen{}, errors.New("five-tuple: want two clients behind a gateway")
	}
	s := fiveTuple{
		FiveTuple: f,
		lab:       l,
		first:     clients[0],
		second:    clients[1],
		gateway:   gateways[0],
		balancer:  l.Nodes(lab.Balancer)[0],
	}
	seen, err := s.drive(ctx)
	if err != nil {
		return seen, fmt.Errorf("five-tuple: %w", err)
	}
	return seen, nil
}

// fiveTuple is the situation with its cast.
type fiveTuple struct {
	FiveTuple
	lab                              *lab.Lab
	first, second, gateway, balancer node.Node
}

func (s fiveTuple) drive(ctx context.Context) (seen FiveTupleSeen, err error) {
	err = s.lab.Capture(s.first.Identity().Name, s.second.Identity().Name, s.balancer.Identity().Name)
	if err != nil {
		return seen, err
	}
	door, err := s.balancer.Listen(ctx, tcp.ListenSpec{})
	if err != nil {
		return seen, err
	}
	if seen.First, seen.TimeWait, err = s.leaveTimeWait(ctx, door); err != nil {
		return seen, fmt.Errorf("first client: %w", err)
	}
	if err := s.forget(ctx); err != nil {
		return seen, err
	}
	if err := s.meet(ctx, door, &seen); err != nil {
		return seen, fmt.Errorf("second client: %w", err)
	}
	return seen, nil
}

// leaveTimeWait has the first client connect and the balancer close first.
func (s fiveTuple) leaveTimeWait(ctx context.Context, door node.Listening) (out tcp.Outcome, left observe.Socket, err error) {
	a := tcp.Attempt{To: door.Addr, From: s.from(), ReuseAddr: true}
	if s.ISN != AsItComes {
		a.ISN = firstISN
	}
	if out, err = connect(ctx, s.first, a); err != nil {
		return out, left, err
	}
	conn, err := s.balancer.Accept(ctx, door.Handle, s.outside())
	if err != nil {
		return out, left, err
	}
	if s.Clock == Older {
		// Nobody's clock can be put back before a SYN, so the first client's is
		// put forward: the balancer learns it from the client's last segments.
		if err := s.first.AdvanceClock(ctx, out.Conn, clockLead); err != nil {
			return out, left, err
		}
	}
	if err := s.balancer.End(ctx, conn, tcp.CloseNow); err != nil {
		return out, left, err
	}
	if err := s.first.End(ctx, out.Conn, tcp.CloseAfterPeer); err != nil {
		return out, left, err
	}
	// A full millisecond passes, or ten where the clock ticks with HZ=100, so
	// that a newer clock is newer.
	tick := time.Now().Add(20 * time.Millisecond)
	err = observe.Await(ctx, "the balancer's TIME_WAIT and a tick of the clock", func() (bool, error) {
		sockets, err := s.balancer.Sockets(ctx)
		if err != nil {
			return false, err
		}
		mine := sockets.In(observe.TimeWait).Between(door.Addr, s.outside())
		if len(mine) == 0 {
			return false, nil
		}
		left = mine[0]
		return time.Now().After(tick), nil
	})
	return out, left, err
}

// forget makes the gateway forget the first client's connection, as a gateway
// does whose hold time is shorter than the balancer's 60 s. Linux's own is 120 s
// (nf_conntrack_tcp_timeout_time_wait).
func (s fiveTuple) forget(ctx context.Context) error {
	n, err := s.gateway.DeleteFlows(ctx, observe.FlowMatch{Reply: observe.Tuple{Dst: s.outside()}})
	if err != nil {
		return err
	}
	if n != 1 {
		return fmt.Errorf("gateway forgot %d connections from %v, want 1", n, s.outside())
	}
	return nil
}

// meet has the second client connect from the same port.
func (s fiveTuple) meet(ctx context.Context, door node.Listening, seen *FiveTupleSeen) error {
	watched := []struct {
		at    node.Node
		moved *observe.Counters
	}{{s.second, &seen.Client}, {s.gateway, &seen.Gateway}, {s.balancer, &seen.Balancer}}
	before := make([]observe.Counters, len(watched))
	for i, w := range watched {
		var err error
		if before[i], err = w.at.Counters(ctx); err != nil {
			return err
		}
	}
	earlier, err := s.lab.Packets()
	if err != nil {
		return err
	}

	a := tcp.Attempt{To: door.Addr, From: s.from(), ReuseAddr: true}
	switch s.ISN {
	case AsItComes:
	case Older:
		a.ISN = firstISN - isnGap
	case Newer:
		a.ISN = firstISN + isnGap
	}
	outs, err := s.second.Attempt(ctx, []tcp.Attempt{a})
	if err != nil {
		return err
	}
	seen.Second = outs[0]

	for i, w := range watched {
		after, err := w.at.Counters(ctx)
		if err != nil {
			return err
		}
		*w.moved = after.Sub(before[i])
	}
	packets, err := s.lab.Packets()
	if err != nil {
		return err
	}
	seen.SYNs = observe.AccountSYNs(packets[len(earlier):], observe.Path{
		Client:  s.second.Identity().Name,
		Gateway: s.gateway.Identity().Name,
		Server:  s.balancer.Identity().Name,
	}, seen.Second.Local, door.Addr)
	return nil
}

// from is where both clients connect from, outside how the balancer sees it.
func (s fiveTuple) from() netip.AddrPort {
	return netip.AddrPortFrom(netip.IPv4Unspecified(), sourcePort)
}

func (s fiveTuple) outside() netip.AddrPort {
	return netip.AddrPortFrom(s.gateway.Identity().Addr, sourcePort)
}

// connect makes one attempt that has to succeed for the situation to come about.
func connect(ctx context.Context, from node.Node, a tcp.Attempt) (tcp.Outcome, error) {
	outs, err := from.Attempt(ctx, []tcp.Attempt{a})
	if err != nil {
		return tcp.Outcome{}, err
	}
	if outs[0].Verdict != tcp.Connected {
		return outs[0], fmt.Errorf("%s: %v, want a connection to begin with", from.Identity().Name, outs[0])
	}
	return outs[0], nil
}
