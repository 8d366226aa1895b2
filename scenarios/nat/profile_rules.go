package nat

import (
	"twlab/harness/kernel"
	"twlab/harness/lab"
	"twlab/scenarios/claim"
	"twlab/scenarios/situation"
)

// profileStandingRules are about ports that are used up by connections that stand.
func profileStandingRules() []claim.Rule {
	standing := func(greedy, refused int64) []claim.Expectation {
		return []claim.Expectation{
			claim.Exactly("greedy connected", greedy), claim.Exactly("timed out", refused), claim.AtLeast(situation.RefusedBy(situation.ByGateway), 1), claim.Exactly(situation.RefusedBy(situation.ByClient), 0),
			claim.Exactly(situation.RefusedBy(situation.ByClock), 0), claim.Exactly(situation.RefusedBy(situation.ByNumber), 0), claim.Exactly("unaccounted", 0), claim.Exactly("greedy unaccounted", 0),
		}
	}

	return []claim.Rule{
		{
			Name: "profile-block-full", Cells: claim.Cells{{profileAxis: havingBlocks(), profilePhase: {phaseStanding}}}, Want: standing(profileBlock, profileOthers-(profileClients-1)*profileBlock),
			Because: "a client that has used up its block is refused by the gateway, though the blocks of others have ports to spare",
			Source:  "RFC 7422; __nf_conntrack_confirm, insert_failed",
		},
		{
			Name: "profile-pool-full", Cells: claim.Cells{{profilePhase: {phaseStanding}}},
			Want: standing(profileGreedy, profileGreedy+profileOthers-profilePorts),
			Because: "a shared pool serves whoever comes first; when it is used up, the gateway refuses everybody, and the balancer never sees it. " +
				"Connections that stand are not evicted",
			Source: "__nf_conntrack_confirm, insert_failed; nf_nat_used_tuple_harder",
		},
	}
}

// profileAgainRules are about ports that come back: within the conntrack timeout and after it.
func profileAgainRules() []claim.Rule {
	evicting := profilesThat(func(p Profile) bool { return p.Evicts })
	short := profilesThat(func(p Profile) bool { return 0 < p.Timeout && p.Timeout < situation.TimeWaitLength })
	again := claim.Where{profilePhase: {phaseAgain}}
	const after, within = "refused after the timeout", "connected within the timeout"
	all := []claim.Expectation{claim.Exactly(within, 0), claim.Exactly("connected", profilePorts), claim.Exactly("time-waits", profilePorts), claim.Exactly("unaccounted", 0)}
	nothing := []claim.Expectation{claim.Exactly(after, 0), claim.Exactly("connected", profilePorts), claim.Exactly("time-waits", 0), claim.Exactly("unaccounted", 0)}
	shortTimeout := claim.Cells{again}.And(claim.Where{profileAxis: short})
	ownBlock := claim.Both(shortTimeout, claim.Cells{{profileAxis: havingBlocks()}})

	return []claim.Rule{
		{
			Name: "profile-evicts", Cells: claim.Cells{again}.And(claim.Where{profileAxis: evicting}), Kernels: []claim.Condition{claim.Has(lab.Gateway, kernel.EvictsClosing)},
			Want: append([]claim.Expectation{claim.Exactly(within, profileClients)}, nothing...),
			Because: "Linux uses a port again before its conntrack timeout is over when it has no other, and the balancer may refuse that at first; after the " +
				"conntrack timeout, which is longer than the balancer's 60 s, nobody refuses anything",
			Source: "commit 4589725502871; TCP_TIMEWAIT_LEN",
		},
		{
			Name: "profile-short-timeout-one-clock", Cells: shortTimeout, Kernels: []claim.Condition{claim.Lacks(lab.Client, kernel.TimestampsMode2)},
			Want:    append([]claim.Expectation{claim.Exactly(after, 0)}, all...),
			Because: "without random offsets all namespaces of one kernel have one clock; hosts with different uptimes do not",
			Source:  "tcp_time_stamp before commit 95a22caee396",
		},
		{
			Name: "profile-short-timeout-own-block", Cells: ownBlock, Kernels: []claim.Condition{claim.Lacks(lab.Client, kernel.OffsetPerPort)},
			Want:    append([]claim.Expectation{claim.Exactly(after, 0)}, all...),
			Because: "the ports of a block are met by the client that had them before, whose clock only goes forward",
			Source:  "commit 28ee1b746f49, secure_seq: downgrade to per-host timestamp offsets",
		},
		{
			Name: "profile-short-timeout-hosts", Cells: shortTimeout, Kernels: []claim.Condition{claim.Lacks(lab.Client, kernel.OffsetPerPort)},
			Want: append([]claim.Expectation{claim.Between(after, 1, profilePorts-1)}, all...),
			Because: "after a conntrack timeout that is shorter than 60 s, the balancer's TIME_WAITs refuse at first the SYNs of hosts whose clocks are behind " +
				"that of the host before",
			Source: "tcp_timewait_state_process, RFC 7323 section 5.4; TCP_TIMEWAIT_LEN",
		},
		{
			Name: "profile-short-timeout", Cells: shortTimeout,
			Want: append([]claim.Expectation{claim.About(after, profilePorts, 0.5)}, all...),
			Because: "within the conntrack timeout the gateway refuses; after it, when that is shorter than 60 s, the balancer's TIME_WAITs refuse half of " +
				"the SYNs at first, even where a client meets only its own: each of its connections has a clock of its own",
			Source: "tcp_timewait_state_process, RFC 7323 section 5.4; TCP_TIMEWAIT_LEN; commit 165573e41f2f",
		},
		{
			Name: "profile-long-timeout", Cells: claim.Cells{again},
			Want:    append([]claim.Expectation{claim.Exactly(within, 0)}, nothing...),
			Because: "within the conntrack timeout the gateway refuses; after it, when that is longer than the balancer's 60 s, nobody does",
			Source:  "TCP_TIMEWAIT_LEN; nf_conntrack_tcp_timeout_time_wait",
		},
	}
}
