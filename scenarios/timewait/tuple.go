package timewait

import (
	"context"
	"slices"
	"time"

	"twlab/harness/lab"
	"twlab/scenarios/claim"
	"twlab/scenarios/situation"
)

// The axes of the family.
const (
	tupleClientTS   = "client-ts"
	tupleBalancerTS = "balancer-ts"
	tupleClock      = "clock"
	isn             = "isn"
	tupleState      = "state"
	rfc1337         = "rfc1337"
	tuplePath       = "path"
	tupleSecond     = "second"
)

// Tuple is the family of a five-tuple that is reused: what the balancer does with a SYN for
// a connection that it still remembers.
func Tuple() situation.Family {
	return situation.Family{
		Family: claim.Family{
			Name:     "tuple",
			Evidence: situation.TupleEvidence(),
			About: "A client's connection is over, the balancer still has some state of it, and a SYN comes from the same address and port: is " +
				"it accepted, answered or ignored, and does the client connect?",
			Axes:       tupleAxes(),
			Crossed:    [][]string{{tupleClock, rfc1337, tuplePath}, {tupleBalancerTS, isn, rfc1337, tuplePath}, {tupleState, tupleClock, isn}, {tupleState, tuplePath}},
			Impossible: tupleImpossible(),
			Waits: []claim.Wait{
				{Cells: claim.Cells{{tupleState: {string(situation.LeftNothing)}}}, About: situation.TimeWaitLength},
				{Cells: claim.Cells{{tupleClock: {string(situation.Equal)}}}, About: 5 * time.Second}, // many tries, on a busy machine
			},
			Rules: slices.Concat(
				tupleUndisputedRules(), tupleIgnoredRules(), tupleStandingRules(), tupleFinWait2Rules(),
				tupleNewerRules(), tupleOlderStampRules(), tupleOlderNumberRules(),
			),
		},
		Topology: tupleTopology,
		Drive:    tupleDrive,
		Tell:     tupleTell,
	}
}

func tupleAxes() []claim.Axis {
	return []claim.Axis{
		{Name: tupleClock, Values: []string{"older", "newer", "equal", "wrapped"}, Product: true,
			Means: "the second connection's timestamp compared with the last one of the first"},
		{Name: isn, Values: []string{"newer", "older", "equal"}, Product: true,
			Means: "the second connection's initial sequence number compared with the one that the balancer expects next"},
		{Name: tupleClientTS, Values: []string{"1", "2", "0"}, Product: true, Sysctl: claim.RoleSysctl{Role: lab.Client, Sysctl: "net.ipv4.tcp_timestamps"},
			Means: "tcp_timestamps of the clients"},
		{Name: tupleBalancerTS, Values: []string{"1", "0"}, Product: true, Sysctl: claim.RoleSysctl{Role: lab.Balancer, Sysctl: "net.ipv4.tcp_timestamps"},
			Means: "tcp_timestamps of the balancer"},
		{Name: tupleSecond, Values: []string{"other-host", "same-host", "direct"}, Product: true,
			Means: "which client connects the second time: another one behind the same MASQUERADE gateway, the same one, or the same one without " +
				"NAT"},
		{Name: tupleState, Values: []string{string(situation.LeftTimeWait), string(situation.LeftFinWait2), string(situation.LeftEstablished), string(situation.LeftChallenged), string(situation.LeftNothing)},
			Means: "what the first connection has left at the balancer; challenged: established, and a challenge ACK was sent just before; " +
				"expired: nothing"},
		{Name: rfc1337, Values: []string{"0", "1"}, Sysctl: claim.RoleSysctl{Role: lab.Balancer, Sysctl: "net.ipv4.tcp_rfc1337"},
			Means: "tcp_rfc1337 of the balancer"},
		{Name: tuplePath, Values: []string{"clean", string(situation.DropsInvalid), string(situation.EatsRST), string(situation.UnNATedRST), string(situation.EatsACK)},
			Means: "what the gateway does to the handshake: nothing; drops what conntrack finds INVALID; drops the client's RSTs; forwards them " +
				"untranslated; drops the balancer's bare ACKs"},
		situation.IPAxis(),
	}
}

func tupleImpossible() []claim.Impossible {
	return []claim.Impossible{
		{Cells: claim.Cells{{tupleClientTS: {"0"}, tupleClock: {"older", "equal", "wrapped"}}}, Because: "a SYN without a timestamp has no clock to compare"},
		{Cells: claim.Cells{{tupleBalancerTS: {"0"}, tupleClock: {"equal", "wrapped"}}}, Because: "a balancer without timestamps has seen no timestamp that another one could be equal to"},
		{Cells: claim.Cells{{tupleClientTS: {"1"}, tupleClock: {"wrapped"}}}, Because: "the clock starts at a random number, so the moment when it passes 2^32 cannot be chosen"},
		{Cells: claim.Cells{{tupleState: {string(situation.LeftNothing)}, tupleClock: {"equal"}}}, Because: "when the TIME_WAIT has expired, the clocks have advanced by a minute"},
		{Cells: claim.Cells{{tupleState: {string(situation.LeftChallenged)}, tupleClock: {"equal"}}}, Because: "the driver cannot be sure to hit one exact tick within half a second after a challenge"},
		{Cells: claim.Cells{{tupleState: {string(situation.LeftChallenged)}, tuplePath: {string(situation.DropsInvalid), string(situation.EatsRST), string(situation.UnNATedRST), string(situation.EatsACK)}}},
			Because: "the earlier SYN, whose challenge ACK must get lost, needs a fault of its own"},
		{Cells: claim.Cells{{tupleSecond: {"direct"}, tuplePath: {string(situation.UnNATedRST)}}}, Because: "without NAT there is no translation that could be left out"},
	}
}

func tupleTopology(c claim.Cell) lab.Topology {
	t := lab.Topology{
		Clients: 1, Names: []string{"phone-a"},
		Gateway: lab.GatewaySpec{Kind: lab.Masquerade},
		// A client that cannot connect gives up after 3 s.
		Sysctls: lab.On(lab.Client, "net.ipv4.tcp_syn_retries=1"),
	}
	if c.Is(tupleState, string(situation.LeftChallenged)) { // the second retransmission is the one that is accepted
		t.Sysctls = lab.On(lab.Client, "net.ipv4.tcp_syn_retries=2")
	}
	switch c.Value(tupleSecond) {
	case "same-host":
	case "other-host":
		t.Clients, t.Names = 2, []string{"phone-a", "phone-b"}
	case "direct":
		t.Gateway.Kind = lab.Routed
	}
	return t
}

func tupleDrive(ctx context.Context, c claim.Cell, l *lab.Lab) (claim.Seen, error) {
	five := situation.FiveTuple{
		Left:  situation.Left(c.Value(tupleState)),
		Clock: situation.Order(c.Value(tupleClock)),
		ISN:   situation.Order(c.Value(isn)),
	}
	if c.Value(tuplePath) != "clean" {
		five.Fault = situation.Fault(c.Value(tuplePath))
	}
	if !minds.Matches(c) {
		five.Aged = 2 * situation.TimerSlack
	}
	seen, err := five.Drive(ctx, l)
	return seen.Observations(), err
}
