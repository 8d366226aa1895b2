package scenarios

import (
	"context"
	"slices"
	"time"

	"twlab/harness/kernel"
	"twlab/harness/lab"
	"twlab/harness/observe"
	"twlab/harness/tcp"
)

// Tuple is the family of the same five-tuple again: what the balancer does with
// a SYN for a connection that it still remembers.
func Tuple() Driven {
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
	stamped := Where{lbTS: {"1"}, clientTS: on}
	bare := Cells{{lbTS: {"0"}}, {clientTS: off}}

	timeWait := Where{state: {string(LeftTimeWait)}}
	olderStamp := Cells{stamped}.And(Where{clock: {string(Older)}})
	newerStamp := Cells{stamped}.And(Where{clock: {string(Newer), string(Wrapped)}})
	equalStamp := Cells{stamped}.And(Where{clock: {string(Equal)}})
	byNumber := slices.Concat(equalStamp, bare)
	newerNumber := byNumber.And(Where{isn: {string(Newer)}})
	otherNumber := byNumber.And(Where{isn: {string(Older), string(Equal)}})

	// The three steps ACK, RST, SYN need a path that lets them through and a
	// socket that minds the RST.
	clean := Where{path: {"clean", string(DropsInvalid)}}
	minds := Where{path: {"clean", string(DropsInvalid)}, rfc1337: {"0"}}
	broken := Where{path: {string(EatsRST), string(UnNATedRST), string(EatsACK)}}

	answered := []Expectation{
		verdict(tcp.Connected), Is("answers", "ACK, SYN-ACK"), Is("reset", "reached"),
		Rises(lab.Client, "TcpExt.TCPSynRetrans"), Rises(lab.Client, "Tcp.OutRsts"),
		Stays(lab.Gateway, "Conntrack.insert_failed"), Stays(lab.Balancer, "TcpExt.ListenDrops"),
	}
	// After how many milliseconds the SYN is repeated, on the wire, to which a machine of
	// its own takes some time: at once is after TCP_TIMEOUT_MIN, 2 jiffies, so 20 ms at
	// most. The SYN's own timer is set to 1 s (it was 3 s before Linux 3.1), and the next
	// time to as much, or to twice that. The bounds are in the middle between those.
	atOncePrompt := AtMost("repeated after ms", 499)
	byFirstTimer := Between("repeated after ms", 500, 1999)
	atOnce := []Expectation{
		verdict(tcp.Connected), Is("answers", "SYN-ACK"), Is("reset", "none"),
		Exactly("paws rejects", 0), Stays(lab.Client, "TcpExt.TCPSynRetrans"), Stays(lab.Client, "Tcp.OutRsts"),
	}
	failsAfter := func(syns Expectation) []Expectation {
		return []Expectation{
			verdict(tcp.TimedOut), Exactly("syn-acks", 0), syns, Is("all syns reached", "yes"),
			Stays(lab.Gateway, "Conntrack.insert_failed"), Stays(lab.Balancer, "TcpExt.ListenDrops"),
		}
	}
	// Two or three by the timer, within 3 s, and where the client has it one at once.
	fails := failsAfter(Between("syns", 2, 4))
	ignored := func(fails []Expectation) []Expectation {
		return with(fails, Exactly("challenges", 0), Stays(lab.Balancer, "Tcp.EstabResets"), Is("reset", "none"),
			Is("left after", string(observe.Established)))
	}
	prompt := []Condition{Has(lab.Client, kernel.PromptSYN)}
	byTimer := []Condition{Lacks(lab.Client, kernel.PromptSYN)}
	stands := Where{state: {string(LeftEstablished), string(LeftChallenged)}}
	const linear kernel.Feature = "knob-tcp-syn-linear-timeouts"
	limited := func(secondGap Expectation) []Expectation {
		return []Expectation{
			verdict(tcp.Connected), Is("answers", "left out (rate limit), ACK, SYN-ACK"), Is("reset", "reached"),
			byFirstTimer, secondGap, Exactly("acks left out", 1), Rises(lab.Balancer, "Tcp.EstabResets"),
			Stays(lab.Gateway, "Conntrack.insert_failed"), Stays(lab.Balancer, "TcpExt.ListenDrops"),
		}
	}

	return Driven{
		Family: Family{
			Name:     "tuple",
			Evidence: tupleEvidence(),
			About: "A connection is over, the balancer still has something of it, and a SYN comes from the same address and port: " +
				"is it accepted, answered or ignored, and does the client get in?",
			Axes: []Axis{
				{Name: clock, Values: []string{"older", "newer", "equal", "wrapped"}, Product: true,
					Means: "the second connection's timestamp against the last one of the first"},
				{Name: isn, Values: []string{"newer", "older", "equal"}, Product: true,
					Means: "the second connection's initial sequence number against the one that the balancer expects next"},
				{Name: clientTS, Values: []string{"1", "2", "0"}, Product: true, Knob: Knob{Role: lab.Client, Sysctl: "net.ipv4.tcp_timestamps"},
					Means: "tcp_timestamps of the clients"},
				{Name: lbTS, Values: []string{"1", "0"}, Product: true, Knob: Knob{Role: lab.Balancer, Sysctl: "net.ipv4.tcp_timestamps"},
					Means: "tcp_timestamps of the balancer"},
				{Name: second, Values: []string{"other-host", "same-host", "direct"}, Product: true,
					Means: "who connects the second time: another client behind the same MASQUERADE, the same client, or the same client without NAT"},
				{Name: state, Values: []string{string(LeftTimeWait), string(LeftFinWait2), string(LeftEstablished), string(LeftChallenged), string(LeftNothing)},
					Means: "what the first connection has left at the balancer"},
				{Name: rfc1337, Values: []string{"0", "1"}, Knob: Knob{Role: lab.Balancer, Sysctl: "net.ipv4.tcp_rfc1337"},
					Means: "tcp_rfc1337 of the balancer"},
				{Name: path, Values: []string{"clean", string(DropsInvalid), string(EatsRST), string(UnNATedRST), string(EatsACK)},
					Means: "what the gateway does to the handshake"},
			},
			Crossed: [][]string{{clock, rfc1337, path}, {lbTS, isn, rfc1337, path}, {state, clock, isn}, {state, path}},
			Impossible: []Impossible{
				{Cells{{clientTS: off, clock: {"older", "equal", "wrapped"}}}, "a SYN without timestamp has no clock that could be older"},
				{Cells{{lbTS: {"0"}, clock: {"equal", "wrapped"}}}, "a balancer without timestamps has shown nobody a clock to be equal to"},
				{Cells{{clientTS: {"1"}, clock: {"wrapped"}}}, "the clock begins at a random number, so where it passes 2^32 cannot be chosen"},
				{Cells{{state: {string(LeftNothing)}, clock: {"equal"}}}, "when the TIME_WAIT has run out the clocks have gone on for a minute"},
				{Cells{{state: {string(LeftChallenged)}, clock: {"equal"}}}, "nobody can be certain to meet the one tick and the half second after a challenge"},
				{Cells{{state: {string(LeftChallenged)}, path: {string(DropsInvalid), string(EatsRST), string(UnNATedRST), string(EatsACK)}}},
					"the other SYN that is challenged needs a fault of its own"},
				{Cells{{second: {"direct"}, path: {string(UnNATedRST)}}}, "without NAT there is no translation to be left out"},
			},
			Waits: []Wait{
				{Cells{{state: {string(LeftNothing)}}}, TimeWaitLength},
				{Cells{{clock: {string(Equal)}}}, 5 * time.Second}, // many tries, on a busy machine
			},
			Rules: []Rule{
				{
					Name: "tuple-wrapped-out-of-reach", Cells: Cells{{clock: {string(Wrapped)}}},
					Kernels:    []Condition{Has(lab.Client, kernel.OwnMachine), Lacks(lab.Client, kernel.MillisecondClock)},
					OutOfReach: true,
					Because: "jiffies begin five minutes before 2^32, and a machine that has just booted has them for its clock: " +
						"nothing that it has sent before is from before the beginning",
					Source: "INITIAL_JIFFIES, include/linux/jiffies.h; tcp_time_stamp before commit 9a568de4818d",
				},
				{
					Name: "tuple-free-after-60s", Cells: Cells{{state: {string(LeftNothing)}}}, Want: atOnce,
					Because: "when the TIME_WAIT has run out nothing is left that could object",
					Source:  "TCP_TIMEWAIT_LEN, tw_timer_handler",
				},
				{
					Name: "tuple-established-ignored", Cells: Cells{{state: {string(LeftEstablished)}}},
					Kernels: []Condition{Has(lab.Balancer, kernel.IgnoresBareSYN)}, Want: ignored(fails),
					Because: "from Linux 3.8 to 3.17 a connection drops what has no ACK flag before it looks at SYNs: no answer, no counter, " +
						"and the newcomer is shut out until the old connection is gone",
					Source: "tcp_rcv_established, tcp_rcv_state_process: !th->ack && !th->rst; commits c3ae62af8e75 and 0c228e833c88, " +
						"tcp: Restore RFC5961-compliant behavior for SYN packets",
				},
				{
					Name: "tuple-challenged-ignored", Cells: Cells{{state: {string(LeftChallenged)}}},
					Kernels: []Condition{Has(lab.Balancer, kernel.IgnoresBareSYN)},
					// Within 7 s: after 1 and 3 s, or since Linux 6.5 each second until 5 s.
					Want:    ignored(failsAfter(Between("syns", 3, 6))),
					Because: "a connection that drops SYNs before it looks at them has not challenged the one before either",
					Source:  "tcp_rcv_established before commit 0c228e833c88",
				},
				{
					Name:    "tuple-challenged-limited",
					Cells:   Cells{{state: {string(LeftChallenged)}}},
					Kernels: []Condition{Has(lab.Balancer, kernel.ACKRatelimit), Has(lab.Client, linear)},
					Want:    limited(Between("again after ms", 500, 1499)),
					Because: "a connection that has sent a challenge within 500 ms leaves the next one out; the SYN that the timer repeats is challenged, " +
						"and only the one after that gets in: a SYN is repeated at once only while none was repeated yet",
					Source: "tcp_oow_rate_limited, tcp_rcv_synsent_state_process: icsk_retransmits; commit ccce324dabfe for equal intervals",
				},
				{
					Name:    "tuple-challenged-limited-3s",
					Cells:   Cells{{state: {string(LeftChallenged)}}},
					Kernels: []Condition{Has(lab.Balancer, kernel.ACKRatelimit), Lacks(lab.Client, linear)},
					Want:    limited(Between("again after ms", 1500, 2999)),
					Because: "as on later kernels, but the second interval is twice the first",
					Source:  "tcp_oow_rate_limited, tcp_retransmit_timer: icsk_rto << 1",
				},
				{
					Name: "tuple-established-older-stamp", Cells: olderStamp.And(stands).And(clean), Kernels: prompt,
					Want: with(answered, atOncePrompt, Exactly("challenges", 1), Rises(lab.Balancer, "Tcp.EstabResets")),
					Because: "a SYN with an older timestamp is answered by an ACK as well: since 6.4 it is a challenge ACK and counted as that, " +
						"before a duplicate ACK of PAWS, counted by PAWSEstab",
					Source: "tcp_validate_incoming; commit ee05d90d0ac7, tcp: Refine SYN handling for PAWS; seen to be PAWSEstab on 4.2 and 5.10",
				},
				{
					Name: "tuple-established-challenged", Cells: Cells{stands}.And(clean), Kernels: prompt,
					Want: with(answered, atOncePrompt, Rises(lab.Balancer, "TcpExt.TCPSYNChallenge"),
						Rises(lab.Balancer, "Tcp.EstabResets")),
					Because: "a connection that still stands answers any SYN by a challenge ACK, unless it has just sent one; the newcomer's RST has " +
						"the right number and resets the old connection, and the repeated SYN finds the listener",
					Source: "RFC 5961 section 4, tcp_validate_incoming; commit 9603d47bad46 for the prompt repetition",
				},
				{
					Name: "tuple-established-challenged-1s", Cells: Cells{stands}.And(clean), Kernels: byTimer,
					Want:    with(answered, byFirstTimer, Exactly("challenges", 1), Rises(lab.Balancer, "Tcp.EstabResets")),
					Because: "as on later kernels, but the client sends its SYN again only when its timer fires",
					Source:  "tcp_rcv_synsent_state_process before commit 9603d47bad46",
				},
				{
					Name: "tuple-established-cut-off", Cells: Cells{{state: {string(LeftEstablished)}}}.And(broken),
					Want: with(fails, Stays(lab.Balancer, "Tcp.EstabResets"), Is("left after", string(observe.Established))),
					Because: "the challenge ACK or the RST that answers it does not arrive, so the old connection stands and " +
						"keeps the newcomer out until it is gone",
					Source: "RFC 5961 section 4, tcp_validate_incoming",
				},
				{
					Name: "tuple-fin-wait-2-refused",
					Cells: append(Cells{stamped}.And(Where{clock: {"newer", "equal", "wrapped"}}), bare...).
						And(Where{state: {string(LeftFinWait2)}, isn: {string(Equal)}}),
					Want: []Expectation{verdict(tcp.Refused), Is("answers", "RST"), Exactly("syns", 1), Is("left after", "nothing"),
						Exactly("paws rejects", 0)},
					Because: "a minisocket in FIN_WAIT2 takes a SYN inside its receive window for new data to a closed socket: " +
						"it sends a RST and goes away",
					Source: "tcp_timewait_state_process, TCP_FIN_WAIT2, TCP_TW_RST",
				},
				{
					Name: "tuple-fin-wait-2-answered", Cells: Cells{{state: {string(LeftFinWait2)}}}.And(clean), Kernels: prompt,
					Want: with(answered, atOncePrompt),
					Because: "outside its receive window, or with an older timestamp, FIN_WAIT2 answers by an ACK; " +
						"the RST removes it whatever tcp_rfc1337 says, and the repeated SYN gets in",
					Source: "tcp_timewait_state_process, TCP_FIN_WAIT2; commit 9603d47bad46 for the prompt repetition",
				},
				{
					Name: "tuple-fin-wait-2-answered-1s", Cells: Cells{{state: {string(LeftFinWait2)}}}.And(clean), Kernels: byTimer,
					Want:    with(answered, byFirstTimer),
					Because: "as on later kernels, but the client sends its SYN again only when its timer fires",
					Source:  "tcp_rcv_synsent_state_process before commit 9603d47bad46",
				},
				{
					Name: "tuple-fin-wait-2-cut-off", Cells: Cells{{state: {string(LeftFinWait2)}}}.And(broken),
					Want:    with(fails, Is("left after", string(observe.FinWait2))),
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
					Want: with(answered, atOncePrompt, AtLeast("paws rejects", 1)),
					Because: "an older timestamp is rejected (PAWS), but by an ACK; the client answers with a RST, which removes the TIME_WAIT, " +
						"and sends its SYN again some 10 ms later",
					Source: "RFC 7323 section 5, tcp_timewait_state_process, tcp_rcv_synsent_state_process; commit 9603d47bad46",
				},
				{
					Name: "tuple-older-stamp-answered-1s", Cells: olderStamp.And(timeWait).And(minds), Kernels: byTimer,
					Want:    with(answered, byFirstTimer, AtLeast("paws rejects", 1)),
					Because: "as on later kernels, but the client sends its SYN again only when its timer fires",
					Source:  "tcp_rcv_synsent_state_process before commit 9603d47bad46",
				},
				{
					Name: "tuple-older-stamp-shut-out", Cells: olderStamp.And(timeWait),
					Want: with(fails, Between("paws rejects", 2, 4), Is("left after", string(observe.TimeWait)), Is("timer", "re-armed")),
					Because: "the RST is ignored (tcp_rfc1337) or does not arrive, and each rejected SYN begins the 60 s anew: " +
						"the client never gets in as long as it tries",
					Source: "tcp_timewait_state_process: paws_reject reschedules TCP_TIMEWAIT_LEN",
				},
				{
					Name: "tuple-older-number-answered", Cells: otherNumber.And(timeWait).And(minds), Kernels: append(prompt, Has(lab.Gateway, kernel.RecordsChallenge)),
					Want: with(answered, atOncePrompt, Exactly("paws rejects", 0)),
					Because: "without timestamps, or with equal ones, a sequence number that is not newer is rejected the same way: " +
						"ACK, RST, and the repeated SYN gets in",
					Source: "tcp_timewait_state_process; commit c410cb974f2b for the gateway",
				},
				{
					Name: "tuple-older-number-answered-1s", Cells: otherNumber.And(timeWait).And(minds), Kernels: append(byTimer, Has(lab.Gateway, kernel.RecordsChallenge)),
					Want:    with(answered, byFirstTimer, Exactly("paws rejects", 0)),
					Because: "as on later kernels, but the client sends its SYN again only when its timer fires",
					Source:  "tcp_rcv_synsent_state_process before commit 9603d47bad46",
				},
				{
					Name: "tuple-older-number-unhindered", Cells: otherNumber.And(timeWait).And(Where{rfc1337: {"0"}, path: {"clean"}, second: {"direct"}}),
					Kernels: append(prompt, Lacks(lab.Gateway, kernel.RecordsChallenge)),
					Want:    with(answered, atOncePrompt, Exactly("paws rejects", 0)),
					Because: "a gateway that only forwards does not touch the RST",
					Source:  "ip_forward",
				},
				{
					Name:    "tuple-older-number-shut-out-for-good",
					Cells:   otherNumber.And(timeWait).And(Where{rfc1337: {"1"}}).And(clean),
					Kernels: []Condition{Has(lab.Balancer, kernel.RSTRestarts)},
					Want: with(fails, Exactly("paws rejects", 0), Is("reset", "reached"), Is("left after", string(observe.TimeWait)),
						Is("timer", "re-armed")),
					Because: "tcp_rfc1337 spares the TIME_WAIT, but before Linux 4.19 the RST that it ignores begins the 60 s anew: " +
						"the client keeps itself out as long as it tries",
					Source: "tcp_timewait_state_process: th->rst; commit 63cc357f7bba, tcp: do not restart timewait timer on rst reception",
				},
				{
					Name: "tuple-older-number-shut-out", Cells: otherNumber.And(timeWait),
					Want: with(fails, Exactly("paws rejects", 0), Is("left after", string(observe.TimeWait)), Is("timer", "running")),
					Because: "the RST is ignored (tcp_rfc1337), lost or not translated; but a rejection by sequence number does not begin the 60 s anew, " +
						"so who tries for longer than that gets in",
					Source: "tcp_timewait_state_process: only paws_reject or an ACK reschedules",
				},
			},
		},
		Topology: func(c Cell) lab.Topology {
			t := lab.Topology{
				Clients: 1, Names: []string{"phone-a"},
				Gateway: lab.GatewaySpec{Kind: lab.Masquerade},
				// A client that is shut out gives up after 3 s.
				Sysctls: lab.On(lab.Client, "net.ipv4.tcp_syn_retries=1"),
			}
			if c.Is(state, string(LeftChallenged)) { // whose second repetition is the one that gets in
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
		Drive: func(ctx context.Context, c Cell, l *lab.Lab) (Seen, error) {
			five := FiveTuple{
				Left:  Left(c.Value(state)),
				Clock: Order(c.Value(clock)),
				ISN:   Order(c.Value(isn)),
			}
			if c.Value(path) != "clean" {
				five.Fault = Fault(c.Value(path))
			}
			if !minds.matches(c) {
				five.Aged = 2 * timerSlack
			}
			seen, err := five.Drive(ctx, l)
			return seen.witnesses(), err
		},
	}
}
