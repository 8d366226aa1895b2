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

// Idle is the family of the document's 24 days: whether an older timestamp is still
// rejected after a long idle time.
func Idle() situation.Family {
	return situation.Family{
		Family: claim.Family{
			Name:     "idle",
			Evidence: idleEvidence(),
			About: "A connection is idle for a long time, and then a segment comes whose timestamp is older than the last one: is it still " +
				"rejected? And is anything left of a TIME_WAIT by then?",
			Axes: []claim.Axis{
				{Name: idle, Values: []string{short, hour, days}, Product: true, Means: "how long no segment is sent"},
				{Name: idleClock, Values: []string{putBack, honest}, Product: true,
					Means: "whether the client's clock is set back behind its last timestamp, or has just run on"},
				{Name: idleState, Values: []string{established, idleTimeWait}, Means: "what the balancer has of the connection at the beginning"},
			},
			Impossible: []claim.Impossible{
				{Cells: claim.Cells{{idleState: {idleTimeWait}, idleClock: {putBack}}}, Because: "a new connection takes its timestamps from the uptime of the host, which cannot be set back"},
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
		Tell:     idleTell,
	}
}

// idleRules are in this order: what is left of a TIME_WAIT; a clock that has just run on; a
// clock that was set back.
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
			Because: "a TIME_WAIT lasts only 60 s, so the clause about 24 days, which applies to it as to every connection, never matters for it",
			Source:  "TCP_TIMEWAIT_LEN; tcp_paws_reject in tcp_timewait_state_process",
		},
		{
			Name: "idle-wrapped", Cells: claim.Cells{{idleClock: {honest}, idle: {days}}}, Kernels: []claim.Condition{claim.Has(lab.Client, kernel.MillisecondClock)},
			Want: accepted("older"),
			Because: "after 24.8 days of 1 ms ticks the sign of the difference has changed, so a correct timestamp looks older. The clause about " +
				"24 days exists for this case, and because of it the segment is accepted",
			Source: source + ": TCP_PAWS_24DAYS, or since 6.7 TCP_PAWS_WRAP",
		},
		{
			Name: "idle-newer", Cells: claim.Cells{{idleClock: {honest}}}, Want: accepted("newer"),
			Because: "the clock has advanced, and PAWS accepts a newer timestamp",
			Source:  source,
		},
		{
			Name: "idle-24-days", Cells: backAfter(days), Want: accepted("older"),
			Because: "24 days after the last segment any timestamp is accepted, because the clock may have wrapped since the remembered timestamp",
			Source:  source + ": TCP_PAWS_24DAYS, or since 6.7 TCP_PAWS_WRAP",
		},
		{
			Name: "idle-2147-s", Cells: backAfter(hour), Kernels: []claim.Condition{claim.Has(lab.Balancer, kernel.TimestampExpiresSooner)},
			Want: accepted("older"),
			Because: "since Linux 6.7 the limit is 2147 s, because with a clock of 1 us the sign of the difference changes in that time; the limit " +
				"is the same for clocks of 1 ms",
			Source: source + ": TCP_PAWS_WRAP",
		},
		{
			Name: "idle-rejected", Cells: backAfter(short, hour),
			Want: []claim.Expectation{claim.Is("segment", "rejected"), claim.Is("looks", "older"), claim.Is("left", string(observe.Established)), claim.AtLeast("balancer TcpExt.PAWSEstab", 2),
				claim.Rises(lab.Client, "Tcp.RetransSegs")},
			Uncaused: "the catalogue has no cause for a segment of an open connection whose timestamp is too old",
			Because:  "on a connection, a segment with an older timestamp is rejected (PAWS), and so is every retransmission: the data never arrives",
			Source:   source,
		},
	}
}

func idleTopology(claim.Cell) lab.Topology { return lab.Topology{Clients: 1} }

// idleTime is how long no segment is sent.
func idleTime(c claim.Cell) time.Duration {
	lengths := map[string]time.Duration{short: 90 * time.Second, hour: time.Hour, days: 25 * 24 * time.Hour}
	return lengths[c.Value(idle)]
}

func idleDrive(ctx context.Context, c claim.Cell, l *lab.Lab) (claim.Seen, error) {
	s := longIdle{
		client: l.Client(0), balancer: l.Balancer(),
		idle: idleTime(c), putBack: c.Either(idleClock, putBack, honest),
	}
	drive := s.established
	if c.Either(idleState, idleTimeWait, established) {
		drive = s.timeWait
	}
	seen, err := drive(ctx)
	if err != nil {
		return seen, fmt.Errorf("idle: %w", err)
	}
	return seen, nil
}
