package situation

import (
	"strings"
	"time"

	"twlab/harness/kernel"
	"twlab/harness/lab"
	"twlab/harness/observe"
	"twlab/harness/tcp"
	"twlab/scenarios/claim"
)

// Observations notes what was seen under the names that rules use.
func (f FiveTupleSeen) Observations() claim.Seen {
	s := claim.Seen{Moved: map[lab.Role]kernel.Counters{lab.Client: f.Client, lab.Gateway: f.Gateway, lab.Balancer: f.Balancer}}
	s.Note("outcome", string(f.Second.Outcome))
	s.Count("late ms", f.Second.Took.Milliseconds())
	s.Count("syns", int64(f.SYNs.Sent))
	s.Count("syn-acks", int64(f.SYNs.SYNACKs))
	answers, reset, reached := []string{}, "none", "yes"
	for i, what := range []string{"repeated after ms", "again after ms"} {
		if i+1 < len(f.SYNs.SYNs) {
			s.Count(what, f.SYNs.SYNs[i+1].Sent.Sub(f.SYNs.SYNs[i].Sent).Milliseconds())
		}
	}
	for _, syn := range f.SYNs.SYNs {
		answer := string(syn.Answer)
		if answer == "" {
			answer = "nothing"
		}
		answers = append(answers, answer)
		switch {
		case syn.Reset.Reached:
			reset = "reached"
		case syn.ResetSent && reset == "none":
			reset = "lost"
		}
		if !syn.Reached {
			reached = "no"
		}
	}
	s.Note("answers", strings.Join(answers, ", "))
	s.Note("all syns reached", reached)
	s.Note("reset", reset)
	clocks := string(f.Clocks)
	if clocks == "" {
		clocks = "none"
	}
	s.Note("clocks", clocks)
	s.Count("paws rejects", kernel.PAWSRejects(f.Balancer))
	s.Count("challenges", kernel.ChallengedSYNs.Of(f.Balancer)+kernel.PAWSEstablished.Of(f.Balancer))
	s.Count("acks left out", int64(observe.ACKsLeftOut(f.Balancer)))
	after := string(f.After.State)
	if after == "" {
		after = "nothing"
	}
	s.Note("left after", after)
	s.Note("timer", f.Timer())
	return s
}

// TimerSlack is half the age that a TIME_WAIT has when the second SYN meets it and its
// timer is read. So it lies in the middle between a timer that runs on and one that was
// restarted, ten jiffies from either (see JiffyAtMost).
const TimerSlack = 200 * time.Millisecond

// Timer says what happened to the TIME_WAIT's timer: restarted ("re-armed"), running on,
// or gone. A timer that runs on has lost as much time as passed between the two readings.
func (f FiveTupleSeen) Timer() string {
	switch {
	case f.Left.Timer != observe.TimerTimeWait || f.After.Timer != observe.TimerTimeWait:
		return "gone"
	case f.After.Expires > f.Left.Expires-f.Between+TimerSlack:
		return "re-armed"
	default:
		return "running"
	}
}

// FiveTupleSeen is what was seen while the second connection was tried.
type FiveTupleSeen struct {
	// First and Second are the outcomes of the two attempts.
	First, Second tcp.Result
	// Left is the balancer's socket just before the second attempt, After the one
	// when that attempt had its outcome. Each is zero if there was no socket.
	Left, After observe.Socket
	// Between is the time between the two readings.
	Between time.Duration
	// Clocks is how the second SYN's timestamp compares with the last one that
	// the balancer saw from the first connection; AsItComes without timestamps.
	Clocks Order
	// Behind is by how many ticks it is older; negative when it is newer.
	Behind int32
	// SYNs accounts for the second attempt.
	SYNs observe.SYNAccount
	// Client, Gateway and Balancer say how the counters of the second client,
	// the gateway and the balancer moved during the second attempt.
	Client, Gateway, Balancer kernel.Counters
}

// TupleEvidence is what [FiveTupleSeen.Observations] notes.
func TupleEvidence() []claim.Evidence {
	return []claim.Evidence{
		OutcomeEvidence,
		{Name: "late ms", Unit: InMS, Means: "how long connect(2) of the second client took", Aside: true},
		{Name: "repeated after ms", Unit: InMS, Means: "how long after its first SYN the second client sent the next one"},
		{Name: "again after ms", Unit: InMS, Means: "how long after the second SYN it sent the third"},
		SYNsEvidence,
		{Name: "syn-acks", Unit: "segments", Means: "how many SYN-ACKs the balancer sent"},
		AnswersEvidence,
		{Name: "all syns reached", Unit: YesOrNo, Means: "whether every SYN arrived at the balancer"},
		{Name: "reset", Unit: "reached, lost or none", Means: "what happened to the RST with which the client answers an unexpected ACK"},
		{Name: "clocks", Unit: "older, newer, equal, wrapped or none", Means: "the second client's timestamp compared with the last one that the balancer saw"},
		PAWSRejectsEvidence,
		{Name: "challenges", Unit: "segments", Means: "segments that the connection answered with a challenge ACK, or up to 6.3 with a duplicate ACK: TCPSYNChallenge and PAWSEstab"},
		{Name: "acks left out", Unit: "segments", Means: "ACKs that the balancer did not send because of tcp_invalid_ratelimit: all TCPACKSkipped counters"},
		{Name: "left after", Unit: "a state, or nothing", Means: "the state of the first connection at the balancer afterwards"},
		{Name: "timer", Unit: "re-armed, running or gone", Means: "what happened to the timer of the balancer's TIME_WAIT"},
	}
}
