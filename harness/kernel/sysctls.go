package kernel

import "slices"

// Sysctls returns the sysctls whose history matters for TIME_WAIT and NAT.
func Sysctls() []Sysctl {
	return slices.Concat(reuseSysctls(), endSysctls(), synSysctls(), natSysctls(), machineSysctls())
}

// reuseSysctls are about timestamps, and about the reuse of TIME_WAITs.
func reuseSysctls() []Sysctl {
	return []Sysctl{
		{
			Name: "net.ipv4.tcp_tw_recycle", Namespaced: Mainline(4, 11), Removed: Mainline(4, 12), Shown: TwRecycle,
			Source:   "commits 1946e672c173, and 4396e46187ca, tcp: remove tcp_tw_recycle",
			Defaults: always("0"),
		},
		{
			Name: "net.ipv4.tcp_timestamps", Namespaced: Mainline(4, 13), Shown: "sysctl-tcp-timestamps",
			Source:   tcpTable + "; commit 5d2ed0521ae9",
			Defaults: always("1"),
		},
		{
			Name: "net.ipv4.tcp_tw_reuse", Namespaced: Mainline(4, 10), Shown: "sysctl-tcp-tw-reuse",
			Source:   tcpTable + "; commit 79e9fed46038",
			Takes:    []Numbers{{In: from(4, 19), Least: 0, Most: 2}},
			Defaults: []Default{{In: from(4, 19), Value: "2"}, {Value: "0"}},
		},
		{
			Name: "net.ipv4.tcp_tw_reuse_delay", Introduced: Mainline(6, 14), Namespaced: Mainline(6, 14), Shown: "sysctl-tcp-tw-reuse-delay",
			Source:   "commit ca6a6f93867a, tcp: Add sysctl to configure TIME-WAIT reuse delay",
			Takes:    []Numbers{{Least: 1, Most: 60000}},
			Defaults: always("1000"),
		},
	}
}

// endSysctls are about the end of connections, and about local ports.
func endSysctls() []Sysctl {
	return []Sysctl{
		{
			Name: "net.ipv4.tcp_fin_timeout", Namespaced: Mainline(4, 6), Shown: "sysctl-tcp-fin-timeout",
			Source:   tcpTable + "; TCP_FIN_TIMEOUT",
			Defaults: always("60"),
		},
		{
			Name: "net.ipv4.ip_local_port_range", Namespaced: Mainline(3, 15), Shown: "sysctl-ip-local-port-range",
			Source: "inet_init_net; commit 07f4c90062f8",
			Pair:   true,
			// Since commit 4548b683b781 not below ip_unprivileged_port_start, which is 1024
			// (ipv4_local_port_range).
			Takes:    []Numbers{{In: from(4, 11), Least: 1024, Most: 65535}, {Least: 1, Most: 65535}},
			Defaults: []Default{{In: from(4, 2), Value: "32768 60999"}, {Value: "32768 61000"}},
		},
		{
			Name: "net.ipv4.tcp_max_tw_buckets", Namespaced: Mainline(4, 11), Shown: "sysctl-tcp-max-tw-buckets",
			Source: "tcp_sk_init: cnt / 2; commit 1946e672c173",
		},
		{
			Name: "net.ipv4.tcp_rfc1337", Namespaced: Mainline(4, 15), Shown: "sysctl-tcp-rfc1337", Source: tcpTable,
			Defaults: always("0"),
		},
	}
}

// synSysctls are about SYNs, their answers, and the accept queue.
func synSysctls() []Sysctl {
	return []Sysctl{
		{
			Name: "net.ipv4.tcp_syn_retries", Namespaced: Mainline(4, 6), Shown: "sysctl-tcp-syn-retries",
			Source:   "TCP_SYN_RETRIES; commit 6c9ff979d192",
			Takes:    []Numbers{{In: from(3, 16), Least: 1, Most: 127}},
			Defaults: []Default{{In: from(3, 7), Value: "6"}, {Value: "5"}},
		},
		{
			Name: "net.ipv4.tcp_syn_linear_timeouts", Introduced: Mainline(6, 5), Namespaced: Mainline(6, 5), Shown: "sysctl-tcp-syn-linear-timeouts",
			Source:   "commit ccce324dabfe, tcp: make the first N SYN RTO backoffs linear",
			Takes:    []Numbers{{Least: 0, Most: 127}},
			Defaults: always("4"),
		},
		{
			Name: "net.ipv4.tcp_invalid_ratelimit", Introduced: Mainline(4, 0), Namespaced: Mainline(4, 15), Shown: "sysctl-tcp-invalid-ratelimit",
			Source:   "commit 032ee4236954, tcp: helpers to mitigate ACK loops by rate-limiting out-of-window dupacks; commit 4fb17a609167",
			Defaults: always("500"),
		},
		{
			Name: "net.ipv4.tcp_syncookies", Namespaced: Mainline(4, 6), Shown: "sysctl-tcp-syncookies",
			Source:   tcpTable + "; commit e994b7c901de",
			Defaults: always("1"),
		},
		{
			Name: "net.core.somaxconn", Namespaced: Mainline(2, 6),
			Source:   "net/core/sysctl_net_core.c, netns_core_table; commit 19f92a030ca6",
			Defaults: []Default{{In: from(5, 4), Value: "4096"}, {Value: "128"}},
		},
	}
}

// natSysctls are those of connection tracking.
func natSysctls() []Sysctl {
	const source = "nf_conntrack_proto_tcp.c, tcp_timeouts"
	return []Sysctl{
		{Name: "net.netfilter.nf_conntrack_tcp_timeout_time_wait", Namespaced: Mainline(3, 6), Source: source, Defaults: always("120")},
		{Name: "net.netfilter.nf_conntrack_tcp_timeout_close", Namespaced: Mainline(3, 6), Source: source, Defaults: always("10")},
		{Name: "net.netfilter.nf_conntrack_tcp_timeout_close_wait", Namespaced: Mainline(3, 6), Source: source, Defaults: always("60")},
		{Name: "net.netfilter.nf_conntrack_tcp_be_liberal", Namespaced: Mainline(3, 6), Source: "nf_conntrack_proto_tcp.c, tcp_in_window", Defaults: always("0")},
	}
}

// machineSysctls have one value for the whole machine.
func machineSysctls() []Sysctl {
	return []Sysctl{
		{Name: "net.core.default_qdisc", Introduced: Mainline(3, 12)},
		{Name: "net.core.netdev_max_backlog"},
		{Name: "net.ipv4.tcp_max_orphans"},
		{Name: "net.ipv4.tcp_mem"},
	}
}

// always is a default that never changed.
func always(value string) []Default { return []Default{{Value: value}} }

// from is the span that begins with a release.
func from(major, minor int) Span { return since(major, minor)[0] }
