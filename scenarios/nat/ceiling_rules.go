package nat

import (
	"twlab/harness/kernel"
	"twlab/harness/lab"
	"twlab/scenarios/claim"
	"twlab/scenarios/situation"
)

// ceilingRules are in this order: a gateway whose connections have vanished; a client; a
// gateway whose connections have ended.
func ceilingRules() []claim.Rule {
	const percent = "percent of the ceiling"
	reached, counted := claim.Between(percent, 95, 105), claim.AtMost("counted, percent", 105)
	const soonest = "soonest reuse, ms"
	timeout := ceilingTimeout.Milliseconds()
	held := claim.Between(soonest, timeout-situation.TickAtMost.Milliseconds(), timeout+timeout/10)
	// Where both ends close, an ACK that crosses the last FIN may be taken for a
	// refusal: then nothing is said of what TIME_WAITs reject.
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
			Because: "a gateway without a free port drops the SYN and the balancer never sees it; a port whose connection stands, as far as the " +
				"gateway knows, is free again when its entry has run out",
			Source: "nf_nat_l4proto_unique_tuple; __nf_conntrack_confirm, insert_failed; nf_conntrack_tcp_timeout_established",
		},
		{
			Name: "ceiling-client", Cells: claim.Cells{{ceilingLimit: {limitClient}}}, Kernels: []claim.Condition{claim.Has(lab.Client, kernel.ReuseDelay)},
			Want: claim.With([]claim.Expectation{reached, counted, held}, alone(situation.ByClient)...),
			Because: "a client without a free port gets EADDRNOTAVAIL at once and sends nothing, and a port is free again when its TIME_WAIT is as " +
				"old as tcp_tw_reuse_delay",
			Source: "__inet_hash_connect, tcp_twsk_unique; commit ca6a6f93867a",
		},
		{
			Name: "ceiling-client-seconds", Cells: claim.Cells{{ceilingLimit: {limitClient}}},
			Want:    claim.With([]claim.Expectation{claim.Between(percent, 50, 210)}, alone(situation.ByClient)...),
			Because: "without tcp_tw_reuse_delay a port is free again when a second of the clock has begun, and two before Linux 4.19, whatever T is",
			Source:  "tcp_twsk_unique: tw_ts_recent_stamp; commit cca9bab1b72c",
		},
		{
			Name: "ceiling-evicted", Cells: claim.Cells{{ceilingISN: {isnOwn}}}, Kernels: []claim.Condition{claim.Has(lab.Gateway, kernel.EvictsClosing)},
			Want: []claim.Expectation{claim.AtLeast(percent, 110), claim.AtMost(soonest, timeout/2), claim.Exactly(situation.RefusedBy(situation.ByClient), 0), claim.Exactly("undecided", 0)},
			Because: "there is no such ceiling where the NAT takes the port of an ended connection for a new one when it has no other: only " +
				"those that stand at the same time need different ports",
			Source: "commit 4589725502871, nf_nat_used_tuple_harder, nf_seq_has_advanced",
		},
		{
			Name: "ceiling-ended", Cells: claim.Cells{{}}, Want: claim.With([]claim.Expectation{reached, counted, held}, alone(situation.ByGateway)...),
			Because: "a gateway that must not or cannot evict keeps the port of an ended connection until its entry has run out",
			Source:  "nf_nat_l4proto_unique_tuple; __nf_conntrack_confirm, insert_failed; nf_conntrack_tcp_timeout_time_wait",
		},
	}
}
