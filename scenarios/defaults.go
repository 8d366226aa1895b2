package scenarios

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"twlab/harness/kernel"
	"twlab/harness/lab"
	"twlab/harness/node"
)

// tunable is a sysctl that the document or its story turns on, and what is known
// of it.
type tunable struct {
	sysctl string
	// feature is had by kernels that show the sysctl in every network
	// namespace, in says since when. It is empty where all known kernels do.
	feature Feature
	in      []Span
	// absent is what the others say, from the special to the general.
	absent []absence
	// other is a value that is no kernel's default.
	other string
	// usual are the defaults, from the special to the general.
	usual []usual
	// alwaysOwn: each namespace had a value of its own even before Linux 3.5.
	alwaysOwn bool
	source    string
}

// absence is how a sysctl can be missing.
type absence struct {
	name    string
	kernels []Condition
	file    string
	because string
}

// usual is a default.
type usual struct {
	name    string
	kernels []Condition
	want    []Expectation
	because string
}

// What a namespace says of a sysctl.
const (
	knobThere    = "there"
	knobGone     = "gone"
	knobNotYet   = "not yet"
	knobNotHere  = "not in this namespace"
	knobReadOnly = "read only"
	knobUnknown  = "unknown"
)

// seenIn are the kernels that show a sysctl in each namespace when it has had a
// value for each since a release: before Linux 3.5 all namespaces showed the
// machine's one value.
func seenIn(major, minor int) []Span {
	return []Span{{Until: mainline(3, 5)}, {From: mainline(major, minor)}}
}

// oneForAll is the absence of sysctls that the first namespace has for the whole
// machine.
var oneForAll = absence{
	name: "one-for-all", file: knobNotHere,
	because: "the kernel has one value for the whole machine, and only the first namespace shows it",
}

func notYet(name, since string) absence {
	return absence{name: name, file: knobNotYet, because: "the sysctl came with Linux " + since}
}

// always is a default that never changed.
func always(value, because string) []usual {
	return []usual{{name: "default", want: []Expectation{Is("value", value)}, because: because}}
}

// tunables lists the sysctls of the family Defaults.
func tunables() []tunable {
	table := "net/ipv4/sysctl_net_ipv4.c, tcp_sk_init"
	return []tunable{
		{
			sysctl: "net.ipv4.tcp_timestamps", feature: "knob-tcp-timestamps", in: seenIn(4, 13), other: "0",
			absent: []absence{oneForAll}, source: table + "; commit 5d2ed0521ae9",
			usual: always("1", "timestamps are on by default on every kernel"),
		},
		{
			sysctl: "net.ipv4.tcp_tw_reuse", feature: "knob-tcp-tw-reuse", in: seenIn(4, 10), other: "1",
			absent: []absence{oneForAll}, source: table + "; commit 79e9fed46038",
			usual: []usual{
				{
					name: "default-loopback", kernels: []Condition{Has(lab.Client, LoopbackReuse)}, want: []Expectation{Is("value", "2")},
					because: "since Linux 4.19 the default is 2: reuse, but over loopback only",
				},
				{
					name: "default-off", want: []Expectation{Is("value", "0")},
					because: "until Linux 4.18 the default is 0, and there is no 2: the document's default is not that of the kernel it quotes",
				},
			},
		},
		{
			sysctl: "net.ipv4.tcp_tw_reuse_delay", feature: "knob-tcp-tw-reuse-delay", in: since(6, 14), other: "500",
			absent: []absence{notYet("not-yet", "6.14")},
			source: "commit ca6a6f93867a, tcp: Add sysctl to configure TIME-WAIT reuse delay",
			usual:  always("1000", "the document's one second is the default of a sysctl since Linux 6.14, in milliseconds"),
		},
		{
			sysctl: "net.ipv4.tcp_tw_recycle", feature: TwRecycle, other: "1",
			absent: []absence{
				{
					name: "one-for-all", kernels: []Condition{Has(lab.Client, PassivePAWS)}, file: knobNotHere,
					because: "until Linux 4.10 there is one value for the whole machine, and only the first namespace shows it",
				},
				{
					name: "gone", file: knobGone,
					because: "Linux 4.12 removed it: half of what the document discusses cannot be set any more",
				},
			},
			source: "commit 4396e46187ca, tcp: remove tcp_tw_recycle",
			usual:  always("0", "where it exists, it is off by default"),
		},
		{
			sysctl: "net.ipv4.tcp_fin_timeout", feature: "knob-tcp-fin-timeout", in: seenIn(4, 6), other: "30",
			absent: []absence{oneForAll}, source: table + "; TCP_FIN_TIMEOUT",
			usual: always("60", "FIN_WAIT2 lasts for 60 s by default, as long as TIME_WAIT does by constant"),
		},
		{
			sysctl: "net.ipv4.ip_local_port_range", feature: "knob-ip-local-port-range", in: seenIn(3, 15), other: "40000 50000",
			absent: []absence{oneForAll}, source: "inet_init_net; commit 07f4c90062f8",
			usual: []usual{
				{
					name: "default-60999", kernels: []Condition{Has(lab.Client, EvenPorts)}, want: []Expectation{Is("value", "32768 60999")},
					because: "a client has 28232 ports towards one door by default, an even number, as connect and bind share them by parity",
				},
				{
					name: "default-61000", want: []Expectation{Is("value", "32768 61000")},
					because: "a client has 28233 ports towards one door by default",
				},
			},
		},
		{
			sysctl: "net.ipv4.tcp_max_tw_buckets", feature: "knob-tcp-max-tw-buckets", in: seenIn(4, 11), other: "1000",
			absent: []absence{oneForAll}, source: "tcp_sk_init: cnt / 2; commit 1946e672c173",
			usual: []usual{
				{
					name: "default-half-the-hash", kernels: []Condition{Has(lab.Client, EhashEntries)},
					want:    []Expectation{AtLeast("value", 512), Is("half of tcp_ehash_entries", "yes")},
					because: "the limit of TIME_WAITs is half the size of the socket hash, which follows memory; 180000 is long gone",
				},
				{
					name: "default-by-memory", want: []Expectation{AtLeast("value", 512)},
					because: "the limit of TIME_WAITs is half the size of the socket hash, which follows memory; 180000 is long gone",
				},
			},
		},
		{
			sysctl: "net.ipv4.tcp_rfc1337", feature: "knob-tcp-rfc1337", in: seenIn(4, 15), other: "1",
			absent: []absence{oneForAll}, source: table,
			usual: always("0", "by default a RST may end TIME_WAIT, against the advice of RFC 1337"),
		},
		{
			sysctl: "net.ipv4.tcp_syn_retries", feature: "knob-tcp-syn-retries", in: seenIn(4, 6), other: "2",
			absent: []absence{oneForAll}, source: "TCP_SYN_RETRIES; commit 6c9ff979d192",
			usual: []usual{
				{
					name: "default-6", kernels: []Condition{Has(lab.Client, SixSYNRetries)}, want: []Expectation{Is("value", "6")},
					because: "a client sends its SYN seven times, since Linux 3.7, because the first timeout is 1 s instead of 3 s",
				},
				{
					name: "default-5", want: []Expectation{Is("value", "5")},
					because: "a client sends its SYN six times",
				},
			},
		},
		{
			sysctl: "net.ipv4.tcp_syn_linear_timeouts", feature: "knob-tcp-syn-linear-timeouts", in: since(6, 5), other: "1",
			absent: []absence{notYet("not-yet", "6.5")}, source: "commit ccce324dabfe, tcp: make the first N SYN RTO backoffs linear",
			usual: always("4", "the first four repetitions of a SYN are one second apart"),
		},
		{
			sysctl: "net.ipv4.tcp_invalid_ratelimit", feature: "knob-tcp-invalid-ratelimit", in: since(4, 15), other: "0",
			absent: []absence{
				{
					name: "one-for-all", kernels: []Condition{Has(lab.Client, ACKRatelimit)}, file: knobNotHere, because: oneForAll.because,
				},
				notYet("not-yet", "4.0"),
			},
			source: "commit 032ee4236954, tcp: helpers to mitigate ACK loops by rate-limiting out-of-window dupacks; commit 4fb17a609167",
			usual:  always("500", "a TIME_WAIT answers rejected segments other than SYNs at most twice a second"),
		},
		{
			sysctl: "net.ipv4.tcp_syncookies", feature: "knob-tcp-syncookies", in: seenIn(4, 6), other: "0",
			absent: []absence{oneForAll}, source: table + "; commit e994b7c901de",
			usual: always("1", "cookies answer SYNs when the queue of half open connections is full"),
		},
		{
			sysctl: "net.core.somaxconn", other: "100", alwaysOwn: true, source: "SOMAXCONN; commit 19f92a030ca6",
			usual: []usual{
				{
					name: "default-4096", kernels: []Condition{Has(lab.Client, LongBacklog)}, want: []Expectation{Is("value", "4096")},
					because: "since Linux 5.4 4096 connections may wait for accept",
				},
				{
					name: "default-128", want: []Expectation{Is("value", "128")},
					because: "until Linux 5.3 128 connections may wait for accept",
				},
			},
		},
		{
			sysctl: "net.netfilter.nf_conntrack_tcp_timeout_time_wait", other: "60", source: "nf_conntrack_proto_tcp.c, tcp_timeouts",
			usual: always("120", "a Linux NAT remembers a closed connection for 120 s, twice as long as TIME_WAIT lasts, "+
				"so by default it does not give a five-tuple again within 2 MSL"),
		},
		{
			sysctl: "net.netfilter.nf_conntrack_tcp_timeout_close", other: "60", source: "nf_conntrack_proto_tcp.c, tcp_timeouts",
			usual: always("10", "a Linux NAT forgets a connection 10 s after its RST"),
		},
		{
			sysctl: "net.netfilter.nf_conntrack_tcp_be_liberal", other: "1", source: "nf_conntrack_proto_tcp.c, tcp_in_window",
			usual: always("0", "a Linux NAT minds the sequence numbers of what it translates"),
		},
	}
}

// short is a sysctl's own name, as in the names of rules: "tcp-tw-reuse".
func (t tunable) short() string {
	last := t.sysctl[strings.LastIndexByte(t.sysctl, '.')+1:]
	return strings.ReplaceAll(last, "_", "-")
}

// knobFeatures are the features that say which sysctls a kernel shows in its
// namespaces.
func knobFeatures() (all []FeatureInfo) {
	for _, t := range tunables() {
		if len(t.in) == 0 {
			continue
		}
		all = append(all, FeatureInfo{
			Feature: t.feature, Sysctl: t.sysctl, In: t.in, Source: t.source,
			Means: "each network namespace shows " + t.sysctl,
		})
	}
	return all
}

// Defaults is the family of the sysctls themselves: which there are, what they
// are when nobody has set them, and whether each namespace has its own.
func Defaults() Family {
	const (
		sysctl = "sysctl"
		what   = "what"
		value  = "default"
		own    = "own"
		exists = "exists"
	)
	all := tunables()
	names := make([]string, len(all))
	var shared []string
	for i, t := range all {
		names[i] = t.sysctl
		if !t.alwaysOwn {
			shared = append(shared, t.sysctl)
		}
	}
	there := Is("file", knobThere)

	rules := make([]Rule, 0, 4*len(all))
	for _, t := range all {
		rules = append(rules, t.absences(Cells{{sysctl: {t.sysctl}}})...)
	}
	rules = append(rules,
		Rule{
			Name: "defaults-shared", Cells: Cells{{sysctl: shared, what: {own}}}, Kernels: []Condition{Has(lab.Client, SharedSysctls)},
			Want:    []Expectation{there, Is("set here", "yes"), Is("elsewhere", "changed too")},
			Because: "all namespaces show the machine's one value, and who sets it in one sets it in all",
			Source:  "net/ipv4/sysctl_net_ipv4.c of 3.2: register_sysctl_paths",
		},
		Rule{
			Name: "defaults-own", Cells: Cells{{what: {own}}},
			Want:    []Expectation{there, Is("set here", "yes"), Is("elsewhere", "as before")},
			Because: "each namespace has a value of its own",
			Source:  "struct netns_ipv4, struct netns_core, struct nf_tcp_net",
		},
		Rule{
			Name: "defaults-exists", Cells: Cells{{what: {exists}}},
			Want:    []Expectation{there, Is("can be set", "yes")},
			Because: "the namespace shows the sysctl, and root of the namespace may set it",
			Source:  "net/ipv4/sysctl_net_ipv4.c, nf_conntrack_standalone.c: mode 0644",
		},
	)
	for _, t := range all {
		rules = append(rules, t.defaults(Cells{{sysctl: {t.sysctl}, what: {value}}})...)
	}
	return Family{
		Name:     "defaults",
		Evidence: defaultsEvidence(),
		About: "A network namespace in which nobody has set anything: which of the sysctls are there, what do they say, " +
			"and whose are they?",
		Axes: []Axis{
			{Name: sysctl, Values: names, Product: true, Means: "the sysctl"},
			{Name: what, Values: []string{value, own, exists}, Product: true,
				Means: "its default, whether another namespace has another value, or whether it is there and can be set"},
		},
		Rules: rules,
		Topology: func(c Cell) lab.Topology {
			t := lab.Topology{Clients: 1, NoBaseline: true}
			if strings.HasPrefix(c.Value(sysctl), "net.netfilter.") {
				t.Gateway.Kind = lab.Masquerade // its rule loads the module that has the sysctl
			}
			return t
		},
		Drive: func(ctx context.Context, c Cell, l *lab.Lab) (seen Seen, err error) {
			i := slices.IndexFunc(all, func(t tunable) bool { return t.sysctl == c.Value(sysctl) })
			k := knobOf{tunable: all[i], here: l.Client(0), elsewhere: l.Balancer()}
			switch c.Value(what) {
			case value:
				err = k.readDefault(ctx, &seen)
			case own:
				err = k.setHere(ctx, &seen)
			case exists:
				err = k.setAsIs(ctx, &seen)
			}
			if err != nil {
				return seen, fmt.Errorf("defaults: %w", err)
			}
			return seen, nil
		},
	}
}

// absences are the rules for kernels that do not show the sysctl.
func (t tunable) absences(cells Cells) (rules []Rule) {
	for _, a := range t.absent {
		rules = append(rules, Rule{
			Name: "defaults-" + t.short() + "-" + a.name, Cells: cells,
			Kernels: append([]Condition{Lacks(lab.Client, t.feature)}, a.kernels...),
			Want:    []Expectation{Is("file", a.file)}, Because: a.because, Source: t.source,
		})
	}
	return rules
}

// defaults are the rules for the others.
func (t tunable) defaults(cells Cells) (rules []Rule) {
	for _, u := range t.usual {
		rules = append(rules, Rule{
			Name: "defaults-" + t.short() + "-" + strings.TrimPrefix(u.name, "default-"), Cells: cells, Kernels: u.kernels,
			Want:    with([]Expectation{Is("file", knobThere)}, u.want...),
			Because: u.because, Source: t.source,
		})
	}
	return rules
}

// knobOf is a sysctl and the two nodes on which it is tried.
type knobOf struct {
	tunable
	here, elsewhere node.Node
}

// look reads the sysctl and notes whether it is there.
func (k knobOf) look(ctx context.Context, seen *Seen) (value string, there bool, err error) {
	value, err = k.here.Sysctl(ctx, k.sysctl)
	file, err := knobState(err)
	seen.Note("file", file)
	return value, file == knobThere, err
}

func (k knobOf) readDefault(ctx context.Context, seen *Seen) error {
	value, there, err := k.look(ctx, seen)
	if err != nil || !there {
		return err
	}
	seen.Note("value", value)
	// The size of the hash is negative where the namespace uses the machine's.
	entries, err := k.here.Sysctl(ctx, "net.ipv4.tcp_ehash_entries")
	if _, err := knobState(err); err != nil {
		return err
	}
	limit, notNumber := strconv.ParseInt(value, 10, 64)
	hash, notHash := strconv.ParseInt(strings.TrimPrefix(entries, "-"), 10, 64)
	if notNumber == nil && notHash == nil {
		seen.Note("half of tcp_ehash_entries", yesNo(2*limit == hash))
	}
	return nil
}

func (k knobOf) setHere(ctx context.Context, seen *Seen) error {
	own, there, err := k.look(ctx, seen)
	if err != nil || !there {
		return err
	}
	before, err := k.elsewhere.Sysctl(ctx, k.sysctl)
	if err != nil {
		return err
	}
	if err := k.here.SetSysctl(ctx, k.sysctl, k.other); err != nil {
		return err
	}
	mine, err := k.here.Sysctl(ctx, k.sysctl)
	if err != nil {
		return err
	}
	after, err := k.elsewhere.Sysctl(ctx, k.sysctl)
	if err != nil {
		return err
	}
	seen.Note("set here", yesNo(mine == k.other))
	elsewhere := "changed too"
	if after == before {
		elsewhere = "as before"
	}
	seen.Note("elsewhere", elsewhere)
	return k.here.SetSysctl(ctx, k.sysctl, own) // it may have been the machine's
}

func (k knobOf) setAsIs(ctx context.Context, seen *Seen) error {
	value, there, err := k.look(ctx, seen)
	if err != nil || !there {
		return err
	}
	state, err := knobState(k.here.SetSysctl(ctx, k.sysctl, value))
	if state == knobThere {
		state = "yes"
	}
	seen.Note("can be set", state)
	return err
}

// knobState puts the answer of a sysctl into a word. An error is one that says
// nothing about the kernel.
func knobState(answer error) (state string, err error) {
	for _, known := range []struct {
		reason error
		state  string
	}{
		{kernel.ErrSysctlGone, knobGone},
		{kernel.ErrSysctlNotYet, knobNotYet},
		{kernel.ErrSysctlGlobal, knobNotHere},
		{kernel.ErrSysctlReadOnly, knobReadOnly},
		{kernel.ErrSysctlUnknown, knobUnknown},
	} {
		if errors.Is(answer, known.reason) {
			return known.state, nil
		}
	}
	if answer != nil {
		return "", answer
	}
	return knobThere, nil
}
