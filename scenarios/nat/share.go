package nat

import (
	"context"
	"fmt"
	"time"

	"twlab/harness/kernel"
	"twlab/harness/lab"
	"twlab/scenarios/claim"
	"twlab/scenarios/situation"
)

// The axes of the family of shares, and the values that its driver and its rules
// share.
const (
	shareClocks     = "clocks"
	shareBalancerTS = "balancer-ts"
	shareRandom     = "random"
	shareTimeout    = "conntrack-timeout"

	clocksConnection = "per-connection"
	clocksHost       = "per-host"
	clocksShared     = "shared"
	clocksNone       = "none"
)

// shareSYNs is how many TIME_WAITs the second load meets: one for each port of the
// gateway. It is not more than the number of ports that the gateway tries before it gives
// up (nf_nat_l4proto_unique_tuple: 128). Each of the shareHosts has the same number.
const (
	shareSYNs  = 128
	shareHosts = 32
	// shareSeed is the seed of the hosts' clocks and, in every family of loads, of the order
	// of the clients. The random numbers of the kernel (offsets, sequence numbers, ports)
	// have no seed that could be set.
	shareSeed = 20211125
)

// Share is the family of how many SYNs are rejected: a load uses up all ports of a
// gateway, the gateway's entries expire, and a second load uses all ports again.
func Share() situation.Family {
	return situation.Family{
		Family: claim.Family{
			Name:     "share",
			Evidence: shareEvidence(),
			About: fmt.Sprintf("%d hosts behind a gateway with %d ports use up all of them, the balancer closes first, the gateway's entries expire, and the "+
				"hosts use all ports again: how many SYNs are rejected before all hosts are connected, and what decides that? "+
				"The bounds are chosen so that a true claim fails once in a million cells.", shareHosts, shareSYNs),
			Axes: []claim.Axis{
				{Name: shareClocks, Values: []string{clocksConnection, clocksHost, clocksShared, clocksNone}, Product: true,
					Means: "the clients' timestamp clocks: those of the kernel, with an offset for each connection (tcp_timestamps=1); one for each " +
						"host, half of them ahead, drawn with a seed; one for all (tcp_timestamps=2); or no timestamps"},
				{Name: shareBalancerTS, Values: []string{"1", "0"}, Product: true, Sysctl: claim.RoleSysctl{Role: lab.Balancer, Sysctl: "net.ipv4.tcp_timestamps"},
					Means: "tcp_timestamps of the balancer"},
				{Name: shareRandom, Values: []string{randomNo, randomPlain, randomFully},
					Means: "how the gateway chooses among its ports: without an option; by --random; by --random-fully"},
				{Name: shareTimeout, Values: []string{"1", "30", "50", "65", "90", "120"},
					Sysctl: claim.RoleSysctl{Role: lab.Gateway, Sysctl: "net.netfilter.nf_conntrack_tcp_timeout_time_wait"},
					Means:  "how many seconds the gateway keeps the entry of an ended connection; the balancer keeps its TIME_WAIT for 60 s"},
			},
			Crossed: [][]string{{shareClocks, shareTimeout}},
			Waits: []claim.Wait{
				{Cells: claim.Cells{{shareTimeout: {"120"}}}, About: 120 * time.Second}, {Cells: claim.Cells{{shareTimeout: {"90"}}}, About: 90 * time.Second},
				{Cells: claim.Cells{{shareTimeout: {"50", "65"}}}, About: 50 * time.Second}, {Cells: claim.Cells{{shareTimeout: {"30"}}}, About: 30 * time.Second},
			},
			Rules: shareRules(),
		},
		Topology: shareTopology,
		Drive:    driveShare,
		Tell:     shareTell,
	}
}

// shareRules are in this order: no TIME_WAIT is left; the clocks decide, by kind of clock;
// the sequence numbers decide.
func shareRules() []claim.Rule {
	half := claim.About("refused", shareSYNs, 0.5)
	common := []claim.Expectation{
		claim.Exactly("connected", shareSYNs), claim.Exactly(situation.RefusedBy(situation.ByQueue), 0), claim.Exactly(situation.RefusedBy(situation.ByEndpoint), 0), claim.Exactly("unaccounted", 0),
	}
	met := claim.With(common, claim.Exactly("time-waits", shareSYNs))
	none := []claim.Expectation{claim.Exactly("refused", 0), claim.Exactly(situation.RefusedBy(situation.ByClock), 0)}
	timestamps := claim.Where{shareBalancerTS: {"1"}}

	return []claim.Rule{
		{
			Name: "share-outlived", Cells: claim.Cells{{shareTimeout: {"65", "90", "120"}}},
			Want:    claim.With(none, claim.With(common, claim.Exactly("time-waits", 0))...),
			Because: "a gateway with a timeout of more than 60 s reuses a port only when the balancer has nothing left of the earlier connection",
			Source:  "TCP_TIMEWAIT_LEN; nf_conntrack_tcp_timeout_time_wait",
		},
		{
			Name: "share-one-clock", Cells: claim.Cells{timestamps}.And(claim.Where{shareClocks: {clocksShared}}), Want: claim.With(none, met...),
			Because: "if all clients have one clock, it only moves forward, so every TIME_WAIT accepts the newer timestamp",
			Source:  "RFC 6191, tcp_timewait_state_process",
		},
		{
			Name: "share-clocks-of-hosts", Cells: claim.Cells{timestamps}.And(claim.Where{shareClocks: {clocksHost}}),
			Want:  claim.With([]claim.Expectation{half, claim.Is("refused as the clocks say", "yes"), claim.Exactly(situation.RefusedBy(situation.ByNumber), 0)}, met...),
			Cause: "time-wait-older-timestamp",
			Because: "exactly those SYNs are rejected whose port was last used by a host with its clock ahead, however the gateway assigns the " +
				"ports. Among hosts with unrelated clocks this is half of the SYNs",
			Source: "RFC 7323 section 5.4, tcp_timewait_state_process",
		},
		{
			Name: "share-clocks-of-old", Cells: claim.Cells{timestamps}.And(claim.Where{shareClocks: {clocksConnection}}),
			Kernels: []claim.Condition{claim.Lacks(lab.Client, kernel.TimestampsMode2)}, Want: claim.With(none, met...),
			Because: "without random offsets all namespaces of one kernel have one clock",
			Source:  "tcp_time_stamp before commit 95a22caee396",
		},
		{
			Name: "share-clocks-of-connections", Cells: claim.Cells{timestamps}.And(claim.Where{shareClocks: {clocksConnection}}),
			Want:    claim.With([]claim.Expectation{half, claim.AtLeast(situation.RefusedBy(situation.ByClock), 1), claim.Exactly(situation.RefusedBy(situation.ByNumber), 0)}, met...),
			Cause:   "time-wait-older-timestamp",
			Because: "with random offsets the timestamp of each SYN is older than the last one from its port with probability 1/2",
			Source:  "secure_tcp_ts_off; RFC 7323 section 5.4; tcp_timewait_state_process",
		},
		{
			Name: "share-numbers", Cells: claim.Cells{{}},
			Want:  claim.With([]claim.Expectation{half, claim.Exactly(situation.RefusedBy(situation.ByClock), 0), claim.AtLeast(situation.RefusedBy(situation.ByNumber), 1)}, met...),
			Cause: "time-wait-older-number",
			Because: "without timestamps the initial sequence number decides, and it is random too: turning timestamps off changes which SYNs are " +
				"rejected, but not how many",
			Source: "RFC 6528, secure_tcp_seq; RFC 1122 section 4.2.2.13, tcp_timewait_state_process",
		},
	}
}

func shareTopology(c claim.Cell) lab.Topology {
	stamps := map[string]string{clocksConnection: "1", clocksHost: "2", clocksShared: "2", clocksNone: "0"}
	t := lab.Topology{
		Clients: shareHosts,
		Gateway: lab.GatewaySpec{Kind: lab.Masquerade, Ports: poolOf(shareSYNs), Random: randomMode(c.Value(shareRandom))},
		Sysctls: lab.On(lab.Client, "net.ipv4.tcp_timestamps="+stamps[c.Value(shareClocks)]).
			On(lab.Gateway, "net.netfilter.nf_conntrack_tcp_be_liberal=1"), // see gatewayTopology
	}
	return t
}

// poolOf is a pool of so many ports.
func poolOf(ports int) lab.PortRange {
	return lab.PortRange{First: situation.SourcePort, Last: situation.SourcePort + uint16(ports) - 1}
}

// randomMode is the option of iptables by which the gateway chooses ports.
func randomMode(value string) (mode lab.RandomMode) {
	switch value {
	case randomNo: // without an option
	case randomPlain:
		mode = lab.Random
	case randomFully:
		mode = lab.FullyRandom
	}
	return mode
}

func driveShare(ctx context.Context, c claim.Cell, l *lab.Lab) (seen claim.Seen, err error) {
	u, err := useUp(ctx, l, shareSYNs, 0)
	if err != nil {
		return seen, err
	}
	hosts := 0
	if c.Is(shareClocks, clocksHost) {
		if hosts, err = u.drawClocks(ctx); err != nil {
			return seen, err
		}
	}
	if err := u.end(ctx); err != nil {
		return seen, fmt.Errorf("first load: %w", err)
	}
	if err := u.awaitExpired(ctx); err != nil {
		return seen, err
	}
	full, err := u.balancer.Occupancy(ctx)
	if err != nil {
		return seen, err
	}
	again, err := u.again(ctx, shareSYNs/shareHosts)
	if err != nil {
		return seen, fmt.Errorf("second load: %w", err)
	}
	f := situation.DispositionsOf(again)
	f.Note(&seen, again)
	seen.Count("refused", f.Clock+f.Number)
	seen.Count("time-waits", int64(full.TimeWait))
	seen.Count("ahead", int64(hosts*shareSYNs/shareHosts))
	seen.Note("refused as the clocks say", claim.YesNo(int(f.Clock) == hosts*shareSYNs/shareHosts))
	return seen, nil
}

// shareEvidence is what [driveShare] notes beside the account of its second load.
func shareEvidence() []claim.Evidence {
	return append(situation.LoadEvidence(),
		claim.Evidence{Name: "refused", Unit: situation.SYNs, Means: "SYNs that TIME_WAITs rejected, for any reason"},
		situation.LoadTimeWaits,
		claim.Evidence{Name: "ahead", Unit: situation.Attempts, Means: "attempts from ports whose earlier host had its clock ahead", Aside: true},
		claim.Evidence{Name: "refused as the clocks say", Unit: situation.YesOrNo, Means: "whether the number of SYNs rejected for their timestamp is the number of ports whose earlier host had its clock ahead"},
	)
}
