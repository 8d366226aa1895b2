package scenarios

import (
	"context"
	"errors"
	"fmt"
	"time"

	"twlab/harness/lab"
	"twlab/harness/node"
	"twlab/harness/observe"
	"twlab/harness/tcp"
)

// sameAddress is the situation that tcp_tw_recycle is about: a connection has
// ended, and the same address connects again, from another port, so that no
// TIME_WAIT is met. With a second client behind the same MASQUERADE that is the
// one that comes again.
type sameAddress struct {
	// Recycle is what tcp_tw_recycle is set to on the nodes of Role, if they
	// have it, or "untouched".
	Recycle string
	Role    lab.Role
	// ClientCloses: the client closes the first connection first.
	ClientCloses bool
	// Clock is the second connection's timestamp clock against what the first
	// showed last: Older or Newer by 10000 s. It means nothing when either side
	// does without timestamps.
	Clock Order
	// SecondBare: the second SYN has no timestamps.
	SecondBare bool
	// Outside: it comes when the 60 s are over for which an address is
	// remembered (TCP_PAWS_MSL).
	Outside bool
}

// Drive sets the sysctl, brings the situation about, and lets the second client
// connect once. Where the sysctl cannot be set, the story goes on without it.
func (s sameAddress) Drive(ctx context.Context, l *lab.Lab) (Seen, error) {
	knob, err := s.turn(ctx, l)
	if err != nil {
		return Seen{}, err
	}
	clients := l.Nodes(lab.Client)
	first := s.cast(l, clients[0], sourcePort)
	second := s.cast(l, clients[len(clients)-1], sourcePort+1)
	err = l.Capture(clients[0].Identity().Name, clients[len(clients)-1].Identity().Name, string(lab.Balancer))
	if err != nil {
		return Seen{}, err
	}
	if first.door, err = first.balancer.Listen(ctx, tcp.ListenSpec{}); err != nil {
		return Seen{}, err
	}
	second.door = first.door
	began := time.Now()
	timeWait, last, err := s.leave(ctx, first, second)
	if err != nil {
		return Seen{}, fmt.Errorf("first connection: %w", err)
	}
	if err := s.pause(ctx); err != nil {
		return Seen{}, err
	}
	if s.SecondBare {
		if err := second.second.SetSysctl(ctx, "net.ipv4.tcp_timestamps", "0"); err != nil {
			return Seen{}, err
		}
	}
	var met FiveTupleSeen
	if err := second.meet(ctx, 0, &met); err != nil {
		return Seen{}, fmt.Errorf("second connection: %w", err)
	}
	if took := time.Since(began); !s.Outside && took > TimeWaitLength-time.Second {
		return Seen{}, fmt.Errorf("second connection: %w: %v after the first began, when its address may be forgotten", errTooLate, took)
	}
	seen, err := s.judgeClocks(met, last)
	seen.Note("knob", knob)
	seen.Note("time-wait", timeWait)
	seen.Count("passive rejects", int64(met.Balancer[passiveRejects]))
	has := met.Balancer
	if s.Role == lab.Client {
		has = met.Client
	}
	counter := "none"
	_, counted := has[passiveRejects]
	if counted {
		counter = "there"
	}
	seen.Note("passive counter", counter)
	return seen, err
}

// passiveRejects counts the SYNs that tcp_tw_recycle drops; gone since Linux 4.12.
const passiveRejects = "TcpExt.PAWSPassive"

// cast is a fiveTuple of one client and one port.
func (s sameAddress) cast(l *lab.Lab, client node.Node, port uint16) fiveTuple {
	return fiveTuple{
		lab: l, first: client, second: client, gateway: l.Nodes(lab.Gateway)[0], balancer: l.Nodes(lab.Balancer)[0],
		translate: l.Topology().Gateway.Kind == lab.Masquerade, port: port,
	}
}

// turn sets the sysctl on the nodes of the role and says how that went.
func (s sameAddress) turn(ctx context.Context, l *lab.Lab) (knob string, err error) {
	if s.Recycle == "untouched" {
		return s.Recycle, nil
	}
	for _, n := range l.Nodes(s.Role) {
		knob, err = knobState(n.SetSysctl(ctx, "net.ipv4.tcp_tw_recycle", s.Recycle))
		if err != nil {
			return "", err
		}
	}
	if knob == knobThere {
		knob = "set"
	}
	return knob, nil
}

// leave has the first client connect, puts its clock where the second one's is
// older or newer, and closes the connection. It tells how long the TIME_WAIT
// lasts that this leaves, and the last timestamp that the balancer saw.
func (s sameAddress) leave(ctx context.Context, first, second fiveTuple) (timeWait string, last *uint32, err error) {
	clock, shared, err := second.probe(ctx)
	if err != nil {
		return "", nil, fmt.Errorf("probe the second clock: %w", err)
	}
	out, err := connect(ctx, first.first, tcp.Attempt{To: first.door.Addr, From: first.from()})
	if err != nil {
		return "", nil, err
	}
	conn, err := first.balancer.Accept(ctx, first.door.Handle, first.outside())
	if err != nil {
		return "", nil, err
	}
	if shared && !s.SecondBare {
		first.Clock = s.Clock
		if err := first.steer(ctx, clock, out.Conn, conn); err != nil {
			return "", nil, err
		}
	}
	if timeWait, err = first.part(ctx, s.ClientCloses, out, conn); err != nil || !shared {
		return timeWait, nil, err
	}
	value, err := first.lastShown()
	return timeWait, &value, err
}

// pause waits until the address is forgotten, if it is to be.
func (s sameAddress) pause(ctx context.Context) error {
	if !s.Outside {
		return nil
	}
	// Whole seconds are compared (get_seconds, tcp_ts_stamp).
	until := time.Now().Add(TimeWaitLength + 2*time.Second)
	return observe.Await(ctx, "the end of 60 s", func() (bool, error) { return !time.Now().Before(until), nil })
}

// judgeClocks notes what was seen, and says whether the clocks were as wanted.
func (s sameAddress) judgeClocks(met FiveTupleSeen, last *uint32) (Seen, error) {
	if last == nil || s.SecondBare {
		return met.witnesses(), nil
	}
	if len(met.SYNs.SYNs) == 0 {
		return met.witnesses(), errors.New("no SYN of the second connection was recorded")
	}
	met.Clocks = compareClocks(*last, met.SYNs.SYNs[0].Timestamp.Value)
	if met.Clocks == Wrapped {
		met.Clocks = Newer
	}
	if met.Clocks != s.Clock {
		return met.witnesses(), fmt.Errorf("the second SYN's timestamp is %s against %d, want %s", met.Clocks, *last, s.Clock)
	}
	return met.witnesses(), nil
}
