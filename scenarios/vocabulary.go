package scenarios

import "slices"

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

// tupleEvidence is what [FiveTupleSeen.witnesses] notes.
func tupleEvidence() []Evidence {
	return []Evidence{
		verdictEvidence,
		{Name: "late ms", Unit: inMS, Means: "how long connect(2) of the second client took", Aside: true},
		{Name: "repeated after ms", Unit: inMS, Means: "how long after its first SYN the second client sent the next one"},
		{Name: "again after ms", Unit: inMS, Means: "how long after that it sent the third"},
		synsEvidence,
		{Name: "syn-acks", Unit: "segments", Means: "how many SYN-ACKs the balancer sent"},
		answersEvidence,
		{Name: "all syns reached", Unit: yesOrNo, Means: "whether every SYN arrived at the balancer"},
		{Name: "reset", Unit: "reached, lost or none", Means: "what became of the RST by which the client answers an ACK that it did not expect"},
		{Name: "clocks", Unit: "older, newer, equal, wrapped or none", Means: "the second client's timestamp against the last one that the balancer saw"},
		pawsRejectsEvidence,
		{Name: "challenges", Unit: "segments", Means: "what the connection answered by a challenge ACK, or until 6.3 by a duplicate ACK: TCPSYNChallenge and PAWSEstab"},
		{Name: "acks left out", Unit: "segments", Means: "ACKs that the balancer owed and left out (tcp_invalid_ratelimit): TCPACKSkipped and what follows"},
		{Name: "left after", Unit: "a state, or nothing", Means: "what the balancer has of the first connection afterwards"},
		{Name: "timer", Unit: "re-armed, running or gone", Means: "what became of the timer of the balancer's TIME_WAIT"},
	}
}

// sameAddressEvidence is what [sameAddress.Drive] notes: of the second connection the
// same as family tuple, and what became of the sysctl.
func sameAddressEvidence() []Evidence {
	return append(tupleEvidence(), knobEvidence, timeWaitEvidence, passiveRejectsEvidence,
		Evidence{
			Name: "passive counter", Unit: "there or none", Means: "whether the kernel of the node that sets tcp_tw_recycle has the counter PAWSPassive",
		})
}

// twoAgesEvidence is what [twoAges.Drive] notes of all tries of the second client.
func twoAgesEvidence() []Evidence {
	own := []Evidence{
		knobEvidence, timeWaitEvidence, passiveRejectsEvidence,
		{Name: "tried s", Unit: "s", Means: "for how long the second client has tried"},
		{Name: "soonest ms", Unit: inMS, Means: "how long the shortest connect(2) of all tries took"},
		{Name: "latest ms", Unit: inMS, Means: "how long the longest connect(2) of all tries took"},
		{Name: "ticks behind", Unit: "ticks", Means: "by how much the last SYN's timestamp was older than what the balancer remembered", Aside: true},
		{Name: "afterwards", Unit: anOutcome, Means: "what the second client's attempt gave when the first one had stopped"},
		{Name: "let in because", Unit: "caught up, forgotten or nothing", Means: "why it got in: its clock had caught up, or 60 s had passed"},
		{Name: "silence s", Unit: "s", Means: "how long after the first client's last connection that was", Aside: true},
	}
	same := slices.DeleteFunc(tupleEvidence(), func(e Evidence) bool {
		return !slices.Contains([]string{"verdict", "answers", "all syns reached", "reset", "clocks", "syn-acks", "paws rejects"}, e.Name)
	})
	return append(same, own...)
}

// samePortEvidence is what [samePort.Drive] notes.
func samePortEvidence() []Evidence {
	return []Evidence{
		timestampsEvidence,
		{Name: "end", Unit: "FIN or RST", Means: "by what the closing side ended the first connection"},
		{Name: "client time-wait", Unit: sockets, Means: "TIME_WAITs that the first connection left at the client"},
		{Name: "balancer time-wait", Unit: sockets, Means: "TIME_WAITs that the first connection left at the balancer"},
		verdictEvidence, synsEvidence,
		{Name: "client time-wait after", Unit: sockets, Means: "TIME_WAITs between the same ports at the client after the second attempt"},
		{Name: "balancer time-wait after", Unit: sockets, Means: "TIME_WAITs between the same ports at the balancer after the second attempt"},
		{Name: "syns seen", Unit: syns, Means: "how many SYNs of the second attempt arrived at the balancer"},
		answersEvidence,
		{Name: "echo", Unit: "none, zero or set", Means: "the echo reply in the second SYN: set only where the port of a TIME_WAIT was taken over"},
		{Name: "accepted", Unit: "connections", Means: "how many connections came about at the balancer: PassiveOpens"},
		pawsRejectsEvidence,
		{Name: "nat clashes", Unit: "packets", Means: "how many packets the gateway dropped for want of a port: insert_failed"},
	}
}

// giveawayEvidence is what [giveaway.witnesses] notes of the new connection.
func giveawayEvidence() []Evidence {
	return []Evidence{
		verdictEvidence,
		{Name: "port", Unit: "same, own, new or none", Means: "what port the gateway gave: an earlier connection's, the client's own, another one, or none"},
		{Name: "met", Unit: "a state, nothing or nobody", Means: "what the balancer had of that five-tuple; nobody when no SYN left the gateway"},
		{Name: "first answer", Unit: "a segment", Means: "how the balancer answered the first SYN"},
		answersEvidence, synsEvidence,
		{Name: "syns past the gateway", Unit: syns, Means: "how many SYNs left the gateway"},
		{Name: "syns at the balancer", Unit: syns, Means: "how many SYNs arrived at the balancer", Aside: true},
		pawsRejectsEvidence,
		{Name: "owner", Unit: "whose", Means: "whose entry at the gateway has the port afterwards: the new connection's, an earlier one's or nobody's"},
		{Name: "way", Unit: "text", Means: "every SYN of the attempt, where it got to and how it was answered", Aside: true},
	}
}

// crowdEvidence is what [Fates.note] notes of a crowd.
func crowdEvidence() []Evidence {
	return []Evidence{
		{Name: "connected", Unit: attempts, Means: "attempts that connected"},
		{Name: "late", Unit: attempts, Means: "attempts that connected, but not by their first SYN"},
		failedEvidence,
		{Name: "timed out", Unit: attempts, Means: "attempts that ended with ETIMEDOUT"},
		{Name: "undecided", Unit: attempts, Means: "attempts that had no outcome when our own budget ended"},
		{Name: refusedBy(byClient), Unit: attempts, Means: "attempts for which the client had no port: EADDRNOTAVAIL"},
		{Name: refusedBy(byGateway), Unit: syns, Means: "what the gateway dropped for want of a port: insert_failed"},
		{Name: refusedBy(byClock), Unit: syns, Means: "what a TIME_WAIT rejected for its timestamp"},
		{Name: refusedBy(byNumber), Unit: syns, Means: "what a TIME_WAIT rejected for its sequence number: RSTs of the clients that nothing else explains"},
		{Name: refusedBy(byQueue), Unit: syns, Means: "what the balancer dropped because its accept queue was full: ListenOverflows"},
		{Name: refusedBy(byDoor), Unit: syns, Means: "what the balancer answered by a RST because nobody listens"},
		{Name: "unaccounted", Unit: syns, Means: "SYNs sent less all of which it is known what became of them"},
		{Name: "seed", Unit: "a number", Means: "what the order of the clients was drawn with", Aside: true},
		{Name: "latency", Unit: "text", Means: "how long the attempts took", Aside: true},
	}
}

// shareEvidence is what [driveShare] notes beside the account of its second crowd.
func shareEvidence() []Evidence {
	return append(crowdEvidence(),
		Evidence{Name: "refused", Unit: syns, Means: "what TIME_WAITs rejected, for whatever reason"},
		crowdTimeWaits,
		Evidence{Name: "ahead", Unit: attempts, Means: "attempts of hosts whose clock is behind the one before them on the port", Aside: true},
		Evidence{Name: "refused as the clocks say", Unit: yesOrNo, Means: "whether as many were rejected as the clocks that were drawn demand"},
	)
}

var crowdTimeWaits = Evidence{Name: "time-waits", Unit: sockets, Means: "TIME_WAITs that the balancer had when the last crowd came"}

// personaEvidence is what family persona notes beside the account of its last crowd.
func personaEvidence() []Evidence {
	return append(crowdEvidence(),
		Evidence{Name: "greedy connected", Unit: attempts, Means: "attempts that connected of the one client that wants more than its share"},
		Evidence{Name: "greedy unaccounted", Unit: syns, Means: "SYNs of that client of which it is not known what became of them"},
		Evidence{Name: "refused after the hold", Unit: syns, Means: "what TIME_WAITs rejected when the gateway's hold time was over"},
		Evidence{Name: "connected within the hold", Unit: attempts, Means: "attempts that connected before the gateway's hold time was over"},
		crowdTimeWaits,
	)
}

// ceilingEvidence is what [driveCeiling] notes beside the account of its crowd.
func ceilingEvidence() []Evidence {
	return append(crowdEvidence(),
		Evidence{Name: "percent of the ceiling", Unit: "%", Means: "T against the time after which a port was used again, the middle one of all such times"},
		Evidence{Name: "counted, percent", Unit: "%", Means: "connections that came about in the counted rounds against those that P ports allow"},
		Evidence{Name: "soonest reuse, ms", Unit: inMS, Means: "the shortest time after which a port was used again"},
		Evidence{Name: "round", Unit: "a duration", Means: "how long a round of all ports is taken to be", Aside: true},
		Evidence{Name: "schedule", Unit: "text", Means: "how many attempts a second were wanted and begun", Aside: true},
	)
}

// chanceEvidence is what [driveChance] notes.
func chanceEvidence() []Evidence {
	return []Evidence{
		{Name: "rejected", Unit: "connections", Means: "connections that wanted more than one SYN"},
		failedEvidence,
		pawsRejectsEvidence,
	}
}

// clockEvidence is what [twoClocks.drive] notes.
func clockEvidence() []Evidence {
	return []Evidence{
		timestampsEvidence,
		{Name: "ticks in 100 ms", Unit: "ticks", Means: "how far the first connection's clock went in 100 ms of the machine's"},
		{Name: "uptime", Unit: yesOrNo, Means: "whether the clock shows the machine's uptime in milliseconds"},
		{Name: "offset", Unit: "same, different or none", Means: "whether the sockets of the two connections have one clock behind them (TCP_TIMESTAMP)"},
		{Name: "offset on the wire", Unit: "same, different, none or some", Means: "the same by the timestamps in their SYNs; some when only one connection has them"},
	}
}

// defaultsEvidence is what [knobOf] notes.
func defaultsEvidence() []Evidence {
	return []Evidence{
		{Name: "file", Unit: "a state", Means: "whether the sysctl is there in a network namespace, and if not, why"},
		{Name: "value", Unit: "the sysctl's", Means: "what it says before anybody has set it"},
		{Name: "half of tcp_ehash_entries", Unit: yesOrNo, Means: "whether it is half the size of the hash of connections"},
		{Name: "set here", Unit: yesOrNo, Means: "whether it took another value"},
		{Name: "elsewhere", Unit: "as before, or changed too", Means: "what another namespace's value did then"},
		{Name: "can be set", Unit: "yes, or why not", Means: "whether it takes the value that it has"},
	}
}

// lengthEvidence is what [sides] notes.
func lengthEvidence() []Evidence {
	return []Evidence{
		timeWaitEvidence,
		{Name: "at the end", Unit: "gone, or not waited for", Means: "what became of the TIME_WAIT"},
		{Name: "fin-wait-2", Unit: "full socket or minisocket", Means: "what the side that closed first has in FIN_WAIT2"},
		{Name: "fin-wait-2 lasts", Unit: "a length", Means: "how long FIN_WAIT2 lasts, by the timer that the kernel has set"},
		{Name: "peer", Unit: "a state, or nothing", Means: "what the other side has of the connection when both have closed"},
		{Name: "verdict before", Unit: anOutcome, Means: "what an attempt from the client's only port gave during TIME_WAIT"},
		{Name: "gone after", Unit: "a length", Means: "after how long the TIME_WAIT was gone, when nobody looked for its timer"},
		{Name: "verdict afterwards", Unit: anOutcome, Means: "what an attempt from the client's only port gave after it"},
		{Name: "time-waits counted", Unit: sockets, Means: "TIME_WAITs by the counters of the side that closed first: TW and TWKilled"},
		{Name: "ports taken over", Unit: sockets, Means: "TIME_WAITs whose port the client took over: TWRecycled"},
	}
}

// idleEvidence is what [longIdle] notes.
func idleEvidence() []Evidence {
	return []Evidence{
		{Name: "segment", Unit: "accepted or rejected", Means: "what the balancer did with the segment after the silence"},
		{Name: "looks", Unit: "older or newer", Means: "that segment's timestamp against the last one, by the sign of the difference"},
		{Name: "left", Unit: "a state, or nothing", Means: "what the balancer had of the connection when the silence was over"},
		verdictEvidence, synsEvidence,
	}
}

// negotiationEvidence is what [negotiate] notes.
func negotiationEvidence() []Evidence {
	return []Evidence{
		verdictEvidence,
		{Name: "in use", Unit: yesOrNo, Means: "whether the opener's socket has timestamps (TCP_INFO)"},
		{Name: "option in the SYN", Unit: yesOrNo, Means: "whether the SYN has the timestamp option"},
		{Name: "option in the SYN-ACK", Unit: yesOrNo, Means: "whether the SYN-ACK has it"},
		{Name: "option in the opener's data", Unit: yesOrNo, Means: "whether the opener's first segment with data has it"},
		{Name: "option in the other's data", Unit: yesOrNo, Means: "whether the other side's first segment with data has it"},
		{Name: "echo in the SYN-ACK", Unit: "whose value, or none", Means: "what the SYN-ACK's echo reply repeats"},
	}
}

var (
	bytesLost      = Evidence{Name: "bytes lost", Unit: "bytes", Means: "what was sent, or promised, and did not arrive, of all connections together"}
	clientWaits    = Evidence{Name: "client TIME_WAIT", Unit: sockets, Means: "TIME_WAITs of the client afterwards"}
	noPortEvidence = Evidence{Name: "no port", Unit: attempts, Means: "attempts for which the client had no port: EADDRNOTAVAIL"}
)

// remedyEvidence is what [remedyRun.drive] notes.
func remedyEvidence() []Evidence {
	return []Evidence{
		clientWaits,
		{Name: "balancer TIME_WAIT", Unit: sockets, Means: "TIME_WAITs of the balancer afterwards"},
		{Name: "connected", Unit: attempts, Means: "attempts that connected"},
		noPortEvidence, bytesLost,
		{Name: "readers reset", Unit: "connections", Means: "connections whose reader got ECONNRESET instead of the end"},
		{Name: "client ports in balancer TIME_WAIT", Unit: shareOfPorts, Means: "how many of the connections' five-tuples the balancer has in TIME_WAIT afterwards"},
	}
}

// proxiedEvidence is what [Proxied.Drive] notes. The last ones are of a HAProxy only.
func proxiedEvidence() []Evidence {
	return []Evidence{
		{Name: "whole", Unit: requests, Means: "responses of status 200 that came in full, as far as the client can know"},
		{Name: "truncated", Unit: requests, Means: "responses that a FIN ended too early"},
		{Name: "broken", Unit: requests, Means: "responses that a RST ended too early"},
		{Name: "unanswered", Unit: requests, Means: "requests that a FIN or RST answered"},
		{Name: "given up", Unit: requests, Means: "requests whose response the client did not wait for"},
		{Name: "errors", Unit: requests, Means: "responses of another status than 200"},
		noPortEvidence, bytesLost,
		{Name: "client ports", Unit: "ports", Means: "how many ports the client has used", Aside: true},
		clientWaits,
		{Name: "frontend TIME_WAIT", Unit: sockets, Means: "TIME_WAITs of the balancer towards the client"},
		{Name: "client ports in frontend TIME_WAIT", Unit: shareOfPorts, Means: "how many of the client's five-tuples the balancer has in TIME_WAIT"},
		{Name: "backend TIME_WAIT", Unit: sockets, Means: "TIME_WAITs of the balancer towards the servers"},
		{Name: "backend ports in backend TIME_WAIT", Unit: shareOfPorts, Means: "how many of the five-tuples towards the servers the balancer has in TIME_WAIT"},
		{Name: "backend ports in server TIME_WAIT", Unit: shareOfPorts, Means: "how many of the same the servers have in TIME_WAIT"},
		{Name: "server TIME_WAIT", Unit: sockets, Means: "TIME_WAITs of the servers"},
		{Name: "backend ports", Unit: "ports", Means: "how many ports the servers have seen connections from"},
		{Name: "kept", Unit: sockets, Means: "connections to servers that are still open"},
		{Name: "econ", Unit: requests, Means: "requests for which HAProxy could not connect to a server"},
		{Name: "wretr", Unit: attempts, Means: "HAProxy's repeated attempts to connect to a server"},
		{Name: "eresp", Unit: requests, Means: "responses that HAProxy counts as errors"},
		{Name: "cli_abrt", Unit: requests, Means: "transfers that HAProxy says the client aborted"},
		{Name: "srv_abrt", Unit: requests, Means: "transfers that HAProxy says the server aborted"},
		{Name: "log", Unit: "termination states", Means: "how the sessions ended by HAProxy's log (configuration manual, Session state at disconnection)"},
		{Name: "longest session", Unit: inMS, Means: "how long the longest session took, by HAProxy's log"},
	}
}
