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

// What the gateway still has, and what the balancer has.
var (
	kept    = claim.Cells{{gatewayEntry: {"kept"}}}
	expired = claim.Cells{{gatewayEntry: {"expired"}}}
	ended   = claim.Where{gatewayLeft: {string(situation.LeftTimeWait), string(situation.LeftNothing)}}

	// A TIME_WAIT to which the new connection looks older.
	rejects = claim.Both(claim.Cells{{gatewayLeft: {string(situation.LeftTimeWait)}}}, claim.Cells{
		{gatewayBalancerTS: {"1"}, gatewayClock: {string(situation.Older)}},
		{gatewayBalancerTS: {"0"}, gatewayISN: {string(situation.Older)}},
	})
)

// How the gateway chooses a port.
var (
	smallPools = []string{poolOne, poolFew}
	drawing    = []string{randomPlain, randomFully}

	// Where the client's own port is asked for first, and where a port is searched
	// for: a pool of one that is asked for its port is not searched.
	keeps    = claim.Cells{{gatewayPool: {poolAll}, gatewayRandom: {randomNo}}}
	searched = claim.Cells{
		{gatewayPool: {poolFew}}, {gatewayPool: {poolOne}, gatewaySource: {"other"}}, {gatewayPool: {poolOne}, gatewayRandom: drawing},
	}
	redrawn = claim.Cells{{gatewayPool: {poolFew}, gatewaySource: {"other"}}, {gatewayPool: {poolFew}, gatewayRandom: drawing}}
	unknown = claim.Cells{{gatewayPool: {poolAll}, gatewayRandom: {randomFully}}}
)

// What comes of both.
var (
	sameAgain = claim.Cells{{gatewayClient: {"same"}, gatewaySource: {"same"}}} // an earlier connection's own address and port
	reopened  = claim.Both(claim.Both(kept, sameAgain), claim.Cells{ended})
	// A small pool is exhausted while its entries are there, but not for the
	// client who comes again: that one has an entry to give.
	exhausted = claim.Both(kept, claim.Cells{
		{gatewayPool: smallPools, gatewaySource: {"other"}},
		{gatewayPool: smallPools, gatewayClient: {"other"}},
	})
	evictable = claim.Both(claim.Both(exhausted, searched), claim.Cells{ended}).And(claim.Where{gatewayISN: {string(situation.Newer)}})
)

// What is to be seen of it.
var (
	given       = claim.Is("port", portSame)
	metTimeWait = claim.Is("met", string(observe.TimeWait))
	getsIn      = situation.Outcome(tcp.Connected)
	unclashed   = claim.Stays(lab.Gateway, "Conntrack.insert_failed")
)

// gatewayStandingRules are about an earlier connection that stands and whose client comes
// again.
func gatewayStandingRules() []claim.Rule {
	return []claim.Rule{
		{
			Name:  "gateway-standing-entry-challenged",
			Cells: claim.Both(claim.Both(kept, sameAgain), claim.Cells{{gatewayLeft: {string(situation.LeftEstablished)}}}),
			Want: []claim.Expectation{
				situation.Outcome(tcp.Connected), given, claim.Is("met", string(observe.Established)), claim.Is("answers", "ACK, SYN-ACK"), unclashed,
				claim.Rises(lab.Balancer, "Tcp.EstabResets"), claim.Rises(lab.Client, "Tcp.OutRsts"),
			},
			Because: "a client that has lost its memory and comes from the port of a connection that stands is translated by the entry " +
				"of that, so the balancer sees the same five-tuple and challenges it",
			Source: "nf_conntrack_tcp_packet: a SYN is ignored in sES; RFC 5961 section 4",
		},
	}
}

// gatewayDrawsAgainRules are about ports that are given again, and again after a
// rejection.
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
			Because: "an exhausted pool gives the port of a closing connection; when the balancer rejects that, the RST ends the gateway's " +
				"entry too, and the next SYN is drawn a port anew, which may be that of another TIME_WAIT, until none is left",
			Source: "commit 4589725502871; nf_conntrack_tcp_packet: a SYN after the same side's RST makes a new entry",
		},
		{
			Name:  "gateway-pool-draws-again",
			Cells: claim.Both(claim.Both(slices.Concat(expired, reopened), redrawn), rejects),
			Want:  drawnAgain,
			Because: "in a small pool every port is in TIME_WAIT at the balancer; when that rejects the SYN, the RST ends the gateway's " +
				"entry too, and the next SYN is drawn a port anew, which may be that of another TIME_WAIT, until none is left",
			Source: "nf_nat_l4proto_unique_tuple; nf_conntrack_tcp_packet: a SYN after the same side's RST makes a new entry",
		},
	}
}

// gatewayClashRules are about whose SYN dies on the gateway.
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
			Because: "the first SYN dies on the gateway, the second comes after the entries have run out and meets a TIME_WAIT, " +
				"and when that rejects it, the third is drawn a port anew, until no TIME_WAIT is left",
			Source: "nf_nat_l4proto_unique_tuple; __nf_conntrack_confirm",
		},
		{
			Name:  "gateway-clash-outlived-rejected",
			Cells: claim.Both(outlived, rejects),
			Want:  claim.With([]claim.Expectation{situation.Outcome(tcp.Connected), claim.Is("answers", "nothing, ACK, SYN-ACK")}, diedOnce...),
			Because: "the first SYN dies on the gateway, the second comes a second later, when the entry has run out, " +
				"and is rejected by the balancer's TIME_WAIT; the third gets in",
			Source: "__nf_conntrack_confirm; TCP_TIMEOUT_INIT; tcp_timewait_state_process",
		},
		{
			Name:  "gateway-clash-outlived",
			Cells: outlived,
			Want:  claim.With([]claim.Expectation{situation.Outcome(tcp.Connected), claim.Is("answers", "nothing, SYN-ACK"), claim.Exactly("paws rejects", 0)}, diedOnce...),
			Because: "the first SYN dies on the gateway, the second comes a second later, when the entry has run out, " +
				"is given the port, and the balancer's TIME_WAIT accepts it",
			Source: "__nf_conntrack_confirm; TCP_TIMEOUT_INIT",
		},
		{
			Name:  "gateway-clash-lingers",
			Cells: shortTimeout,
			Want: []claim.Expectation{
				getsIn, given, metTimeWait, claim.Is("first answer", "nothing"), claim.Between("syns", 2, gatewayRetries+1),
				claim.Between("gateway Conntrack.insert_failed", 1, gatewayRetries),
			},
			Because: "the SYN dies on the gateway, and the next gets through when the entry has run out and is out of the table too: without a search " +
				"nobody notices it there, until a garbage collector or, as here, whoever lists the table removes it",
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
			Because: "a gateway that has no free port and must not or cannot evict settles on a taken one, notices it when the packet leaves, " +
				"and drops it: the SYN dies on the gateway and the balancer never sees it",
			Source: "nf_nat_l4proto_unique_tuple gives up with a duplicate; __nf_conntrack_confirm, insert_failed; " +
				"get_unique_tuple takes a range of one port unseen",
		},
	}
}

// gatewayOtherPortRules are about who gets another port.
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
			Because: "a kernel that does not know --random-fully ignores it and goes on to another port when the client's own is taken",
			Source:  "get_unique_tuple before commit 34ce324019e7",
		},
		{
			Name: "gateway-fully-unknown-own-port", Kernels: []claim.Condition{claim.Lacks(lab.Gateway, kernel.DrawsFully)},
			Cells:   unknown.And(claim.Where{gatewaySource: {"other"}}),
			Want:    free(portOwn),
			Because: "a kernel that does not know --random-fully ignores it and keeps the client's port when it is free",
			Source:  "get_unique_tuple before commit 34ce324019e7",
		},
		{
			Name:  "gateway-another-port",
			Cells: claim.Both(claim.Both(kept, keeps), claim.Cells{{gatewayClient: {"other"}, gatewaySource: {"same"}}}),
			Want:  free(portNew),
			Because: "as long as the gateway has the entry, open or closed, another client with the same port is given another one, " +
				"and the balancer sees a five-tuple that it does not know",
			Source: "get_unique_tuple, nf_nat_used_tuple",
		},
		{
			Name: "gateway-own-port", Cells: keeps.And(claim.Where{gatewaySource: {"other"}}), Want: free(portOwn),
			Because: "a client whose port nobody has keeps it",
			Source:  "get_unique_tuple",
		},
		{
			Name: "gateway-draws", Cells: draws, Want: free(portNew),
			Because: "a port drawn out of 64512 is that of an earlier connection once in 64512 times",
			Source:  "nf_nat_l4proto_unique_tuple; commit 203f2e78200c for --random",
		},
	}
}
