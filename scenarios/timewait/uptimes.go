package timewait

import (
	"context"
	"fmt"
	"slices"
	"time"

	"twlab/harness/kernel"
	"twlab/harness/lab"
	"twlab/harness/tcp"
	"twlab/scenarios/claim"
	"twlab/scenarios/situation"
)

// The axes of the family, and the values that its driver and its rules share.
const (
	next              = "next"
	memory            = "memory"
	uptimesBalancerTS = "balancer-ts"
	uptimesCloser     = "closer"
	tries             = "tries"

	younger         = "younger"
	older           = "older"
	uptimesRecycle  = "recycle"
	recycleOff      = "recycle-off"
	uptimesTimeWait = "time-wait"
	uptimesLB       = "balancer"
	uptimesClient   = "client"
	few             = "3"
	many            = "30"
)

// Uptimes is the family of the document's mobile network: clients with different uptimes
// behind one address. No clock is changed.
func Uptimes() situation.Family {
	return situation.Family{
		Family: claim.Family{
			Name:     "uptimes",
			Evidence: twoAgesEvidence(),
			About: "Two clients with different uptimes are behind one address. Their timestamps are their uptimes, and no clock is changed. One " +
				"client keeps connecting, and the other one connects after it: does it succeed?",
			Axes: uptimesAxes(),
			Impossible: []claim.Impossible{
				{Cells: claim.Cells{{memory: {uptimesTimeWait}, uptimesCloser: {uptimesClient}}}, Because: "a five-tuple is in TIME_WAIT at the balancer only if the balancer closed first"},
				{Cells: claim.Cells{{memory: {uptimesTimeWait}, uptimesBalancerTS: {"0"}}}, Because: "without timestamps the initial sequence number decides, which each client chooses for itself"},
			},
			Waits: []claim.Wait{{Cells: claim.Cells{{tries: {many}}}, About: 30 * time.Second}},
			Rules: slices.Concat(uptimesFiveTupleRules(), uptimesAddressRules()),
		},
		Topology: uptimesTopology,
		Drive:    uptimesDrive,
		Untold:   "its clients boot one some seconds after the other, and a run of a file boots all machines at once",
	}
}

func uptimesAxes() []claim.Axis {
	return []claim.Axis{
		{Name: next, Values: []string{younger, older}, Product: true,
			Means: "which client comes second: the one that booted later (younger), or the one that booted first (older); tcp_timestamps=2 on " +
				"both"},
		{Name: memory, Values: []string{uptimesRecycle, uptimesTimeWait, recycleOff}, Product: true,
			Means: "what the balancer remembers of the first client: its address (tcp_tw_recycle=1), the same five-tuple in TIME_WAIT, or " +
				"nothing (tcp_tw_recycle=0)"},
		{Name: uptimesBalancerTS, Values: []string{"1", "0"}, Product: true, Sysctl: claim.RoleSysctl{Role: lab.Balancer, Sysctl: "net.ipv4.tcp_timestamps"},
			Means: "tcp_timestamps of the balancer"},
		{Name: uptimesCloser, Values: []string{uptimesLB, uptimesClient}, Means: "which side closes the first client's connections first"},
		{Name: tries, Values: []string{few, many},
			Means: "how often the second client tries while the first one keeps connecting; 30 tries take longer than the 60 s for which an " +
				"address is remembered"},
	}
}

// clientsHaveUptimes is true where each client is a guest: namespaces of one
// kernel have one uptime.
var clientsHaveUptimes = claim.Has(lab.Client, kernel.IsGuest)

// uptimesFiveTupleRules are about a balancer that has the same five-tuple in TIME_WAIT.
func uptimesFiveTupleRules() []claim.Rule {
	const unasked = "not asked"
	answered := []claim.Expectation{
		situation.Outcome(tcp.Connected), claim.Is("clocks", "older"), claim.Is("tcp_tw_recycle", unasked), claim.Is("answers", "ACK, SYN-ACK"), claim.Is("reset", "reached"),
		claim.AtLeast("paws rejects", 3), claim.Stays(lab.Gateway, "Conntrack.insert_failed"),
	}

	return []claim.Rule{
		{
			Name: "uptimes-answered", Cells: claim.Cells{{memory: {uptimesTimeWait}}}.And(claim.Where{next: {younger}}),
			Kernels: []claim.Condition{clientsHaveUptimes, claim.Has(lab.Client, kernel.PromptSYN)},
			Want:    claim.With(answered, claim.AtMost("latest ms", 900)),
			Because: "the younger client's timestamps are older: the TIME_WAIT rejects its SYN with an ACK, the RST that answers this ACK removes " +
				"the TIME_WAIT, and the retransmitted SYN is accepted",
			Source: "tcp_timewait_state_process, tcp_paws_check; commit 9603d47bad46 for the prompt repetition",
		},
		{
			Name: "uptimes-answered-1s", Cells: claim.Cells{{memory: {uptimesTimeWait}}}.And(claim.Where{next: {younger}}),
			Kernels: []claim.Condition{clientsHaveUptimes, claim.Lacks(lab.Client, kernel.PromptSYN)},
			Want:    claim.With(answered, claim.AtLeast("soonest ms", 900)),
			Because: "as on later kernels, but the client retransmits its SYN only when its timer fires",
			Source:  "tcp_rcv_synsent_state_process before commit 9603d47bad46",
		},
		{
			Name: "uptimes-five-tuple-newer", Cells: claim.Cells{{memory: {uptimesTimeWait}}},
			Want: []claim.Expectation{situation.Outcome(tcp.Connected), claim.Is("clocks", "not older"), claim.Is("tcp_tw_recycle", unasked), claim.Is("answers", "SYN-ACK"),
				claim.Exactly("paws rejects", 0), claim.Stays(lab.Client, "TcpExt.TCPSynRetrans")},
			Because: "the older client's timestamps are newer. Clients that are namespaces of one kernel have one uptime, so the client that comes " +
				"second has the newer timestamp",
			Source: "tcp_clock_ms, before Linux 4.13 tcp_time_stamp; tcp_timewait_state_process",
		},
	}
}

// uptimesAddressRules are about a second connection from another port: it meets no
// TIME_WAIT, only a remembered address.
func uptimesAddressRules() []claim.Rule {
	comesLater := claim.Where{next: {younger}}
	remembers := claim.Where{memory: {uptimesRecycle}, uptimesCloser: {uptimesLB}, uptimesBalancerTS: {"1"}}
	const set = "set"
	const source = "tcp_conn_request, tcp_peer_is_proven before commit 4396e46187ca"
	gotIn := func(recycle []string, length string) []claim.Expectation {
		return []claim.Expectation{
			situation.Outcome(tcp.Connected), claim.Is("answers", "SYN-ACK"), claim.Is("tcp_tw_recycle", recycle...), claim.Is("time-wait", length), claim.Exactly("passive rejects", 0),
			claim.Stays(lab.Client, "TcpExt.TCPSynRetrans"), claim.Stays(lab.Gateway, "Conntrack.insert_failed"),
		}
	}
	shutOut := []claim.Expectation{
		situation.Outcome(tcp.TimedOut), claim.Is("clocks", "older"), claim.Is("tcp_tw_recycle", set), claim.Is("time-wait", situation.RecycledTimeWait), claim.Is("all syns reached", "yes"),
		claim.Exactly("syn-acks", 0), claim.Is("reset", "none"), claim.AtLeast("passive rejects", 6), claim.Stays(lab.Gateway, "Conntrack.insert_failed"),
	}

	return []claim.Rule{
		{
			Name: "uptimes-recycle-gone", Cells: claim.Cells{{memory: {uptimesRecycle, recycleOff}}}, Kernels: []claim.Condition{claim.Lacks(lab.Balancer, kernel.TwRecycle)},
			Want:    gotIn([]string{situation.SysctlGone, situation.SysctlNotHere}, situation.FullTimeWait),
			Because: "a SYN from another port meets no TIME_WAIT, and without tcp_tw_recycle no address is remembered, so uptimes do not matter",
			Source:  "commit 4396e46187ca, tcp: remove tcp_tw_recycle; before 4.11 namespaces do not show it",
		},
		{
			Name: "uptimes-blocked-for-long", Cells: claim.Cells{remembers}.And(comesLater).And(claim.Where{tries: {many}}),
			Kernels: []claim.Condition{clientsHaveUptimes, claim.Has(lab.Balancer, kernel.TwRecycle)},
			Want:    claim.With(shutOut, claim.AtLeast("tried s", 61), claim.Is("afterwards", string(tcp.Connected)), claim.Is("let in because", "caught up", "forgotten")),
			Because: "each connection of the older client restarts the 60 s, so the younger one never connects as long as the older one keeps " +
				"connecting. When the older one stops, the younger one connects as soon as its clock has caught up, or after 60 s",
			Source: source,
		},
		{
			Name: "uptimes-blocked", Cells: claim.Cells{remembers}.And(comesLater),
			Kernels: []claim.Condition{clientsHaveUptimes, claim.Has(lab.Balancer, kernel.TwRecycle)}, Want: shutOut,
			Because: "the balancer remembers the last timestamp of the address, which is the older client's, and silently drops every SYN of the " +
				"younger one",
			Source: source,
		},
		{
			Name: "uptimes-unremembered", Cells: claim.Cells{{memory: {recycleOff}}, {uptimesCloser: {uptimesClient}}, {uptimesBalancerTS: {"0"}}},
			Kernels: []claim.Condition{claim.Has(lab.Balancer, kernel.TwRecycle)},
			Want:    gotIn([]string{set}, situation.FullTimeWait),
			Because: "without tcp_tw_recycle, without timestamps, or if the client closed first, the balancer remembers no address",
			Source:  "tcp_time_wait: tw_recycle && ts_recent_stamp",
		},
		{
			Name: "uptimes-newer", Cells: claim.Cells{{}}, Kernels: []claim.Condition{claim.Has(lab.Balancer, kernel.TwRecycle)},
			Want: claim.With(gotIn([]string{set}, situation.RecycledTimeWait), claim.Is("clocks", "not older")),
			Because: "the older client's timestamps are newer. Clients that are namespaces of one kernel have one uptime, so the client that comes " +
				"second has the newer timestamp",
			Source: source,
		},
	}
}

func uptimesTopology(claim.Cell) lab.Topology {
	// Clocks tick in milliseconds since Linux 4.13; this is long enough for 100 Hz too.
	const bootGap = 3 * time.Second
	return lab.Topology{
		Clients: 2, Names: []string{"old", "young"},
		Gateway: lab.GatewaySpec{Kind: lab.Masquerade},
		BootGap: bootGap,
		// Uptime on every kernel: before 4.10, 2 is the same as 1.
		Sysctls: lab.On(lab.Client, "net.ipv4.tcp_timestamps=2", "net.ipv4.tcp_syn_retries=1"),
	}
}

func uptimesDrive(ctx context.Context, c claim.Cell, l *lab.Lab) (claim.Seen, error) {
	clients := l.Nodes(lab.Client)
	s := twoAges{
		FiveTupleRun: situation.FiveTupleRun{
			FiveTuple: situation.FiveTuple{Left: situation.LeftTimeWait},
			Lab:       l, First: clients[0], Second: clients[1],
			Gateway: l.Gateway(), Balancer: l.Balancer(), Translate: true,
		},
		Recycle: "1", ClientCloses: c.Either(uptimesCloser, uptimesClient, uptimesLB), Tries: 3,
	}
	if c.Either(next, older, younger) {
		s.First, s.Second = s.Second, s.First
	}
	switch c.Value(memory) {
	case uptimesRecycle:
	case uptimesTimeWait:
		s.SameTuple = true
	case recycleOff:
		s.Recycle = "0"
	}
	if c.Either(tries, many, few) {
		s.Tries = 30
	}
	seen, err := s.drive(ctx)
	if err != nil {
		return seen, fmt.Errorf("uptimes: %w", err)
	}
	return seen, nil
}
