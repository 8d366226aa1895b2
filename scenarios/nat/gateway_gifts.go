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

// gatewayGiftRules are about ports of earlier connections that the gateway gives again,
// and why.
func gatewayGiftRules() (rules []claim.Rule) {
	for _, g := range []gift{
		{
			name:    "gateway-expired",
			cells:   claim.Both(expired, append(keeps.And(claim.Where{gatewaySource: {"same"}}), claim.Where{gatewayPool: smallPools})),
			because: "when its entry has expired, the gateway gives the port to any client that asks for it",
			source:  "nf_conntrack_tcp_timeout_time_wait; get_unique_tuple",
		},
		{
			name:  "gateway-reopens",
			cells: claim.Both(reopened, slices.Concat(keeps, claim.Cells{{gatewayPool: smallPools}})),
			because: "a SYN from the same client and port replaces the entry of its own closed connection, whatever the pool, and gets the port " +
				"that becomes free",
			source: "nf_conntrack_tcp_packet: nf_ct_kill and NF_REPEAT for a SYN in TIME_WAIT",
		},
		{
			name: "gateway-evicts", cells: evictable, kernels: []claim.Condition{claim.Has(lab.Gateway, kernel.EvictsClosing)},
			because: "a gateway that searches and finds no free port takes the port of a closing connection whose last sequence number is older " +
				"than the new one",
			source: "commit 4589725502871, nf_nat_used_tuple_harder, nf_seq_has_advanced",
		},
		{
			name: "gateway-hash", kernels: []claim.Condition{claim.Has(lab.Gateway, kernel.DrawsByHash)},
			cells: claim.Both(slices.Concat(expired, reopened), claim.Cells{{gatewayPool: {poolAll}, gatewayRandom: {randomPlain}}}),
			because: "--random starts its search at a hash of the addresses and the destination port, which is the same for all clients, so a port " +
				"that has become free is the first that it finds",
			source: "nf_nat_l4proto_unique_tuple and secure_ipv4_port_ephemeral before commit 203f2e78200c",
		},
		{
			name: "gateway-fully-unknown", kernels: []claim.Condition{claim.Lacks(lab.Gateway, kernel.DrawsFully)},
			cells:   claim.Both(append(claim.Both(expired, claim.Cells{{gatewaySource: {"same"}}}), reopened...), unknown),
			because: "a kernel without --random-fully ignores the option, and keeps the client's port if it is free",
			source:  "get_unique_tuple before commit 34ce324019e7",
		},
	} {
		rules = append(rules, g.rules()...)
	}
	return rules
}

// gift is a reason why a gateway gives the port of an ended connection to a new one.
type gift struct {
	name            string
	cells           claim.Cells
	kernels         []claim.Condition
	because, source string
}

// rules say what the balancer does with the SYN that comes from that port.
func (g gift) rules() []claim.Rule {
	timeWait := []string{string(situation.LeftTimeWait)}
	want := []claim.Expectation{
		situation.Outcome(tcp.Connected), claim.Is("port", portSame), claim.Is("owner", "the new connection"), claim.Stays(lab.Gateway, "Conntrack.insert_failed"),
	}
	atOnce := claim.With([]claim.Expectation{claim.Is("answers", "SYN-ACK"), claim.Exactly("paws rejects", 0), claim.Stays(lab.Client, "Tcp.OutRsts")}, want...)
	inTheEnd := claim.With([]claim.Expectation{claim.Is("answers", "ACK, SYN-ACK"), claim.Rises(lab.Client, "Tcp.OutRsts")}, want...)
	met := claim.Is("met", string(observe.TimeWait))

	var rules []claim.Rule
	for _, r := range []claim.Rule{
		{
			Name: "-nothing-left", Cells: claim.Cells{{gatewayLeft: {string(situation.LeftNothing)}}},
			Want:    claim.With([]claim.Expectation{claim.Is("met", "nothing")}, atOnce...),
			Because: "after 60 s the balancer has nothing left of the earlier connection",
			Source:  "TCP_TIMEWAIT_LEN",
		},
		{
			Name: "-older-timestamp", Cells: claim.Cells{{gatewayLeft: timeWait, gatewayBalancerTS: {"1"}, gatewayClock: {string(situation.Older)}}},
			Want:  claim.With([]claim.Expectation{met, claim.AtLeast("paws rejects", 1)}, inTheEnd...),
			Cause: "time-wait-older-timestamp",
			Because: "the balancer's TIME_WAIT rejects the older timestamp with an ACK, the client's RST removes the TIME_WAIT, and the next SYN " +
				"is accepted",
			Source: "tcp_timewait_state_process, RFC 7323 section 5",
		},
		{
			Name: "-older-number", Cells: claim.Cells{{gatewayLeft: timeWait, gatewayBalancerTS: {"0"}, gatewayISN: {string(situation.Older)}}},
			Want:  claim.With([]claim.Expectation{met, claim.Exactly("paws rejects", 0)}, inTheEnd...),
			Cause: "time-wait-older-number",
			Because: "without timestamps the balancer's TIME_WAIT rejects the older sequence number with an ACK, the client's RST removes the " +
				"TIME_WAIT, and the next SYN is accepted",
			Source: "tcp_timewait_state_process, RFC 1122 section 4.2.2.13",
		},
		{
			Name: "-accepted", Cells: claim.Cells{
				{gatewayLeft: timeWait, gatewayBalancerTS: {"1"}, gatewayClock: {string(situation.Newer)}},
				{gatewayLeft: timeWait, gatewayBalancerTS: {"0"}, gatewayISN: {string(situation.Newer)}},
			},
			Want:    claim.With([]claim.Expectation{met}, atOnce...),
			Because: "the balancer's TIME_WAIT accepts the newer timestamp or, without timestamps, the newer sequence number",
			Source:  "tcp_timewait_state_process, RFC 6191",
		},
	} {
		r.Name, r.Cells, r.Kernels = g.name+r.Name, claim.Both(g.cells, r.Cells), g.kernels
		r.Because, r.Source = g.because+"; "+r.Because, g.source+"; "+r.Source
		if len(r.Cells) > 0 {
			rules = append(rules, r)
		}
	}
	return rules
}
