package situation

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

// Order compares a value of the second client with the same value of the first one.
type Order string

// The orders. The zero value leaves the value to the kernel.
const (
	AsItComes Order = ""
	Older     Order = "older"
	Equal     Order = "equal"
	Newer     Order = "newer"
	// Wrapped is newer, but the clock has passed 2^32 in between, so the plain number
	// is smaller.
	Wrapped Order = "wrapped"
)

// Left is what the first connection has left at the balancer.
type Left string

// What is left.
const (
	// LeftTimeWait: both have closed, the balancer first.
	LeftTimeWait Left = "time-wait"
	// LeftFinWait2: the balancer has closed, the client never did.
	LeftFinWait2 Left = "fin-wait-2"
	// LeftEstablished: neither side has closed.
	LeftEstablished Left = "established"
	// LeftChallenged: neither side has closed, and the balancer has answered another SYN
	// with a challenge ACK less than 500 ms before (tcp_invalid_ratelimit).
	LeftChallenged Left = "challenged"
	// LeftNothing: both have closed and the TIME_WAIT has expired.
	LeftNothing Left = "expired"
)

// Fault is what the path does to the second client's handshake.
type Fault string

// The faults. The zero value is a path without one.
const (
	NoFault Fault = ""
	// DropsInvalid: the gateway drops what conntrack calls INVALID.
	DropsInvalid Fault = "drops-invalid"
	// EatsRST: RSTs of the client get lost.
	EatsRST Fault = "eats-rst"
	// UnNATedRST: the gateway forwards RSTs untranslated, like a gateway whose conntrack
	// finds them INVALID.
	UnNATedRST Fault = "un-nated-rst"
	// EatsACK: bare ACKs of the balancer get lost.
	EatsACK Fault = "eats-ack"
)

// FiveTuple is the situation that the document warns of: a client's connection has
// ended, the balancer still has some state of it, and the same address and port connects
// to the same listener again. The balancer sees a SYN for a five-tuple that it remembers.
//
// It needs a lab with a gateway. If the lab has a second client, that one connects, from
// the address and port that the gateway gave to the first one. Otherwise the same client
// connects again; before that, its socket of the first connection is removed without a
// segment.
type FiveTuple struct {
	Left Left // the zero value is LeftTimeWait
	// Clock is the second connection's timestamp clock compared with the last timestamp
	// of the first: Older by 10000 s, Equal, Newer, or Wrapped. It means nothing if
	// timestamps are off on either side.
	Clock Order
	// ISN is the second connection's initial sequence number compared with the one
	// that the balancer expects next on the first: Older or Newer by a million,
	// or Equal.
	ISN   Order
	Fault Fault
	// Aged is how old a TIME_WAIT must be when the second SYN comes, so that its timer
	// shows whether it was restarted.
	Aged time.Duration
}

// The values that FiveTuple sets: the source port of both connections always, and the
// others if Clock or ISN is set.
const (
	SourcePort uint16 = 40000

	FirstISN uint32 = 1 << 30
	IsnGap   uint32 = 1_000_000

	// Ticks of the clock, 1 ms each since Linux 4.13, and jiffies before.
	ClockLead int64  = 10_000_000
	clockStep uint32 = 1 << 30 // less than half the clock, or it would be a step back
)

var (
	// errMissed says that the second SYN did not leave at exactly the intended tick.
	errMissed = errors.New("the second SYN left at another tick than wanted")
	// errNoWrap says that the second client's clock has not passed 2^32 since the first
	// connection.
	errNoWrap = errors.New("the second clock cannot have passed 2^32 since the first connection")
	// errUnlimited says that the second SYN did not come while the balancer's rate limit
	// suppressed challenge ACKs.
	errUnlimited = errors.New("the second SYN left too late for the rate limit")
)

// again tells whether a new try, on another port, may succeed.
func again(err error) bool {
	return errors.Is(err, errMissed) || errors.Is(err, errUnlimited) || errors.Is(err, ErrCut)
}

// Drive creates the situation, lets the second client connect once, and keeps that
// connection open.
func (f FiveTuple) Drive(ctx context.Context, l *lab.Lab) (FiveTupleSeen, error) {
	clients, gateways := l.Nodes(lab.Client), l.Nodes(lab.Gateway)
	if len(gateways) == 0 {
		return FiveTupleSeen{}, errors.New("five-tuple: want a gateway")
	}
	s := FiveTupleRun{
		FiveTuple: f,
		Lab:       l,
		First:     clients[0],
		Second:    clients[min(1, len(clients)-1)],
		Gateway:   gateways[0],
		Balancer:  l.Balancer(),
		Translate: l.Topology().Gateway.Kind == lab.Masquerade,
	}
	if s.Left == "" {
		s.Left = LeftTimeWait
	}
	seen, err := s.drive(ctx)
	if err != nil {
		return seen, fmt.Errorf("five-tuple: %w", err)
	}
	return seen, nil
}

// FiveTupleRun is the situation with its nodes.
type FiveTupleRun struct {
	FiveTuple
	Lab                              *lab.Lab
	First, Second, Gateway, Balancer node.Node
	Translate                        bool // the gateway gives all clients its own address
	Listener                         node.Listening
	Port                             uint16
	ready                            time.Duration // enough time to prepare everything for an equal clock
	tick                             time.Duration // of the second client's clock; 0 means a millisecond
	early                            time.Duration // how much earlier connect is called, so that the SYN leaves at the right time
}

func (s FiveTupleRun) drive(ctx context.Context) (seen FiveTupleSeen, err error) {
	err = s.Lab.Capture(s.First.Identity().Name, s.Second.Identity().Name, s.Balancer.Identity().Name)
	if err != nil {
		return seen, err
	}
	if s.Listener, err = s.Balancer.Listen(ctx, tcp.ListenSpec{}); err != nil {
		return seen, err
	}
	if s.tick, err = s.tickOfSecond(ctx); err != nil {
		return seen, fmt.Errorf("tick of the second clock: %w", err)
	}
	// The exact tick is missed when this process has to wait, and a TIME_WAIT can be cut
	// short.
	const tries, longest = 30, 12 // longest: less than a second, the most that an attempt waits for its moment
	for try := range uint16(tries) {
		s.Port = SourcePort + try
		s.ready = time.Duration(min(try+1, longest)) * 80 * time.Millisecond
		seen, err = s.Once(ctx)
		if !again(err) {
			break
		}
		late := int32(s.early/s.tick) - seen.Behind
		s.early = 0
		if errors.Is(err, errMissed) {
			s.early = aim(late, s.tick)
		}
	}
	return seen, err
}

// Once creates the situation on one port.
func (s FiveTupleRun) Once(ctx context.Context) (seen FiveTupleSeen, err error) {
	last, err := s.leave(ctx, &seen)
	if err != nil {
		return seen, fmt.Errorf("first connection: %w", err)
	}
	if err := s.fault(); err != nil {
		return seen, err
	}
	var challenged time.Time
	if s.Left == LeftChallenged {
		if challenged, err = s.knock(ctx); err != nil {
			return seen, fmt.Errorf("knock: %w", err)
		}
	}
	var notBefore time.Duration
	if s.Clock == Equal && last.known {
		notBefore = last.moment() - s.early
	}
	if err := s.Meet(ctx, notBefore, &seen); err != nil {
		return seen, fmt.Errorf("second connection: %w", err)
	}
	if s.Left == LeftChallenged && !limited(challenged, seen.SYNs) {
		return seen, errUnlimited
	}
	cut, err := s.cut()
	if err != nil {
		return seen, err
	}
	if cut && s.Left == LeftTimeWait {
		return seen, ErrCut
	}
	if last.known && len(seen.SYNs.SYNs) > 0 {
		second := seen.SYNs.SYNs[0].Timestamp.Value
		seen.Clocks, seen.Behind = CompareClocks(last.value, second), int32(last.value-second)
	}
	newer := s.Clock == Newer && seen.Clocks == Wrapped
	if s.Clock == AsItComes || !last.known || seen.Clocks == s.Clock || newer {
		return seen, nil
	}
	err = fmt.Errorf("the second SYN's timestamp is %s against %d, want %s", seen.Clocks, last.value, s.Clock)
	if s.Clock == Equal {
		err = fmt.Errorf("%w: %w", errMissed, err)
	}
	return seen, err
}

// Meet lets the second client connect from the same port.
func (s FiveTupleRun) Meet(ctx context.Context, notBefore time.Duration, seen *FiveTupleSeen) error {
	count, err := CountMoves(ctx, s.Second, s.Gateway, s.Balancer)
	if err != nil {
		return err
	}
	mark := s.Lab.Mark()
	began := time.Now()
	a := tcp.Attempt{To: s.Listener.Addr, From: s.From(), ReuseAddr: true, ISN: s.SecondISN(), NotBefore: notBefore}
	outs, err := s.Second.Attempt(ctx, []tcp.Attempt{a})
	if err != nil {
		return err
	}
	seen.Second = outs[0]
	all, err := s.Balancer.Sockets(ctx)
	if err != nil {
		return err
	}
	seen.Between = time.Since(began)
	if after := all.Between(s.Listener.Addr, s.Outside()); len(after) > 0 {
		seen.After = after[0]
	}
	moved, err := count(ctx)
	if err != nil {
		return err
	}
	seen.Client, seen.Gateway, seen.Balancer = moved[0], moved[1], moved[2]
	packets, err := s.Lab.PacketsSince(mark)
	if err != nil {
		return err
	}
	path := s.Lab.Path(s.Second.Identity().Name)
	seen.SYNs = observe.AccountSYNs(packets, path, seen.Second.Local, s.Listener.Addr)
	seen.SYNs.Explain(seen.Balancer)
	return nil
}

// SecondISN is chosen relative to the number that the balancer expects next: the first
// client's SYN and, if it closed, its FIN count one each.
func (s FiveTupleRun) SecondISN() uint32 {
	next := FirstISN + 1
	if s.Left == LeftTimeWait || s.Left == LeftNothing {
		next++
	}
	switch s.ISN {
	case Older:
		return next - IsnGap
	case Equal:
		return next
	case Newer:
		return next + IsnGap
	default:
		return 0
	}
}

// From is the address and port from which both clients connect.
func (s FiveTupleRun) From() netip.AddrPort {
	return netip.AddrPortFrom(netip.Addr{}, s.Port)
}

// Outside is the first client's address and port as the balancer sees them.
func (s FiveTupleRun) Outside() netip.AddrPort {
	if s.Translate {
		return netip.AddrPortFrom(s.Gateway.Identity().Addr, s.Port)
	}
	return netip.AddrPortFrom(s.First.Identity().Addr, s.Port)
}
