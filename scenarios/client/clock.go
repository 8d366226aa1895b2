package client

import (
	"context"
	"fmt"
	"slices"

	"twlab/harness/kernel"
	"twlab/harness/lab"
	"twlab/scenarios/claim"
	"twlab/scenarios/situation"
)

// The axes of the family, and whose connections are compared.
const (
	mode      = "mode"
	compared  = "compared"
	clockPath = "path"

	sameTuple = "same-tuple"
	otherPort = "other-port"
	otherHost = "other-host"
)

// Clock is the family of the timestamp clock: how fast it ticks, and which
// connections share one.
func Clock() situation.Family {
	return situation.Family{
		Family: claim.Family{
			Name:     "clock",
			Evidence: clockEvidence(),
			About: "Two connections are opened one after the other. Do their timestamps come from the same clock, so that the later one's are " +
				"newer? And how fast does the clock tick?",
			Axes: []claim.Axis{
				{Name: mode, Values: []string{"1", "2", "0"}, Product: true, Sysctl: claim.RoleSysctl{Role: lab.Client, Sysctl: "net.ipv4.tcp_timestamps"},
					Means: "tcp_timestamps of the clients"},
				{Name: compared, Values: []string{sameTuple, otherPort, otherHost}, Product: true,
					Means: "what the second connection is: the same five-tuple again, one from another port of the same host, or one from another host"},
				{Name: clockPath, Values: []string{"direct", "nat"}, Product: true,
					Means: "whether the clients are behind a MASQUERADE gateway, which gives all of them one address"},
				situation.IPAxis(),
			},
			Rules: slices.Concat(clockOffsetRules(), clockJiffiesRules()),
		},
		Topology: clockTopology,
		Drive:    clockDrive,
		Tell:     clockTell,
	}
}

// Expectations about two connections with timestamps.
var (
	sameOffset  = []claim.Expectation{claim.Is("timestamps", "yes"), claim.Is("offset", "same"), claim.Is("offset on the wire", "same")}
	otherOffset = []claim.Expectation{claim.Is("timestamps", "yes"), claim.Is("offset", "different"), claim.Is("offset on the wire", "different")}
)

// ownUptime is about two machines that both count from their own boot: what their clocks differ
// by on the wire is the time between the two boots.
var ownUptime = []claim.Expectation{claim.Is("timestamps", "yes"), claim.Is("offset", "same")}

// randomOffset is where the clients hide their uptime.
var randomOffset = claim.Where{mode: {"1"}}

// clockOffsetRules are about connections without a clock, and then about clocks that
// tick once a millisecond, and their offsets.
func clockOffsetRules() []claim.Rule {
	ticks := claim.Exactly("ticks in 100 ms", 100)
	perPort := []claim.Condition{claim.Has(lab.Client, kernel.OffsetPerPort)}
	perHost := []claim.Condition{claim.Has(lab.Client, kernel.TimestampsMode2), claim.Has(lab.Client, kernel.MillisecondClock), claim.Lacks(lab.Client, kernel.OffsetPerPort)}

	return []claim.Rule{
		{
			Name: "clock-none", Cells: claim.Cells{{mode: {"0"}}},
			Want:    []claim.Expectation{claim.Is("timestamps", "no"), claim.Is("offset", "none"), claim.Is("offset on the wire", "none")},
			Because: "without timestamps there is no clock to compare",
			Source:  "tcp_syn_options",
		},
		{
			Name: "clock-two-uptimes", Cells: claim.Cells{{mode: {"2"}, compared: {otherHost}}},
			Kernels: []claim.Condition{
				claim.Has(lab.Client, kernel.IsGuest), claim.Has(lab.Client, kernel.TimestampsMode2), claim.Has(lab.Client, kernel.MillisecondClock),
			},
			Want: claim.With(ownUptime, ticks, claim.Is("uptime", "yes")),
			Because: "with tcp_timestamps=2 the timestamp is the kernel's uptime in milliseconds, and every machine counts its own: on the wire, " +
				"the clocks of two hosts differ by the time between their boots",
			Source: "tcp_clock_ms, tcp_v4_init_ts_off; commits 95a22caee396 and 9a568de4818d",
		},
		{
			Name: "clock-uptime", Cells: claim.Cells{{mode: {"2"}}},
			Kernels: []claim.Condition{claim.Has(lab.Client, kernel.TimestampsMode2), claim.Has(lab.Client, kernel.MillisecondClock)},
			Want:    claim.With(sameOffset, ticks, claim.Is("uptime", "yes")),
			Because: "with tcp_timestamps=2 the timestamp is the kernel's uptime in milliseconds: all ports and all namespaces (the hosts of the " +
				"lab) of one kernel share this clock",
			Source: "tcp_clock_ms, tcp_v4_init_ts_off; commits 95a22caee396 and 9a568de4818d",
		},
		{
			Name: "clock-five-tuple", Cells: claim.Cells{randomOffset}.And(claim.Where{compared: {sameTuple}}), Kernels: perPort,
			Want: claim.With(sameOffset, ticks, claim.Is("uptime", "no")),
			Because: "the offset is a hash of both addresses, both ports and a secret of this boot, so the same five-tuple gets the same clock " +
				"again",
			Source: "secure_tcp_seq_and_ts_off; commit 165573e41f2f",
		},
		{
			Name: "clock-per-port", Cells: claim.Cells{randomOffset}.And(claim.Where{compared: {otherPort, otherHost}}), Kernels: perPort,
			Want: claim.With(otherOffset, ticks, claim.Is("uptime", "no")),
			Because: "the offset depends on the source port, so even the connections of one host have unrelated clocks; behind a NAT, a later " +
				"timestamp of one client may be older",
			Source: "secure_tcp_seq_and_ts_off; commit 165573e41f2f, tcp: secure_seq: add back ports to TS offset",
		},
		{
			Name: "clock-one-host", Cells: claim.Cells{randomOffset}.And(claim.Where{compared: {sameTuple, otherPort}}), Kernels: perHost,
			Want:    claim.With(sameOffset, ticks, claim.Is("uptime", "no")),
			Because: "the offset depends only on the two addresses, so one host has one clock towards the balancer",
			Source:  "secure_tcp_ts_off; commit 28ee1b746f49, tcp: downgrade to per-host timestamp offsets",
		},
		{
			Name: "clock-per-host", Cells: claim.Cells{randomOffset}.And(claim.Where{compared: {otherHost}}), Kernels: perHost,
			Want:    claim.With(otherOffset, ticks, claim.Is("uptime", "no")),
			Because: "the offset depends on the two addresses, so two hosts behind one NAT have unrelated clocks",
			Source:  "secure_tcp_ts_off; commit 28ee1b746f49",
		},
	}
}

// clockJiffiesRules are about clocks that count the kernel's timer interrupts.
func clockJiffiesRules() []claim.Rule {
	// HZ is 100 to 1000, so 10 to 100 ticks; a reading over 200 ms may be off by two.
	jiffies := claim.Between("ticks in 100 ms", 9, 101)

	return []claim.Rule{
		{
			Name: "clock-jiffies-per-host", Cells: claim.Cells{randomOffset}.And(claim.Where{compared: {otherHost}}),
			Kernels: []claim.Condition{claim.Has(lab.Client, kernel.TimestampsMode2), claim.Lacks(lab.Client, kernel.MillisecondClock)},
			Want:    claim.With(otherOffset, jiffies),
			Because: "two hosts have different offsets; the clock counts the kernel's timer interrupts, 100 to 1000 per second",
			Source:  "secure_tcp_ts_off of 4.11; tcp_time_stamp before commit 9a568de4818d",
		},
		{
			Name: "clock-two-jiffies", Cells: claim.Cells{{mode: {"1", "2"}, compared: {otherHost}}},
			Kernels: []claim.Condition{claim.Has(lab.Client, kernel.IsGuest), claim.Lacks(lab.Client, kernel.MillisecondClock)},
			Want:    claim.With(ownUptime, jiffies),
			Because: "the clock counts the timer interrupts since the boot, 100 to 1000 per second, and every machine counts its own: on the wire, " +
				"the clocks of two hosts differ by the time between their boots",
			Source: "tcp_time_stamp before commit 9a568de4818d",
		},
		{
			Name: "clock-jiffies", Cells: claim.Cells{{mode: {"1", "2"}}}, Kernels: []claim.Condition{claim.Lacks(lab.Client, kernel.MillisecondClock)},
			Want: claim.With(sameOffset, jiffies),
			Because: "all connections of a host, and before 4.10 all connections of all namespaces, show the same count of the kernel's timer " +
				"interrupts, 100 to 1000 per second",
			Source: "tcp_time_stamp before commit 9a568de4818d",
		},
	}
}

func clockTopology(c claim.Cell) lab.Topology {
	t := lab.Topology{Clients: 2, Names: []string{"phone-a", "phone-b"}}
	if c.Either(clockPath, "nat", "direct") {
		t.Gateway.Kind = lab.Masquerade
	}
	return t
}

func clockDrive(ctx context.Context, c claim.Cell, l *lab.Lab) (claim.Seen, error) {
	clients := l.Nodes(lab.Client)
	s := twoClocks{lab: l, first: clients[0], second: clients[0], ports: [2]uint16{situation.SourcePort, situation.SourcePort}}
	switch c.Value(compared) {
	case sameTuple: // the same host and port
	case otherPort:
		s.ports[1]++
	case otherHost:
		s.second = clients[1]
	}
	seen, err := s.drive(ctx)
	if err != nil {
		return seen, fmt.Errorf("clock: %w", err)
	}
	return seen, nil
}
