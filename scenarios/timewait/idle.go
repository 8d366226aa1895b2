package timewait

import (
	"context"
	"fmt"
	"time"

	"twlab/harness/kernel"
	"twlab/harness/lab"
	"twlab/harness/observe"
	"twlab/harness/tcp"
	"twlab/scenarios/claim"
	"twlab/scenarios/situation"
)

// The axes of the family, and their values.
const (
	idleState = "state"
	idle      = "idle"
	idleClock = "clock"

	established  = "established"
	idleTimeWait = "time-wait"
	short        = "90s"
	hour         = "1h"
	days         = "25d"
	honest       = "honest"
	putBack      = "put-back"
)

// Idle is the family of the document's 24 days: what an older timestamp is worth
// when nothing was heard for long.
func Idle() situation.Family {
	return situation.Family{
		Family: claim.Family{
			Name:     "idle",
			Evidence: idleEvidence(),
			About: "A connection is idle for long, and then a segment comes whose timestamp is older than the last one: " +
				"is it still rejected? And what is left of a TIME_WAIT by then?",
			Axes: []claim.Axis{
				{Name: idle, Values: []string{short, hour, days}, Product: true, Means: "for how long nothing is sent"},
				{Name: idleClock, Values: []string{putBack, honest}, Product: true,
					Means: "whether the client's clock is put back behind what it has shown, or has gone on by itself"},
				{Name: idleState, Values: []string{established, idleTimeWait}, Means: "what the balancer has of the connection in the beginning"},
			},
			Impossible: []claim.Impossible{
				{Cells: claim.Cells{{idleState: {idleTimeWait}, idleClock: {putBack}}}, Because: "a new connection of the same host goes by its uptime, which nobody can put back"},
			},
			Waits: []claim.Wait{
				{Cells: claim.Cells{{idle: {days}}}, About: 25 * 24 * time.Hour},
				{Cells: claim.Cells{{idle: {hour}}}, About: time.Hour},
				{Cells: claim.Cells{{idle: {short}}}, About: 90 * time.Second},
			},
			Rules: idleRules(),
		},
		Topology: idleTopology,
		Drive:    idleDrive,
	}
}

// idleRules are in this order: what is left of a TIME_WAIT; what an honest clock does to
// a connection; what one that was put back does.
func idleRules() []claim.Rule {
	accepted := func(looks string) []claim.Expectation {
		return []claim.Expectation{
			claim.Is("segment", "accepted"), claim.Is("looks", looks), claim.Is("left", string(observe.Established)), claim.Stays(lab.Balancer, "TcpExt.PAWSEstab"),
		}
	}
	const source = "tcp_paws_check, tcp_validate_incoming"
	backAfter := func(lengths ...string) claim.Cells { return claim.Cells{{idleClock: {putBack}, idle: lengths}} }

	return []claim.Rule{
		{
			Name: "idle-time-wait-gone", Cells: claim.Cells{{idleState: {idleTimeWait}}},
			Want:    []claim.Expectation{claim.Is("left", "nothing"), situation.Outcome(tcp.Connected), claim.Exactly("syns", 1)},
			Because: "a TIME_WAIT lives for 60 s, so that the clause about 24 days, which it has like every connection, never matters for it",
			Source:  "TCP_TIMEWAIT_LEN; tcp_paws_reject in tcp_timewait_state_process",
		},
		{
			Name: "idle-wrapped", Cells: claim.Cells{{idleClock: {honest}, idle: {days}}}, Kernels: []claim.Condition{claim.Has(lab.Client, kernel.MillisecondClock)},
			Want: accepted("older"),
			Because: "after 24.8 days of 1 ms ticks the sign of the difference has turned and an honest timestamp looks older: " +
				"this is what the clause is for, and by it the segment is accepted",
			Source: source + ": TCP_PAWS_24DAYS, or since 6.7 TCP_PAWS_WRAP",
		},
		{
			Name: "idle-newer", Cells: claim.Cells{{idleClock: {honest}}}, Want: accepted("newer"),
			Because: "the clock has gone on, and a newer timestamp is what PAWS wants",
			Source:  source,
		},
		{
			Name: "idle-24-days", Cells: backAfter(days), Want: accepted("older"),
			Because: "24 days after the last segment any timestamp is accepted: what is remembered may be from before the clock's last turn",
			Source:  source + ": TCP_PAWS_24DAYS, or since 6.7 TCP_PAWS_WRAP",
		},
		{
			Name: "idle-2147-s", Cells: backAfter(hour), Kernels: []claim.Condition{claim.Has(lab.Balancer, kernel.TimestampExpiresSooner)},
			Want:    accepted("older"),
			Because: "since Linux 6.7 it is 2147 s, because a clock of 1 us would turn in that time; and so for clocks of 1 ms as well",
			Source:  source + ": TCP_PAWS_WRAP",
		},
		{
			Name: "idle-rejected", Cells: backAfter(short, hour),
			Want: []claim.Expectation{claim.Is("segment", "rejected"), claim.Is("looks", "older"), claim.Is("left", string(observe.Established)), claim.AtLeast("balancer TcpExt.PAWSEstab", 2),
				claim.Rises(lab.Client, "Tcp.RetransSegs")},
			Because: "an older timestamp on a connection is rejected (PAWS), and so is every repetition: the data never arrives",
			Source:  source,
		},
	}
}

func idleTopology(claim.Cell) lab.Topology { return lab.Topology{Clients: 1} }

func idleDrive(ctx context.Context, c claim.Cell, l *lab.Lab) (claim.Seen, error) {
	lengths := map[string]time.Duration{short: 90 * time.Second, hour: time.Hour, days: 25 * 24 * time.Hour}
	s := longIdle{
		client: l.Client(0), balancer: l.Balancer(),
		idle: lengths[c.Value(idle)], putBack: c.Is(idleClock, putBack),
	}
	drive := s.established
	if c.Is(idleState, idleTimeWait) {
		drive = s.timeWait
	}
	seen, err := drive(ctx)
	if err != nil {
		return seen, fmt.Errorf("idle: %w", err)
	}
	return seen, nil
}
