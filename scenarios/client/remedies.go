package client

import (
	"context"
	"fmt"
	"slices"

	"twlab/harness/lab"
	"twlab/harness/topo"
	"twlab/scenarios/claim"
	"twlab/scenarios/situation"
)

// The axes of the family.
const (
	remedy           = "remedy"
	remedyPath       = "path"
	remedyClientTS   = "client-ts"
	remedyBalancerTS = "balancer-ts"
	unsent           = "unsent"
)

const (
	remedyFirstPort = 50000
	remedyPorts     = 4
	remedyConnects  = 8

	remedyBytes = 1000     // of a connection with nothing unsent
	unsentBytes = 16 << 20 // more than fits into the peer's window and our buffer
	// unsentLeast is the least number of these bytes that the kernel has taken and
	// not sent: half of the smallest send buffer (tcp_wmem[1], 16 KiB; the kernel may
	// need the other half for itself), less the peer's receive buffer.
	unsentLeast = 8<<10 - 4<<10
)

// Remedies is the family of remedies for a client that runs out of ports: what helps,
// what it costs, and which side has the TIME_WAITs then.
func Remedies() situation.Family {
	return situation.Family{
		Family: claim.Family{
			Name:     "remedies",
			Evidence: remedyEvidence(),
			About: fmt.Sprintf("A client with %d local ports connects %d times in a row, and each connection ends before the next one begins: "+
				"how many attempts get a port, who has the TIME_WAITs, and does all data that was sent arrive?", remedyPorts, remedyConnects),
			Axes:    remedyAxes(),
			Crossed: [][]string{{remedy, unsent}},
			Impossible: []claim.Impossible{
				{Cells: claim.Cells{{remedyPath: {"nat"}, remedy: {"more-addresses"}}}, Because: "behind the lab's gateway there is only one address to connect to"},
				{Cells: claim.Cells{{unsent: {"yes"}, remedy: {"balancer-closes"}}}, Because: "the client waits until the balancer has closed, so it has no unsent data to discard"},
			},
			Rules: slices.Concat(remedyEndRules(), remedyPortRules()),
		},
		Topology: remedyTopology,
		Drive:    remedyDrive,
		Tell:     remedyTell,
	}
}

func remedyAxes() []claim.Axis {
	return []claim.Axis{
		{Name: remedy, Values: []string{"none", "balancer-closes", "linger", "wider-range", "more-ports", "more-addresses", "bind"}, Product: true,
			Means: "the remedy: none; the balancer closes first (Connection: close); SO_LINGER with 0 seconds; twice as many local ports; a " +
				"second destination port; a second destination address; bind to each port in turn with SO_REUSEADDR"},
		{Name: remedyPath, Values: []string{"direct", "nat"}, Product: true, Means: "whether a MASQUERADE gateway is in between"},
		{Name: remedyClientTS, Values: []string{"1", "0"}, Product: true, Sysctl: claim.RoleSysctl{Role: lab.Client, Sysctl: "net.ipv4.tcp_timestamps"},
			Means: "tcp_timestamps of the client"},
		{Name: remedyBalancerTS, Values: []string{"1", "0"}, Product: true, Sysctl: claim.RoleSysctl{Role: lab.Balancer, Sysctl: "net.ipv4.tcp_timestamps"},
			Means: "tcp_timestamps of the balancer"},
		{Name: unsent, Values: []string{"no", "yes"}, Means: "whether the client still has unsent data when it closes"},
		situation.IPAxis(),
	}
}

// whole is a connection that ends properly, so that all data has arrived.
var whole = []claim.Expectation{claim.Exactly("bytes lost", 0), claim.Stays(lab.Balancer, "Tcp.EstabResets")}

// remedyEndRules are about other ways to end the connection.
func remedyEndRules() []claim.Rule {
	return []claim.Rule{
		{
			Name: "remedies-linger-loses-data", Cells: claim.Cells{{remedy: {"linger"}, unsent: {"yes"}}},
			Want: []claim.Expectation{
				claim.Exactly("connected", remedyConnects), claim.AtLeast("bytes lost", remedyConnects*unsentLeast), claim.Exactly("readers reset", remedyConnects),
				claim.Exactly("client TIME_WAIT", 0), claim.Exactly("balancer TIME_WAIT", 0), claim.AtLeast("client TcpExt.TCPAbortOnData", remedyConnects),
			},
			Cause: "linger-reset",
			Because: "close with SO_LINGER and 0 seconds discards the unsent data and resets the connection: the reader gets a part of the data " +
				"and an error (here the receive buffer has room for 4 KiB, and the send buffer for 16 KiB or more)",
			Source: "tcp_disconnect, tcp_close",
		},
		{
			Name: "remedies-linger", Cells: claim.Cells{{remedy: {"linger"}}},
			Want: []claim.Expectation{
				claim.Exactly("connected", remedyConnects), claim.Exactly("client TIME_WAIT", 0), claim.Exactly("balancer TIME_WAIT", 0),
				claim.Exactly("bytes lost", 0), claim.AtLeast("balancer Tcp.EstabResets", remedyConnects), claim.AtLeast("client Tcp.OutRsts", remedyConnects),
			},
			Because: "a RST ends the connection on both sides at once, so no side has a TIME_WAIT and the port is free",
			Source:  "tcp_close, tcp_reset",
		},
		{
			Name: "remedies-balancer-closes", Cells: claim.Cells{{remedy: {"balancer-closes"}}},
			Want: claim.With([]claim.Expectation{claim.Exactly("connected", remedyConnects), claim.Exactly("client TIME_WAIT", 0),
				claim.Is("client ports in balancer TIME_WAIT", "all"), claim.Between("balancer TIME_WAIT", 1, remedyPorts)}, whole...),
			Because: "the side that closes first keeps the TIME_WAIT: now this is the balancer, with one for each port. When the same client uses " +
				"a port again, its newer timestamp or sequence number replaces the TIME_WAIT",
			Source: "RFC 9293 section 3.6; tcp_time_wait, tcp_timewait_state_process",
		},
	}
}

// remedyPortRules are about ports: reused by bind, more of them, and without any remedy.
func remedyPortRules() []claim.Rule {
	noTimestamps := claim.Cells{{remedyBalancerTS: {"0"}}, {remedyClientTS: {"0"}}}
	const half = remedyConnects - remedyPorts

	return []claim.Rule{
		{
			Name: "remedies-bind-no-timestamps", Cells: noTimestamps.And(claim.Where{remedy: {"bind"}}),
			Want: claim.With([]claim.Expectation{claim.Exactly("connected", remedyPorts), claim.Exactly("no port", half), claim.Exactly("client TIME_WAIT", remedyPorts),
				claim.Stays(lab.Client, "TcpExt.TWRecycled")}, whole...),
			Cause:   "ports-exhausted",
			Because: "a TIME_WAIT of a connection without timestamps is never reused: bind succeeds, but connect fails",
			Source:  "tcp_twsk_unique: tw_ts_recent_stamp",
		},
		{
			Name: "remedies-bind", Cells: claim.Cells{{remedy: {"bind"}}},
			Want: claim.With([]claim.Expectation{claim.Exactly("connected", remedyConnects), claim.Exactly("no port", 0), claim.Exactly("client TIME_WAIT", remedyPorts),
				claim.AtLeast("client TcpExt.TWRecycled", half)}, whole...),
			Because: "if the port was bound explicitly with SO_REUSEADDR, connect takes over the port's own TIME_WAIT at once, whatever " +
				"tcp_tw_reuse says, provided that the old connection had timestamps",
			Source: "tcp_twsk_unique: twp is NULL",
		},
		{
			Name: "remedies-more", Cells: claim.Cells{{remedy: {"wider-range", "more-ports", "more-addresses"}}},
			Want: claim.With([]claim.Expectation{claim.Exactly("connected", remedyConnects), claim.Exactly("no port", 0), claim.Exactly("client TIME_WAIT", remedyConnects)}, whole...),
			Because: "a local port is used up for one destination only, so twice as many ports or destinations allow twice as many connections; " +
				"the TIME_WAITs stay at the client",
			Source: "__inet_check_established",
		},
		{
			Name: "remedies-none", Cells: claim.Cells{{}},
			Want: claim.With([]claim.Expectation{claim.Exactly("connected", remedyPorts), claim.Exactly("no port", half), claim.Exactly("client TIME_WAIT", remedyPorts),
				claim.Exactly("balancer TIME_WAIT", 0)}, whole...),
			Cause: "ports-exhausted",
			Because: "the client closes first, and each port stays in TIME_WAIT, until no port is left: then connect fails with EADDRNOTAVAIL and " +
				"sends no SYN",
			Source: "__inet_hash_connect",
		},
	}
}

func remedyTopology(c claim.Cell) lab.Topology {
	last := remedyFirstPort + remedyPorts - 1
	if c.Is(remedy, "wider-range") {
		last += remedyPorts
	}
	t := lab.Topology{
		Clients: 1,
		Sysctls: situation.KeepTimeWaits(lab.Client, lab.Balancer).On(lab.Client, fmt.Sprintf("net.ipv4.ip_local_port_range=%d %d", remedyFirstPort, last), "net.ipv4.tcp_tw_reuse=0"),
	}
	if c.Either(remedyPath, "nat", "direct") {
		t.Gateway.Kind = lab.Masquerade
	}
	if c.Is(remedy, "more-addresses") {
		// The second address is a server's; the balancer forwards.
		t.Servers = 1
		forwards := "net.ipv4.ip_forward=1"
		if situation.OverIPv6(c) {
			forwards = topo.Forwarding6 + "=1"
		}
		t.Sysctls = t.Sysctls.On(lab.Balancer, forwards)
	}
	if c.Is(remedy, "linger") && c.Either(unsent, "yes", "no") {
		// So that the network cannot take all of the data.
		t.Sysctls = t.Sysctls.On(lab.Balancer, "net.ipv4.tcp_rmem=4096 4096 4096")
	}
	return t
}

func remedyDrive(ctx context.Context, c claim.Cell, l *lab.Lab) (claim.Seen, error) {
	r := remedyRun{
		client: l.Client(0), balancer: l.Balancer(),
		kind: c.Value(remedy), unsent: c.Either(unsent, "yes", "no"), used: map[situation.Route]bool{},
	}
	if gateways := l.Nodes(lab.Gateway); len(gateways) > 0 {
		r.gateway = gateways[0]
	}
	return r.drive(ctx, l)
}
