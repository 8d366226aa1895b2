package situation

import (
	"cmp"
	"context"
	"errors"
	"math"
	"time"

	"twlab/harness/kernel"
	"twlab/harness/lab"
	"twlab/harness/node"
	"twlab/harness/observe"
	"twlab/harness/tcp"
)

// aim is how much earlier to call connect after a SYN that left late by so many ticks. An
// emulated machine needs some ticks from connect to the SYN, mostly as many as the last
// time. If it is more than a few, connect was called too late, and aim is 0.
func aim(late int32, tick time.Duration) time.Duration {
	const few = 10
	if late < 0 || late > few {
		return 0
	}
	return time.Duration(late) * tick
}

// tickOfSecond is how long a tick of the second client's clock is, if that matters.
// Before Linux 4.13 it is a jiffy: tickOfSecond measures it, and takes the nearest HZ that
// exists.
func (s FiveTupleRun) tickOfSecond(ctx context.Context) (tick time.Duration, err error) {
	release, err := s.Second.Release(ctx)
	if err != nil || s.Clock != Equal || kernel.FactsOf(release).Features[kernel.MillisecondClock] == kernel.Yes {
		return time.Millisecond, err
	}
	out, err := Connect(ctx, s.Second, tcp.Attempt{To: s.Listener.Addr})
	if err != nil {
		return 0, err
	}
	start, err := s.Second.Clock(ctx, out.Conn)
	if err != nil {
		return 0, err
	}
	passed, err := AwaitTicks(ctx, s.Second, out.Conn, start)
	if err != nil {
		return 0, err
	}
	near := int64(math.MaxInt64)
	for _, hz := range []int64{100, 250, 300, 1000} {
		if off := max(passed*10-hz, hz-passed*10); off < near {
			near, tick = off, time.Second/time.Duration(hz)
		}
	}
	return tick, s.Second.End(ctx, out.Conn, tcp.Abort)
}

// shown is the last timestamp that the balancer saw on the first connection, and
// the second client's clock.
type shown struct {
	known bool // false when the connection has no timestamps
	value uint32
	clock ClockReading
	tick  time.Duration
}

// ClockReading is a reading of a connection's clock, and the time of the reading by this
// process's clock: guests have no common time.
type ClockReading struct {
	tcp.ClockReading
	taken time.Time
}

// readClock reads the clock of a connection.
func readClock(ctx context.Context, of node.Node, conn tcp.Handle) (ClockReading, error) {
	reading, err := of.Clock(ctx, conn)
	return ClockReading{reading, time.Now()}, err
}

// moment is the time at which the second client's clock shows the same value. A tick of a
// millisecond begins with a millisecond; for a jiffy it is not known how much of it had
// passed when the clock was read.
func (l shown) moment() time.Duration {
	at := l.clock.At
	if l.tick == time.Millisecond {
		at = at.Truncate(l.tick)
	}
	return at + time.Duration(int32(l.value-l.clock.Ticks))*l.tick
}

// secondClock reads the second client's clock if it cannot be derived from the first
// one's: with net.ipv4.tcp_timestamps=1 each pair of addresses, and on some kernels each
// five-tuple, has a random offset (secure_tcp_ts_off), and guests have different uptimes.
// It opens a connection for this, and resets it at once.
func (s FiveTupleRun) secondClock(ctx context.Context) (clock ClockReading, probed bool, err error) {
	mode, err := s.Second.Sysctl(ctx, "net.ipv4.tcp_timestamps")
	_, ofGuests := s.Lab.Topology().Kinds[lab.Client]
	if err != nil || s.First == s.Second || s.Clock == AsItComes || mode == "0" || mode != "1" && !ofGuests {
		return clock, false, err
	}
	clock, _, err = s.Probe(ctx)
	return clock, true, err
}

// Probe opens a connection from the second client, reads its clock, resets the
// connection, and makes sure that nothing is left of it. Shared tells whether the
// connection had timestamps.
func (s FiveTupleRun) Probe(ctx context.Context) (clock ClockReading, shared bool, err error) {
	out, err := Connect(ctx, s.Second, tcp.Attempt{To: s.Listener.Addr, From: s.From(), ReuseAddr: true})
	if err != nil {
		return clock, false, err
	}
	conn, err := Accept(ctx, s.Balancer, s.Listener, s.Outside())
	if err != nil {
		return clock, false, err
	}
	if clock, err = readClock(ctx, s.Second, out.Conn); err != nil {
		return clock, false, err
	}
	if err := s.Second.End(ctx, out.Conn, tcp.Abort); err != nil {
		return clock, false, err
	}
	err = observe.Await(ctx, "the reset to reach the balancer", func() (bool, error) {
		all, err := s.Balancer.Sockets(ctx)
		return len(all.Between(s.Listener.Addr, s.Outside())) == 0, err
	})
	if err != nil {
		return clock, false, err
	}
	if err := s.Balancer.End(ctx, conn, tcp.CloseNow); err != nil {
		return clock, false, err
	}
	if s.Translate {
		err = s.deleteEntry(ctx)
	}
	return clock, out.Timestamps, err
}

// Steer sets the first connection's clock so that the second one's is older, equal, newer
// or wrapped compared with it. A clock cannot be changed before the SYN, so Steer changes
// that of the first connection. It can only be set forward, if necessary all the way round
// 2^32; the balancer learns the new values step by step.
func (s FiveTupleRun) Steer(ctx context.Context, second ClockReading, first, atBalancer tcp.Handle) error {
	var lead int64
	tick := cmp.Or(s.tick, time.Millisecond)
	switch s.Clock {
	case AsItComes:
		return nil
	case Older:
		lead = ClockLead
	case Equal:
		ahead := s.Aged + s.ready
		if s.stands() {
			ahead += LimitOver
		}
		lead = int64(ahead / tick)
	case Newer:
		lead = -ClockLead
	case Wrapped:
		if second.Ticks >= clockStep {
			return errNoWrap
		}
		lead = -int64(clockStep)
	}
	now, err := readClock(ctx, s.First, first)
	if err != nil {
		return err
	}
	since := uint32(now.taken.Sub(second.taken) / tick)
	ahead := (second.Ticks + since + uint32(lead) - now.Ticks) &^ 1
	for ahead > 0 {
		step := min(ahead, clockStep)
		if err := s.First.AdvanceClock(ctx, first, int32(step)); err != nil {
			return err
		}
		if ahead -= step; ahead == 0 && !s.stands() {
			return nil // the end of the connection will tell the balancer
		}
		if _, err := s.Balancer.Send(ctx, atBalancer, 1); err != nil {
			return err
		}
		err := observe.Await(ctx, "the first client's answer to a byte", func() (bool, error) {
			all, err := s.Balancer.Sockets(ctx)
			mine := all.Between(s.Listener.Addr, s.Outside())
			return len(mine) == 1 && mine[0].SendQueue == 0, err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// LastShown is the last timestamp of the first connection that reached the balancer, or
// the wire to it.
func (s FiveTupleRun) LastShown() (value uint32, err error) {
	packets, err := s.Lab.Packets()
	if err != nil {
		return 0, err
	}
	found := false
	path := s.Lab.Path(s.First.Identity().Name)
	last := path.NearestToServer()
	for _, p := range packets {
		if p.Point == last && p.Src == s.Outside() && p.Timestamp.Present {
			value, found = p.Timestamp.Value, true
		}
	}
	if !found {
		return 0, errors.New("no timestamp of the first connection reached the balancer")
	}
	return value, nil
}

// CompareClocks compares like the kernel, by the sign of the difference
// (tcp_paws_check).
func CompareClocks(first, second uint32) Order {
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

// AwaitTicks watches the clock of a connection for at least 200 ms, and tells how many
// ticks it makes in 100 ms.
func AwaitTicks(ctx context.Context, of node.Node, conn tcp.Handle, start tcp.ClockReading) (ticks int64, err error) {
	err = observe.Await(ctx, "200 ms on the clock of the machine", func() (bool, error) {
		now, err := of.Clock(ctx, conn)
		// In whole milliseconds, as the clock itself counts.
		passed := now.At.Milliseconds() - start.At.Milliseconds()
		if err != nil || passed < 200 {
			return false, err
		}
		ticks = (100*int64(int32(now.Ticks-start.Ticks)) + passed/2) / passed
		return true, nil
	})
	return ticks, err
}
