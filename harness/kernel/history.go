package kernel

import "slices"

// Sysctl is the history of a sysctl in the mainline releases, taken from
// net/ipv4/sysctl_net_ipv4.c and similar files of these releases.
type Sysctl struct {
	Name string // dotted, such as "net.ipv4.tcp_tw_recycle"
	// Introduced is the first release that has it; zero means older than Linux 2.6.32.
	Introduced Release
	// Namespaced is the first release that has one value per network namespace; zero means
	// none so far.
	Namespaced Release
	// Removed is the first release without it; zero means that it still exists.
	Removed Release
	// Shown is the feature which means that each namespace shows the sysctl, for sysctls
	// that rules depend on; see [Features].
	Shown  Feature
	Source string
}

// Sysctls returns the sysctls whose history matters for TIME_WAIT and NAT.
func Sysctls() []Sysctl {
	return []Sysctl{
		{
			Name: "net.ipv4.tcp_tw_recycle", Namespaced: Mainline(4, 11), Removed: Mainline(4, 12), Shown: TwRecycle,
			Source: "commits 1946e672c173, and 4396e46187ca, tcp: remove tcp_tw_recycle",
		},
		{Name: "net.ipv4.tcp_timestamps", Namespaced: Mainline(4, 13), Shown: "sysctl-tcp-timestamps", Source: tcpTable + "; commit 5d2ed0521ae9"},
		{Name: "net.ipv4.tcp_tw_reuse", Namespaced: Mainline(4, 10), Shown: "sysctl-tcp-tw-reuse", Source: tcpTable + "; commit 79e9fed46038"},
		{
			Name: "net.ipv4.tcp_tw_reuse_delay", Introduced: Mainline(6, 14), Namespaced: Mainline(6, 14), Shown: "sysctl-tcp-tw-reuse-delay",
			Source: "commit ca6a6f93867a, tcp: Add sysctl to configure TIME-WAIT reuse delay",
		},
		{Name: "net.ipv4.tcp_fin_timeout", Namespaced: Mainline(4, 6), Shown: "sysctl-tcp-fin-timeout", Source: tcpTable + "; TCP_FIN_TIMEOUT"},
		{
			Name: "net.ipv4.ip_local_port_range", Namespaced: Mainline(3, 15), Shown: "sysctl-ip-local-port-range",
			Source: "inet_init_net; commit 07f4c90062f8",
		},
		{
			Name: "net.ipv4.tcp_max_tw_buckets", Namespaced: Mainline(4, 11), Shown: "sysctl-tcp-max-tw-buckets",
			Source: "tcp_sk_init: cnt / 2; commit 1946e672c173",
		},
		{Name: "net.ipv4.tcp_rfc1337", Namespaced: Mainline(4, 15), Shown: "sysctl-tcp-rfc1337", Source: tcpTable},
		{
			Name: "net.ipv4.tcp_syn_retries", Namespaced: Mainline(4, 6), Shown: "sysctl-tcp-syn-retries",
			Source: "TCP_SYN_RETRIES; commit 6c9ff979d192",
		},
		{
			Name: "net.ipv4.tcp_syn_linear_timeouts", Introduced: Mainline(6, 5), Namespaced: Mainline(6, 5), Shown: "sysctl-tcp-syn-linear-timeouts",
			Source: "commit ccce324dabfe, tcp: make the first N SYN RTO backoffs linear",
		},
		{
			Name: "net.ipv4.tcp_invalid_ratelimit", Introduced: Mainline(4, 0), Namespaced: Mainline(4, 15), Shown: "sysctl-tcp-invalid-ratelimit",
			Source: "commit 032ee4236954, tcp: helpers to mitigate ACK loops by rate-limiting out-of-window dupacks; commit 4fb17a609167",
		},
		{Name: "net.ipv4.tcp_syncookies", Namespaced: Mainline(4, 6), Shown: "sysctl-tcp-syncookies", Source: tcpTable + "; commit e994b7c901de"},
		{Name: "net.core.default_qdisc", Introduced: Mainline(3, 12)},
		{Name: "net.core.netdev_max_backlog"},
		{Name: "net.ipv4.tcp_max_orphans"},
		{Name: "net.ipv4.tcp_mem"},
	}
}

const tcpTable = "net/ipv4/sysctl_net_ipv4.c, tcp_sk_init"

// SysctlNamed finds a sysctl of [Sysctls].
func SysctlNamed(name string) (s Sysctl, known bool) {
	all := Sysctls()
	i := slices.IndexFunc(all, func(s Sysctl) bool { return s.Name == name })
	if i < 0 {
		return Sysctl{}, false
	}
	return all[i], true
}

// shownIn returns the releases that show the sysctl in every network namespace. Before
// Linux 3.5 all namespaces showed the machine's single value.
func (s Sysctl) shownIn() []Span {
	var spans []Span
	if s.Introduced == (Release{}) {
		spans = append(spans, Span{Until: Mainline(3, 5)})
	}
	return append(spans, Span{From: s.Namespaced, Until: s.Removed})
}

// Mainline returns a mainline release.
func Mainline(major, minor int) Release { return Release{Major: major, Minor: minor} }
