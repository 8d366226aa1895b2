package nat

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"twlab/harness/lab"
	"twlab/scenarios/claim"
	"twlab/scenarios/situation"
)

// The axes of the family of the gateway's choice, and the values that its driver
// and its rules share.
const (
	gatewayEntry      = "entry"
	gatewayClient     = "client"
	gatewayPool       = "pool"
	gatewaySource     = "source"
	gatewayISN        = "isn"
	gatewayLeft       = "left"
	gatewayTimeout    = "conntrack-timeout"
	gatewayClock      = "clock"
	gatewayBalancerTS = "balancer-ts"
	gatewayRandom     = "random"

	poolAll = "all"
	poolOne = "one"
	poolFew = "few"

	randomNo    = "no"
	randomPlain = "random"
	randomFully = "fully"

	// fewPorts is so small that a client may meet a TIME_WAIT on every port, remove each
	// with a RST, and still has a SYN left for the time when there is none any more.
	fewPorts uint16 = 2
)

// gatewayRetries is how often a client retransmits its SYN in cells where it must connect
// in the end: the gateway may drop one SYN, fewPorts SYNs may be rejected, and then one is
// accepted.
const gatewayRetries = 3

// Gateway is the family of the gateway's choice: which port a MASQUERADE gateway gives to
// a new connection after earlier ones to the same destination.
func Gateway() situation.Family {
	return situation.Family{
		Family: claim.Family{
			Name:     "gateway",
			Evidence: portReuseEvidence(),
			About: "Earlier connections through a MASQUERADE gateway have ended or are still open, and a new one goes to the same destination: " +
				"does the gateway give it the port of an earlier one, which the balancer may still have in TIME_WAIT, does it choose another " +
				"port, or does it drop the SYN?",
			Axes: gatewayAxes(),
			Crossed: [][]string{
				{gatewayEntry, gatewayClient, gatewayISN, gatewayBalancerTS},
				{gatewayEntry, gatewayPool, gatewaySource, gatewayISN, gatewayBalancerTS},
				{gatewayEntry, gatewayPool, gatewaySource, gatewayClock},
				{gatewayEntry, gatewayClient, gatewayClock},
				{gatewayEntry, gatewayRandom, gatewaySource},
				{gatewayRandom, gatewayISN, gatewayBalancerTS},
				{gatewayRandom, gatewayClock},
				{gatewayRandom, gatewayLeft},
				{gatewayRandom, gatewayPool},
				{gatewayEntry, gatewayClient, gatewayLeft, gatewayTimeout},
				{gatewayEntry, gatewayPool, gatewayLeft, gatewayTimeout},
			},
			Impossible: []claim.Impossible{
				{Cells: claim.Cells{{gatewayEntry: {"expired"}, gatewayLeft: {string(situation.LeftEstablished)}}},
					Because: "the entry of an established connection lasts for five days, whatever the timeout after its end is"},
				{Cells: claim.Cells{{gatewayEntry: {"expired"}, gatewayLeft: {string(situation.LeftTimeWait)}, gatewayTimeout: {"120"}}},
					Because: "the balancer's TIME_WAIT is over after 60 s, long before an entry of 120 s expires"},
				{Cells: claim.Cells{{gatewayEntry: {"kept"}, gatewayLeft: {string(situation.LeftNothing)}, gatewayTimeout: {"1", "30"}}},
					Because: "an entry that lasts less than 60 s is gone before the balancer's TIME_WAIT is over"},
			},
			Waits: []claim.Wait{
				{Cells: claim.Cells{{gatewayEntry: {"expired"}, gatewayLeft: {string(situation.LeftNothing)}, gatewayTimeout: {"120"}}}, About: 120 * time.Second},
				{Cells: claim.Cells{{gatewayLeft: {string(situation.LeftNothing)}}}, About: situation.TimeWaitLength},
				{Cells: claim.Cells{{gatewayEntry: {"expired"}, gatewayTimeout: {"30"}}}, About: 30 * time.Second},
				{Cells: claim.Cells{{gatewayEntry: {"kept"}, gatewaySource: {"same"}, gatewayPool: {poolOne, poolFew}}}, About: 7 * time.Second},
			},
			Rules: slices.Concat(
				gatewayStandingRules(), gatewayDrawsAgainRules(), gatewayGiftRules(),
				gatewayClashRules(), gatewayOtherPortRules(),
			),
		},
		Topology: gatewayTopology,
		Drive:    gatewayDrive,
		Tell:     gatewayTell,
	}
}

func gatewayAxes() []claim.Axis {
	return []claim.Axis{
		{Name: gatewayEntry, Values: []string{"expired", "kept"}, Product: true,
			Means: "what the gateway still has of the earlier connections when the new one starts: nothing, or their conntrack entries"},
		{Name: gatewayClient, Values: []string{"other", "same"}, Product: true,
			Means: "which client makes the new connection: another one behind the gateway, or the one that made the earlier ones"},
		{Name: gatewayPool, Values: []string{poolAll, poolOne, poolFew}, Product: true,
			Means: "the ports that the gateway may use: all; one (--to-ports); or two, each with an earlier connection"},
		{Name: gatewaySource, Values: []string{"same", "other"}, Product: true,
			Means: "the client's source port of the new connection: that of an earlier one, or another one"},
		{Name: gatewayISN, Values: []string{string(situation.Newer), string(situation.Older)},
			Means: "the new connection's initial sequence number compared with the last one of the earlier connections"},
		{Name: gatewayBalancerTS, Values: []string{"1", "0"}, Sysctl: claim.RoleSysctl{Role: lab.Balancer, Sysctl: "net.ipv4.tcp_timestamps"},
			Means: "tcp_timestamps of the balancer"},
		{Name: gatewayRandom, Values: []string{randomNo, randomPlain, randomFully},
			Means: "how the gateway chooses a port: the client's own port if it is free; by --random; by --random-fully"},
		{Name: gatewayLeft, Values: []string{string(situation.LeftTimeWait), string(situation.LeftEstablished), string(situation.LeftNothing)},
			Means: "what the earlier connections have left at the balancer"},
		{Name: gatewayTimeout, Values: []string{"1", "30", "120"},
			Sysctl: claim.RoleSysctl{Role: lab.Gateway, Sysctl: "net.netfilter.nf_conntrack_tcp_timeout_time_wait"},
			Means:  "how many seconds the gateway keeps the entry of an ended connection; the default of the kernel is 120"},
		{Name: gatewayClock, Values: []string{string(situation.Newer), string(situation.Older)},
			Means: "the new connection's timestamp compared with the last one of the earlier connections"},
		situation.IPAxis(),
	}
}

func gatewayTopology(c claim.Cell) lab.Topology {
	t := lab.Topology{
		Clients: 2, Names: []string{"phone-a", "phone-b"},
		Gateway: lab.GatewaySpec{Kind: lab.Masquerade},
		// Few retries, so that a client that cannot connect soon gives up. One clock for
		// all, without offsets, so that it decides what is newer.
		Sysctls: lab.On(lab.Client, "net.ipv4.tcp_syn_retries=2", "net.ipv4.tcp_timestamps=2").
			// For some gateways the RST with which a client removes a TIME_WAIT is out
			// of the window (see the tuple family); here that must not matter.
			On(lab.Gateway, "net.netfilter.nf_conntrack_tcp_be_liberal=1"),
	}
	if c.Is(gatewayLeft, string(situation.LeftTimeWait)) && (c.Is(gatewayPool, poolFew) || c.Number(gatewayTimeout) == 1) {
		t.Sysctls = t.Sysctls.On(lab.Client, fmt.Sprintf("net.ipv4.tcp_syn_retries=%d", gatewayRetries))
	}
	if c.Either(gatewayClient, "same", "other") {
		t.Clients, t.Names = 1, t.Names[:1]
	}
	switch c.Value(gatewayPool) {
	case poolOne:
		t.Gateway.Ports = lab.PortRange{First: situation.SourcePort, Last: situation.SourcePort}
	case poolFew:
		t.Gateway.Ports = lab.PortRange{First: situation.SourcePort, Last: situation.SourcePort + fewPorts - 1}
	}
	t.Gateway.Random = randomMode(c.Value(gatewayRandom))
	return t
}

func gatewayDrive(ctx context.Context, c claim.Cell, l *lab.Lab) (claim.Seen, error) {
	g, err := giveawayOf(ctx, c, l)
	if err != nil {
		return claim.Seen{}, err
	}
	return g.drive(ctx)
}

func giveawayOf(ctx context.Context, c claim.Cell, l *lab.Lab) (*portReuse, error) {
	clients, gateways := l.Nodes(lab.Client), l.Nodes(lab.Gateway)
	if len(gateways) == 0 {
		return nil, errors.New("port reuse: want a gateway")
	}
	timeout, err := conntrackTimeout(ctx, gateways[0])
	if err != nil {
		return nil, fmt.Errorf("port reuse: %w", err)
	}
	g := &portReuse{
		lab:        l,
		first:      clients[0],
		second:     clients[len(clients)-1],
		gateway:    gateways[0],
		balancer:   l.Balancer(),
		earlier:    1,
		left:       situation.Left(c.Value(gatewayLeft)),
		expired:    c.Either(gatewayEntry, "expired", "kept"),
		timeout:    timeout,
		olderClock: c.Either(gatewayClock, string(situation.Older), string(situation.Newer)),
		olderISN:   c.Either(gatewayISN, string(situation.Older), string(situation.Newer)),
		from:       situation.SourcePort,
		draws:      c.Is(gatewayPool, poolAll) && !c.Is(gatewayRandom, randomNo),
		listed: c.Is(gatewayEntry, "kept") && c.Is(gatewayPool, poolOne) && c.Is(gatewaySource, "same") &&
			c.Is(gatewayRandom, randomNo) && c.Is(gatewayLeft, string(situation.LeftTimeWait)) && c.Number(gatewayTimeout) == 1,
	}
	if c.Is(gatewayPool, poolFew) {
		g.earlier = fewPorts
	}
	if c.Either(gatewaySource, "other", "same") {
		g.from = otherPort
	}
	if g.left == situation.LeftEstablished && g.first == g.second && g.from == situation.SourcePort {
		g.draws = false // it already has a port
	}
	return g, nil
}
