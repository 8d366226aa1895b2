package client

import (
	"slices"

	"twlab/harness/kernel"
	"twlab/harness/lab"
	"twlab/harness/tcp"
	"twlab/scenarios/claim"
)

// dualStackRules begin with listeners that have no address in common; then those that have one,
// without SO_REUSEPORT and with it.
func dualStackRules() []claim.Rule {
	only4, only6 := []string{all4, one4}, []string{all6, one6}
	apart := "one listener has IPv4 addresses alone and the other one IPv6 addresses alone, so that no packet can be for both; " +
		"a listener at ::1 is one of IPv6 alone without IPV6_V6ONLY, too"
	const apartSource = "inet_csk_bind_conflict, ipv6_rcv_saddr_equal"
	rules := []claim.Rule{
		{
			Name: "dualstack-no-reuseport", Cells: claim.Cells{{listenerOpts: {optsReusePort, optsReusePortFirst, optsReusePortSecond}}},
			Kernels: []claim.Condition{claim.Lacks(lab.Balancer, kernel.ReusePort)}, OutOfReach: true,
			Because: "before Linux 3.9 SO_REUSEPORT cannot be set", Source: "commit c617f398edd4, soreuseport: TCP/IPv4 implementation",
		},
		{
			Name: "dualstack-apart-ipv4-first", Cells: claim.Cells{{firstAt: only4, secondAt: only6}},
			Want: reach(tcp.Listening, reachesFirst, reachesSecond), Because: apart, Source: apartSource,
		},
		{
			Name: "dualstack-apart-ipv6-first", Cells: claim.Cells{{firstAt: only6, secondAt: only4}},
			Want: reach(tcp.Listening, reachesSecond, reachesFirst), Because: apart, Source: apartSource,
		},
	}
	return nobodyListens(slices.Concat(rules, dualStackConflictRules(only4, only6), dualStackSharedRules(only4)))
}

// nobodyListens names the cause of rules by which a request reaches nobody, which is no-listener. The
// last request is over IPv6: where it is answered, the rule says why it names none.
func nobodyListens(rules []claim.Rule) []claim.Rule {
	for i := range rules {
		for _, e := range rules[i].Want {
			switch {
			case !slices.Contains(e.OneOf, reachesNobody):
			case e.What == "IPv6 reaches":
				rules[i].Cause = "no-listener"
			default:
				rules[i].Uncaused = "nobody listens for the request over IPv4 (no-listener), and the last one, over IPv6, is answered"
			}
		}
	}
	return rules
}

// reach is what the second listener gets, and whom connections reach.
func reach(second tcp.Outcome, ip4, ip6 string) []claim.Expectation {
	return []claim.Expectation{claim.Is("second listener", string(second)), claim.Is("IPv4 reaches", ip4), claim.Is("IPv6 reaches", ip6)}
}

// dualStackConflictRules are about listeners that have an address in common, and are told apart
// by what the first one has, and by whether one of them has SO_REUSEPORT.
func dualStackConflictRules(only4, only6 []string) (rules []claim.Rule) {
	for _, c := range []struct {
		name     string
		first    []string
		ip4, ip6 string
	}{
		{"ipv4", only4, reachesFirst, reachesNobody},
		{"ipv6", only6, reachesNobody, reachesFirst},
		{"both", []string{all46}, reachesFirst, reachesFirst},
	} {
		want := claim.With(reach(tcp.PortInUse, c.ip4, c.ip6), claim.Is("step", string(tcp.StepBind)))
		rules = append(rules, claim.Rule{
			Name:  "dualstack-conflict-" + c.name,
			Cells: claim.Cells{{firstAt: c.first, listenerOpts: {optsNone, optsReuseAddr, optsReuseAddrFirst, optsReuseAddrSecond}}}, Want: want,
			Because: "the two have an address in common: any address of a version and one of it have, and so have IPv4 and a listener at :: without " +
				"IPV6_V6ONLY. SO_REUSEADDR does not help against a socket that listens",
			Source: "inet_csk_bind_conflict: sk_reuse and TCP_LISTEN; ipv6_rcv_saddr_equal",
		}, claim.Rule{
			Name:  "dualstack-one-reuseport-" + c.name,
			Cells: claim.Cells{{firstAt: c.first, listenerOpts: {optsReusePortFirst, optsReusePortSecond}}}, Want: want,
			Kernels: []claim.Condition{claim.Has(lab.Balancer, kernel.ReusePort)},
			Because: "the two have an address in common, and only one of them has SO_REUSEPORT: it helps only if both have it, whoever listens first",
			Source:  "inet_csk_bind_conflict: sk_reuseport of both; commit c617f398edd4, soreuseport: TCP/IPv4 implementation",
		})
	}
	return rules
}

// dualStackSharedRules are about listeners with SO_REUSEPORT that have an address in common.
func dualStackSharedRules(only4 []string) []claim.Rule {
	share := claim.Where{listenerOpts: {optsReusePort}}
	with := []claim.Condition{claim.Has(lab.Balancer, kernel.ReusePort)}
	pair := func(first, second string) claim.Where { return claim.Where{firstAt: {first}, secondAt: {second}} }
	either := claim.Is("IPv6 reaches", reachesFirst, reachesSecond)
	const (
		specific = "SO_REUSEPORT at both lets both listen. The listener whose address says more has the connection: one address before all of them, and " +
			"an IPv4 socket before one at ::, which takes IPv4 too. Connections are not shared"
		shared = "SO_REUSEPORT at both lets both listen, and listeners at the same addresses share the connections by a hash of the five-tuple"
		source = "inet_csk_bind_conflict: sk_reuseport; compute_score of inet_hashtables.c and of inet6_hashtables.c"
	)
	rules := []claim.Rule{
		{Name: "dualstack-specific-4-second", Cells: claim.Cells{pair(all4, one4)}.And(share), Want: reach(tcp.Listening, reachesSecond, reachesNobody)},
		{Name: "dualstack-specific-4-first", Cells: claim.Cells{pair(one4, all4)}.And(share), Want: reach(tcp.Listening, reachesFirst, reachesNobody)},
		{Name: "dualstack-specific-6-second", Cells: claim.Cells{pair(all6, one6)}.And(share), Want: reach(tcp.Listening, reachesNobody, reachesSecond)},
		{Name: "dualstack-specific-6-first", Cells: claim.Cells{pair(one6, all6)}.And(share), Want: reach(tcp.Listening, reachesNobody, reachesFirst)},
		{
			Name: "dualstack-specific-both-second", Cells: claim.Cells{{firstAt: only4, secondAt: {all46}}, pair(all46, one6)}.And(share),
			Want: reach(tcp.Listening, reachesFirst, reachesSecond),
		},
		{
			Name: "dualstack-specific-both-first", Cells: claim.Cells{{firstAt: {all46}, secondAt: only4}, pair(one6, all46)}.And(share),
			Want: reach(tcp.Listening, reachesSecond, reachesFirst),
		},
		{
			Name: "dualstack-v6only-second", Cells: claim.Cells{pair(all46, all6)}.And(share),
			Want: []claim.Expectation{claim.Is("second listener", string(tcp.Listening)), claim.Is("IPv4 reaches", reachesFirst), either},
		},
		{
			Name: "dualstack-v6only-first", Cells: claim.Cells{pair(all6, all46)}.And(share),
			Want: []claim.Expectation{claim.Is("second listener", string(tcp.Listening)), claim.Is("IPv4 reaches", reachesSecond), either},
		},
		{
			Name: "dualstack-shared-ipv4", Cells: claim.Cells{pair(all4, all4), pair(one4, one4)}.And(share),
			Want: []claim.Expectation{claim.Is("second listener", string(tcp.Listening)), claim.Is("IPv4 reaches", reachesFirst, reachesSecond), claim.Is("IPv6 reaches", reachesNobody)},
		},
		{
			Name: "dualstack-shared-ipv6", Cells: claim.Cells{pair(all6, all6), pair(one6, one6)}.And(share),
			Want: []claim.Expectation{claim.Is("second listener", string(tcp.Listening)), either, claim.Is("IPv4 reaches", reachesNobody)},
		},
		{
			Name: "dualstack-shared-both", Cells: claim.Cells{pair(all46, all46)}.And(share),
			Want: []claim.Expectation{claim.Is("second listener", string(tcp.Listening)), either, claim.Is("IPv4 reaches", reachesFirst, reachesSecond)},
		},
	}
	for i := range rules {
		rules[i].Kernels, rules[i].Because, rules[i].Source = with, specific, source
		if i >= len(rules)-3 {
			rules[i].Because = shared
		}
	}
	return rules
}
