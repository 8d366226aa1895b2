package kernel

import (
	"fmt"
	"maps"
	"slices"
)

// Feature is something that kernels have or do not have and that rules turn on,
// as in the label "needs:prompt-syn".
type Feature string

// The features; [Features] says what each is and how it is found out.
const (
	TwRecycle              Feature = "tw-recycle"
	LoopbackReuse          Feature = "tw-reuse-loopback"
	ReuseDelay             Feature = "tw-reuse-delay"
	TimestampsMode2        Feature = "timestamps-without-offset"
	MillisecondClock       Feature = "millisecond-clock"
	OffsetPerPort          Feature = "clock-per-port"
	PromptSYN              Feature = "prompt-syn"
	RecordsChallenge       Feature = "nat-knows-challenge"
	EvictsClosing          Feature = "nat-evicts-closing"
	LatePort               Feature = "late-port"
	DrawsByHash            Feature = "nat-random-by-hash"
	DrawsFully             Feature = "nat-random-fully"
	PassivePAWS            Feature = "paws-passive-counter"
	StrictRecycle          Feature = "tw-recycle-wants-timestamps"
	SharedSysctls          Feature = "sysctls-shared-by-namespaces"
	EvenPorts              Feature = "even-ports-first"
	EhashEntries           Feature = "hash-size-shown"
	SixSYNRetries          Feature = "six-syn-retries"
	ACKRatelimit           Feature = "ack-ratelimit"
	LongBacklog            Feature = "long-accept-queue"
	IsGuest                Feature = "machine-of-its-own"
	TimestampExpiresSooner Feature = "paws-timestamp-expires-sooner"
	IgnoresSYN             Feature = "established-ignores-syn"
	RSTRestarts            Feature = "rst-restarts-time-wait"
)

// FeatureInfo says what a feature is and how to find out about it. The probes
// decide where there is one; the releases where there is none, and for kernels
// that are not running.
type FeatureInfo struct {
	Feature Feature
	Means   string
	Source  string
	// Probe decides where it is one. Its zero value is none.
	Probe Probe
	// In are the mainline releases that have it.
	In []Span
	// Settled, when it is set, says that the feature is found out by bringing the
	// matter about, on a guest that nobody else uses;
	// but for kernels from Settled on, of which the release tells: before, some have
	// the mending of a later one.
	Settled Release
	// OfGuests says that it is no matter of releases: the nodes of a role have it
	// when they are guests, and lack it as namespaces.
	OfGuests bool
}

// ProbeKind is what a probe looks at.
type ProbeKind string

// The kinds of probes. The zero value is no probe.
const (
	NoProbe ProbeKind = ""
	// BySysctl: a network namespace has a sysctl of the name.
	BySysctl ProbeKind = "sysctl"
	// ByCounter: the kernel has a counter of the name.
	ByCounter ProbeKind = "counter"
	// BySymbol: the kernel has a symbol of the name (/proc/kallsyms).
	BySymbol ProbeKind = "symbol"
	// ByDefault: the sysctl of the name, as long as nobody has set it, has the Value; and
	// the value Without on a kernel that lacks the feature.
	ByDefault ProbeKind = "default"
	// ByRefusal: the sysctl of the name does not take the Value.
	ByRefusal ProbeKind = "refusal"
	// ByOption: a connection can be made with the socket option of the name.
	ByOption ProbeKind = "socket option"
)

// Probe is how to find out whether the kernel of a node has a feature; package roles does it.
type Probe struct {
	Kind           ProbeKind
	Name           string
	Value, Without string
}

// String says what has the feature, in Markdown.
func (p Probe) String() string {
	switch p.Kind {
	case ByDefault:
		return fmt.Sprintf("default of `%s`: %s, not %s", p.Name, p.Value, p.Without)
	case ByRefusal:
		return fmt.Sprintf("`%s` does not take %s", p.Name, p.Value)
	case NoProbe:
		return "none"
	default:
		return fmt.Sprintf("%s `%s`", p.Kind, p.Name)
	}
}

// Span is a range of mainline releases. A zero From means since ever, a zero
// Until means until now; Until itself is outside.
type Span struct{ From, Until Release }

// Has tells whether the release is one of them.
func (s Span) Has(r Release) bool {
	return !r.Before(s.From.Major, s.From.Minor) &&
		(s.Until == (Release{}) || r.Before(s.Until.Major, s.Until.Minor))
}

// String is "4.19 to 6.13", "since 6.14" or "before 4.12".
func (s Span) String() string {
	switch {
	case s.Until == (Release{}):
		return fmt.Sprintf("since %v", s.From)
	case s.From == (Release{}):
		return fmt.Sprintf("before %v", s.Until)
	default:
		return fmt.Sprintf("since %v, before %v", s.From, s.Until)
	}
}

func since(major, minor int) []Span { return []Span{{From: Mainline(major, minor)}} }
func until(major, minor int) []Span { return []Span{{Until: Mainline(major, minor)}} }

// Features describes all features.
func Features() []FeatureInfo {
	return slices.Concat(
		shownSysctls(), reuseFeatures(), clockFeatures(), wayFeatures(), limitFeatures(), socketFeatures(), machineFeatures(),
	)
}

// reuseFeatures are about tcp_tw_recycle and tcp_tw_reuse.
func reuseFeatures() []FeatureInfo {
	return []FeatureInfo{
		{
			Feature: PassivePAWS, Probe: Probe{Kind: ByCounter, Name: "TcpExt.PAWSPassive"}, In: until(4, 12),
			Means:  "the kernel has the code behind tcp_tw_recycle; the counter counts the SYNs that it drops",
			Source: "commit 4396e46187ca, tcp: remove tcp_tw_recycle",
		},
		{
			Feature: StrictRecycle, In: []Span{{From: Mainline(3, 17), Until: Mainline(4, 12)}},
			Means:  "tcp_tw_recycle also drops a SYN without timestamps, if the last connection of its address had timestamps",
			Source: "commit a26552afe894, tcp: don't allow syn packets without timestamps to pass tcp_tw_recycle logic",
		},
		{
			Feature: LoopbackReuse, In: since(4, 19), Probe: Probe{Kind: ByRefusal, Name: "net.ipv4.tcp_tw_reuse", Value: "3"},
			Means:  "tcp_tw_reuse accepts the value 2 (loopback only), which is the default",
			Source: "commit 79e9fed46038, net-tcp: extend tcp_tw_reuse sysctl to enable loopback only optimization",
		},
		{
			Feature: ReuseDelay, Probe: Probe{Kind: BySysctl, Name: "net.ipv4.tcp_tw_reuse_delay"}, In: since(6, 14),
			Means:  "the age at which tcp_tw_reuse takes a TIME_WAIT is a sysctl, in milliseconds since the TIME_WAIT began",
			Source: "commit ca6a6f93867a, tcp: Add sysctl to configure TIME-WAIT reuse delay",
		},
	}
}

// clockFeatures are about the clock behind timestamps.
func clockFeatures() []FeatureInfo {
	return []FeatureInfo{
		{
			Feature: TimestampsMode2, In: since(4, 10),
			Means:  "tcp_timestamps has the value 2: timestamps without a random offset",
			Source: "commit 95a22caee396, tcp: attach random offset",
		},
		{
			Feature: MillisecondClock, In: since(4, 13),
			Means:  "the timestamp clock ticks once per millisecond, whatever HZ is",
			Source: "commit 9a568de4818d, tcp: switch TCP TS option (RFC 7323) to 1ms clock",
		},
		{
			Feature: OffsetPerPort, Probe: Probe{Kind: BySymbol, Name: "secure_tcp_seq_and_ts_off"}, In: since(7, 0),
			Means:  "the random offset of the timestamp clock also depends on the ports, so one host has many clocks",
			Source: "commit 165573e41f2f, tcp: secure_seq: add back ports to TS offset; in many stable kernels",
		},
	}
}

// wayFeatures are about what clients and gateways do with a SYN, its answer and its port.
func wayFeatures() []FeatureInfo {
	return []FeatureInfo{
		{
			Feature: PromptSYN, In: since(5, 6),
			Means:  "a client that has answered an unexpected ACK with a RST retransmits its SYN at once, without waiting for its timer",
			Source: "commit 9603d47bad46, tcp: Reduce SYN resend delay if a suspicous ACK is received",
		},
		{
			Feature: RecordsChallenge, In: []Span{{Until: Mainline(5, 18)}, {From: Mainline(6, 1)}},
			Means: "a gateway translates the RST with which a client answers a challenge ACK, even if that ACK acknowledges a higher number than " +
				"the client has sent",
			Source: "broken by commit c7aab4f17021 in 5.18, repaired by commit c410cb974f2b in 6.2 and in stable 6.1",
		},
		{
			Feature: EvictsClosing, In: since(6, 5),
			Means:  "a NAT that finds no free port takes the port of a closing connection",
			Source: "commit 4589725502871, netfilter: snat: evict closing tcp entries on reply tuple collision",
		},
		{
			Feature: LatePort, In: since(4, 2), Probe: Probe{Kind: ByOption, Name: "IP_BIND_ADDRESS_NO_PORT"},
			Means:  "with IP_BIND_ADDRESS_NO_PORT connect chooses the port, not bind",
			Source: "commit 90c337da1524, inet: add IP_BIND_ADDRESS_NO_PORT to overcome bind(0) limitations",
		},
		{
			Feature: DrawsByHash, In: until(5, 0),
			Means:  "MASQUERADE --random starts its search at the same port for all clients that connect to the same destination",
			Source: "secure_ipv4_port_ephemeral in nf_nat_l4proto_unique_tuple until 4.20; the series of commit 203f2e78200c, netfilter: nat: remove l4proto->unique_tuple",
		},
		{
			Feature: DrawsFully, In: since(3, 14),
			Means:  "MASQUERADE has --random-fully; older kernels ignore the flag",
			Source: "commit 34ce324019e7, netfilter: nf_nat: add full port randomization support",
		},
	}
}

// limitFeatures are about sysctls, their defaults, and limits.
func limitFeatures() []FeatureInfo {
	return []FeatureInfo{
		{
			Feature: SharedSysctls, In: until(3, 5),
			Means:  "every network namespace shows, and may set, the sysctls that have one value for the whole machine",
			Source: "net/ipv4/sysctl_net_ipv4.c of 3.2: register_sysctl_paths; of 3.10: register_net_sysctl(&init_net)",
		},
		{
			Feature: EvenPorts, In: since(4, 2), Probe: Probe{Kind: ByDefault, Name: "net.ipv4.ip_local_port_range", Value: "32768 60999", Without: "32768 61000"},
			Means:  "connect takes ports of one parity first, and the range of ports ends at 60999",
			Source: "commit 07f4c90062f8, tcp/dccp: try to not exhaust ip_local_port_range in connect()",
		},
		{
			Feature: EhashEntries, Probe: Probe{Kind: BySysctl, Name: "net.ipv4.tcp_ehash_entries"}, In: since(6, 1),
			Means:  "the size of the socket hash table can be read",
			Source: "commit d1e5e6408b30, tcp: Introduce optional per-netns ehash",
		},
		{
			Feature: SixSYNRetries, In: since(3, 7), Probe: Probe{Kind: ByDefault, Name: "net.ipv4.tcp_syn_retries", Value: "6", Without: "5"},
			Means:  "a SYN is retransmitted six times instead of five",
			Source: "commit 6c9ff979d192, tcp: Increase timeout for SYN segments",
		},
		{
			Feature: ACKRatelimit, Probe: Probe{Kind: ByCounter, Name: "TcpExt.TCPACKSkippedTimeWait"}, In: since(4, 0),
			Means:  "ACKs that answer out-of-window segments are rate-limited, and suppressed ones are counted",
			Source: "commits 032ee4236954 and 4fb17a609167, tcp: mitigate ACK loops for connections as tcp_timewait_sock",
		},
		{
			Feature: LongBacklog, In: since(5, 4), Probe: Probe{Kind: ByDefault, Name: "net.core.somaxconn", Value: "4096", Without: "128"},
			Means:  "somaxconn is 4096 by default instead of 128",
			Source: "commit 19f92a030ca6, net: increase SOMAXCONN to 4096",
		},
	}
}

// socketFeatures are about what a socket does with a segment that is none of its
// connection.
func socketFeatures() []FeatureInfo {
	return []FeatureInfo{
		{
			Feature: TimestampExpiresSooner, In: since(6, 7),
			Means:  "a connection accepts an older timestamp after 2147 s of idle time, not only after 24 days",
			Source: "TCP_PAWS_WRAP of include/net/tcp.h; the series of commit 614e8316aa4c, tcp: add support for usec resolution in TCP TS values",
		},
		{
			Feature: IgnoresSYN, In: []Span{{From: Mainline(3, 8), Until: Mainline(3, 18)}},
			Settled: Mainline(3, 18),
			Means:   "an established connection silently drops a SYN",
			Source: "commits c3ae62af8e75, tcp: should drop incoming frames without ACK flag set, " +
				"and 0c228e833c88, tcp: Restore RFC5961-compliant behavior for SYN packets; both in many stable kernels",
		},
		{
			Feature: RSTRestarts, In: until(4, 19), Settled: Mainline(4, 19),
			Means:  "with tcp_rfc1337, a RST that meets a TIME_WAIT restarts its 60 s timer",
			Source: "commit 63cc357f7bba, tcp: do not restart timewait timer on rst reception; in many stable kernels since September 2018",
		},
	}
}

// machineFeatures are about machines, and no matter of releases.
func machineFeatures() []FeatureInfo {
	return []FeatureInfo{
		{
			Feature: IsGuest, OfGuests: true,
			Means:  "each node of the role has its own uptime; namespaces have the uptime of their kernel",
			Source: "timens_offsets concern what processes read, not tcp_clock_ms and jiffies",
		},
	}
}

// shownSysctls are the features that say which sysctls a kernel shows in its
// namespaces.
func shownSysctls() (all []FeatureInfo) {
	for _, s := range Sysctls() {
		if s.Shown == "" {
			continue
		}
		all = append(all, FeatureInfo{
			Feature: s.Shown, Probe: Probe{Kind: BySysctl, Name: s.Name}, In: s.shownIn(), Source: s.Source,
			Means: "each network namespace shows " + s.Name,
		})
	}
	return all
}

// Facts is what is known of one kernel.
type Facts struct {
	Release  Release
	Features map[Feature]Fact
}

// FactsOf is what is known of a mainline kernel by its release alone.
func FactsOf(r Release) Facts {
	facts := Facts{Release: r, Features: map[Feature]Fact{}}
	for _, f := range Features() {
		facts.Features[f.Feature] = f.byRelease(r)
	}
	return facts
}

// Disagreements says, a line each, where a probe found something else than the
// release says of mainline: a distribution's backport, most likely. The probe counts.
func (f Facts) Disagreements() (lines []string) {
	guest := f.Features[IsGuest] == Yes
	for _, info := range Features() {
		if info.Probe.Kind == BySysctl && guest {
			continue // the first namespace shows what is one value for the whole machine
		}
		byRelease := info.byRelease(f.Release)
		found, known := f.Features[info.Feature]
		if known && found != Unknown && found != byRelease && !info.OfGuests {
			lines = append(lines, fmt.Sprintf("feature %s: %v, where mainline %v says %v: a backport? The probe counts.", info.Feature, found, f.Release, byRelease))
		}
	}
	return lines
}

// AsGuests is the same kernel where each node of the role is a guest.
func (f Facts) AsGuests() Facts {
	features := maps.Clone(f.Features)
	for _, info := range Features() {
		if info.OfGuests {
			features[info.Feature] = Yes
		}
	}
	return Facts{Release: f.Release, Features: features}
}

func (f FeatureInfo) byRelease(r Release) Fact {
	if slices.ContainsFunc(f.In, func(s Span) bool { return s.Has(r) }) {
		return Yes
	}
	return No
}

// KnownReleases are the mainline kernels that rules are checked for: the oldest that the
// harness can run on, and those at which something changed or that are in long
// use.
func KnownReleases() []Release {
	return []Release{
		Mainline(3, 2), Mainline(3, 10), Mainline(3, 16), Mainline(4, 2), Mainline(4, 9), Mainline(4, 11),
		Mainline(4, 14), Mainline(4, 19), Mainline(5, 4), Mainline(5, 10), Mainline(5, 15), Mainline(5, 19),
		Mainline(6, 1), Mainline(6, 6), Mainline(6, 12), Mainline(6, 18), Mainline(7, 0),
	}
}
