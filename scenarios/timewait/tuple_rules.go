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

// What a socket in TIME_WAIT compares: the timestamp, if the connection had timestamps and
// the SYN has one; otherwise the sequence number.
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

// The three steps ACK, RST, SYN need a path that lets them through (clean), and a socket
// that accepts the RST (minds).
var (
	clean   = claim.Where{tuplePath: {"clean", string(situation.DropsInvalid)}}
	minds   = claim.Where{tuplePath: {"clean", string(situation.DropsInvalid)}, rfc1337: {"0"}}
	noReset = claim.Where{tuplePath: {string(situation.EatsACK)}} // no ACK that the client could answer by one
	broken  = claim.Where{tuplePath: {string(situation.EatsRST), string(situation.UnNATedRST), string(situation.EatsACK)}}
)

// Whether a client that has answered with a RST retransmits its SYN at once, or when its
// timer fires.
var (
	prompt  = claim.Has(lab.Client, kernel.PromptSYN)
	byTimer = claim.Lacks(lab.Client, kernel.PromptSYN)
)

// After how many milliseconds the SYN is retransmitted, measured on the wire; a guest adds
// some time. "At once" means TCP_TIMEOUT_MIN, 2 jiffies, so 20 ms at most. The SYN's own
// timer is set to 1 s (3 s before Linux 3.1), and the next time to the same value or to
// twice that. The bounds are in the middle between these times.
var (
	atOncePrompt = claim.AtMost("repeated after ms", 499)
	byFirstTimer = claim.Between("repeated after ms", 500, 1999)
)

// What happens to the SYN: accepted at once, answered first, or never accepted.
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
	// Two or three SYNs by the timer within 3 s and, on kernels with PromptSYN, one at once.
	fails = failsAfter(claim.Between("syns", 2, 4))
)

func failsAfter(syns claim.Expectation) []claim.Expectation {
	return []claim.Expectation{
		situation.Outcome(tcp.TimedOut), claim.Exactly("syn-acks", 0), syns, claim.Is("all syns reached", "yes"),
		claim.Stays(lab.Gateway, "Conntrack.insert_failed"), claim.Stays(lab.Balancer, "TcpExt.ListenDrops"),
	}
}

// tupleUndisputedRules are about cells in which no socket decides: they cannot be created,
// or nothing is left.
func tupleUndisputedRules() []claim.Rule {
	return []claim.Rule{
		{
			Name: "tuple-wrapped-out-of-reach", Cells: claim.Cells{{tupleClock: {string(situation.Wrapped)}}},
			Kernels:    []claim.Condition{claim.Has(lab.Client, kernel.IsGuest), claim.Lacks(lab.Client, kernel.MillisecondClock)},
			OutOfReach: true,
			Because: "jiffies start five minutes before 2^32, and a guest that has just booted uses them as its timestamp clock: its clock cannot " +
				"have passed 2^32 since the first connection",
			Source: "INITIAL_JIFFIES, include/linux/jiffies.h; tcp_time_stamp before commit 9a568de4818d",
		},
		{
			Name: "tuple-free-after-60s", Cells: claim.Cells{{tupleState: {string(situation.LeftNothing)}}}, Want: atOnce,
			Because: "when the TIME_WAIT has expired, nothing is left that could reject the SYN",
			Source:  "TCP_TIMEWAIT_LEN, tw_timer_handler",
		},
	}
}

// tupleNewerRules are about a TIME_WAIT that accepts the SYN as a new connection.
func tupleNewerRules() []claim.Rule {
	return []claim.Rule{
		{
			Name: "tuple-newer-timestamp", Cells: newerTimestamp.And(inTimeWait), Want: atOnce,
			Because: "a newer timestamp proves a new connection, whatever its sequence number. The sign of the difference decides what is newer, " +
				"so a clock that passes 2^32 does no harm",
			Source: "RFC 6191, tcp_timewait_state_process, tcp_paws_check",
		},
		{
			Name: "tuple-newer-number", Cells: newerNumber.And(inTimeWait), Want: atOnce,
			Because: "if the timestamp is neither newer nor older, or if there is none, the sequence number decides, and a newer number means a " +
				"new connection",
			Source: "RFC 1122 section 4.2.2.13, tcp_timewait_state_process",
		},
	}
}

// tupleOlderStampRules are about a TIME_WAIT that rejects the SYN by its timestamp.
func tupleOlderStampRules() []claim.Rule {
	return []claim.Rule{
		{
			Name: "tuple-older-timestamp-answered", Cells: olderTimestamp.And(inTimeWait).And(minds), Kernels: []claim.Condition{prompt},
			Want:  claim.With(tupleAnswered, atOncePrompt, claim.AtLeast("paws rejects", 1)),
			Cause: "time-wait-older-timestamp",
			Because: "an older timestamp is rejected (PAWS), but with an ACK; the client answers with a RST, which removes the TIME_WAIT, and " +
				"retransmits its SYN some 10 ms later",
			Source: "RFC 7323 section 5, tcp_timewait_state_process, tcp_rcv_synsent_state_process; commit 9603d47bad46",
		},
		{
			Name: "tuple-older-timestamp-answered-1s", Cells: olderTimestamp.And(inTimeWait).And(minds), Kernels: []claim.Condition{byTimer},
			Want:    claim.With(tupleAnswered, byFirstTimer, claim.AtLeast("paws rejects", 1)),
			Cause:   "time-wait-older-timestamp",
			Because: "as on later kernels, but the client retransmits its SYN only when its timer fires",
			Source:  "tcp_rcv_synsent_state_process before commit 9603d47bad46",
		},
		{
			Name: "tuple-older-timestamp-blocked", Cells: olderTimestamp.And(inTimeWait),
			Want:  claim.With(fails, claim.Between("paws rejects", 2, 4), claim.Is("left after", string(observe.TimeWait)), claim.Is("timer", "re-armed")),
			Cause: "tw-unassassinated", OtherCauses: []claim.CauseIn{{Cells: claim.Cells{noReset}, Cause: "time-wait-older-timestamp"}},
			Because: "the RST is ignored (tcp_rfc1337) or does not arrive, and each rejected SYN restarts the 60 s timer: the client never " +
				"connects as long as it keeps trying",
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
			Want:  claim.With(tupleAnswered, atOncePrompt, claim.Exactly("paws rejects", 0)),
			Cause: "time-wait-older-number",
			Because: "without timestamps, or with equal ones, a sequence number that is not newer is rejected in the same way: ACK, RST, and the " +
				"retransmitted SYN is accepted",
			Source: "tcp_timewait_state_process; commit c410cb974f2b for the gateway",
		},
		{
			Name: "tuple-older-number-answered-1s", Cells: otherNumber.And(inTimeWait).And(minds), Kernels: []claim.Condition{byTimer, claim.Has(lab.Gateway, kernel.RecordsChallenge)},
			Want:    claim.With(tupleAnswered, byFirstTimer, claim.Exactly("paws rejects", 0)),
			Cause:   "time-wait-older-number",
			Because: "as on later kernels, but the client retransmits its SYN only when its timer fires",
			Source:  "tcp_rcv_synsent_state_process before commit 9603d47bad46",
		},
		{
			Name: "tuple-older-number-unhindered", Cells: otherNumber.And(inTimeWait).And(claim.Where{rfc1337: {"0"}, tuplePath: {"clean"}, tupleSecond: {"direct"}}),
			Kernels: []claim.Condition{prompt, claim.Lacks(lab.Gateway, kernel.RecordsChallenge)},
			Want:    claim.With(tupleAnswered, atOncePrompt, claim.Exactly("paws rejects", 0)),
			Cause:   "time-wait-older-number",
			Because: "a gateway that only forwards packets does not change or drop the RST",
			Source:  "ip_forward",
		},
		{
			Name:    "tuple-older-number-blocked-for-good",
			Cells:   otherNumber.And(inTimeWait).And(claim.Where{rfc1337: {"1"}}).And(clean),
			Kernels: []claim.Condition{claim.Has(lab.Balancer, kernel.RSTRestarts)},
			Want: claim.With(fails, claim.Exactly("paws rejects", 0), claim.Is("reset", "reached"), claim.Is("left after", string(observe.TimeWait)),
				claim.Is("timer", "re-armed")),
			Cause: "tw-unassassinated",
			Because: "tcp_rfc1337 protects the TIME_WAIT, but before Linux 4.19 the ignored RST restarts the 60 s timer: the client blocks itself " +
				"as long as it keeps trying",
			Source: "tcp_timewait_state_process: th->rst; commit 63cc357f7bba, tcp: do not restart timewait timer on rst reception",
		},
		{
			Name: "tuple-older-number-blocked", Cells: otherNumber.And(inTimeWait),
			Want:  claim.With(fails, claim.Exactly("paws rejects", 0), claim.Is("left after", string(observe.TimeWait)), claim.Is("timer", "running")),
			Cause: "tw-unassassinated", OtherCauses: []claim.CauseIn{{Cells: claim.Cells{noReset}, Cause: "time-wait-older-number"}},
			Because: "the RST is ignored (tcp_rfc1337), lost or not translated. But a rejection by sequence number does not restart the 60 s " +
				"timer, so a client that tries for longer than that connects",
			Source: "tcp_timewait_state_process: only paws_reject or an ACK reschedules",
		},
	}
}
