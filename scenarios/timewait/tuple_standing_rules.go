package timewait

import (
	"twlab/harness/kernel"
	"twlab/harness/lab"
	"twlab/harness/observe"
	"twlab/harness/tcp"
	"twlab/scenarios/claim"
	"twlab/scenarios/situation"
)

// tupleIgnoredRules are about kernels on which a first connection that is still established ignores
// SYNs.
func tupleIgnoredRules() []claim.Rule {
	const unanswered = "such a kernel answers nothing and counts nothing, so no evidence tells it from another drop"
	ignored := func(fails []claim.Expectation) []claim.Expectation {
		return claim.With(fails, claim.Exactly("challenges", 0), claim.Stays(lab.Balancer, "Tcp.EstabResets"), claim.Is("reset", "none"),
			claim.Is("left after", string(observe.Established)))
	}

	return []claim.Rule{
		{
			Name: "tuple-established-ignored", Cells: claim.Cells{{tupleState: {string(situation.LeftEstablished)}}},
			Kernels: []claim.Condition{claim.Has(lab.Balancer, kernel.IgnoresSYN)}, Want: ignored(fails),
			Uncaused: unanswered,
			Because: "from Linux 3.8 to 3.17 an established connection drops segments without the ACK flag before it looks at SYNs: there is no " +
				"answer and no counter, and the new client cannot connect until the old connection is gone",
			Source: "tcp_rcv_established, tcp_rcv_state_process: !th->ack && !th->rst; commits c3ae62af8e75 and 0c228e833c88, " +
				"tcp: Restore RFC5961-compliant behavior for SYN packets",
		},
		{
			Name: "tuple-challenged-ignored", Cells: claim.Cells{{tupleState: {string(situation.LeftChallenged)}}},
			Kernels: []claim.Condition{claim.Has(lab.Balancer, kernel.IgnoresSYN)},
			// Within 7 s: after 1 and 3 s, or since Linux 6.5 each second until 5 s.
			Want:     ignored(failsAfter(claim.Between("syns", 3, 6))),
			Uncaused: unanswered,
			Because:  "a connection that drops SYNs before it looks at them has not challenged the earlier SYN either",
			Source:   "tcp_rcv_established before commit 0c228e833c88",
		},
	}
}

// tupleStandingRules are about a first connection that is still established.
func tupleStandingRules() []claim.Rule {
	const linear kernel.Feature = "sysctl-tcp-syn-linear-timeouts"
	stands := claim.Where{tupleState: {string(situation.LeftEstablished), string(situation.LeftChallenged)}}
	limited := func(secondGap claim.Expectation) []claim.Expectation {
		return []claim.Expectation{
			situation.Outcome(tcp.Connected), claim.Is("answers", "left out (rate limit), ACK, SYN-ACK"), claim.Is("reset", "reached"),
			byFirstTimer, secondGap, claim.Exactly("acks left out", 1), claim.Rises(lab.Balancer, "Tcp.EstabResets"),
			claim.Stays(lab.Gateway, "Conntrack.insert_failed"), claim.Stays(lab.Balancer, "TcpExt.ListenDrops"),
		}
	}

	return []claim.Rule{
		{
			Name:    "tuple-challenged-limited",
			Cells:   claim.Cells{{tupleState: {string(situation.LeftChallenged)}}},
			Kernels: []claim.Condition{claim.Has(lab.Balancer, kernel.ACKRatelimit), claim.Has(lab.Client, linear)},
			Want:    limited(claim.Between("again after ms", 500, 1499)),
			Cause:   "half-open",
			Because: "a connection that has sent a challenge ACK within 500 ms does not send another one. The SYN that the timer retransmits gets " +
				"a challenge ACK, and only the SYN after that is accepted: after a challenge ACK the client retransmits at once only if it " +
				"has not retransmitted yet",
			Source: "tcp_oow_rate_limited, tcp_rcv_synsent_state_process: icsk_retransmits; commit ccce324dabfe for equal intervals",
		},
		{
			Name:    "tuple-challenged-limited-3s",
			Cells:   claim.Cells{{tupleState: {string(situation.LeftChallenged)}}},
			Kernels: []claim.Condition{claim.Has(lab.Balancer, kernel.ACKRatelimit), claim.Lacks(lab.Client, linear)},
			Want:    limited(claim.Between("again after ms", 1500, 2999)),
			Cause:   "half-open",
			Because: "as on later kernels, but the second interval is twice the first",
			Source:  "tcp_oow_rate_limited, tcp_retransmit_timer: icsk_rto << 1",
		},
		{
			Name: "tuple-established-older-timestamp", Cells: olderTimestamp.And(stands).And(clean), Kernels: []claim.Condition{prompt},
			Want:  claim.With(tupleAnswered, atOncePrompt, claim.Exactly("challenges", 1), claim.Rises(lab.Balancer, "Tcp.EstabResets")),
			Cause: "half-open",
			Because: "a SYN with an older timestamp is also answered with an ACK: since 6.4 this is a challenge ACK and is counted as one; before, " +
				"it is a duplicate ACK of PAWS, counted by PAWSEstab",
			Source: "tcp_validate_incoming; commit ee05d90d0ac7, tcp: Refine SYN handling for PAWS; seen to be PAWSEstab on 4.2 and 5.10",
		},
		{
			Name: "tuple-established-challenged", Cells: claim.Cells{stands}.And(clean), Kernels: []claim.Condition{prompt},
			Want: claim.With(tupleAnswered, atOncePrompt, claim.Rises(lab.Balancer, "TcpExt.TCPSYNChallenge"),
				claim.Rises(lab.Balancer, "Tcp.EstabResets")),
			Cause: "half-open",
			Because: "an established connection answers any SYN with a challenge ACK, unless it has just sent one. The new client's RST has the " +
				"right sequence number and resets the old connection, and the retransmitted SYN reaches the listener",
			Source: "RFC 5961 section 4, tcp_validate_incoming; commit 9603d47bad46 for the prompt repetition",
		},
		{
			Name: "tuple-established-challenged-1s", Cells: claim.Cells{stands}.And(clean), Kernels: []claim.Condition{byTimer},
			Want:    claim.With(tupleAnswered, byFirstTimer, claim.Exactly("challenges", 1), claim.Rises(lab.Balancer, "Tcp.EstabResets")),
			Cause:   "half-open",
			Because: "as on later kernels, but the client retransmits its SYN only when its timer fires",
			Source:  "tcp_rcv_synsent_state_process before commit 9603d47bad46",
		},
		{
			Name: "tuple-established-blocked", Cells: claim.Cells{{tupleState: {string(situation.LeftEstablished)}}}.And(broken),
			Want:  claim.With(fails, claim.Stays(lab.Balancer, "Tcp.EstabResets"), claim.Is("left after", string(observe.Established))),
			Cause: "half-open",
			Because: "the challenge ACK, or the RST that answers it, does not arrive, so the old connection stays established and blocks the new " +
				"client until it is gone",
			Source: "RFC 5961 section 4, tcp_validate_incoming",
		},
	}
}

// tupleFinWait2Rules are about a first connection that the client never closed.
func tupleFinWait2Rules() []claim.Rule {
	return []claim.Rule{
		{
			Name: "tuple-fin-wait-2-refused",
			Cells: append(claim.Cells{tupleTimestamps}.And(claim.Where{tupleClock: {"newer", "equal", "wrapped"}}), tupleNoTimestamps...).
				And(claim.Where{tupleState: {string(situation.LeftFinWait2)}, isn: {string(situation.Equal)}}),
			Want: []claim.Expectation{situation.Outcome(tcp.Refused), claim.Is("answers", "RST"), claim.Exactly("syns", 1), claim.Is("left after", "nothing"),
				claim.Exactly("paws rejects", 0)},
			Cause: "fin-wait-2",
			Because: "a minisocket in FIN_WAIT2 takes a SYN inside its receive window for new data to a closed socket: it sends a RST and is " +
				"removed",
			Source: "tcp_timewait_state_process, TCP_FIN_WAIT2, TCP_TW_RST",
		},
		{
			Name: "tuple-fin-wait-2-answered", Cells: claim.Cells{{tupleState: {string(situation.LeftFinWait2)}}}.And(clean), Kernels: []claim.Condition{prompt},
			Want:  claim.With(tupleAnswered, atOncePrompt),
			Cause: "fin-wait-2",
			Because: "if the SYN is outside the receive window or has an older timestamp, FIN_WAIT2 answers with an ACK; the RST removes the " +
				"FIN_WAIT2, whatever tcp_rfc1337 says, and the retransmitted SYN is accepted",
			Source: "tcp_timewait_state_process, TCP_FIN_WAIT2; commit 9603d47bad46 for the prompt repetition",
		},
		{
			Name: "tuple-fin-wait-2-answered-1s", Cells: claim.Cells{{tupleState: {string(situation.LeftFinWait2)}}}.And(clean), Kernels: []claim.Condition{byTimer},
			Want:    claim.With(tupleAnswered, byFirstTimer),
			Cause:   "fin-wait-2",
			Because: "as on later kernels, but the client retransmits its SYN only when its timer fires",
			Source:  "tcp_rcv_synsent_state_process before commit 9603d47bad46",
		},
		{
			Name: "tuple-fin-wait-2-blocked", Cells: claim.Cells{{tupleState: {string(situation.LeftFinWait2)}}}.And(broken),
			Want:    claim.With(fails, claim.Is("left after", string(observe.FinWait2))),
			Cause:   "fin-wait-2",
			Because: "without the RST the FIN_WAIT2 stays until tcp_fin_timeout, and answers every SYN with an ACK",
			Source:  "tcp_timewait_state_process, TCP_FIN_WAIT2",
		},
	}
}
