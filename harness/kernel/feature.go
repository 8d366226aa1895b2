package kernel

import (
	"fmt"
	"maps"
	"slices"
)

// Feature is a property that some kernels have and others lack, and that rules depend on,
// as in the label "needs:prompt-syn".
type Feature string

// The features; [Features] says what each one means and how it is found out.
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
	ReusePort              Feature = "reuseport"
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
	IsGuest                Feature = "guest"
	TimestampExpiresSooner Feature = "paws-timestamp-expires-sooner"
	IgnoresSYN             Feature = "established-ignores-syn"
	RSTRestarts            Feature = "rst-restarts-time-wait"
)

// FeatureInfo says what a feature means and how to find out whether a kernel has it. A
// probe decides where there is one. The release decides where there is none, and for
// kernels that are not running.
type FeatureInfo struct {
	Feature Feature
	Means   string
	Source  string
	// Probe decides, if there is one. Its zero value means none.
	Probe Probe
	// In lists the mainline releases that have the feature.
	In []Span
	// Settled, when it is set, means that a trial decides: the situation is created on a
	// guest that nothing else uses. From the release Settled on, the release decides
	// without a trial. Older kernels need the trial, because some of them contain the fix
	// of a later release.
	Settled Release
	// OfGuests means that the feature does not depend on the release: the nodes of a role
	// have it when they are guests, and lack it when they are namespaces.
	OfGuests bool
}

// ProbeKind says what a probe looks at.
type ProbeKind string

// The kinds of probes. The zero value is no probe.
const (
	NoProbe ProbeKind = ""
	// BySysctl: a network namespace has a sysctl of this name.
	BySysctl ProbeKind = "sysctl"
	// ByCounter: the kernel has a counter of this name.
	ByCounter ProbeKind = "counter"
	// BySymbol: the kernel has a symbol of this name (/proc/kallsyms).
	BySymbol ProbeKind = "symbol"
	// ByDefault: the sysctl of this name has the Value as its default; a kernel without the
	// feature has the value Without. It must not have been set before.
	ByDefault ProbeKind = "default"
	// ByRefusal: the sysctl of this name rejects the Value.
	ByRefusal ProbeKind = "refusal"
	// ByOption: a connection can be made with the socket option of this name.
	ByOption ProbeKind = "socket option"
)

// Probe says how to find out whether the kernel of a node has a feature; package roles runs
// it.
type Probe struct {
	Kind           ProbeKind
	Name           string
	Value, Without string
}

// String describes the probe in Markdown.
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

// Span is a range of mainline releases. A zero From means from the beginning, a zero Until
// means up to now; Until itself is not part of the range.
type Span struct{ From, Until Release }

// Has reports whether the release is in the range.
func (s Span) Has(r Release) bool {
	return !r.Before(s.From.Major, s.From.Minor) &&
		(s.Until == (Release{}) || r.Before(s.Until.Major, s.Until.Minor))
}

// String returns "since 4.19, before 6.14", "since 6.14" or "before 4.12".
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
			Feature: ReusePort, In: since(3, 9),
			Means:  "several sockets with SO_REUSEPORT may listen at one address and port",
			Source: "commit c617f398edd4, soreuseport: TCP/IPv4 implementation; commit 055dc21a1d1d for IPv6",
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

// socketFeatures are about what a socket does with a segment that does not belong to its
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

// machineFeatures are about machines, and do not depend on releases.
func machineFeatures() []FeatureInfo {
	return []FeatureInfo{
		{
			Feature: IsGuest, OfGuests: true,
			Means:  "each node of the role has its own uptime; namespaces have the uptime of their kernel",
			Source: "timens_offsets concern what processes read, not tcp_clock_ms and jiffies",
		},
	}
}

// shownSysctls returns the features that say which sysctls a kernel shows in its
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

// Facts describes what is known about one kernel.
type Facts struct {
	Release  Release
	Features map[Feature]Fact
}

// FactsOf returns what the release alone says about a mainline kernel.
func FactsOf(r Release) Facts {
	facts := Facts{Release: r, Features: map[Feature]Fact{}}
	for _, f := range Features() {
		facts.Features[f.Feature] = f.byRelease(r)
	}
	return facts
}

// Disagreements returns one line for each feature whose probe found something else than
// mainline of this release has: most likely a distribution's backport. The probe counts.
func (f Facts) Disagreements() (lines []string) {
	guest := f.Features[IsGuest] == Yes
	for _, info := range Features() {
		if info.Probe.Kind == BySysctl && guest {
			continue // the initial namespace shows sysctls that have one value for the whole machine
		}
		byRelease := info.byRelease(f.Release)
		found, known := f.Features[info.Feature]
		if known && found != Unknown && found != byRelease && !info.OfGuests {
			lines = append(lines, fmt.Sprintf("feature %s: %v, where mainline %v says %v: a backport? The probe counts.", info.Feature, found, f.Release, byRelease))
		}
	}
	return lines
}

// AsGuests returns the facts of the same kernel when each node of the role is a guest.
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

// KnownReleases lists the mainline kernels for which rules are checked: the oldest one that
// the harness can run on, and those in which something changed or that are in wide use.
func KnownReleases() []Release {
	return []Release{
		Mainline(3, 2), Mainline(3, 10), Mainline(3, 16), Mainline(4, 2), Mainline(4, 9), Mainline(4, 11),
		Mainline(4, 14), Mainline(4, 19), Mainline(5, 4), Mainline(5, 10), Mainline(5, 15), Mainline(5, 19),
		Mainline(6, 1), Mainline(6, 6), Mainline(6, 12), Mainline(6, 18), Mainline(7, 0),
	}
}
