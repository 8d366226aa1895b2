package scenarios

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"time"

	"twlab/harness/kernel"
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
// connects to the same door once more. The balancer sees a SYN for a five-tuple
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

// FiveTupleSeen is what was seen while the second connection was tried.
type FiveTupleSeen struct {
	// First and Second are the outcomes of the two attempts.
	First, Second tcp.Outcome
	// Left is the balancer's socket just before the second attempt, After what
	// it was when that had its verdict. Each is zero when there was none.
	Left, After observe.Socket
	// Between is the time between the two looks.
	Between time.Duration
	// Clocks is how the second SYN's timestamp compares with the last one that
	// the balancer saw from the first connection; AsItComes without timestamps.
	Clocks Order
	// Behind is by how many ticks it is older; negative when it is newer.
	Behind int32
	// SYNs accounts for the second attempt.
	SYNs observe.SYNAccount
	// Client, Gateway and Balancer say how the counters of the second client,
	// the gateway and the balancer moved during the second attempt.
	Client, Gateway, Balancer observe.Counters
}

// What FiveTuple sets: the source port of both connections, and the rest when an
// order is asked for.
const (
	sourcePort uint16 = 40000

	firstISN uint32 = 1 << 30
	isnGap   uint32 = 1_000_000

	// Ticks of the clock, 1 ms each since Linux 4.13, and jiffies before.
	clockLead int64  = 10_000_000
	clockStep uint32 = 1 << 30 // less than half the clock, or it would be a step back
)

// tickAtMost is longer than any tick of the timestamp clock: 1 ms since Linux
// 4.13, a jiffy before. A clock that is to be newer must have gone on.
const tickAtMost = 20 * time.Millisecond

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
	return errors.Is(err, errMissed) || errors.Is(err, errUnlimited) || errors.Is(err, errCut)
}

// Drive brings the situation about, lets the second client connect once, and
// keeps that connection open.
func (f FiveTuple) Drive(ctx context.Context, l *lab.Lab) (FiveTupleSeen, error) {
	clients, gateways := l.Nodes(lab.Client), l.Nodes(lab.Gateway)
	if len(gateways) == 0 {
		return FiveTupleSeen{}, errors.New("five-tuple: want a gateway")
	}
	s := fiveTuple{
		FiveTuple: f,
		lab:       l,
		first:     clients[0],
		second:    clients[min(1, len(clients)-1)],
		gateway:   gateways[0],
		balancer:  l.Balancer(),
		translate: l.Topology().Gateway.Kind == lab.Masquerade,
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

// fiveTuple is the situation with its cast.
type fiveTuple struct {
	FiveTuple
	lab                              *lab.Lab
	first, second, gateway, balancer node.Node
	translate                        bool // the gateway gives all clients its own address
	door                             node.Listening
	port                             uint16
	ready                            time.Duration // time enough to get everything ready for an equal clock
	tick                             time.Duration // of the second client's clock; 0 means a millisecond
	early                            time.Duration // by how much connect is called too early, for a SYN at the right time
}

func (s fiveTuple) drive(ctx context.Context) (seen FiveTupleSeen, err error) {
	err = s.lab.Capture(s.first.Identity().Name, s.second.Identity().Name, s.balancer.Identity().Name)
	if err != nil {
		return seen, err
	}
	if s.door, err = s.balancer.Listen(ctx, tcp.ListenSpec{}); err != nil {
		return seen, err
	}
	if s.tick, err = s.tickOfSecond(ctx); err != nil {
		return seen, fmt.Errorf("tick of the second clock: %w", err)
	}
	// The exact tick can be missed, when this process is kept waiting, and a
	// TIME_WAIT can be cut short.
	const tries, longest = 30, 12 // less than a second, which is as far as an attempt waits for its moment
	for try := range uint16(tries) {
		s.port = sourcePort + try
		s.ready = time.Duration(min(try+1, longest)) * 80 * time.Millisecond
		seen, err = s.once(ctx)
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

// aim is how much earlier to try after a SYN that came so many ticks late: an emulated
// machine takes some from connect to its SYN, and mostly as many as the last time. More
// than a few have another reason, which is that the moment was over.
func aim(late int32, tick time.Duration) time.Duration {
	const few = 10
	if late < 0 || late > few {
		return 0
	}
	return time.Duration(late) * tick
}

// tickOfSecond is how long a tick of the second client's clock is, where that matters.
// Before Linux 4.13 it is a jiffy: HZ is looked for among those that there are.
func (s fiveTuple) tickOfSecond(ctx context.Context) (tick time.Duration, err error) {
	release, err := s.second.Release(ctx)
	if err != nil || s.Clock != Equal || FactsOf(release).Features[MillisecondClock] == kernel.Yes {
		return time.Millisecond, err
	}
	out, err := connect(ctx, s.second, tcp.Attempt{To: s.door.Addr})
	if err != nil {
		return 0, err
	}
	start, err := s.second.Clock(ctx, out.Conn)
	if err != nil {
		return 0, err
	}
	passed, err := awaitTicks(ctx, s.second, out.Conn, start)
	if err != nil {
		return 0, err
	}
	near := int64(math.MaxInt64)
	for _, hz := range []int64{100, 250, 300, 1000} {
		if off := max(passed*10-hz, hz-passed*10); off < near {
			near, tick = off, time.Second/time.Duration(hz)
		}
	}
	return tick, s.second.End(ctx, out.Conn, tcp.Abort)
}

// once brings the situation about on one port.
func (s fiveTuple) once(ctx context.Context) (seen FiveTupleSeen, err error) {
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
	if err := s.meet(ctx, notBefore, &seen); err != nil {
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
		return seen, errCut
	}
	if last.known && len(seen.SYNs.SYNs) > 0 {
		second := seen.SYNs.SYNs[0].Timestamp.Value
		seen.Clocks, seen.Behind = compareClocks(last.value, second), int32(last.value-second)
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

// cut tells whether a RST of the first connection came to the balancer, or to the
// wire to it, after its FIN and before the second one's SYN. It may have been on
// its way when the TIME_WAIT was looked at.
func (s fiveTuple) cut() (bool, error) {
	packets, err := s.lab.Packets()
	if err != nil {
		return false, err
	}
	path := s.lab.Path(s.first.Identity().Name)
	point := cmp.Or(path.Server, path.Gateway)
	ended := false
	for _, p := range packets {
		switch {
		case p.Point != point || p.Src != s.outside() || p.Dst != s.door.Addr:
		case p.Flags.Has(observe.FlagFIN):
			ended = true
		case ended && p.Flags.Has(observe.FlagRST):
			return true, nil
		case ended && p.Flags.Has(observe.FlagSYN):
			return false, nil
		}
	}
	return false, nil
}

// shown is the last timestamp that the balancer saw on the first connection, and
// the second client's clock.
type shown struct {
	known bool // false when the connection has no timestamps
	value uint32
	clock clockReading
	tick  time.Duration
}

// clockReading is a reading of a connection's clock and when it was taken by ours:
// machines of their own have no time in common.
type clockReading struct {
	tcp.ClockReading
	taken time.Time
}

// readClock reads the clock of a connection.
func readClock(ctx context.Context, of node.Node, conn tcp.Handle) (clockReading, error) {
	reading, err := of.Clock(ctx, conn)
	return clockReading{reading, time.Now()}, err
}

// moment is when the second client's clock says the same. A tick of a millisecond
// begins with one; where in a jiffy the clock was read nobody knows.
func (l shown) moment() time.Duration {
	at := l.clock.At
	if l.tick == time.Millisecond {
		at = at.Truncate(l.tick)
	}
	return at + time.Duration(int32(l.value-l.clock.Ticks))*l.tick
}

// leave has the first client connect and leaves what is wanted of that at the
// balancer, and nothing at the gateway when another client is to come.
func (s fiveTuple) leave(ctx context.Context, seen *FiveTupleSeen) (last shown, err error) {
	clock, probed, err := s.secondClock(ctx)
	if err != nil {
		return last, err
	}
	a := tcp.Attempt{To: s.door.Addr, From: s.from(), ReuseAddr: true}
	if s.ISN != AsItComes {
		a.ISN = firstISN
	}
	if seen.First, err = connect(ctx, s.first, a); err != nil {
		return last, err
	}
	conn, err := accept(ctx, s.balancer, s.door, s.outside())
	if err != nil {
		return last, err
	}
	if !probed {
		// The same offset, or none for anybody.
		if clock, err = readClock(ctx, s.first, seen.First.Conn); err != nil {
			return last, err
		}
	}
	if seen.First.Timestamps && (probed || s.Clock != Newer) {
		if err := s.steer(ctx, clock, seen.First.Conn, conn); err != nil {
			return last, err
		}
	}
	if err := s.end(ctx, seen.First.Conn, conn); err != nil {
		return last, err
	}
	if s.stands() {
		if err := s.quiet(ctx); err != nil {
			return last, err
		}
	}
	if seen.Left, err = s.awaitLeft(ctx); err != nil {
		return last, err
	}
	if s.first != s.second {
		if err := s.forget(ctx); err != nil {
			return last, err
		}
	}
	if !seen.First.Timestamps {
		return last, nil
	}
	value, err := s.lastShown()
	return shown{known: true, value: value, clock: clock, tick: s.tick}, err
}

// end has both sides do what leaves the wanted state.
func (s fiveTuple) end(ctx context.Context, first, atBalancer tcp.Handle) error {
	if !s.stands() {
		if err := s.balancer.End(ctx, atBalancer, tcp.CloseNow); err != nil {
			return err
		}
		if err := awaitFinWait2(ctx, s.balancer, s.door.Addr, s.outside()); err != nil {
			return err
		}
	}
	switch {
	case s.Left == LeftTimeWait || s.Left == LeftNothing:
		return s.first.End(ctx, first, tcp.CloseAfterPeer)
	case s.first == s.second:
		return s.vanish(ctx, first)
	default:
		return nil
	}
}

// vanish makes the client forget its connection without a word. Once the balancer has
// closed, kernels before 4.10 do not let a connection into repair mode (tcp_can_repair_sock:
// ESTABLISHED and CLOSE only): there it is reset, and the RST does not get beyond the wire.
func (s fiveTuple) vanish(ctx context.Context, conn tcp.Handle) error {
	release, err := s.first.Release(ctx)
	if err != nil {
		return err
	}
	if s.stands() || !release.Before(4, 10) {
		return s.first.End(ctx, conn, tcp.Vanish)
	}
	rst := fmt.Sprintf("-i %s -p tcp --sport %d --tcp-flags RST RST -m statistic --mode nth --every 1000 --packet 0 -j DROP",
		s.first.Identity().Name, s.port)
	if err := s.lab.AddRules(lab.Rule{Role: lab.Gateway, Table: "raw", Chain: "PREROUTING", Spec: rst}); err != nil {
		return err
	}
	if err := s.first.End(ctx, conn, tcp.Abort); err != nil {
		return err
	}
	return observe.Await(ctx, "the RST to be lost", func() (bool, error) {
		packets, err := s.lab.Packets()
		lost := 0
		for _, p := range packets {
			if p.Point == s.gateway.Identity().Name && p.Direction == observe.In && p.Src.Port() == s.port && p.Flags.Has(observe.FlagRST) {
				lost++
			}
		}
		return lost > 0, err
	})
}

// awaitFinWait2 waits until a FIN has been acknowledged. Only then may the other
// side close: its FIN could overtake its ACK on another processor, the ACK would
// come to a TIME_WAIT, and the RST that answers the TIME_WAIT's own ACK would end
// it (RFC 1337).
func awaitFinWait2(ctx context.Context, closed node.Node, local, remote netip.AddrPort) error {
	return observe.Await(ctx, "the FIN of "+closed.Identity().Name+" to be acknowledged", func() (bool, error) {
		all, err := closed.Sockets(ctx)
		return len(all.In(observe.FinWait2).Between(local, remote)) == 1, err
	})
}

// awaitLeft waits until the balancer's socket is as wanted.
func (s fiveTuple) awaitLeft(ctx context.Context) (left observe.Socket, err error) {
	// To list sockets is dear: nobody looks before it can be. Equal clocks are
	// waited for in another way.
	ripe := time.Now()
	if s.Clock != Equal {
		ripe = ripe.Add(tickAtMost)
	}
	err = observe.Await(ctx, fmt.Sprintf("what is left at the balancer to be %s", s.Left), func() (bool, error) {
		if time.Now().Before(ripe) {
			return false, nil
		}
		all, err := s.balancer.Sockets(ctx)
		if err != nil {
			return false, err
		}
		mine := all.Between(s.door.Addr, s.outside())
		if len(mine) == 0 {
			left = observe.Socket{}
			if s.Left == LeftTimeWait { // and it is not over yet
				return false, errCut
			}
			return s.Left == LeftNothing, nil
		}
		left = mine[0]
		switch s.Left {
		case LeftTimeWait:
			early := left.Expires - (TimeWaitLength - s.Aged)
			ripe = time.Now().Add(early)
			return left.State == observe.TimeWait && early <= 0, nil
		case LeftFinWait2:
			return left.State == observe.FinWait2 && left.Mini(), nil
		case LeftEstablished, LeftChallenged:
			return left.State == observe.Established && left.SendQueue == 0, nil
		default:
			return false, nil
		}
	})
	return left, err
}

// forget makes the gateway forget the connection, as a gateway does whose hold
// time is shorter than the balancer's 60 s. Linux's own is 120 s
// (nf_conntrack_tcp_timeout_time_wait).
func (s fiveTuple) forget(ctx context.Context) error {
	n, err := s.gateway.DeleteFlows(ctx, observe.FlowMatch{Reply: observe.Tuple{Src: s.door.Addr, Dst: s.outside()}})
	if err != nil {
		return err
	}
	if n != 1 {
		return fmt.Errorf("gateway forgot %d connections from %v, want 1", n, s.outside())
	}
	return nil
}

// fault puts the fault on the path, for this port.
func (s fiveTuple) fault() error {
	second := s.second.Identity().Name
	rst := fmt.Sprintf("-i %s -p tcp --sport %d --tcp-flags RST RST", second, s.port)
	rule := lab.Rule{Role: lab.Gateway, Table: "filter", Chain: "FORWARD"}
	switch s.Fault {
	case NoFault:
		return nil
	case DropsInvalid:
		rule.Spec = "-m conntrack --ctstate INVALID -j DROP"
	case EatsRST:
		rule.Spec = rst + " -j DROP"
	case UnNATedRST:
		rule.Table, rule.Chain, rule.Spec = "raw", "PREROUTING", rst+" -j CT --notrack"
	case EatsACK:
		rule.Spec = s.ackToClient() + " -j DROP"
	default:
		return fmt.Errorf("unknown fault %q", s.Fault)
	}
	return s.lab.AddRules(rule)
}

// ackToClient matches the balancer's bare ACKs to the client's port.
func (s fiveTuple) ackToClient() string {
	return fmt.Sprintf("-i balancer -p tcp --dport %d --tcp-flags SYN,RST,FIN,ACK ACK", s.port)
}

// meet has the second client connect from the same port.
func (s fiveTuple) meet(ctx context.Context, notBefore time.Duration, seen *FiveTupleSeen) error {
	count, err := countMoves(ctx, s.second, s.gateway, s.balancer)
	if err != nil {
		return err
	}
	mark := s.lab.Mark()
	began := time.Now()
	a := tcp.Attempt{To: s.door.Addr, From: s.from(), ReuseAddr: true, ISN: s.secondISN(), NotBefore: notBefore}
	outs, err := s.second.Attempt(ctx, []tcp.Attempt{a})
	if err != nil {
		return err
	}
	seen.Second = outs[0]
	all, err := s.balancer.Sockets(ctx)
	if err != nil {
		return err
	}
	seen.Between = time.Since(began)
	if after := all.Between(s.door.Addr, s.outside()); len(after) > 0 {
		seen.After = after[0]
	}
	moved, err := count(ctx)
	if err != nil {
		return err
	}
	seen.Client, seen.Gateway, seen.Balancer = moved[0], moved[1], moved[2]
	packets, err := s.lab.PacketsSince(mark)
	if err != nil {
		return err
	}
	path := s.lab.Path(s.second.Identity().Name)
	seen.SYNs = observe.AccountSYNs(packets, path, seen.Second.Local, s.door.Addr)
	seen.SYNs.Explain(seen.Balancer)
	return nil
}

// secondISN is chosen against the number that the balancer expects next: the
// first client's SYN and, when it closed, its FIN count one each.
func (s fiveTuple) secondISN() uint32 {
	next := firstISN + 1
	if s.Left == LeftTimeWait || s.Left == LeftNothing {
		next++
	}
	switch s.ISN {
	case Older:
		return next - isnGap
	case Equal:
		return next
	case Newer:
		return next + isnGap
	default:
		return 0
	}
}

// from is where both connect from, outside how the balancer sees it.
func (s fiveTuple) from() netip.AddrPort {
	return netip.AddrPortFrom(netip.IPv4Unspecified(), s.port)
}

func (s fiveTuple) outside() netip.AddrPort {
	if s.translate {
		return netip.AddrPortFrom(s.gateway.Identity().Addr, s.port)
	}
	return netip.AddrPortFrom(s.first.Identity().Addr, s.port)
}

// secondClock finds out about the second client's clock where it cannot be told
// from the first one's: with net.ipv4.tcp_timestamps=1 each pair of addresses,
// and on some kernels each five-tuple, has a random offset (secure_tcp_ts_off), and
// machines of their own have been up for different times.
// A connection of its own, reset at once, shows it.
func (s fiveTuple) secondClock(ctx context.Context) (clock clockReading, probed bool, err error) {
	mode, err := s.second.Sysctl(ctx, "net.ipv4.tcp_timestamps")
	_, apart := s.lab.Topology().Kinds[lab.Client]
	if err != nil || s.first == s.second || s.Clock == AsItComes || mode == "0" || mode != "1" && !apart {
		return clock, false, err
	}
	clock, _, err = s.probe(ctx)
	return clock, true, err
}

// probe opens a connection from the second client, reads its clock and resets it,
// and sees to it that nothing is left of it. Shared tells whether the balancer
// agreed to timestamps.
func (s fiveTuple) probe(ctx context.Context) (clock clockReading, shared bool, err error) {
	out, err := connect(ctx, s.second, tcp.Attempt{To: s.door.Addr, From: s.from(), ReuseAddr: true})
	if err != nil {
		return clock, false, err
	}
	conn, err := accept(ctx, s.balancer, s.door, s.outside())
	if err != nil {
		return clock, false, err
	}
	if clock, err = readClock(ctx, s.second, out.Conn); err != nil {
		return clock, false, err
	}
	if err := s.second.End(ctx, out.Conn, tcp.Abort); err != nil {
		return clock, false, err
	}
	err = observe.Await(ctx, "the reset to reach the balancer", func() (bool, error) {
		all, err := s.balancer.Sockets(ctx)
		return len(all.Between(s.door.Addr, s.outside())) == 0, err
	})
	if err != nil {
		return clock, false, err
	}
	if err := s.balancer.End(ctx, conn, tcp.CloseNow); err != nil {
		return clock, false, err
	}
	if s.translate {
		err = s.forget(ctx)
	}
	return clock, out.Timestamps, err
}

// steer puts the first connection's clock where the second one's is older,
// equal, newer or wrapped against it. Nobody's clock can be put back before a
// SYN, so it is the first one's that is put forward, all the way round if need
// be; the balancer learns it step by step.
func (s fiveTuple) steer(ctx context.Context, second clockReading, first, atBalancer tcp.Handle) error {
	var lead int64
	tick := cmp.Or(s.tick, time.Millisecond)
	switch s.Clock {
	case AsItComes:
		return nil
	case Older:
		lead = clockLead
	case Equal:
		ahead := s.Aged + s.ready
		if s.stands() {
			ahead += limitOver
		}
		lead = int64(ahead / tick)
	case Newer:
		lead = -clockLead
	case Wrapped:
		if second.Ticks >= clockStep {
			return errNoWrap
		}
		lead = -int64(clockStep)
	}
	now, err := readClock(ctx, s.first, first)
	if err != nil {
		return err
	}
	since := uint32(now.taken.Sub(second.taken) / tick)
	ahead := (second.Ticks + since + uint32(lead) - now.Ticks) &^ 1
	for ahead > 0 {
		step := min(ahead, clockStep)
		if err := s.first.AdvanceClock(ctx, first, int32(step)); err != nil {
			return err
		}
		if ahead -= step; ahead == 0 && !s.stands() {
			return nil // the end of the connection will tell the balancer
		}
		if _, err := s.balancer.Send(ctx, atBalancer, 1); err != nil {
			return err
		}
		err := observe.Await(ctx, "the first client's answer to a byte", func() (bool, error) {
			all, err := s.balancer.Sockets(ctx)
			mine := all.Between(s.door.Addr, s.outside())
			return len(mine) == 1 && mine[0].SendQueue == 0, err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// lastShown is the last timestamp with which the first connection reached the
// balancer, or the wire to it.
func (s fiveTuple) lastShown() (value uint32, err error) {
	packets, err := s.lab.Packets()
	if err != nil {
		return 0, err
	}
	found := false
	path := s.lab.Path(s.first.Identity().Name)
	last := cmp.Or(path.Server, path.Gateway, path.Client)
	for _, p := range packets {
		if p.Point == last && p.Src == s.outside() && p.Timestamp.Present {
			value, found = p.Timestamp.Value, true
		}
	}
	if !found {
		return 0, errors.New("no timestamp of the first connection reached the balancer")
	}
	return value, nil
}

// compareClocks compares as the kernel does, by the difference's sign
// (tcp_paws_check).
func compareClocks(first, second uint32) Order {
	switch d := int32(second - first); {
	case d < 0:
		return Older
	case d == 0:
		return Equal
	case second < first:
		return Wrapped
	default:
		return Newer
	}
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

// arrival is how long a connection may take to come out of the accept queue before
// somebody looks who came instead.
const arrival = time.Second

// accept has a listener hand out the connection that has come from peer. The client
// must know it as connected: the balancer has at least the beginning of it then, and
// when it has only others, the client left from another address or port than was
// wanted, or the gateway has changed it.
func accept(ctx context.Context, at node.Node, door node.Listening, peer netip.AddrPort) (tcp.Handle, error) {
	soon, stop := context.WithTimeout(ctx, arrival)
	defer stop()
	conn, err := at.Accept(soon, door.Handle, peer)
	if !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
		return conn, err
	}
	all, err := at.Sockets(ctx)
	if err != nil {
		return tcp.Handle{}, err
	}
	came := all.Between(door.Addr, netip.AddrPort{})
	came = slices.DeleteFunc(came, func(s observe.Socket) bool { return s.State == observe.Listen })
	if len(came) > 0 && len(came.Between(door.Addr, peer)) == 0 {
		return tcp.Handle{}, fmt.Errorf("%s: no connection from %v, want one; what has come: %v", at.Identity().Name, peer, came)
	}
	return at.Accept(ctx, door.Handle, peer)
}

// countMoves reads the counters of some nodes; the function that it returns tells
// how they have moved since.
func countMoves(ctx context.Context, nodes ...node.Node) (func(context.Context) ([]observe.Counters, error), error) {
	before, err := node.CountersOf(ctx, nodes)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) ([]observe.Counters, error) {
		after, err := node.CountersOf(ctx, nodes)
		for i := range after {
			after[i] = after[i].Sub(before[i])
		}
		return after, err
	}, nil
}
