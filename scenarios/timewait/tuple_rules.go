package timewait

import (
	"slices"

	"twlab/harness/kernel"
	"twlab/harness/lab"
	"twlab/harness/observe"
	"twlab/harness/tcp"
	"twlab/scenarios/claim"
	"twlab/scenarios/situation"
)

// What a socket in TIME_WAIT goes by: the timestamp when the connection had
// timestamps and the SYN has one, else the sequence number.
var (
	tupleTimestamps   = claim.Where{tupleBalancerTS: {"1"}, tupleClientTS: {"1", "2"}}
	tupleNoTimestamps = claim.Cells{{tupleBalancerTS: {"0"}}, {tupleClientTS: {"0"}}}

	olderTimestamp = claim.Cells{tupleTimestamps}.And(claim.Where{tupleClock: {string(situation.Older)}})
	newerTimestamp = claim.Cells{tupleTimestamps}.And(claim.Where{tupleClock: {string(situation.Newer), string(situation.Wrapped)}})
	equalTimestamp = claim.Cells{tupleTimestamps}.And(claim.Where{tupleClock: {string(situation.Equal)}})

	byNumber    = slices.Concat(equalTimestamp, tupleNoTimestamps)
	newerNumber = byNumber.And(claim.Where{isn: {string(situation.Newer)}})
	otherNumber = byNumber.And(claim.Where{isn: {string(situation.Older), string(situation.Equal)}})

	inTimeWait = claim.Where{tupleState: {string(situation.LeftTimeWait)}}
)

// The three steps ACK, RST, SYN need a path that lets them through and a
// socket that minds the RST.
var (
	clean  = claim.Where{tuplePath: {"clean", string(situation.DropsInvalid)}}
	minds  = claim.Where{tuplePath: {"clean", string(situation.DropsInvalid)}, rfc1337: {"0"}}
	broken = claim.Where{tuplePath: {string(situation.EatsRST), string(situation.UnNATedRST), string(situation.EatsACK)}}
)

// Whether a client that has answered by a RST sends its SYN again at once, or when
// its timer fires.
var (
	prompt  = claim.Has(lab.Client, kernel.PromptSYN)
	byTimer = claim.Lacks(lab.Client, kernel.PromptSYN)
)

// After how many milliseconds the SYN is repeated, on the wire, to which a machine of
// its own takes some time: at once is after TCP_TIMEOUT_MIN, 2 jiffies, so 20 ms at
// most. The SYN's own timer is set to 1 s (it was 3 s before Linux 3.1), and the next
// time to as much, or to twice that. The bounds are in the middle between those.
var (
	atOncePrompt = claim.AtMost("repeated after ms", 499)
	byFirstTimer = claim.Between("repeated after ms", 500, 1999)
)

// What becomes of the SYN: accepted, answered first, or never let in.
var (
	atOnce = []claim.Expectation{
		situation.Outcome(tcp.Connected), claim.Is("answers", "SYN-ACK"), claim.Is("reset", "none"),
		claim.Exactly("paws rejects", 0), claim.Stays(lab.Client, "TcpExt.TCPSynRetrans"), claim.Stays(lab.Client, "Tcp.OutRsts"),
	}
	tupleAnswered = []claim.Expectation{
		situation.Outcome(tcp.Connected), claim.Is("answers", "ACK, SYN-ACK"), claim.Is("reset", "reached"),
		claim.Rises(lab.Client, "TcpExt.TCPSynRetrans"), claim.Rises(lab.Client, "Tcp.OutRsts"),
		claim.Stays(lab.Gateway, "Conntrack.insert_failed"), claim.Stays(lab.Balancer, "TcpExt.ListenDrops"),
	}
	// Two or three by the timer, within 3 s, and where the client has it one at once.
	fails = failsAfter(claim.Between("syns", 2, 4))
)

func failsAfter(syns claim.Expectation) []claim.Expectation {
	return []claim.Expectation{
		situation.Outcome(tcp.TimedOut), claim.Exactly("syn-acks", 0), syns, claim.Is("all syns reached", "yes"),
		claim.Stays(lab.Gateway, "Conntrack.insert_failed"), claim.Stays(lab.Balancer, "TcpExt.ListenDrops"),
	}
}

// tupleUndisputedRules are about cells in which there is nothing to decide: they
// cannot come about, or nothing is left.
func tupleUndisputedRules() []claim.Rule {
	return []claim.Rule{
		{
			Name: "tuple-wrapped-out-of-reach", Cells: claim.Cells{{tupleClock: {string(situation.Wrapped)}}},
			Kernels:    []claim.Condition{claim.Has(lab.Client, kernel.IsGuest), claim.Lacks(lab.Client, kernel.MillisecondClock)},
			OutOfReach: true,
			Because: "jiffies begin five minutes before 2^32, and a machine that has just booted has them for its clock: " +
				"nothing that it has sent before is from before the beginning",
			Source: "INITIAL_JIFFIES, include/linux/jiffies.h; tcp_time_stamp before commit 9a568de4818d",
		},
		{
			Name: "tuple-free-after-60s", Cells: claim.Cells{{tupleState: {string(situation.LeftNothing)}}}, Want: atOnce,
			Because: "when the TIME_WAIT has run out nothing is left that could object",
			Source:  "TCP_TIMEWAIT_LEN, tw_timer_handler",
		},
	}
}

// tupleNewerRules are about a TIME_WAIT that takes the SYN for a new connection.
func tupleNewerRules() []claim.Rule {
	return []claim.Rule{
		{
			Name: "tuple-newer-timestamp", Cells: newerTimestamp.And(inTimeWait), Want: atOnce,
			Because: "a newer timestamp proves a new connection, whatever its sequence number; newer is by the sign of the difference, " +
				"so a clock that passes 2^32 does no harm",
			Source: "RFC 6191, tcp_timewait_state_process, tcp_paws_check",
		},
		{
			Name: "tuple-newer-number", Cells: newerNumber.And(inTimeWait), Want: atOnce,
			Because: "without a newer or older timestamp the sequence number decides, and a newer one is a new connection",
			Source:  "RFC 1122 section 4.2.2.13, tcp_timewait_state_process",
		},
	}
}

// tupleOlderStampRules are about a TIME_WAIT that rejects the SYN by its timestamp.
func tupleOlderStampRules() []claim.Rule {
	return []claim.Rule{
		{
			Name: "tuple-older-timestamp-answered", Cells: olderTimestamp.And(inTimeWait).And(minds), Kernels: []claim.Condition{prompt},
			Want: claim.With(tupleAnswered, atOncePrompt, claim.AtLeast("paws rejects", 1)),
			Because: "an older timestamp is rejected (PAWS), but by an ACK; the client answers with a RST, which removes the TIME_WAIT, " +
				"and sends its SYN again some 10 ms later",
			Source: "RFC 7323 section 5, tcp_timewait_state_process, tcp_rcv_synsent_state_process; commit 9603d47bad46",
		},
		{
			Name: "tuple-older-timestamp-answered-1s", Cells: olderTimestamp.And(inTimeWait).And(minds), Kernels: []claim.Condition{byTimer},
			Want:    claim.With(tupleAnswered, byFirstTimer, claim.AtLeast("paws rejects", 1)),
			Because: "as on later kernels, but the client sends its SYN again only when its timer fires",
			Source:  "tcp_rcv_synsent_state_process before commit 9603d47bad46",
		},
		{
			Name: "tuple-older-timestamp-blocked", Cells: olderTimestamp.And(inTimeWait),
			Want: claim.With(fails, claim.Between("paws rejects", 2, 4), claim.Is("left after", string(observe.TimeWait)), claim.Is("timer", "re-armed")),
			Because: "the RST is ignored (tcp_rfc1337) or does not arrive, and each rejected SYN begins the 60 s anew: " +
				"the client never gets in as long as it tries",
			Source: "tcp_timewait_state_process: paws_reject reschedules TCP_TIMEWAIT_LEN",
		},
	}
}

// tupleOlderNumberRules are about a TIME_WAIT that rejects the SYN by its sequence
// number.
func tupleOlderNumberRules() []claim.Rule {
	return []claim.Rule{
		{
			Name: "tuple-older-number-answered", Cells: otherNumber.And(inTimeWait).And(minds), Kernels: []claim.Condition{prompt, claim.Has(lab.Gateway, kernel.RecordsChallenge)},
			Want: claim.With(tupleAnswered, atOncePrompt, claim.Exactly("paws rejects", 0)),
			Because: "without timestamps, or with equal ones, a sequence number that is not newer is rejected the same way: " +
				"ACK, RST, and the repeated SYN gets in",
			Source: "tcp_timewait_state_process; commit c410cb974f2b for the gateway",
		},
		{
			Name: "tuple-older-number-answered-1s", Cells: otherNumber.And(inTimeWait).And(minds), Kernels: []claim.Condition{byTimer, claim.Has(lab.Gateway, kernel.RecordsChallenge)},
			Want:    claim.With(tupleAnswered, byFirstTimer, claim.Exactly("paws rejects", 0)),
			Because: "as on later kernels, but the client sends its SYN again only when its timer fires",
			Source:  "tcp_rcv_synsent_state_process before commit 9603d47bad46",
		},
		{
			Name: "tuple-older-number-unhindered", Cells: otherNumber.And(inTimeWait).And(claim.Where{rfc1337: {"0"}, tuplePath: {"clean"}, tupleSecond: {"direct"}}),
			Kernels: []claim.Condition{prompt, claim.Lacks(lab.Gateway, kernel.RecordsChallenge)},
			Want:    claim.With(tupleAnswered, atOncePrompt, claim.Exactly("paws rejects", 0)),
			Because: "a gateway that only forwards does not touch the RST",
			Source:  "ip_forward",
		},
		{
			Name:    "tuple-older-number-blocked-for-good",
			Cells:   otherNumber.And(inTimeWait).And(claim.Where{rfc1337: {"1"}}).And(clean),
			Kernels: []claim.Condition{claim.Has(lab.Balancer, kernel.RSTRestarts)},
			Want: claim.With(fails, claim.Exactly("paws rejects", 0), claim.Is("reset", "reached"), claim.Is("left after", string(observe.TimeWait)),
				claim.Is("timer", "re-armed")),
			Because: "tcp_rfc1337 spares the TIME_WAIT, but before Linux 4.19 the RST that it ignores begins the 60 s anew: " +
				"the client keeps itself out as long as it tries",
			Source: "tcp_timewait_state_process: th->rst; commit 63cc357f7bba, tcp: do not restart timewait timer on rst reception",
		},
		{
			Name: "tuple-older-number-blocked", Cells: otherNumber.And(inTimeWait),
			Want: claim.With(fails, claim.Exactly("paws rejects", 0), claim.Is("left after", string(observe.TimeWait)), claim.Is("timer", "running")),
			Because: "the RST is ignored (tcp_rfc1337), lost or not translated; but a rejection by sequence number does not begin the 60 s anew, " +
				"so who tries for longer than that gets in",
			Source: "tcp_timewait_state_process: only paws_reject or an ACK reschedules",
		},
	}
}
