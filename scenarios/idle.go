package scenarios

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"twlab/harness/lab"
	"twlab/harness/node"
	"twlab/harness/observe"
	"twlab/harness/tcp"
)

// Idle is the family of the document's 24 days: what an older timestamp is worth
// when nothing was heard for long.
func Idle() Family {
	const (
		state       = "state"
		idle        = "idle"
		clock       = "clock"
		established = "established"
		timeWait    = "time-wait"
		short       = "90s"
		hour        = "1h"
		days        = "25d"
		honest      = "honest"
		putBack     = "put-back"
	)
	lengths := map[string]time.Duration{short: 90 * time.Second, hour: time.Hour, days: 25 * 24 * time.Hour}
	accepted := func(looks string) []Expectation {
		return []Expectation{
			Is("segment", "accepted"), Is("looks", looks), Is("left", string(observe.Established)), Stays(lab.Balancer, "TcpExt.PAWSEstab"),
		}
	}
	const source = "tcp_paws_check, tcp_validate_incoming"
	backAfter := func(lengths ...string) Cells { return Cells{{clock: {putBack}, idle: lengths}} }
	return Family{
		Name:     "idle",
		Evidence: idleEvidence(),
		About: "A connection is idle for long, and then a segment comes whose timestamp is older than the last one: " +
			"is it still rejected? And what is left of a TIME_WAIT by then?",
		Axes: []Axis{
			{Name: idle, Values: []string{short, hour, days}, Product: true, Means: "for how long nothing is sent"},
			{Name: clock, Values: []string{putBack, honest}, Product: true,
				Means: "whether the client's clock is put back behind what it has shown, or has gone on by itself"},
			{Name: state, Values: []string{established, timeWait}, Means: "what the balancer has of the connection in the beginning"},
		},
		Impossible: []Impossible{
			{Cells{{state: {timeWait}, clock: {putBack}}}, "a new connection of the same host goes by its uptime, which nobody can put back"},
		},
		Waits: []Wait{
			{Cells{{idle: {days}}}, 25 * 24 * time.Hour},
			{Cells{{idle: {hour}}}, time.Hour},
			{Cells{{idle: {short}}}, 90 * time.Second},
		},
		Rules: []Rule{
			{
				Name: "idle-time-wait-gone", Cells: Cells{{state: {timeWait}}},
				Want:    []Expectation{Is("left", "nothing"), verdict(tcp.Connected), Exactly("syns", 1)},
				Because: "a TIME_WAIT lives for 60 s, so that the clause about 24 days, which it has like every connection, never matters for it",
				Source:  "TCP_TIMEWAIT_LEN; tcp_paws_reject in tcp_timewait_state_process",
			},
			{
				Name: "idle-wrapped", Cells: Cells{{clock: {honest}, idle: {days}}}, Kernels: []Condition{Has(lab.Client, MillisecondClock)},
				Want: accepted("older"),
				Because: "after 24.8 days of 1 ms ticks the sign of the difference has turned and an honest timestamp looks older: " +
					"this is what the clause is for, and by it the segment is accepted",
				Source: source + ": TCP_PAWS_24DAYS, or since 6.7 TCP_PAWS_WRAP",
			},
			{
				Name: "idle-newer", Cells: Cells{{clock: {honest}}}, Want: accepted("newer"),
				Because: "the clock has gone on, and a newer timestamp is what PAWS wants",
				Source:  source,
			},
			{
				Name: "idle-24-days", Cells: backAfter(days), Want: accepted("older"),
				Because: "24 days after the last segment any timestamp is accepted: what is remembered may be from before the clock's last turn",
				Source:  source + ": TCP_PAWS_24DAYS, or since 6.7 TCP_PAWS_WRAP",
			},
			{
				Name: "idle-2147-s", Cells: backAfter(hour), Kernels: []Condition{Has(lab.Balancer, ForgetsSooner)},
				Want:    accepted("older"),
				Because: "since Linux 6.7 it is 2147 s, because a clock of 1 us would turn in that time; and so for clocks of 1 ms as well",
				Source:  source + ": TCP_PAWS_WRAP",
			},
			{
				Name: "idle-rejected", Cells: backAfter(short, hour),
				Want: []Expectation{Is("segment", "rejected"), Is("looks", "older"), Is("left", string(observe.Established)), AtLeast("balancer TcpExt.PAWSEstab", 2),
					Rises(lab.Client, "Tcp.RetransSegs")},
				Because: "an older timestamp on a connection is rejected (PAWS), and so is every repetition: the data never arrives",
				Source:  source,
			},
		},
		Topology: func(Cell) lab.Topology { return lab.Topology{Clients: 1} },
		Drive: func(ctx context.Context, c Cell, l *lab.Lab) (Seen, error) {
			s := longIdle{
				client: l.Client(0), balancer: l.Balancer(),
				idle: lengths[c.Value(idle)], putBack: c.Is(clock, putBack),
			}
			drive := s.established
			if c.Is(state, timeWait) {
				drive = s.timeWait
			}
			seen, err := drive(ctx)
			if err != nil {
				return seen, fmt.Errorf("idle: %w", err)
			}
			return seen, nil
		},
	}
}

// longIdle is a connection on which nothing is sent for long.
type longIdle struct {
	client, balancer node.Node
	idle             time.Duration
	putBack          bool // the client's clock, before it sends again
}

// open connects, and has one byte sent, whose timestamp the balancer remembers.
func (s longIdle) open(ctx context.Context, from netip.AddrPort) (out tcp.Outcome, conn tcp.Handle, err error) {
	door, err := s.balancer.Listen(ctx, tcp.ListenSpec{})
	if err != nil {
		return out, tcp.Handle{}, err
	}
	if out, err = connect(ctx, s.client, tcp.Attempt{To: door.Addr, From: from, ReuseAddr: true}); err != nil {
		return out, tcp.Handle{}, err
	}
	if conn, err = accept(ctx, s.balancer, door, out.Local); err != nil {
		return out, tcp.Handle{}, err
	}
	if _, err := s.client.Send(ctx, out.Conn, 1); err != nil {
		return out, tcp.Handle{}, err
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

func (s longIdle) established(ctx context.Context) (seen Seen, err error) {
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
		back := int32(before.Ticks-uint32(clockLead)-now.Ticks) &^ 1
		if err := s.client.AdvanceClock(ctx, out.Conn, back); err != nil {
			return seen, err
		}
	}
	now, err := s.client.Clock(ctx, out.Conn)
	if err != nil {
		return seen, err
	}
	looks := "newer"
	if compareClocks(before.Ticks, now.Ticks) == Older {
		looks = "older"
	}
	count, err := countMoves(ctx, s.client, s.balancer)
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
		if err != nil || pawsEstablished.of(moved[1]) < 2 {
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
	seen.Moved = map[lab.Role]observe.Counters{lab.Client: moved[0], lab.Balancer: moved[1]}
	seen.Note("segment", segment)
	seen.Note("looks", looks)
	return seen, nil
}

// noteLeft notes what the balancer has of the connection.
func (s longIdle) noteLeft(ctx context.Context, from netip.AddrPort, seen *Seen) error {
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

// timeWait leaves a TIME_WAIT at the balancer, and has the client come back from
// the same port.
func (s longIdle) timeWait(ctx context.Context) (seen Seen, err error) {
	from := netip.AddrPortFrom(netip.IPv4Unspecified(), sourcePort)
	out, conn, err := s.open(ctx, from)
	if err != nil {
		return seen, err
	}
	all, err := s.balancer.Sockets(ctx)
	if err != nil {
		return seen, err
	}
	door := all.Between(netip.AddrPort{}, out.Local)[0].Local
	_, err = closeInTurn(ctx,
		side{node: s.balancer, conn: conn, local: door, remote: out.Local},
		side{node: s.client, conn: out.Conn, local: out.Local, remote: door})
	if err != nil {
		return seen, err
	}
	if err := s.pass(ctx); err != nil {
		return seen, err
	}
	if err := s.noteLeft(ctx, out.Local, &seen); err != nil {
		return seen, err
	}
	outs, err := s.client.Attempt(ctx, []tcp.Attempt{{To: door, From: from, ReuseAddr: true, Ending: tcp.Abort}})
	if err != nil {
		return seen, err
	}
	seen.Note("verdict", string(outs[0].Verdict))
	seen.Count("syns", int64(outs[0].SYNs))
	return seen, nil
}
