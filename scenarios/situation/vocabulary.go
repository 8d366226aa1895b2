package situation

import (
	"twlab/scenarios/claim"
)

// Units of what drivers note.
const (
	AnOutcome = "an outcome"
	YesOrNo   = "yes or no"
	InMS      = "ms"
	Sockets   = "sockets"
	SYNs      = "SYNs"
	Attempts  = "attempts"
	Requests  = "requests"

	ShareOfPorts = "all, some or none"
)

// What several drivers note. A name means the same with all of them.
var (
	OutcomeEvidence = claim.Evidence{Name: "outcome", Unit: AnOutcome, Means: "what connect(2) or bind(2) gave the attempt that the cell is about"}
	AnswersEvidence = claim.Evidence{
		Name: "answers", Unit: "segments, in order",
		Means: "how the balancer answered each SYN of the attempt (of several attempts, every sequence that occurred)",
	}
	SYNsEvidence        = claim.Evidence{Name: "syns", Unit: SYNs, Means: "how many SYNs the attempt sent, repetitions included"}
	PAWSRejectsEvidence = claim.Evidence{
		Name: "paws rejects", Unit: "segments",
		Means: "what the balancer rejected for an older timestamp: PAWSTimewait, on kernels without that PAWSEstab",
	}
	RecycleEvidence = claim.Evidence{
		Name: "tcp_tw_recycle", Unit: "a state", Means: "what became of setting tcp_tw_recycle: set, or why it could not be, or untouched",
	}
	PassiveRejectsEvidence = claim.Evidence{
		Name: "passive rejects", Unit: SYNs, Means: "what tcp_tw_recycle dropped: PAWSPassive of the balancer, and what an emulation has dropped",
	}
	TimeWaitEvidence = claim.Evidence{
		Name: "time-wait", Unit: "a length", Means: "how long the TIME_WAIT of the first connection lasts, by the timer that the kernel has set",
	}
	FailedEvidence     = claim.Evidence{Name: "failed", Unit: Attempts, Means: "attempts that did not connect"}
	TimestampsEvidence = claim.Evidence{Name: "timestamps", Unit: YesOrNo, Means: "whether the connections had timestamps"}
)

// What is noted of clients behind a proxy, too.
var (
	BytesLost      = claim.Evidence{Name: "bytes lost", Unit: "bytes", Means: "what was sent, or promised, and did not arrive, of all connections together"}
	ClientWaits    = claim.Evidence{Name: "client TIME_WAIT", Unit: Sockets, Means: "TIME_WAITs of the client afterwards"}
	NoPortEvidence = claim.Evidence{Name: "no port", Unit: Attempts, Means: "attempts for which the client had no port: EADDRNOTAVAIL"}
)
