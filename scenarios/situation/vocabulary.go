package situation

import (
	"twlab/scenarios/claim"
)

// Units of evidence.
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

// Evidence that several drivers note. A name means the same for all of them.
var (
	OutcomeEvidence = claim.Evidence{Name: "outcome", Unit: AnOutcome, Means: "the result of connect(2) or bind(2) in the attempt that the cell is about"}
	AnswersEvidence = claim.Evidence{
		Name: "answers", Unit: "segments, in order",
		Means: "how the balancer answered each SYN of the attempt (for several attempts: every sequence that occurred)",
	}
	SYNsEvidence        = claim.Evidence{Name: "syns", Unit: SYNs, Means: "how many SYNs the attempt sent, retransmissions included"}
	PAWSRejectsEvidence = claim.Evidence{
		Name: "paws rejects", Unit: "segments",
		Means: "segments that the balancer rejected for an older timestamp: PAWSTimewait, or PAWSEstab on kernels without it",
	}
	RecycleEvidence = claim.Evidence{
		Name: "tcp_tw_recycle", Unit: "a state", Means: "whether tcp_tw_recycle was set, or why it could not be set, or that the cell leaves it alone",
	}
	PassiveRejectsEvidence = claim.Evidence{
		Name: "passive rejects", Unit: SYNs, Means: "SYNs that tcp_tw_recycle dropped: PAWSPassive of the balancer, and the SYNs that an emulation dropped",
	}
	TimeWaitEvidence = claim.Evidence{
		Name: "time-wait", Unit: "a length", Means: "how long the TIME_WAIT of the first connection lasts, read from the kernel's timer",
	}
	FailedEvidence     = claim.Evidence{Name: "failed", Unit: Attempts, Means: "attempts that did not connect"}
	TimestampsEvidence = claim.Evidence{Name: "timestamps", Unit: YesOrNo, Means: "whether the connections had timestamps"}
)

// Evidence that the families about proxies use as well.
var (
	BytesLost      = claim.Evidence{Name: "bytes lost", Unit: "bytes", Means: "bytes that were sent or announced, but did not arrive, of all connections together"}
	ClientWaits    = claim.Evidence{Name: "client TIME_WAIT", Unit: Sockets, Means: "TIME_WAITs at the client afterwards"}
	NoPortEvidence = claim.Evidence{Name: "no port", Unit: Attempts, Means: "attempts for which the client had no free port: EADDRNOTAVAIL"}
)
