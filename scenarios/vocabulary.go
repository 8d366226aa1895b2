package scenarios

// What the drivers note, by driver. A name that several drivers note means the same
// with all of them.

// Units that several have.
const (
	anOutcome = "an outcome"
	yesOrNo   = "yes or no"
	inMS      = "ms"
	sockets   = "sockets"
	syns      = "SYNs"
	attempts  = "attempts"
	requests  = "requests"

	shareOfPorts = "all, some or none"
)

var (
	verdictEvidence = Evidence{Name: "verdict", Unit: anOutcome, Means: "what connect(2) or bind(2) gave the attempt that the cell is about"}
	answersEvidence = Evidence{
		Name: "answers", Unit: "segments, in order",
		Means: "how the balancer answered each SYN of the attempt (of several attempts, every sequence that occurred)",
	}
	synsEvidence        = Evidence{Name: "syns", Unit: syns, Means: "how many SYNs the attempt sent, repetitions included"}
	pawsRejectsEvidence = Evidence{
		Name: "paws rejects", Unit: "segments",
		Means: "what the balancer rejected for an older timestamp: PAWSTimewait, on kernels without that PAWSEstab",
	}
	knobEvidence = Evidence{
		Name: "knob", Unit: "a state", Means: "what became of setting tcp_tw_recycle: set, or why it could not be, or untouched",
	}
	passiveRejectsEvidence = Evidence{
		Name: "passive rejects", Unit: syns, Means: "what tcp_tw_recycle dropped: PAWSPassive of the balancer, and what an emulation has dropped",
	}
	timeWaitEvidence = Evidence{
		Name: "time-wait", Unit: "a length", Means: "how long the TIME_WAIT of the first connection lasts, by the timer that the kernel has set",
	}
	failedEvidence     = Evidence{Name: "failed", Unit: attempts, Means: "attempts that did not connect"}
	timestampsEvidence = Evidence{Name: "timestamps", Unit: yesOrNo, Means: "whether the connections had timestamps"}
)

var (
	bytesLost      = Evidence{Name: "bytes lost", Unit: "bytes", Means: "what was sent, or promised, and did not arrive, of all connections together"}
	clientWaits    = Evidence{Name: "client TIME_WAIT", Unit: sockets, Means: "TIME_WAITs of the client afterwards"}
	noPortEvidence = Evidence{Name: "no port", Unit: attempts, Means: "attempts for which the client had no port: EADDRNOTAVAIL"}
)
