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

// Order compares something of the second client's with the same thing of the
// first's.
type Order string

// The orders. The zero value leaves it to the kernel.
const (
	AsItComes Order = ""
	Older     Order = "older"
	Equal     Order = "equal"
	Newer     Order = "newer"
	// Wrapped is newer, and the clock has passed 2^32 in between, so that the
	// plain number is smaller.
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
	// LeftEstablished: nobody has closed.
	LeftEstablished Left = "established"
	// LeftChallenged: nobody has closed, and the balancer has answered another SYN by
	// a challenge ACK less than 500 ms before (tcp_invalid_ratelimit).
	LeftChallenged Left = "challenged"
	// LeftNothing: both have closed and the TIME_WAIT has run out.
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
	// UnNATedRST: the gateway forwards RSTs without translating them, as those
	// do whose conntrack finds them INVALID.
	UnNATedRST Fault = "un-nated-rst"
	// EatsACK: bare ACKs of the balancer get lost.
	EatsACK Fault = "eats-ack"
)

// FiveTuple is the situation that the document fears: a client's connection has
// ended, the balancer keeps something of it, and the same address and port
// connects to the same listener once more. The balancer sees a SYN for a five-tuple
// that it remembers.
//
// It needs a lab with a gateway. With a second client there, that one connects,
// from the address and port that the gateway gave to the first; else it is the
// same client again, after whatever it had of the first connection has gone
// without a word.
type FiveTuple struct {
	Left Left // the zero value is LeftTimeWait
	// Clock is the second connection's timestamp clock against what the first
	// showed last: Older by 10000 s, Equal, Newer, or Wrapped. It means nothing
	// when either side does without timestamps.
	Clock Order
	// ISN is the second connection's initial sequence number against the one
	// that the balancer expects next on the first: Older or Newer by a million,
	// or Equal.
	ISN   Order
	Fault Fault
	// Aged is how old a TIME_WAIT must be when the second SYN comes, so that one
	// can tell from its timer whether that was begun anew.
	Aged time.Duration
}

// What FiveTuple sets: the source port of both connections, and the rest when an
// order is asked for.
const (
	SourcePort uint16 = 40000

	FirstISN uint32 = 1 << 30
	IsnGap   uint32 = 1_000_000

	// Ticks of the clock, 1 ms each since Linux 4.13, and jiffies before.
	ClockLead int64  = 10_000_000
	clockStep uint32 = 1 << 30 // less than half the clock, or it would be a step back
)

var (
	// errMissed says that the clocks did not meet at the one tick that was wanted.
	errMissed = errors.New("the second SYN left at another tick than wanted")
	// errNoWrap says that the second client's clock has not begun anew yet.
	errNoWrap = errors.New("the second clock cannot have passed 2^32 since the first connection")
	// errUnlimited says that the second SYN did not come within the time in which
	// the balancer leaves challenges out.
	errUnlimited = errors.New("the second SYN left too late for the rate limit")
)

// again tells whether what went wrong may go well on another port.
func again(err error) bool {
	return errors.Is(err, errMissed) || errors.Is(err, errUnlimited) || errors.Is(err, ErrCut)
}

// Drive brings the situation about, lets the second client connect once, and
// keeps that connection open.
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
	ready                            time.Duration // time enough to get everything ready for an equal clock
	tick                             time.Duration // of the second client's clock; 0 means a millisecond
	early                            time.Duration // by how much connect is called too early, for a SYN at the right time
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
	// The exact tick can be missed, when this process is kept waiting, and a
	// TIME_WAIT can be cut short.
	const tries, longest = 30, 12 // less than a second, which is as far as an attempt waits for its moment
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

// Once brings the situation about on one port.
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

// Meet has the second client connect from the same port.
func (s FiveTupleRun) Meet(ctx context.Context, notBefore time.Duration, seen *FiveTupleSeen) error {
	count, err := CountMoves(ctx, s.Second, s.Gateway, s.Balancer)
	if err != nil {
		return err
	}
	mark := s.Lab.Mark()
	began := time.Now()
	a := tcp.Attempt{To: s.Listener.Addr, From: s.From(), ReuseAddr: true, ISN: s.secondISN(), NotBefore: notBefore}
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

// secondISN is chosen against the number that the balancer expects next: the
// first client's SYN and, when it closed, its FIN count one each.
func (s FiveTupleRun) secondISN() uint32 {
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

// From is where both connect from, outside how the balancer sees it.
func (s FiveTupleRun) From() netip.AddrPort {
	return netip.AddrPortFrom(netip.IPv4Unspecified(), s.Port)
}

// Outside is the first client's address and port as the balancer sees them.
func (s FiveTupleRun) Outside() netip.AddrPort {
	if s.Translate {
		return netip.AddrPortFrom(s.Gateway.Identity().Addr, s.Port)
	}
	return netip.AddrPortFrom(s.First.Identity().Addr, s.Port)
}
