package timewait

import (
	"context"
	"slices"
	"time"

	"twlab/harness/kernel"
	"twlab/harness/lab"
	"twlab/harness/observe"
	"twlab/harness/tcp"
	"twlab/scenarios/claim"
	"twlab/scenarios/situation"
)

// Tuple is the family of the same five-tuple again: what the balancer does with
// a SYN for a connection that it still remembers.
func Tuple() situation.Family {
	const (
		clientTS = "client-ts"
		lbTS     = "lb-ts"
		clock    = "clock"
		isn      = "isn"
		state    = "state"
		rfc1337  = "rfc1337"
		path     = "path"
		second   = "second"
	)
	on, off := []string{"1", "2"}, []string{"0"}
	// What a socket in TIME_WAIT goes by: the timestamp when the connection had
	// timestamps and the SYN has one, else the sequence number.
	stamped := claim.Where{lbTS: {"1"}, clientTS: on}
	bare := claim.Cells{{lbTS: {"0"}}, {clientTS: off}}

	timeWait := claim.Where{state: {string(situation.LeftTimeWait)}}
	olderStamp := claim.Cells{stamped}.And(claim.Where{clock: {string(situation.Older)}})
	newerStamp := claim.Cells{stamped}.And(claim.Where{clock: {string(situation.Newer), string(situation.Wrapped)}})
	equalStamp := claim.Cells{stamped}.And(claim.Where{clock: {string(situation.Equal)}})
	byNumber := slices.Concat(equalStamp, bare)
	newerNumber := byNumber.And(claim.Where{isn: {string(situation.Newer)}})
	otherNumber := byNumber.And(claim.Where{isn: {string(situation.Older), string(situation.Equal)}})

	// The three steps ACK, RST, SYN need a path that lets them through and a
	// socket that minds the RST.
	clean := claim.Where{path: {"clean", string(situation.DropsInvalid)}}
	minds := claim.Where{path: {"clean", string(situation.DropsInvalid)}, rfc1337: {"0"}}
	broken := claim.Where{path: {string(situation.EatsRST), string(situation.UnNATedRST), string(situation.EatsACK)}}

	answered := []claim.Expectation{
		situation.Verdict(tcp.Connected), claim.Is("answers", "ACK, SYN-ACK"), claim.Is("reset", "reached"),
		claim.Rises(lab.Client, "TcpExt.TCPSynRetrans"), claim.Rises(lab.Client, "Tcp.OutRsts"),
		claim.Stays(lab.Gateway, "Conntrack.insert_failed"), claim.Stays(lab.Balancer, "TcpExt.ListenDrops"),
	}
	// After how many milliseconds the SYN is repeated, on the wire, to which a machine of
	// its own takes some time: at once is after TCP_TIMEOUT_MIN, 2 jiffies, so 20 ms at
	// most. The SYN's own timer is set to 1 s (it was 3 s before Linux 3.1), and the next
	// time to as much, or to twice that. The bounds are in the middle between those.
	atOncePrompt := claim.AtMost("repeated after ms", 499)
	byFirstTimer := claim.Between("repeated after ms", 500, 1999)
	atOnce := []claim.Expectation{
		situation.Verdict(tcp.Connected), claim.Is("answers", "SYN-ACK"), claim.Is("reset", "none"),
		claim.Exactly("paws rejects", 0), claim.Stays(lab.Client, "TcpExt.TCPSynRetrans"), claim.Stays(lab.Client, "Tcp.OutRsts"),
	}
	failsAfter := func(syns claim.Expectation) []claim.Expectation {
		return []claim.Expectation{
			situation.Verdict(tcp.TimedOut), claim.Exactly("syn-acks", 0), syns, claim.Is("all syns reached", "yes"),
			claim.Stays(lab.Gateway, "Conntrack.insert_failed"), claim.Stays(lab.Balancer, "TcpExt.ListenDrops"),
		}
	}
	// Two or three by the timer, within 3 s, and where the client has it one at once.
	fails := failsAfter(claim.Between("syns", 2, 4))
	ignored := func(fails []claim.Expectation) []claim.Expectation {
		return claim.With(fails, claim.Exactly("challenges", 0), claim.Stays(lab.Balancer, "Tcp.EstabResets"), claim.Is("reset", "none"),
			claim.Is("left after", string(observe.Established)))
	}
	prompt := []claim.Condition{claim.Has(lab.Client, kernel.PromptSYN)}
	byTimer := []claim.Condition{claim.Lacks(lab.Client, kernel.PromptSYN)}
	stands := claim.Where{state: {string(situation.LeftEstablished), string(situation.LeftChallenged)}}
	const linear kernel.Feature = "knob-tcp-syn-linear-timeouts"
	limited := func(secondGap claim.Expectation) []claim.Expectation {
		return []claim.Expectation{
			situation.Verdict(tcp.Connected), claim.Is("answers", "left out (rate limit), ACK, SYN-ACK"), claim.Is("reset", "reached"),
			byFirstTimer, secondGap, claim.Exactly("acks left out", 1), claim.Rises(lab.Balancer, "Tcp.EstabResets"),
			claim.Stays(lab.Gateway, "Conntrack.insert_failed"), claim.Stays(lab.Balancer, "TcpExt.ListenDrops"),
		}
	}

	return situation.Family{
		Family: claim.Family{
			Name:     "tuple",
			Evidence: situation.TupleEvidence(),
			About: "A connection is over, the balancer still has something of it, and a SYN comes from the same address and port: " +
				"is it accepted, answered or ignored, and does the client get in?",
			Axes: []claim.Axis{
				{Name: clock, Values: []string{"older", "newer", "equal", "wrapped"}, Product: true,
					Means: "the second connection's timestamp against the last one of the first"},
				{Name: isn, Values: []string{"newer", "older", "equal"}, Product: true,
					Means: "the second connection's initial sequence number against the one that the balancer expects next"},
				{Name: clientTS, Values: []string{"1", "2", "0"}, Product: true, Knob: claim.Knob{Role: lab.Client, Sysctl: "net.ipv4.tcp_timestamps"},
					Means: "tcp_timestamps of the clients"},
				{Name: lbTS, Values: []string{"1", "0"}, Product: true, Knob: claim.Knob{Role: lab.Balancer, Sysctl: "net.ipv4.tcp_timestamps"},
					Means: "tcp_timestamps of the balancer"},
				{Name: second, Values: []string{"other-host", "same-host", "direct"}, Product: true,
					Means: "who connects the second time: another client behind the same MASQUERADE, the same client, or the same client without NAT"},
				{Name: state, Values: []string{string(situation.LeftTimeWait), string(situation.LeftFinWait2), string(situation.LeftEstablished), string(situation.LeftChallenged), string(situation.LeftNothing)},
					Means: "what the first connection has left at the balancer"},
				{Name: rfc1337, Values: []string{"0", "1"}, Knob: claim.Knob{Role: lab.Balancer, Sysctl: "net.ipv4.tcp_rfc1337"},
					Means: "tcp_rfc1337 of the balancer"},
				{Name: path, Values: []string{"clean", string(situation.DropsInvalid), string(situation.EatsRST), string(situation.UnNATedRST), string(situation.EatsACK)},
					Means: "what the gateway does to the handshake"},
			},
			Crossed: [][]string{{clock, rfc1337, path}, {lbTS, isn, rfc1337, path}, {state, clock, isn}, {state, path}},
			Impossible: []claim.Impossible{
				{Cells: claim.Cells{{clientTS: off, clock: {"older", "equal", "wrapped"}}}, Because: "a SYN without timestamp has no clock that could be older"},
				{Cells: claim.Cells{{lbTS: {"0"}, clock: {"equal", "wrapped"}}}, Because: "a balancer without timestamps has shown nobody a clock to be equal to"},
				{Cells: claim.Cells{{clientTS: {"1"}, clock: {"wrapped"}}}, Because: "the clock begins at a random number, so where it passes 2^32 cannot be chosen"},
				{Cells: claim.Cells{{state: {string(situation.LeftNothing)}, clock: {"equal"}}}, Because: "when the TIME_WAIT has run out the clocks have gone on for a minute"},
				{Cells: claim.Cells{{state: {string(situation.LeftChallenged)}, clock: {"equal"}}}, Because: "nobody can be certain to meet the one tick and the half second after a challenge"},
				{Cells: claim.Cells{{state: {string(situation.LeftChallenged)}, path: {string(situation.DropsInvalid), string(situation.EatsRST), string(situation.UnNATedRST), string(situation.EatsACK)}}},
					Because: "the other SYN that is challenged needs a fault of its own"},
				{Cells: claim.Cells{{second: {"direct"}, path: {string(situation.UnNATedRST)}}}, Because: "without NAT there is no translation to be left out"},
			},
			Waits: []claim.Wait{
				{Cells: claim.Cells{{state: {string(situation.LeftNothing)}}}, About: situation.TimeWaitLength},
				{Cells: claim.Cells{{clock: {string(situation.Equal)}}}, About: 5 * time.Second}, // many tries, on a busy machine
			},
			Rules: []claim.Rule{
				{
					Name: "tuple-wrapped-out-of-reach", Cells: claim.Cells{{clock: {string(situation.Wrapped)}}},
					Kernels:    []claim.Condition{claim.Has(lab.Client, kernel.OwnMachine), claim.Lacks(lab.Client, kernel.MillisecondClock)},
					OutOfReach: true,
					Because: "jiffies begin five minutes before 2^32, and a machine that has just booted has them for its clock: " +
						"nothing that it has sent before is from before the beginning",
					Source: "INITIAL_JIFFIES, include/linux/jiffies.h; tcp_time_stamp before commit 9a568de4818d",
				},
				{
					Name: "tuple-free-after-60s", Cells: claim.Cells{{state: {string(situation.LeftNothing)}}}, Want: atOnce,
					Because: "when the TIME_WAIT has run out nothing is left that could object",
					Source:  "TCP_TIMEWAIT_LEN, tw_timer_handler",
				},
				{
					Name: "tuple-established-ignored", Cells: claim.Cells{{state: {string(situation.LeftEstablished)}}},
					Kernels: []claim.Condition{claim.Has(lab.Balancer, kernel.IgnoresBareSYN)}, Want: ignored(fails),
					Because: "from Linux 3.8 to 3.17 a connection drops what has no ACK flag before it looks at SYNs: no answer, no counter, " +
						"and the newcomer is shut out until the old connection is gone",
					Source: "tcp_rcv_established, tcp_rcv_state_process: !th->ack && !th->rst; commits c3ae62af8e75 and 0c228e833c88, " +
						"tcp: Restore RFC5961-compliant behavior for SYN packets",
				},
				{
					Name: "tuple-challenged-ignored", Cells: claim.Cells{{state: {string(situation.LeftChallenged)}}},
					Kernels: []claim.Condition{claim.Has(lab.Balancer, kernel.IgnoresBareSYN)},
					// Within 7 s: after 1 and 3 s, or since Linux 6.5 each second until 5 s.
					Want:    ignored(failsAfter(claim.Between("syns", 3, 6))),
					Because: "a connection that drops SYNs before it looks at them has not challenged the one before either",
					Source:  "tcp_rcv_established before commit 0c228e833c88",
				},
				{
					Name:    "tuple-challenged-limited",
					Cells:   claim.Cells{{state: {string(situation.LeftChallenged)}}},
					Kernels: []claim.Condition{claim.Has(lab.Balancer, kernel.ACKRatelimit), claim.Has(lab.Client, linear)},
					Want:    limited(claim.Between("again after ms", 500, 1499)),
					Because: "a connection that has sent a challenge within 500 ms leaves the next one out; the SYN that the timer repeats is challenged, " +
						"and only the one after that gets in: a SYN is repeated at once only while none was repeated yet",
					Source: "tcp_oow_rate_limited, tcp_rcv_synsent_state_process: icsk_retransmits; commit ccce324dabfe for equal intervals",
				},
				{
					Name:    "tuple-challenged-limited-3s",
					Cells:   claim.Cells{{state: {string(situation.LeftChallenged)}}},
					Kernels: []claim.Condition{claim.Has(lab.Balancer, kernel.ACKRatelimit), claim.Lacks(lab.Client, linear)},
					Want:    limited(claim.Between("again after ms", 1500, 2999)),
					Because: "as on later kernels, but the second interval is twice the first",
					Source:  "tcp_oow_rate_limited, tcp_retransmit_timer: icsk_rto << 1",
				},
				{
					Name: "tuple-established-older-stamp", Cells: olderStamp.And(stands).And(clean), Kernels: prompt,
					Want: claim.With(answered, atOncePrompt, claim.Exactly("challenges", 1), claim.Rises(lab.Balancer, "Tcp.EstabResets")),
					Because: "a SYN with an older timestamp is answered by an ACK as well: since 6.4 it is a challenge ACK and counted as that, " +
						"before a duplicate ACK of PAWS, counted by PAWSEstab",
					Source: "tcp_validate_incoming; commit ee05d90d0ac7, tcp: Refine SYN handling for PAWS; seen to be PAWSEstab on 4.2 and 5.10",
				},
				{
					Name: "tuple-established-challenged", Cells: claim.Cells{stands}.And(clean), Kernels: prompt,
					Want: claim.With(answered, atOncePrompt, claim.Rises(lab.Balancer, "TcpExt.TCPSYNChallenge"),
						claim.Rises(lab.Balancer, "Tcp.EstabResets")),
					Because: "a connection that still stands answers any SYN by a challenge ACK, unless it has just sent one; the newcomer's RST has " +
						"the right number and resets the old connection, and the repeated SYN finds the listener",
					Source: "RFC 5961 section 4, tcp_validate_incoming; commit 9603d47bad46 for the prompt repetition",
				},
				{
					Name: "tuple-established-challenged-1s", Cells: claim.Cells{stands}.And(clean), Kernels: byTimer,
					Want:    claim.With(answered, byFirstTimer, claim.Exactly("challenges", 1), claim.Rises(lab.Balancer, "Tcp.EstabResets")),
					Because: "as on later kernels, but the client sends its SYN again only when its timer fires",
					Source:  "tcp_rcv_synsent_state_process before commit 9603d47bad46",
				},
				{
					Name: "tuple-established-cut-off", Cells: claim.Cells{{state: {string(situation.LeftEstablished)}}}.And(broken),
					Want: claim.With(fails, claim.Stays(lab.Balancer, "Tcp.EstabResets"), claim.Is("left after", string(observe.Established))),
					Because: "the challenge ACK or the RST that answers it does not arrive, so the old connection stands and " +
						"keeps the newcomer out until it is gone",
					Source: "RFC 5961 section 4, tcp_validate_incoming",
				},
				{
					Name: "tuple-fin-wait-2-refused",
					Cells: append(claim.Cells{stamped}.And(claim.Where{clock: {"newer", "equal", "wrapped"}}), bare...).
						And(claim.Where{state: {string(situation.LeftFinWait2)}, isn: {string(situation.Equal)}}),
					Want: []claim.Expectation{situation.Verdict(tcp.Refused), claim.Is("answers", "RST"), claim.Exactly("syns", 1), claim.Is("left after", "nothing"),
						claim.Exactly("paws rejects", 0)},
					Because: "a minisocket in FIN_WAIT2 takes a SYN inside its receive window for new data to a closed socket: " +
						"it sends a RST and goes away",
					Source: "tcp_timewait_state_process, TCP_FIN_WAIT2, TCP_TW_RST",
				},
				{
					Name: "tuple-fin-wait-2-answered", Cells: claim.Cells{{state: {string(situation.LeftFinWait2)}}}.And(clean), Kernels: prompt,
					Want: claim.With(answered, atOncePrompt),
					Because: "outside its receive window, or with an older timestamp, FIN_WAIT2 answers by an ACK; " +
						"the RST removes it whatever tcp_rfc1337 says, and the repeated SYN gets in",
					Source: "tcp_timewait_state_process, TCP_FIN_WAIT2; commit 9603d47bad46 for the prompt repetition",
				},
				{
					Name: "tuple-fin-wait-2-answered-1s", Cells: claim.Cells{{state: {string(situation.LeftFinWait2)}}}.And(clean), Kernels: byTimer,
					Want:    claim.With(answered, byFirstTimer),
					Because: "as on later kernels, but the client sends its SYN again only when its timer fires",
					Source:  "tcp_rcv_synsent_state_process before commit 9603d47bad46",
				},
				{
					Name: "tuple-fin-wait-2-cut-off", Cells: claim.Cells{{state: {string(situation.LeftFinWait2)}}}.And(broken),
					Want:    claim.With(fails, claim.Is("left after", string(observe.FinWait2))),
					Because: "without the RST the FIN_WAIT2 stays until tcp_fin_timeout and answers every SYN by an ACK",
					Source:  "tcp_timewait_state_process, TCP_FIN_WAIT2",
				},
				{
					Name: "tuple-newer-stamp", Cells: newerStamp.And(timeWait), Want: atOnce,
					Because: "a newer timestamp proves a new connection, whatever its sequence number; newer is by the sign of the difference, " +
						"so a clock that passes 2^32 does no harm",
					Source: "RFC 6191, tcp_timewait_state_process, tcp_paws_check",
				},
				{
					Name: "tuple-newer-number", Cells: newerNumber.And(timeWait), Want: atOnce,
					Because: "without a newer or older timestamp the sequence number decides, and a newer one is a new connection",
					Source:  "RFC 1122 section 4.2.2.13, tcp_timewait_state_process",
				},
				{
					Name: "tuple-older-stamp-answered", Cells: olderStamp.And(timeWait).And(minds), Kernels: prompt,
					Want: claim.With(answered, atOncePrompt, claim.AtLeast("paws rejects", 1)),
					Because: "an older timestamp is rejected (PAWS), but by an ACK; the client answers with a RST, which removes the TIME_WAIT, " +
						"and sends its SYN again some 10 ms later",
					Source: "RFC 7323 section 5, tcp_timewait_state_process, tcp_rcv_synsent_state_process; commit 9603d47bad46",
				},
				{
					Name: "tuple-older-stamp-answered-1s", Cells: olderStamp.And(timeWait).And(minds), Kernels: byTimer,
					Want:    claim.With(answered, byFirstTimer, claim.AtLeast("paws rejects", 1)),
					Because: "as on later kernels, but the client sends its SYN again only when its timer fires",
					Source:  "tcp_rcv_synsent_state_process before commit 9603d47bad46",
				},
				{
					Name: "tuple-older-stamp-shut-out", Cells: olderStamp.And(timeWait),
					Want: claim.With(fails, claim.Between("paws rejects", 2, 4), claim.Is("left after", string(observe.TimeWait)), claim.Is("timer", "re-armed")),
					Because: "the RST is ignored (tcp_rfc1337) or does not arrive, and each rejected SYN begins the 60 s anew: " +
						"the client never gets in as long as it tries",
					Source: "tcp_timewait_state_process: paws_reject reschedules TCP_TIMEWAIT_LEN",
				},
				{
					Name: "tuple-older-number-answered", Cells: otherNumber.And(timeWait).And(minds), Kernels: append(prompt, claim.Has(lab.Gateway, kernel.RecordsChallenge)),
					Want: claim.With(answered, atOncePrompt, claim.Exactly("paws rejects", 0)),
					Because: "without timestamps, or with equal ones, a sequence number that is not newer is rejected the same way: " +
						"ACK, RST, and the repeated SYN gets in",
					Source: "tcp_timewait_state_process; commit c410cb974f2b for the gateway",
				},
				{
					Name: "tuple-older-number-answered-1s", Cells: otherNumber.And(timeWait).And(minds), Kernels: append(byTimer, claim.Has(lab.Gateway, kernel.RecordsChallenge)),
					Want:    claim.With(answered, byFirstTimer, claim.Exactly("paws rejects", 0)),
					Because: "as on later kernels, but the client sends its SYN again only when its timer fires",
					Source:  "tcp_rcv_synsent_state_process before commit 9603d47bad46",
				},
				{
					Name: "tuple-older-number-unhindered", Cells: otherNumber.And(timeWait).And(claim.Where{rfc1337: {"0"}, path: {"clean"}, second: {"direct"}}),
					Kernels: append(prompt, claim.Lacks(lab.Gateway, kernel.RecordsChallenge)),
					Want:    claim.With(answered, atOncePrompt, claim.Exactly("paws rejects", 0)),
					Because: "a gateway that only forwards does not touch the RST",
					Source:  "ip_forward",
				},
				{
					Name:    "tuple-older-number-shut-out-for-good",
					Cells:   otherNumber.And(timeWait).And(claim.Where{rfc1337: {"1"}}).And(clean),
					Kernels: []claim.Condition{claim.Has(lab.Balancer, kernel.RSTRestarts)},
					Want: claim.With(fails, claim.Exactly("paws rejects", 0), claim.Is("reset", "reached"), claim.Is("left after", string(observe.TimeWait)),
						claim.Is("timer", "re-armed")),
					Because: "tcp_rfc1337 spares the TIME_WAIT, but before Linux 4.19 the RST that it ignores begins the 60 s anew: " +
						"the client keeps itself out as long as it tries",
					Source: "tcp_timewait_state_process: th->rst; commit 63cc357f7bba, tcp: do not restart timewait timer on rst reception",
				},
				{
					Name: "tuple-older-number-shut-out", Cells: otherNumber.And(timeWait),
					Want: claim.With(fails, claim.Exactly("paws rejects", 0), claim.Is("left after", string(observe.TimeWait)), claim.Is("timer", "running")),
					Because: "the RST is ignored (tcp_rfc1337), lost or not translated; but a rejection by sequence number does not begin the 60 s anew, " +
						"so who tries for longer than that gets in",
					Source: "tcp_timewait_state_process: only paws_reject or an ACK reschedules",
				},
			},
		},
		Topology: func(c claim.Cell) lab.Topology {
			t := lab.Topology{
				Clients: 1, Names: []string{"phone-a"},
				Gateway: lab.GatewaySpec{Kind: lab.Masquerade},
				// A client that is shut out gives up after 3 s.
				Sysctls: lab.On(lab.Client, "net.ipv4.tcp_syn_retries=1"),
			}
			if c.Is(state, string(situation.LeftChallenged)) { // whose second repetition is the one that gets in
				t.Sysctls = lab.On(lab.Client, "net.ipv4.tcp_syn_retries=2")
			}
			switch c.Value(second) {
			case "other-host":
				t.Clients, t.Names = 2, []string{"phone-a", "phone-b"}
			case "direct":
				t.Gateway.Kind = lab.Routed
			}
			return t
		},
		Drive: func(ctx context.Context, c claim.Cell, l *lab.Lab) (claim.Seen, error) {
			five := situation.FiveTuple{
				Left:  situation.Left(c.Value(state)),
				Clock: situation.Order(c.Value(clock)),
				ISN:   situation.Order(c.Value(isn)),
			}
			if c.Value(path) != "clean" {
				five.Fault = situation.Fault(c.Value(path))
			}
			if !minds.Matches(c) {
				five.Aged = 2 * situation.TimerSlack
			}
			seen, err := five.Drive(ctx, l)
			return seen.Witnesses(), err
		},
	}
}
