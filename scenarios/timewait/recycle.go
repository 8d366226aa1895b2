package timewait

import (
	"context"
	"fmt"
	"slices"

	"twlab/harness/kernel"
	"twlab/harness/lab"
	"twlab/harness/recycle"
	"twlab/harness/tcp"
	"twlab/scenarios/claim"
	"twlab/scenarios/situation"
)

// The axes of the family, and the values that its driver and its rules share.
const (
	recycleRole       = "role"
	recycleSysctl     = "recycle"
	gap               = "gap"
	recycleClock      = "clock"
	recycleClientTS   = "client-ts"
	recycleBalancerTS = "balancer-ts"
	recycleCloser     = "closer"
	recyclePath       = "path"

	recycleClient   = "client"
	recycleLB       = "balancer"
	recycleBalancer = "balancer"
	outside         = "outside"
	firstOnly       = "first-only"
)

// Recycle is the family of tcp_tw_recycle: on which kernels it can be set, how long
// TIME_WAIT lasts then, and which clients cannot connect.
func Recycle() situation.Family { return recycleFamily(nil) }

// recycleFamily is that family with the sysctl, or with an emulation in its place.
func recycleFamily(emulate *recycle.Config) situation.Family {
	tell, untold := recycleTell, ""
	if emulate != nil {
		tell, untold = nil, "no step starts an emulation"
	}
	return situation.Family{
		Tell: tell, Untold: untold,
		Family: claim.Family{
			Name:     "recycle",
			Evidence: sameAddressEvidence(),
			About: "tcp_tw_recycle is set, a connection ends, and the same address connects from another port: can tcp_tw_recycle be set at all, " +
				"how long does TIME_WAIT last, and does the client connect?",
			Axes:    recycleAxes(),
			Crossed: [][]string{{recycleRole, recycleCloser}, {recyclePath, gap}},
			Impossible: []claim.Impossible{
				{Cells: claim.Cells{{recycleClientTS: {"0", firstOnly}, recycleClock: {"older"}}}, Because: "a SYN without a timestamp has no clock that could be older"},
				{Cells: claim.Cells{{recycleBalancerTS: {"0"}, recycleClock: {"older"}}}, Because: "a balancer without timestamps has seen no timestamp that another one could be older than"},
			},
			Waits: []claim.Wait{{Cells: claim.Cells{{gap: {outside}}}, About: situation.TimeWaitLength}},
			Rules: slices.Concat(
				recycleUntouchedRules(),
				recycleSysctlRules(recycleBalancer, lab.Balancer), recycleSysctlRules(recycleClient, lab.Client),
				recycleMemoryRules(), recycleClientRules(),
				recycleUselessRules(recycleBalancer, lab.Balancer), recycleUselessRules(recycleClient, lab.Client),
			),
		},
		Topology: recycleTopology,
		Drive: func(ctx context.Context, c claim.Cell, l *lab.Lab) (claim.Seen, error) {
			return recycleDrive(ctx, c, l, emulate)
		},
	}
}

func recycleAxes() []claim.Axis {
	return []claim.Axis{
		{Name: recycleSysctl, Values: []string{"1", "0", "untouched"}, Product: true, Means: "the value of tcp_tw_recycle, or that the cell leaves it alone"},
		{Name: recycleClientTS, Values: []string{"1", "0", firstOnly}, Product: true,
			Means: "tcp_timestamps of the clients; first-only: the first connection has timestamps, and the second SYN has none"},
		{Name: recycleBalancerTS, Values: []string{"1", "0"}, Product: true, Sysctl: claim.RoleSysctl{Role: lab.Balancer, Sysctl: "net.ipv4.tcp_timestamps"},
			Means: "tcp_timestamps of the balancer"},
		{Name: recycleClock, Values: []string{"older", "newer"}, Product: true,
			Means: "the second connection's timestamp compared with the last one of the first"},
		{Name: recycleRole, Values: []string{recycleBalancer, recycleClient}, Means: "which side sets tcp_tw_recycle"},
		{Name: recycleCloser, Values: []string{recycleLB, recycleClient}, Means: "which side closes the first connection first"},
		{Name: recyclePath, Values: []string{"nat", "direct"},
			Means: "whether another client behind the same address connects next, or the same client"},
		{Name: gap, Values: []string{"inside", outside}, Means: "whether it connects within 60 s or later"},
		situation.IPAxis(),
	}
}

// recycleSet says that tcp_tw_recycle could be set.
const recycleSet = "set"

// recycleAccepted is what every cell expects in which the second connection succeeds.
func recycleAccepted(state, timeWait string) []claim.Expectation {
	return []claim.Expectation{
		claim.Is("tcp_tw_recycle", state), situation.Outcome(tcp.Connected), claim.Is("answers", "SYN-ACK"), claim.Exactly("passive rejects", 0),
		claim.Stays(lab.Client, "TcpExt.TCPSynRetrans"), claim.Stays(lab.Gateway, "Conntrack.insert_failed"), claim.Is("time-wait", timeWait),
	}
}

// recycleUntouchedRules are about a tcp_tw_recycle that was not set.
func recycleUntouchedRules() []claim.Rule {
	return []claim.Rule{
		{
			Name: "recycle-untouched", Cells: claim.Cells{{recycleSysctl: {"untouched"}}}, Want: recycleAccepted("untouched", situation.FullTimeWait),
			Because: "tcp_tw_recycle was not set, and it is off by default in every kernel that has it: TIME_WAIT lasts 60 s, and a SYN from " +
				"another port of the same address may have any timestamp",
			Source: "tcp_time_wait; tcp_timewait_state_process looks at its own five-tuple only",
		},
	}
}

// recycleSysctlRules are about a tcp_tw_recycle that cannot be set, or is set to 0.
func recycleSysctlRules(who string, role lab.Role) []claim.Rule {
	its := claim.Where{recycleRole: {who}}
	return []claim.Rule{
		{
			Name: "recycle-gone-" + who, Cells: claim.Cells{its},
			Kernels: []claim.Condition{claim.Lacks(role, kernel.TwRecycle), claim.Lacks(role, kernel.PassivePAWS)},
			Want:    append(recycleAccepted(situation.SysctlGone, situation.FullTimeWait), claim.Is("passive counter", "none")),
			Because: "Linux 4.12 removed tcp_tw_recycle and its counter: it cannot be set, shortens nothing, and drops nothing",
			Source:  "commit 4396e46187ca, tcp: remove tcp_tw_recycle",
		},
		{
			Name: "recycle-not-here-" + who, Cells: claim.Cells{its},
			Kernels: []claim.Condition{claim.Lacks(role, kernel.TwRecycle), claim.Has(role, kernel.PassivePAWS)},
			Want:    append(recycleAccepted(situation.SysctlNotHere, situation.FullTimeWait), claim.Is("passive counter", "there")),
			Because: "from Linux 3.5 to 4.10 only the initial network namespace of a machine shows tcp_tw_recycle",
			Source:  "net/ipv4/sysctl_net_ipv4.c: register_net_sysctl(&init_net); commit 1946e672c173",
		},
		{
			Name: "recycle-off-" + who, Cells: claim.Cells{its}.And(claim.Where{recycleSysctl: {"0"}}),
			Kernels: []claim.Condition{claim.Has(role, kernel.TwRecycle)},
			Want:    recycleAccepted(recycleSet, situation.FullTimeWait),
			Because: "with tcp_tw_recycle=0 no address is remembered, and TIME_WAIT lasts 60 s",
			Source:  "tcp_time_wait: recycle_ok",
		},
	}
}

// recycleMemoryRules are about a balancer that remembers the address.
func recycleMemoryRules() []claim.Rule {
	const source = "tcp_v4_conn_request, tcp_conn_request, tcp_peer_is_proven before commit 4396e46187ca"
	// The balancer has closed a connection with timestamps first, so it remembers the
	// last timestamp of that address.
	remembers := claim.Where{recycleRole: {recycleBalancer}, recycleCloser: {recycleLB}, recycleSysctl: {"1"}, recycleClientTS: {"1", firstOnly}, recycleBalancerTS: {"1"}}
	inside := claim.Where{gap: {"inside"}}
	dropped := []claim.Expectation{ // the SYN and its retransmissions within 3 s: after 1 s and, since Linux 6.5, after 2 s
		claim.Is("tcp_tw_recycle", recycleSet), situation.Outcome(tcp.TimedOut), claim.Exactly("syn-acks", 0), claim.Between("syns", 2, 3), claim.Is("all syns reached", "yes"),
		claim.Between("passive rejects", 2, 3), claim.Is("reset", "none"), claim.Stays(lab.Gateway, "Conntrack.insert_failed"), claim.Is("time-wait", situation.RecycledTimeWait),
	}

	return []claim.Rule{
		{
			Name: "recycle-older-dropped", Cells: claim.Cells{remembers}.And(inside).And(claim.Where{recycleClock: {"older"}}),
			Kernels: []claim.Condition{claim.Has(lab.Balancer, kernel.TwRecycle)}, Want: dropped,
			Uncaused: "no kernel that has tcp_tw_recycle runs a scenario file that would prove it",
			Because: "for 60 s after a connection that it closed first, the balancer remembers the last timestamp of the address. It silently " +
				"drops every SYN from that address that is older by more than one tick, so other clients behind the address cannot connect",
			Source: source,
		},
		{
			Name: "recycle-no-timestamp-dropped", Cells: claim.Cells{remembers}.And(inside).And(claim.Where{recycleClientTS: {firstOnly}}),
			Kernels: []claim.Condition{claim.Has(lab.Balancer, kernel.TwRecycle), claim.Has(lab.Balancer, kernel.StrictRecycle)}, Want: dropped,
			Uncaused: "no kernel that has tcp_tw_recycle runs a scenario file that would prove it",
			Because:  "since Linux 3.17 a SYN without timestamps is dropped too while the address is remembered",
			Source:   source + "; commit a26552afe894",
		},
		{
			Name: "recycle-forgotten", Cells: claim.Cells{remembers}.And(claim.Where{gap: {outside}}),
			Kernels: []claim.Condition{claim.Has(lab.Balancer, kernel.TwRecycle)},
			Want:    recycleAccepted(recycleSet, situation.RecycledTimeWait),
			Because: "60 s after the last connection the balancer forgets the address (TCP_PAWS_MSL)",
			Source:  source,
		},
		{
			Name: "recycle-newer", Cells: claim.Cells{remembers}, Kernels: []claim.Condition{claim.Has(lab.Balancer, kernel.TwRecycle)},
			Want: recycleAccepted(recycleSet, situation.RecycledTimeWait),
			Because: "a SYN with a newer timestamp is accepted, and before Linux 3.17 also a SYN without one; the balancer's TIME_WAIT lasts only " +
				"3.5 retransmission timeouts",
			Source: source + "; tcp_time_wait",
		},
	}
}

// recycleClientRules are about a client whose own TIME_WAITs get shorter.
func recycleClientRules() []claim.Rule {
	return []claim.Rule{
		{
			Name:    "recycle-client-short",
			Cells:   claim.Cells{{recycleRole: {recycleClient}, recycleCloser: {recycleClient}, recycleSysctl: {"1"}, recycleClientTS: {"1", firstOnly}, recycleBalancerTS: {"1"}}},
			Kernels: []claim.Condition{claim.Has(lab.Client, kernel.TwRecycle)},
			Want:    recycleAccepted(recycleSet, situation.RecycledTimeWait),
			Because: "a client with tcp_tw_recycle keeps its own TIME_WAITs for only 3.5 retransmission timeouts, if the connection had timestamps",
			Source:  "tcp_time_wait: tw_timeout = rto",
		},
	}
}

// recycleUselessRules are about a tcp_tw_recycle that is on and does nothing.
func recycleUselessRules(who string, role lab.Role) []claim.Rule {
	return []claim.Rule{
		{
			Name: "recycle-useless-" + who, Cells: claim.Cells{{recycleRole: {who}}}, Kernels: []claim.Condition{claim.Has(role, kernel.TwRecycle)},
			Want:    recycleAccepted(recycleSet, situation.FullTimeWait),
			Because: "without timestamps, or if the other side closed first, tcp_tw_recycle neither shortens TIME_WAIT nor remembers the address",
			Source:  "tcp_time_wait: tw_recycle && ts_recent_stamp",
		},
	}
}

func recycleTopology(c claim.Cell) lab.Topology {
	t := lab.Topology{
		Clients: 1, Names: []string{"phone-a"},
		Gateway: lab.GatewaySpec{Kind: lab.Routed},
		// Few retries, so that a client that cannot connect gives up after 3 s.
		Sysctls: lab.On(lab.Client, "net.ipv4.tcp_syn_retries=1"),
	}
	switch c.Value(recycleClientTS) {
	case "1", firstOnly: // 1 is what the kernel has; the socket of the second client goes without
	case "0":
		t.Sysctls = t.Sysctls.On(lab.Client, "net.ipv4.tcp_timestamps=0")
	}
	if c.Either(recyclePath, "nat", "direct") {
		t.Clients, t.Names = 2, []string{"phone-a", "phone-b"}
		t.Gateway.Kind = lab.Masquerade
	}
	return t
}

func recycleDrive(ctx context.Context, c claim.Cell, l *lab.Lab, emulate *recycle.Config) (claim.Seen, error) {
	s := sameAddress{
		Recycle: c.Value(recycleSysctl), Role: lab.Balancer, ClientCloses: c.Either(recycleCloser, recycleClient, recycleLB),
		Clock: situation.Order(c.Value(recycleClock)), SecondNoTimestamps: c.Is(recycleClientTS, firstOnly), Outside: c.Either(gap, outside, "inside"),
		Emulate: emulate,
	}
	if c.Either(recycleRole, recycleClient, recycleBalancer) {
		s.Role = lab.Client
	}
	seen, err := s.Drive(ctx, l)
	if err != nil {
		return seen, fmt.Errorf("recycle: %w", err)
	}
	return seen, nil
}
