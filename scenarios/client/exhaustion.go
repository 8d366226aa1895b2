package client

import (
	"context"
	"slices"

	"twlab/harness/lab"
	"twlab/scenarios/claim"
	"twlab/scenarios/situation"
)

// The axes of the family.
const (
	exhaustionPath       = "path"
	exhaustionClientTS   = "client-ts"
	exhaustionBalancerTS = "balancer-ts"
	reuse                = "tw-reuse"
	closer               = "closer"
	age                  = "age"
	destination          = "destination"
	exhaustionPort       = "port"
	buckets              = "tw-buckets"
	delay                = "reuse-delay"
)

// Exhaustion is the family of a client that runs out of ports: it has one local port,
// its connection ends, and it connects to the same destination again.
func Exhaustion() situation.Family {
	return situation.Family{
		Family: claim.Family{
			Name:     "exhaustion",
			Evidence: samePortEvidence(),
			About: "A client has one local port for a destination. Its connection there ends, and it connects to the same destination again: " +
				"does it get the port, and what decides that?",
			Axes: exhaustionAxes(),
			Crossed: [][]string{
				{exhaustionPort, exhaustionClientTS, exhaustionBalancerTS, reuse}, {exhaustionPort, closer, age, buckets}, {destination, exhaustionPort, reuse, age},
				{destination, closer, buckets, exhaustionClientTS}, {delay, age, reuse, destination}, {destination, situation.IPAxis().Name, reuse, age},
			},
			Impossible: []claim.Impossible{
				{Cells: claim.Cells{{destination: onClient(), exhaustionPath: {"nat"}}}, Because: "packets that a host sends to itself pass no gateway"},
				{Cells: claim.Cells{{destination: onClient(), exhaustionBalancerTS: {"0"}}}, Because: "if the listener is on the client itself, the balancer takes no part"},
				{Cells: claim.Cells{{age: {"older"}, closer: {string(ClientResets)}}}, Because: "a RST leaves no TIME_WAIT that could grow older"},
				{Cells: tableFull.And(claim.Where{age: {"older"}}), Because: "if tcp_max_tw_buckets leaves no room, there is no TIME_WAIT that could grow older"},
				{Cells: claim.Cells{{age: {"younger"}, delay: {"1"}}}, Because: "the client cannot be sure to connect again within a millisecond"},
				{Cells: claim.Cells{{age: {"older"}, delay: {"60000"}}}, Because: "a TIME_WAIT is gone after 60 s"},
			},
			Rules: slices.Concat(exhaustionNoTimeWaitRules(), exhaustionBalancerRules(), exhaustionBindRules(), exhaustionConnectRules()),
		},
		Topology: exhaustionTopology,
		Drive:    exhaustionDrive,
		Tell:     exhaustionTell,
	}
}

func exhaustionAxes() []claim.Axis {
	return []claim.Axis{
		{Name: exhaustionPath, Values: []string{"direct", "nat"}, Product: true,
			Means: "whether the client reaches the balancer directly or through a MASQUERADE gateway"},
		{Name: exhaustionClientTS, Values: []string{"1", "0"}, Product: true, Sysctl: claim.RoleSysctl{Role: lab.Client, Sysctl: "net.ipv4.tcp_timestamps"},
			Means: "tcp_timestamps of the client"},
		{Name: exhaustionBalancerTS, Values: []string{"1", "0"}, Product: true, Sysctl: claim.RoleSysctl{Role: lab.Balancer, Sysctl: "net.ipv4.tcp_timestamps"},
			Means: "tcp_timestamps of the balancer"},
		{Name: reuse, Values: []string{"1", "2", "0"}, Product: true, Sysctl: claim.RoleSysctl{Role: lab.Client, Sysctl: "net.ipv4.tcp_tw_reuse"},
			Means: "tcp_tw_reuse of the client"},
		{Name: closer, Values: []string{string(ClientCloses), string(BalancerCloses), string(ClientResets)}, Product: true,
			Means: "how the first connection ends: the client or the balancer closes first with a FIN, or the client sends a RST (SO_LINGER with " +
				"0 seconds)"},
		{Name: age, Values: []string{"younger", "older"}, Product: true,
			Means: "the age of the TIME_WAIT when the client connects again, compared with the age from which tcp_tw_reuse takes it"},
		{Name: destination, Values: append([]string{string(AtBalancer)}, onClient()...),
			Means: "where the listener is: on the balancer, or on the client itself, at 127.0.0.1 (::1 over IPv6), at 127.0.0.1 with an IPv6 socket " +
				"as the client, or at the address of its link"},
		{Name: exhaustionPort, Values: []string{string(AutoPort), string(FixedPort), string(SharedPort), string(EarlyPortOf), string(LatePortOf)},
			Means: "how both connections get their local port: connect chooses it; bind to the number, without or with SO_REUSEADDR; bind to the " +
				"address and port 0; or the same with IP_BIND_ADDRESS_NO_PORT"},
		{Name: buckets, Values: []string{"default", "exceeded"},
			Means: "whether the client's tcp_max_tw_buckets leaves room for a TIME_WAIT"},
		{Name: delay, Values: []string{"1000", "1", "60000"},
			Sysctl: claim.RoleSysctl{Role: lab.Client, Sysctl: situation.ReuseDelay, IfPresent: true},
			Means:  "tcp_tw_reuse_delay of the client in milliseconds, on kernels that have it"},
		situation.IPAxis(),
	}
}

// onClient are the destinations on the client itself.
func onClient() []string {
	return []string{string(AtLoopback), string(AtMappedLoopback), string(AtOwnAddress)}
}

func exhaustionTopology(c claim.Cell) lab.Topology {
	// Few retries, so that an attempt that fails by mistake does not take long.
	t := lab.Topology{Clients: 1, Sysctls: lab.On(lab.Client, "net.ipv4.tcp_syn_retries=2")}
	if c.Either(exhaustionPath, "nat", "direct") {
		t.Gateway.Kind = lab.Masquerade
	}
	if c.Is(destination, onClient()...) {
		t.Loopback = lab.Client
	}
	if c.Either(buckets, "exceeded", "default") {
		t.Sysctls = t.Sysctls.On(lab.Client, "net.ipv4.tcp_max_tw_buckets=0")
	}
	return t
}

func exhaustionDrive(ctx context.Context, c claim.Cell, l *lab.Lab) (claim.Seen, error) {
	again := SamePort{
		Listener: ListenerAt(c.Value(destination)),
		Closer:   Closer(c.Value(closer)),
		Binding:  Binding(c.Value(exhaustionPort)),
		Older:    c.Either(age, "older", "younger"),
	}
	return again.Drive(ctx, l)
}
