package client

import (
	"slices"
	"strings"

	"twlab/harness/kernel"
	"twlab/harness/lab"
	"twlab/scenarios/claim"
	"twlab/scenarios/situation"
)

// tunable is a sysctl that matters to the document, with its defaults.
type tunable struct {
	sysctl string
	// absent says how it is missing on other kernels, the special cases first.
	absent []absence
	// other is a value that is not the default of any kernel.
	other string
	// usual are the defaults, the special cases first.
	usual []usual
	// alwaysOwn: each namespace had a value of its own even before Linux 3.5.
	alwaysOwn bool
	source    string
}

// absence is how a sysctl can be missing.
type absence struct {
	name    string
	kernels []claim.Condition
	file    string
	because string
}

// usual is a default.
type usual struct {
	name    string
	kernels []claim.Condition
	want    []claim.Expectation
	because string
}

// oneForAll is the absence of sysctls that have one value for the whole machine, in the
// initial network namespace.
var oneForAll = absence{
	name: "one-for-all", file: situation.SysctlNotHere,
	because: "the kernel has one value for the whole machine, and only the initial network namespace shows it",
}

func notYet(name, since string) absence {
	return absence{name: name, file: situation.SysctlNotYet, because: "the sysctl exists since Linux " + since}
}

// always is a default that never changed.
func always(value, because string) []usual {
	return []usual{{name: "default", want: []claim.Expectation{claim.Is("value", value)}, because: because}}
}

// tunables lists the sysctls of the family Defaults.
func tunables() []tunable {
	return slices.Concat(timestampTunables(), endTunables(), synTunables(), natTunables())
}

// sysctlTable is the source of most defaults.
const sysctlTable = "net/ipv4/sysctl_net_ipv4.c, tcp_sk_init"

// timestampTunables are about timestamps, and about the reuse of TIME_WAITs.
func timestampTunables() []tunable {
	return []tunable{
		{
			sysctl: "net.ipv4.tcp_timestamps", other: "0",
			absent: []absence{oneForAll}, source: sysctlTable + "; commit 5d2ed0521ae9",
			usual: always("1", "timestamps are on by default in every kernel"),
		},
		{
			sysctl: "net.ipv4.tcp_tw_reuse", other: "1",
			absent: []absence{oneForAll}, source: sysctlTable + "; commit 79e9fed46038",
			usual: []usual{
				{
					name: "default-loopback", kernels: []claim.Condition{claim.Has(lab.Client, kernel.LoopbackReuse)}, want: []claim.Expectation{claim.Is("value", "2")},
					because: "since Linux 4.19 the default is 2: reuse, but only over loopback",
				},
				{
					name: "default-off", want: []claim.Expectation{claim.Is("value", "0")},
					because: "until Linux 4.18 the default is 0, and the value 2 does not exist: the document names a default that the kernel it quotes " +
						"does not have",
				},
			},
		},
		{
			sysctl: "net.ipv4.tcp_tw_reuse_delay", other: "500",
			absent: []absence{notYet("not-yet", "6.14")},
			source: "commit ca6a6f93867a, tcp: Add sysctl to configure TIME-WAIT reuse delay",
			usual:  always("1000", "since Linux 6.14 the document's one second is the default of a sysctl, in milliseconds"),
		},
		{
			sysctl: "net.ipv4.tcp_tw_recycle", other: "1",
			absent: []absence{
				{
					name: "one-for-all", kernels: []claim.Condition{claim.Has(lab.Client, kernel.PassivePAWS)}, file: situation.SysctlNotHere,
					because: "until Linux 4.10 there is one value for the whole machine, and only the initial network namespace shows it",
				},
				{
					name: "gone", file: situation.SysctlGone,
					because: "Linux 4.12 removed it, so half of what the document discusses cannot be set any more",
				},
			},
			source: "commit 4396e46187ca, tcp: remove tcp_tw_recycle",
			usual:  always("0", "where it exists, it is off by default"),
		},
	}
}

// endTunables are about the end of connections, and about local ports.
func endTunables() []tunable {
	return []tunable{
		{
			sysctl: "net.ipv4.tcp_fin_timeout", other: "30",
			absent: []absence{oneForAll}, source: sysctlTable + "; TCP_FIN_TIMEOUT",
			usual: always("60", "FIN_WAIT2 lasts 60 s by default, as long as TIME_WAIT, whose length is a constant"),
		},
		{
			sysctl: "net.ipv4.ip_local_port_range", other: "40000 50000",
			absent: []absence{oneForAll}, source: "inet_init_net; commit 07f4c90062f8",
			usual: []usual{
				{
					name: "default-60999", kernels: []claim.Condition{claim.Has(lab.Client, kernel.EvenPorts)}, want: []claim.Expectation{claim.Is("value", "32768 60999")},
					because: "by default a client has 28232 ports towards one destination; the number is even, because connect and bind share the ports by " +
						"parity",
				},
				{
					name: "default-61000", want: []claim.Expectation{claim.Is("value", "32768 61000")},
					because: "by default a client has 28233 ports towards one destination",
				},
			},
		},
		{
			sysctl: "net.ipv4.tcp_max_tw_buckets", other: "1000",
			absent: []absence{oneForAll}, source: "tcp_sk_init: cnt / 2; commit 1946e672c173",
			usual: []usual{
				{
					name: "default-half-the-hash", kernels: []claim.Condition{claim.Has(lab.Client, kernel.EhashEntries)},
					want:    []claim.Expectation{claim.AtLeast("value", 512), claim.Is("half of tcp_ehash_entries", "yes")},
					because: "the limit of TIME_WAITs is half the size of the socket hash table, which depends on the memory size; 180000 is long obsolete",
				},
				{
					name: "default-by-memory", want: []claim.Expectation{claim.AtLeast("value", 512)},
					because: "the limit of TIME_WAITs is half the size of the socket hash table, which depends on the memory size; 180000 is long obsolete",
				},
			},
		},
		{
			sysctl: "net.ipv4.tcp_rfc1337", other: "1",
			absent: []absence{oneForAll}, source: sysctlTable,
			usual: always("0", "by default a RST may end a TIME_WAIT, against the advice of RFC 1337"),
		},
	}
}

// synTunables are about SYNs and their answers.
func synTunables() []tunable {
	return []tunable{
		{
			sysctl: "net.ipv4.tcp_syn_retries", other: "2",
			absent: []absence{oneForAll}, source: "TCP_SYN_RETRIES; commit 6c9ff979d192",
			usual: []usual{
				{
					name: "default-6", kernels: []claim.Condition{claim.Has(lab.Client, kernel.SixSYNRetries)}, want: []claim.Expectation{claim.Is("value", "6")},
					because: "since Linux 3.7 a client sends its SYN seven times, because the first timeout is 1 s instead of 3 s",
				},
				{
					name: "default-5", want: []claim.Expectation{claim.Is("value", "5")},
					because: "a client sends its SYN six times",
				},
			},
		},
		{
			sysctl: "net.ipv4.tcp_syn_linear_timeouts", other: "1",
			absent: []absence{notYet("not-yet", "6.5")}, source: "commit ccce324dabfe, tcp: make the first N SYN RTO backoffs linear",
			usual: always("4", "the first four retransmissions of a SYN are one second apart"),
		},
		{
			sysctl: "net.ipv4.tcp_invalid_ratelimit", other: "0",
			absent: []absence{
				{
					name: "one-for-all", kernels: []claim.Condition{claim.Has(lab.Client, kernel.ACKRatelimit)}, file: situation.SysctlNotHere, because: oneForAll.because,
				},
				notYet("not-yet", "4.0"),
			},
			source: "commit 032ee4236954, tcp: helpers to mitigate ACK loops by rate-limiting out-of-window dupacks; commit 4fb17a609167",
			usual:  always("500", "a TIME_WAIT answers rejected SYNs, and segments without data, at most twice a second"),
		},
		{
			sysctl: "net.ipv4.tcp_syncookies", other: "0",
			absent: []absence{oneForAll}, source: sysctlTable + "; commit e994b7c901de",
			usual: always("1", "SYN cookies answer SYNs when the queue of half-open connections is full"),
		},
		{
			sysctl: "net.core.somaxconn", other: "100", alwaysOwn: true, source: "SOMAXCONN; commit 19f92a030ca6",
			usual: []usual{
				{
					name: "default-4096", kernels: []claim.Condition{claim.Has(lab.Client, kernel.LongBacklog)}, want: []claim.Expectation{claim.Is("value", "4096")},
					because: "since Linux 5.4 up to 4096 connections may wait in the accept queue",
				},
				{
					name: "default-128", want: []claim.Expectation{claim.Is("value", "128")},
					because: "until Linux 5.3 up to 128 connections may wait in the accept queue",
				},
			},
		},
	}
}

// natTunables are those of a Linux NAT.
func natTunables() []tunable {
	return []tunable{
		{
			sysctl: "net.netfilter.nf_conntrack_tcp_timeout_time_wait", other: "60", source: "nf_conntrack_proto_tcp.c, tcp_timeouts",
			usual: always("120", "a Linux NAT remembers a closed connection for 120 s, twice as long as TIME_WAIT lasts, so by default it does not reuse a "+
				"five-tuple within 2 MSL"),
		},
		{
			sysctl: "net.netfilter.nf_conntrack_tcp_timeout_close", other: "60", source: "nf_conntrack_proto_tcp.c, tcp_timeouts",
			usual: always("10", "a Linux NAT keeps the entry of a connection for 10 s after a RST"),
		},
		{
			sysctl: "net.netfilter.nf_conntrack_tcp_be_liberal", other: "1", source: "nf_conntrack_proto_tcp.c, tcp_in_window",
			usual: always("0", "a Linux NAT checks the sequence numbers of the segments that it translates"),
		},
	}
}

// short is a sysctl's own name, as in the names of rules: "tcp-tw-reuse".
func (t tunable) short() string {
	last := t.sysctl[strings.LastIndexByte(t.sysctl, '.')+1:]
	return strings.ReplaceAll(last, "_", "-")
}

// shown is the feature of kernels that show the sysctl in every network namespace;
// empty where all known kernels do.
func (t tunable) shown() kernel.Feature {
	s, _ := kernel.SysctlNamed(t.sysctl)
	return s.Shown
}
