package scenarios

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"time"

	"twlab/harness/lab"
	"twlab/harness/node"
	"twlab/harness/observe"
	"twlab/harness/tcp"
)

// Clock is the family of the timestamp clock: how fast it ticks, and which
// connections share one.
func Clock() Family {
	const (
		mode     = "mode"
		compared = "compared"
		path     = "path"
		sameport = "same-tuple"
		port     = "other-port"
		host     = "other-host"
	)
	ticks := Exactly("ticks in 100 ms", 100)
	same := []Expectation{Is("timestamps", "yes"), Is("offset", "same"), Is("offset on the wire", "same")}
	different := []Expectation{Is("timestamps", "yes"), Is("offset", "different"), Is("offset on the wire", "different")}
	random, fixed := Where{mode: {"1"}}, Where{mode: {"2"}}
	perPort := []Condition{Has(lab.Client, OffsetPerPort)}
	perHost := []Condition{Has(lab.Client, TimestampsMode2), Has(lab.Client, MillisecondClock), Lacks(lab.Client, OffsetPerPort)}
	// HZ is 100 to 1000, so 10 to 100; up to two are missed or won in 200 ms.
	jiffies := Between("ticks in 100 ms", 9, 101)

	return Family{
		Name:     "clock",
		Evidence: clockEvidence(),
		About: "Two connections are opened one after the other: have their timestamps the same clock behind them, " +
			"so that the later one's are newer, and how fast does it tick?",
		Axes: []Axis{
			{Name: mode, Values: []string{"1", "2", "0"}, Product: true, Knob: Knob{Role: lab.Client, Sysctl: "net.ipv4.tcp_timestamps"},
				Means: "tcp_timestamps of the clients"},
			{Name: compared, Values: []string{sameport, port, host}, Product: true,
				Means: "who opens the second connection: the same five-tuple again, the same host from another port, or another host"},
			{Name: path, Values: []string{"direct", "nat"}, Product: true,
				Means: "whether the clients are behind a MASQUERADE, which gives all of them one address"},
		},
		Rules: []Rule{
			{
				Name: "clock-none", Cells: Cells{{mode: {"0"}}},
				Want:    []Expectation{Is("timestamps", "no"), Is("offset", "none"), Is("offset on the wire", "none")},
				Because: "without timestamps there is no clock to compare",
				Source:  "tcp_syn_options",
			},
			{
				Name: "clock-uptime", Cells: Cells{fixed},
				Kernels: []Condition{Has(lab.Client, TimestampsMode2), Has(lab.Client, MillisecondClock)},
				Want:    with(same, ticks, Is("uptime", "yes")),
				Because: "with tcp_timestamps=2 the timestamp is the kernel's own uptime in milliseconds: one clock for all ports, " +
					"hosts and namespaces of a kernel",
				Source: "tcp_clock_ms, tcp_v4_init_ts_off; commits 95a22caee396 and 9a568de4818d",
			},
			{
				Name: "clock-five-tuple", Cells: Cells{random}.And(Where{compared: {sameport}}), Kernels: perPort,
				Want: with(same, ticks, Is("uptime", "no")),
				Because: "the offset is a hash of both addresses and both ports under a secret of this boot, " +
					"so the same five-tuple has the same clock again",
				Source: "secure_tcp_seq_and_ts_off; commit 165573e41f2f",
			},
			{
				Name: "clock-per-port", Cells: Cells{random}.And(Where{compared: {port, host}}), Kernels: perPort,
				Want: with(different, ticks, Is("uptime", "no")),
				Because: "the offset depends on the source port: the connections of even one host have unrelated clocks, " +
					"and behind a NAT one client's later timestamps may be older",
				Source: "secure_tcp_seq_and_ts_off; commit 165573e41f2f, tcp: secure_seq: add back ports to TS offset",
			},
			{
				Name: "clock-one-host", Cells: Cells{random}.And(Where{compared: {sameport, port}}), Kernels: perHost,
				Want:    with(same, ticks, Is("uptime", "no")),
				Because: "the offset depends on the two addresses only, so one host has one clock towards the balancer",
				Source:  "secure_tcp_ts_off; commit 28ee1b746f49, tcp: downgrade to per-host timestamp offsets",
			},
			{
				Name: "clock-per-host", Cells: Cells{random}.And(Where{compared: {host}}), Kernels: perHost,
				Want:    with(different, ticks, Is("uptime", "no")),
				Because: "the offset depends on the two addresses, so two hosts behind one NAT have unrelated clocks",
				Source:  "secure_tcp_ts_off; commit 28ee1b746f49",
			},
			{
				Name: "clock-jiffies-per-host", Cells: Cells{random}.And(Where{compared: {host}}),
				Kernels: []Condition{Has(lab.Client, TimestampsMode2), Lacks(lab.Client, MillisecondClock)},
				Want:    with(different, jiffies),
				Because: "two hosts have different offsets; the clock is the kernel's timer interrupt, 100 to 1000 times a second",
				Source:  "secure_tcp_ts_off of 4.11; tcp_time_stamp before commit 9a568de4818d",
			},
			{
				Name: "clock-jiffies", Cells: Cells{{mode: {"1", "2"}}}, Kernels: []Condition{Lacks(lab.Client, MillisecondClock)},
				Want: with(same, jiffies),
				Because: "all connections of a host, and before 4.10 those of all namespaces, show the kernel's timer interrupt, " +
					"which ticks 100 to 1000 times a second",
				Source: "tcp_time_stamp before commit 9a568de4818d",
			},
		},
		Topology: func(c Cell) lab.Topology {
			t := lab.Topology{Clients: 2, Names: []string{"phone-a", "phone-b"}}
			if c.Is(path, "nat") {
				t.Gateway.Kind = lab.Masquerade
			}
			return t
		},
		Drive: func(ctx context.Context, c Cell, l *lab.Lab) (Seen, error) {
			clients := l.Nodes(lab.Client)
			s := twoClocks{lab: l, first: clients[0], second: clients[0], ports: [2]uint16{sourcePort, sourcePort}}
			switch c.Value(compared) {
			case port:
				s.ports[1]++
			case host:
				s.second = clients[1]
			}
			seen, err := s.drive(ctx)
			if err != nil {
				return seen, fmt.Errorf("clock: %w", err)
			}
			return seen, nil
		},
	}
}

// twoClocks compares the clocks of two connections to one door.
type twoClocks struct {
	lab           *lab.Lab
	first, second node.Node
	ports         [2]uint16 // from which first and second connect
}

// shownClock is what one connection shows of its clock: to its own host, and to
// everybody in its SYN.
type shownClock struct {
	timestamps bool
	reading    tcp.ClockReading
	syn        observe.Packet
}

func (s twoClocks) drive(ctx context.Context) (seen Seen, err error) {
	if err := s.lab.Capture(s.first.Identity().Name, s.second.Identity().Name); err != nil {
		return seen, err
	}
	door, err := s.lab.Balancer().Listen(ctx, tcp.ListenSpec{Ending: tcp.CloseAfterPeer})
	if err != nil {
		return seen, err
	}
	before, ticks, err := s.show(ctx, s.first, s.ports[0], door.Addr)
	if err != nil {
		return seen, fmt.Errorf("first connection: %w", err)
	}
	after, _, err := s.show(ctx, s.second, s.ports[1], door.Addr)
	if err != nil {
		return seen, fmt.Errorf("second connection: %w", err)
	}
	seen.Note("timestamps", yesNo(before.timestamps && after.timestamps))
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
	seen.Note("uptime", yesNo(before.reading.Ticks == uint32(before.reading.At.Milliseconds())))
	seen.Note("offset", sameClock(before.reading.Ticks, after.reading.Ticks, after.reading.At-before.reading.At))
	one, other := before.syn, after.syn
	seen.Note("offset on the wire", sameClock(one.Timestamp.Value, other.Timestamp.Value, other.Time.Sub(one.Time)))
	return seen, nil
}

// show opens a connection, reads its clock, resets it, and finds its SYN. The
// ticks are how many went by in 100 ms.
func (s twoClocks) show(
	ctx context.Context, from node.Node, port uint16, to netip.AddrPort,
) (c shownClock, ticks int64, err error) {
	out, err := connect(ctx, from, tcp.Attempt{To: to, From: netip.AddrPortFrom(from.Identity().Addr, port)})
	if err != nil {
		return c, 0, err
	}
	c.timestamps = out.Timestamps
	if c.reading, err = from.Clock(ctx, out.Conn); err != nil {
		return c, 0, err
	}
	if ticks, err = awaitTicks(ctx, from, out.Conn, c.reading); err != nil {
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
	first := cmp.Or(path.Client, path.Gateway, path.Server)
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

// awaitTicks watches the clock of a connection for 200 ms and more, and tells how
// far it goes in 100 ms.
func awaitTicks(ctx context.Context, of node.Node, conn tcp.Handle, start tcp.ClockReading) (ticks int64, err error) {
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

// sameClock tells whether two readings can be of the same clock: when the later
// one is ahead by no more than the time in between, whatever a tick is. Unrelated
// clocks look the same once in a million times.
func sameClock(first, second uint32, between time.Duration) string {
	const slack = 1000 // milliseconds, for times that were taken beside the clock
	ahead := int64(int32(second - first))
	if -slack <= ahead && ahead <= between.Milliseconds()+slack {
		return "same"
	}
	return "different"
}
