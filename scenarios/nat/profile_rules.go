package nat

import (
	"twlab/harness/kernel"
	"twlab/harness/lab"
	"twlab/scenarios/claim"
	"twlab/scenarios/situation"
)

// profileStandingRules are about ports that are used up by open connections.
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
			Cause:   "snat-exhausted",
			Because: "a client that has used up its block is refused by the gateway, although the blocks of other clients have free ports",
			Source:  "RFC 7422; __nf_conntrack_confirm, insert_failed",
		},
		{
			Name: "profile-pool-full", Cells: claim.Cells{{profilePhase: {phaseStanding}}},
			Want:  standing(profileGreedy, profileGreedy+profileOthers-profilePorts),
			Cause: "snat-exhausted",
			Because: "a shared pool serves the clients in the order in which they come. When it is used up, the gateway refuses every client, and " +
				"the balancer never sees their SYNs. Established connections are not evicted",
			Source: "__nf_conntrack_confirm, insert_failed; nf_nat_used_tuple_harder",
		},
	}
}

// profileAgainRules are about ports that become free: within the conntrack timeout and after it.
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
			Because: "Linux reuses a port before its conntrack timeout is over if no other port is free, and the balancer may reject such a SYN at " +
				"first. After the conntrack timeout, which is longer than the balancer's 60 s, no SYN is rejected",
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
			Because: "the ports of a block are used again by the same client, and its clock only moves forward",
			Source:  "commit 28ee1b746f49, secure_seq: downgrade to per-host timestamp offsets",
		},
		{
			Name: "profile-short-timeout-hosts", Cells: shortTimeout, Kernels: []claim.Condition{claim.Lacks(lab.Client, kernel.OffsetPerPort)},
			Want:  append([]claim.Expectation{claim.Between(after, 1, profilePorts-1)}, all...),
			Cause: "time-wait-older-timestamp",
			Because: "after a conntrack timeout that is shorter than 60 s, the balancer's TIME_WAITs at first reject the SYNs of hosts whose clock " +
				"is behind that of the host that had the port before",
			Source: "tcp_timewait_state_process, RFC 7323 section 5.4; TCP_TIMEWAIT_LEN",
		},
		{
			Name: "profile-short-timeout", Cells: shortTimeout,
			Want:  append([]claim.Expectation{claim.About(after, profilePorts, 0.5)}, all...),
			Cause: "time-wait-older-timestamp",
			Because: "within the conntrack timeout the gateway refuses. After it, if it is shorter than 60 s, the balancer's TIME_WAITs at first " +
				"reject half of the SYNs, even if a client meets only its own TIME_WAITs, because each of its connections has its own clock",
			Source: "tcp_timewait_state_process, RFC 7323 section 5.4; TCP_TIMEWAIT_LEN; commit 165573e41f2f",
		},
		{
			Name: "profile-long-timeout", Cells: claim.Cells{again},
			Want:    append([]claim.Expectation{claim.Exactly(within, 0)}, nothing...),
			Because: "within the conntrack timeout the gateway refuses; after it, if it is longer than the balancer's 60 s, no SYN is refused",
			Source:  "TCP_TIMEWAIT_LEN; nf_conntrack_tcp_timeout_time_wait",
		},
	}
}
