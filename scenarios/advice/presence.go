package advice

import (
	"twlab/harness/kernel"
)

// presence is what the family "defaults" proves of a sysctl.
type presence struct {
	sysctl string
	// absent are the rules for kernels that do not have it, oneForAll for those on which it
	// has one value for the whole machine, and usual for its default.
	absent, oneForAll, usual []Proof
}

// presences lists the sysctls of that family.
func presences() []presence {
	one := func(rule string) []Proof { return guest("all", rule) }
	return []presence{
		{timestamps, nil, one("defaults-tcp-timestamps-one-for-all"), rules("defaults-tcp-timestamps-default")},
		{twReuse, nil, one("defaults-tcp-tw-reuse-one-for-all"), []Proof{
			{Rule: "defaults-tcp-tw-reuse-loopback", On: since(kernel.LoopbackReuse)},
			{Rule: "defaults-tcp-tw-reuse-off", On: before(kernel.LoopbackReuse), Guest: "client"},
		}},
		{reuseDelay, guest("client", "defaults-tcp-tw-reuse-delay-not-yet"), nil, rules("defaults-tcp-tw-reuse-delay-default")},
		{twRecycle, rules("defaults-tcp-tw-recycle-gone"), one("defaults-tcp-tw-recycle-one-for-all"), guest("client", "defaults-tcp-tw-recycle-default")},
		{finTimeout, nil, one("defaults-tcp-fin-timeout-one-for-all"), rules("defaults-tcp-fin-timeout-default")},
		{portRange, nil, one("defaults-ip-local-port-range-one-for-all"), []Proof{
			{Rule: "defaults-ip-local-port-range-60999", On: since(kernel.EvenPorts)},
			{Rule: "defaults-ip-local-port-range-61000", On: before(kernel.EvenPorts), Guest: "client"},
		}},
		{twBuckets, nil, one("defaults-tcp-max-tw-buckets-one-for-all"), nil}, // its default depends on the memory
		{rfc1337, nil, one("defaults-tcp-rfc1337-one-for-all"), rules("defaults-tcp-rfc1337-default")},
		{"net.ipv4.tcp_syn_retries", nil, one("defaults-tcp-syn-retries-one-for-all"), rules("defaults-tcp-syn-retries-6")},
		{
			"net.ipv4.tcp_syn_linear_timeouts", guest("client", "defaults-tcp-syn-linear-timeouts-not-yet"), nil,
			rules("defaults-tcp-syn-linear-timeouts-default"),
		},
		{
			"net.ipv4.tcp_invalid_ratelimit", guest("client", "defaults-tcp-invalid-ratelimit-not-yet"), one("defaults-tcp-invalid-ratelimit-one-for-all"),
			rules("defaults-tcp-invalid-ratelimit-default"),
		},
		{cookies, nil, one("defaults-tcp-syncookies-one-for-all"), rules("defaults-tcp-syncookies-default")},
		{somaxconn, nil, nil, []Proof{
			{Rule: "defaults-somaxconn-4096", On: since(kernel.LongBacklog)},
			{Rule: "defaults-somaxconn-128", On: before(kernel.LongBacklog), Guest: "client"},
		}},
		{timeWait, nil, nil, rules("defaults-nf-conntrack-tcp-timeout-time-wait-default")},
		{"net.netfilter.nf_conntrack_tcp_timeout_close", nil, nil, rules("defaults-nf-conntrack-tcp-timeout-close-default")},
		{liberal, nil, nil, rules("defaults-nf-conntrack-tcp-be-liberal-default")},
	}
}

// presenceOf returns what is proved of a sysctl; its zero value is nothing.
func presenceOf(name string) presence {
	for _, p := range presences() {
		if p.sysctl == name {
			return p
		}
	}
	return presence{}
}
