package client

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"twlab/harness/lab"
	"twlab/harness/node"
	"twlab/harness/observe"
	"twlab/harness/tcp"
	"twlab/scenarios/claim"
	"twlab/scenarios/situation"
)

// twoClocks compares the clocks of two connections to one listener.
type twoClocks struct {
	lab           *lab.Lab
	first, second node.Node
	ports         [2]uint16 // from which first and second connect
}

// shownClock is the clock of one connection, read from its socket and from its SYN.
type shownClock struct {
	timestamps bool
	reading    tcp.ClockReading
	syn        observe.Packet
}

func (s twoClocks) drive(ctx context.Context) (seen claim.Seen, err error) {
	if err := s.lab.Capture(s.first.Identity().Name, s.second.Identity().Name); err != nil {
		return seen, err
	}
	listener, err := s.lab.Nodes(lab.Balancer)[0].Listen(ctx, tcp.ListenSpec{Ending: tcp.CloseAfterPeer})
	if err != nil {
		return seen, err
	}
	before, ticks, err := s.show(ctx, s.first, s.ports[0], listener.Addr)
	if err != nil {
		return seen, fmt.Errorf("first connection: %w", err)
	}
	after, _, err := s.show(ctx, s.second, s.ports[1], listener.Addr)
	if err != nil {
		return seen, fmt.Errorf("second connection: %w", err)
	}
	seen.Note("timestamps", claim.YesNo(before.timestamps && after.timestamps))
	if !before.timestamps || !after.timestamps {
		seen.Note("offset", "none")
		wire := "none"
		if before.syn.Timestamp.Present || after.syn.Timestamp.Present {
			wire = "some"
		}
		seen.Note("offset on the wire", wire)
		return seen, nil
	}
	seen.Count("ticks in 100 ms", ticks)
	seen.Note("uptime", claim.YesNo(before.reading.Ticks == uint32(before.reading.At.Milliseconds())))
	seen.Note("offset", sameClock(before.reading.Ticks, after.reading.Ticks, after.reading.At-before.reading.At))
	one, other := before.syn, after.syn
	seen.Note("offset on the wire", sameClock(one.Timestamp.Value, other.Timestamp.Value, other.Time.Sub(one.Time)))
	return seen, nil
}

// show opens a connection, reads its clock, resets it, and finds its SYN. ticks is the
// number of ticks in 100 ms.
func (s twoClocks) show(
	ctx context.Context, from node.Node, port uint16, to netip.AddrPort,
) (c shownClock, ticks int64, err error) {
	out, err := situation.Connect(ctx, from, tcp.Attempt{To: to, From: netip.AddrPortFrom(from.Identity().Addr, port)})
	if err != nil {
		return c, 0, err
	}
	c.timestamps = out.Timestamps
	if c.reading, err = from.Clock(ctx, out.Conn); err != nil {
		return c, 0, err
	}
	if ticks, err = situation.AwaitTicks(ctx, from, out.Conn, c.reading); err != nil {
		return c, 0, err
	}
	if err := from.End(ctx, out.Conn, tcp.Abort); err != nil {
		return c, 0, err
	}
	packets, err := s.lab.Packets()
	if err != nil {
		return c, 0, err
	}
	path := s.lab.Path(from.Identity().Name)
	first := path.NearestToClient()
	for _, p := range packets {
		if p.Point == first && p.Src == out.Local && p.Flags == observe.FlagSYN {
			c.syn = p // the last one is this connection's
		}
	}
	if c.syn.Point == "" {
		return c, 0, fmt.Errorf("the SYN from %v was not recorded", out.Local)
	}
	return c, ticks, nil
}

// sameClock tells whether two readings can be of the same clock: the second one must be
// ahead by no more than the milliseconds in between, however long a tick is, or behind if it
// is the earlier one: a machine that has booted later counts from its own boot. Unrelated
// clocks look the same once in a million times.
func sameClock(first, second uint32, between time.Duration) string {
	const slack = 1000 // milliseconds: the times were not taken at the same moment as the clock
	ahead, most := int64(int32(second-first)), between.Milliseconds()
	if min(0, most)-slack <= ahead && ahead <= max(0, most)+slack {
		return "same"
	}
	return "different"
}

// clockEvidence is what [twoClocks.drive] notes.
func clockEvidence() []claim.Evidence {
	return []claim.Evidence{
		situation.TimestampsEvidence,
		{Name: "ticks in 100 ms", Unit: "ticks", Means: "how many ticks the first connection's clock made in 100 ms of the machine's clock"},
		{Name: "uptime", Unit: situation.YesOrNo, Means: "whether the clock shows the machine's uptime in milliseconds"},
		{Name: "offset", Unit: "same, different or none", Means: "whether the sockets of the two connections have the same clock (TCP_TIMESTAMP)"},
		{Name: "offset on the wire", Unit: "same, different, none or some", Means: "the same, judged by the timestamps in their SYNs; some: only one connection has them"},
	}
}
