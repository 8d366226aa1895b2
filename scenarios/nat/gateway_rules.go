package nat

import (
	"slices"

	"twlab/harness/kernel"
	"twlab/harness/lab"
	"twlab/harness/observe"
	"twlab/harness/tcp"
	"twlab/scenarios/claim"
	"twlab/scenarios/situation"
)

// What the gateway still has, and what the balancer still has.
var (
	kept    = claim.Cells{{gatewayEntry: {"kept"}}}
	expired = claim.Cells{{gatewayEntry: {"expired"}}}
	ended   = claim.Where{gatewayLeft: {string(situation.LeftTimeWait), string(situation.LeftNothing)}}

	// A TIME_WAIT for which the new connection is older.
	rejects = claim.Both(claim.Cells{{gatewayLeft: {string(situation.LeftTimeWait)}}}, claim.Cells{
		{gatewayBalancerTS: {"1"}, gatewayClock: {string(situation.Older)}},
		{gatewayBalancerTS: {"0"}, gatewayISN: {string(situation.Older)}},
	})
)

// How the gateway chooses a port.
var (
	smallPools = []string{poolOne, poolFew}
	drawing    = []string{randomPlain, randomFully}

	// Where the gateway tries the client's own port first, and where it searches for a
	// port: it does not search a pool of one port if the client asks for that port.
	keeps    = claim.Cells{{gatewayPool: {poolAll}, gatewayRandom: {randomNo}}}
	searched = claim.Cells{
		{gatewayPool: {poolFew}}, {gatewayPool: {poolOne}, gatewaySource: {"other"}}, {gatewayPool: {poolOne}, gatewayRandom: drawing},
	}
	redrawn = claim.Cells{{gatewayPool: {poolFew}, gatewaySource: {"other"}}, {gatewayPool: {poolFew}, gatewayRandom: drawing}}
	unknown = claim.Cells{{gatewayPool: {poolAll}, gatewayRandom: {randomFully}}}
)

// Combinations of both.
var (
	sameAgain = claim.Cells{{gatewayClient: {"same"}, gatewaySource: {"same"}}} // an earlier connection's own address and port
	reopened  = claim.Both(claim.Both(kept, sameAgain), claim.Cells{ended})
	// A small pool is exhausted as long as its entries exist, but not for the client that
	// comes again from its port: its SYN replaces its own entry.
	exhausted = claim.Both(kept, claim.Cells{
		{gatewayPool: smallPools, gatewaySource: {"other"}},
		{gatewayPool: smallPools, gatewayClient: {"other"}},
	})
	evictable = claim.Both(claim.Both(exhausted, searched), claim.Cells{ended}).And(claim.Where{gatewayISN: {string(situation.Newer)}})
)

// Expectations that several rules share.
var (
	given       = claim.Is("port", portSame)
	metTimeWait = claim.Is("met", string(observe.TimeWait))
	getsIn      = situation.Outcome(tcp.Connected)
	unclashed   = claim.Stays(lab.Gateway, "Conntrack.insert_failed")
)

// gatewayStandingRules are about an earlier connection that is still established and whose
// client comes again.
func gatewayStandingRules() []claim.Rule {
	return []claim.Rule{
		{
			Name:  "gateway-standing-entry-challenged",
			Cells: claim.Both(claim.Both(kept, sameAgain), claim.Cells{{gatewayLeft: {string(situation.LeftEstablished)}}}),
			Want: []claim.Expectation{
				situation.Outcome(tcp.Connected), given, claim.Is("met", string(observe.Established)), claim.Is("answers", "ACK, SYN-ACK"), unclashed,
				claim.Rises(lab.Balancer, "Tcp.EstabResets"), claim.Rises(lab.Client, "Tcp.OutRsts"),
			},
			Cause: "half-open",
			Because: "a client that has lost its state connects again from the port of a connection that is still established. The gateway " +
				"translates the SYN by the entry of that connection, so the balancer sees the same five-tuple and answers with a challenge ACK",
			Source: "nf_conntrack_tcp_packet: a SYN is ignored in sES; RFC 5961 section 4",
		},
	}
}

// gatewayDrawsAgainRules are about a gateway that chooses a port again after the balancer
// has rejected a SYN.
func gatewayDrawsAgainRules() []claim.Rule {
	drawnAgain := []claim.Expectation{
		given, metTimeWait, claim.Is("first answer", string(observe.AnswerACK)), claim.Between("syns", 2, int64(fewPorts)+1), getsIn, unclashed,
		claim.Rises(lab.Client, "Tcp.OutRsts"),
	}

	return []claim.Rule{
		{
			Name: "gateway-evicts-draws-again", Kernels: []claim.Condition{claim.Has(lab.Gateway, kernel.EvictsClosing)},
			Cells: claim.Both(claim.Both(evictable, rejects), claim.Cells{{gatewayPool: {poolFew}}}),
			Want:  drawnAgain,
			Cause: "time-wait-older-timestamp", OtherCauses: []claim.CauseIn{{Cells: claim.Cells{{gatewayBalancerTS: {"0"}}}, Cause: "time-wait-older-number"}},
			Because: "an exhausted pool gives the port of a closing connection. When the balancer rejects the SYN, the client's RST also ends the " +
				"gateway's entry, and the gateway chooses a port again for the next SYN; that port may be in TIME_WAIT too, until no " +
				"TIME_WAIT is left",
			Source: "commit 4589725502871; nf_conntrack_tcp_packet: a SYN after the same side's RST makes a new entry",
		},
		{
			Name:  "gateway-pool-draws-again",
			Cells: claim.Both(claim.Both(slices.Concat(expired, reopened), redrawn), rejects),
			Want:  drawnAgain,
			Cause: "time-wait-older-timestamp", OtherCauses: []claim.CauseIn{{Cells: claim.Cells{{gatewayBalancerTS: {"0"}}}, Cause: "time-wait-older-number"}},
			Because: "in a small pool every port is in TIME_WAIT at the balancer. When the balancer rejects the SYN, the client's RST also ends " +
				"the gateway's entry, and the gateway chooses a port again for the next SYN; that port may be in TIME_WAIT too, until no " +
				"TIME_WAIT is left",
			Source: "nf_nat_l4proto_unique_tuple; nf_conntrack_tcp_packet: a SYN after the same side's RST makes a new entry",
		},
	}
}

// gatewayClashRules are about SYNs that the gateway drops.
func gatewayClashRules() []claim.Rule {
	shortTimeout := claim.Both(exhausted, claim.Cells{{gatewayLeft: {string(situation.LeftTimeWait)}, gatewayTimeout: {"1"}}})
	outlived := claim.Both(shortTimeout, searched)
	diedOnce := []claim.Expectation{
		given, metTimeWait, claim.Is("first answer", "nothing"), claim.Exactly("gateway Conntrack.insert_failed", 1),
	}

	return []claim.Rule{
		{
			Name:  "gateway-clash-outlived-draws-again",
			Cells: claim.Both(claim.Both(outlived, redrawn), rejects),
			Want:  claim.With([]claim.Expectation{getsIn, claim.Between("syns", 3, gatewayRetries+1)}, diedOnce...),
			Cause: "snat-exhausted",
			Because: "the gateway drops the first SYN. The second SYN comes after the entries have expired and meets a TIME_WAIT. If the TIME_WAIT " +
				"rejects it, the gateway chooses a port again for the next SYN, until no TIME_WAIT is left",
			Source: "nf_nat_l4proto_unique_tuple; __nf_conntrack_confirm",
		},
		{
			Name:  "gateway-clash-outlived-rejected",
			Cells: claim.Both(outlived, rejects),
			Want:  claim.With([]claim.Expectation{situation.Outcome(tcp.Connected), claim.Is("answers", "nothing, ACK, SYN-ACK")}, diedOnce...),
			Cause: "snat-exhausted",
			Because: "the gateway drops the first SYN. The second SYN comes a second later, when the entry has expired, and the balancer's " +
				"TIME_WAIT rejects it; the third SYN is accepted",
			Source: "__nf_conntrack_confirm; TCP_TIMEOUT_INIT; tcp_timewait_state_process",
		},
		{
			Name:  "gateway-clash-outlived",
			Cells: outlived,
			Want:  claim.With([]claim.Expectation{situation.Outcome(tcp.Connected), claim.Is("answers", "nothing, SYN-ACK"), claim.Exactly("paws rejects", 0)}, diedOnce...),
			Cause: "snat-exhausted",
			Because: "the gateway drops the first SYN. The second SYN comes a second later, when the entry has expired: it gets the port, and the " +
				"balancer's TIME_WAIT accepts it",
			Source: "__nf_conntrack_confirm; TCP_TIMEOUT_INIT",
		},
		{
			Name:  "gateway-clash-lingers",
			Cells: shortTimeout,
			Want: []claim.Expectation{
				getsIn, given, metTimeWait, claim.Is("first answer", "nothing"), claim.Between("syns", 2, gatewayRetries+1),
				claim.Between("gateway Conntrack.insert_failed", 1, gatewayRetries),
			},
			Cause: "snat-exhausted",
			Because: "the gateway drops the SYN, and lets the next one through only when the entry has expired and has also been removed from the " +
				"table. Without a search for a port nothing removes an expired entry, until a garbage collector runs or, as here, a program " +
				"lists the table",
			Source: "__nf_conntrack_confirm does not ask nf_ct_is_expired as nf_conntrack_tuple_taken does; gc_worker; " +
				"commit f330a7fdbe16, netfilter: conntrack: get rid of conntrack timer",
		},
		{
			Name:  "gateway-clash",
			Cells: exhausted,
			Want: []claim.Expectation{
				situation.Outcome(tcp.TimedOut), claim.Is("port", portNone), claim.AtLeast("syns", 3), claim.Exactly("syns past the gateway", 0),
				claim.AtLeast("gateway Conntrack.insert_failed", 3), claim.Stays(lab.Balancer, "Tcp.InSegs"), claim.Is("owner", "an earlier connection"),
			},
			Cause: "snat-exhausted",
			Because: "a gateway that has no free port and must not or cannot evict an entry chooses a port that is taken. It detects the clash " +
				"when the packet leaves, and drops the packet: the balancer never sees the SYN",
			Source: "nf_nat_l4proto_unique_tuple gives up with a duplicate; __nf_conntrack_confirm, insert_failed; " +
				"get_unique_tuple takes a range of one port unseen",
		},
	}
}

// gatewayOtherPortRules are about connections that get another port.
func gatewayOtherPortRules() []claim.Rule {
	draws := claim.Cells{{gatewayPool: {poolAll}, gatewayRandom: drawing}}
	free := func(port string) []claim.Expectation {
		return []claim.Expectation{
			situation.Outcome(tcp.Connected), claim.Is("port", port), claim.Is("met", "nothing"), claim.Is("answers", "SYN-ACK"), claim.Exactly("syns", 1),
			unclashed, claim.Exactly("paws rejects", 0), claim.Is("owner", "the new connection"), claim.Stays(lab.Client, "Tcp.OutRsts"),
		}
	}

	return []claim.Rule{
		{
			Name: "gateway-fully-unknown-another-port", Kernels: []claim.Condition{claim.Lacks(lab.Gateway, kernel.DrawsFully)},
			Cells:   claim.Both(claim.Both(kept, unknown), claim.Cells{{gatewayClient: {"other"}, gatewaySource: {"same"}}}),
			Want:    free(portNew),
			Because: "a kernel without --random-fully ignores the option, and chooses another port if the client's own port is taken",
			Source:  "get_unique_tuple before commit 34ce324019e7",
		},
		{
			Name: "gateway-fully-unknown-own-port", Kernels: []claim.Condition{claim.Lacks(lab.Gateway, kernel.DrawsFully)},
			Cells:   unknown.And(claim.Where{gatewaySource: {"other"}}),
			Want:    free(portOwn),
			Because: "a kernel without --random-fully ignores the option, and keeps the client's port if it is free",
			Source:  "get_unique_tuple before commit 34ce324019e7",
		},
		{
			Name:  "gateway-another-port",
			Cells: claim.Both(claim.Both(kept, keeps), claim.Cells{{gatewayClient: {"other"}, gatewaySource: {"same"}}}),
			Want:  free(portNew),
			Because: "as long as the gateway has the entry, open or closed, another client with the same port gets another port, and the balancer " +
				"sees a five-tuple that it does not know",
			Source: "get_unique_tuple, nf_nat_used_tuple",
		},
		{
			Name: "gateway-own-port", Cells: keeps.And(claim.Where{gatewaySource: {"other"}}), Want: free(portOwn),
			Because: "a client keeps its port if no other connection has it",
			Source:  "get_unique_tuple",
		},
		{
			Name: "gateway-draws", Cells: draws, Want: free(portNew),
			Because: "a random port out of 64512 is the port of an earlier connection only once in 64512 times",
			Source:  "nf_nat_l4proto_unique_tuple; commit 203f2e78200c for --random",
		},
	}
}
