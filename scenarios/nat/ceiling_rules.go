package nat

import (
	"twlab/harness/kernel"
	"twlab/harness/lab"
	"twlab/scenarios/claim"
	"twlab/scenarios/situation"
)

// ceilingRules are in this order: a gateway with vanished connections; a client; a gateway
// with ended connections.
func ceilingRules() []claim.Rule {
	const percent = "percent of the ceiling"
	reached, counted := claim.Between(percent, 95, 105), claim.AtMost("counted, percent", 105)
	const soonest = "soonest reuse, ms"
	timeout := ceilingTimeout.Milliseconds()
	held := claim.Between(soonest, timeout-situation.TickAtMost.Milliseconds(), timeout+timeout/10)
	// If both ends close, an ACK that crosses the last FIN may be counted as a refusal, so
	// nothing is expected about what TIME_WAITs reject.
	alone := func(who string) []claim.Expectation {
		want := []claim.Expectation{claim.AtLeast(situation.RefusedBy(who), 1), claim.Exactly("undecided", 0)}
		for _, other := range []string{situation.ByClient, situation.ByGateway, situation.ByQueue} {
			if other != who {
				want = append(want, claim.Exactly(situation.RefusedBy(other), 0))
			}
		}
		return want
	}

	return []claim.Rule{
		{
			Name: "ceiling-idle", Cells: claim.Cells{{ceilingLimit: {limitIdle}}},
			Want: claim.With([]claim.Expectation{reached, counted, held}, claim.With(alone(situation.ByGateway), claim.Exactly(situation.RefusedBy(situation.ByClock), 0), claim.Exactly(situation.RefusedBy(situation.ByNumber), 0), claim.Exactly(situation.RefusedBy(situation.ByEndpoint), 0),
				claim.Exactly("unaccounted", 0))...),
			Because: "a gateway without a free port drops the SYN, and the balancer never sees it. For the gateway a vanished connection is still " +
				"established, so its port is free again only when its entry has expired",
			Source: "nf_nat_l4proto_unique_tuple; __nf_conntrack_confirm, insert_failed; nf_conntrack_tcp_timeout_established",
		},
		{
			Name: "ceiling-client", Cells: claim.Cells{{ceilingLimit: {limitClient}}}, Kernels: []claim.Condition{claim.Has(lab.Client, kernel.ReuseDelay)},
			Want: claim.With([]claim.Expectation{reached, counted, held}, alone(situation.ByClient)...),
			Because: "a client without a free port gets EADDRNOTAVAIL at once and sends nothing; a port is free again when its TIME_WAIT is " +
				"tcp_tw_reuse_delay old",
			Source: "__inet_hash_connect, tcp_twsk_unique; commit ca6a6f93867a",
		},
		{
			Name: "ceiling-client-seconds", Cells: claim.Cells{{ceilingLimit: {limitClient}}},
			Want: claim.With([]claim.Expectation{claim.Between(percent, 50, 210)}, alone(situation.ByClient)...),
			Because: "without tcp_tw_reuse_delay a port is free again when a new second of the clock has begun (two before Linux 4.19), whatever T " +
				"is",
			Source: "tcp_twsk_unique: tw_ts_recent_stamp; commit cca9bab1b72c",
		},
		{
			Name: "ceiling-evicted", Cells: claim.Cells{{ceilingISN: {isnOwn}}}, Kernels: []claim.Condition{claim.Has(lab.Gateway, kernel.EvictsClosing)},
			Want: []claim.Expectation{claim.AtLeast(percent, 110), claim.AtMost(soonest, timeout/2), claim.Exactly(situation.RefusedBy(situation.ByClient), 0), claim.Exactly("undecided", 0)},
			Because: "there is no such ceiling if the NAT takes the port of an ended connection when no other port is free: only connections that " +
				"are open at the same time need different ports",
			Source: "commit 4589725502871, nf_nat_used_tuple_harder, nf_seq_has_advanced",
		},
		{
			Name: "ceiling-ended", Cells: claim.Cells{{}}, Want: claim.With([]claim.Expectation{reached, counted, held}, alone(situation.ByGateway)...),
			Because: "a gateway that must not or cannot evict entries keeps the port of an ended connection until its entry has expired",
			Source:  "nf_nat_l4proto_unique_tuple; __nf_conntrack_confirm, insert_failed; nf_conntrack_tcp_timeout_time_wait",
		},
	}
}
