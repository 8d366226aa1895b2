package client

import (
	"context"
	"fmt"
	"slices"

	"twlab/harness/lab"
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
	unsentBytes = 16 << 20 // more than the peer's window and our buffer take
	// unsentLeast is how much of them the kernel has taken and not sent at the
	// least: half of the smallest send buffer (tcp_wmem[1], 16 KiB; the other half
	// may be what the kernel needs for itself), less the peer's receive buffer.
	unsentLeast = 8<<10 - 4<<10
)

// Remedies is the family of what helps a client that runs out of ports, what it
// costs, and where it moves the TIME_WAITs.
func Remedies() situation.Family {
	return situation.Family{
		Family: claim.Family{
			Name:     "remedies",
			Evidence: remedyEvidence(),
			About: fmt.Sprintf("A client with %d local ports connects %d times in a row, each connection ends before the next: "+
				"how many get a port, who has the TIME_WAITs, and does everything that was sent arrive?", remedyPorts, remedyConnects),
			Axes:    remedyAxes(),
			Crossed: [][]string{{remedy, unsent}},
			Impossible: []claim.Impossible{
				{Cells: claim.Cells{{remedyPath: {"nat"}, remedy: {"more-addresses"}}}, Because: "behind the lab's gateway the balancer has one address"},
				{Cells: claim.Cells{{unsent: {"yes"}, remedy: {"balancer-closes"}}}, Because: "the client waits for the balancer's end, so it is not the one that gives up data"},
			},
			Rules: slices.Concat(remedyEndRules(), remedyPortRules()),
		},
		Topology: remedyTopology,
		Drive:    remedyDrive,
	}
}

func remedyAxes() []claim.Axis {
	return []claim.Axis{
		{Name: remedy, Values: []string{"none", "balancer-closes", "linger", "wider-range", "more-ports", "more-addresses", "bind"}, Product: true,
			Means: "none; the balancer closes first (Connection: close); SO_LINGER with 0 seconds; twice the local ports; " +
				"a second port, or a second address, to connect to; bind to each port in turn with SO_REUSEADDR"},
		{Name: remedyPath, Values: []string{"direct", "nat"}, Product: true, Means: "whether a MASQUERADE gateway is in between"},
		{Name: remedyClientTS, Values: []string{"1", "0"}, Product: true, Sysctl: claim.RoleSysctl{Role: lab.Client, Sysctl: "net.ipv4.tcp_timestamps"},
			Means: "tcp_timestamps of the client"},
		{Name: remedyBalancerTS, Values: []string{"1", "0"}, Product: true, Sysctl: claim.RoleSysctl{Role: lab.Balancer, Sysctl: "net.ipv4.tcp_timestamps"},
			Means: "tcp_timestamps of the balancer"},
		{Name: unsent, Values: []string{"no", "yes"}, Means: "whether the client still has data to send when it closes"},
	}
}

// whole is a connection that ends properly, so whatever was sent has arrived.
var whole = []claim.Expectation{claim.Exactly("bytes lost", 0), claim.Stays(lab.Balancer, "Tcp.EstabResets")}

// remedyEndRules are about other ends of the connection.
func remedyEndRules() []claim.Rule {
	return []claim.Rule{
		{
			Name: "remedies-linger-loses-data", Cells: claim.Cells{{remedy: {"linger"}, unsent: {"yes"}}},
			Want: []claim.Expectation{
				claim.Exactly("connected", remedyConnects), claim.AtLeast("bytes lost", remedyConnects*unsentLeast), claim.Exactly("readers reset", remedyConnects),
				claim.Exactly("client TIME_WAIT", 0), claim.Exactly("balancer TIME_WAIT", 0), claim.AtLeast("client TcpExt.TCPAbortOnData", remedyConnects),
			},
			Because: "close with SO_LINGER of 0 seconds throws away what has not been sent and resets the connection: the reader gets a part and an error " +
				"(its receive buffer has room for 4 KiB here, the sender's for 16 KiB and more)",
			Source: "tcp_disconnect, tcp_close",
		},
		{
			Name: "remedies-linger", Cells: claim.Cells{{remedy: {"linger"}}},
			Want: []claim.Expectation{
				claim.Exactly("connected", remedyConnects), claim.Exactly("client TIME_WAIT", 0), claim.Exactly("balancer TIME_WAIT", 0),
				claim.Exactly("bytes lost", 0), claim.AtLeast("balancer Tcp.EstabResets", remedyConnects), claim.AtLeast("client Tcp.OutRsts", remedyConnects),
			},
			Because: "a RST ends the connection on both sides at once, so no side waits and the port is free",
			Source:  "tcp_close, tcp_reset",
		},
		{
			Name: "remedies-balancer-closes", Cells: claim.Cells{{remedy: {"balancer-closes"}}},
			Want: claim.With([]claim.Expectation{claim.Exactly("connected", remedyConnects), claim.Exactly("client TIME_WAIT", 0),
				claim.Is("client ports in balancer TIME_WAIT", "all"), claim.Between("balancer TIME_WAIT", 1, remedyPorts)}, whole...),
			Because: "who closes first keeps the TIME_WAIT: it is now the balancer's, one for each port; when the same client comes back on a port, " +
				"its newer timestamp or sequence number takes that over",
			Source: "RFC 9293 section 3.6; tcp_time_wait, tcp_timewait_state_process",
		},
	}
}

// remedyPortRules are about ports: to take them over, to have more, and as they are.
func remedyPortRules() []claim.Rule {
	noTimestamps := claim.Cells{{remedyBalancerTS: {"0"}}, {remedyClientTS: {"0"}}}
	const half = remedyConnects - remedyPorts

	return []claim.Rule{
		{
			Name: "remedies-bind-no-timestamps", Cells: noTimestamps.And(claim.Where{remedy: {"bind"}}),
			Want: claim.With([]claim.Expectation{claim.Exactly("connected", remedyPorts), claim.Exactly("no port", half), claim.Exactly("client TIME_WAIT", remedyPorts),
				claim.Stays(lab.Client, "TcpExt.TWRecycled")}, whole...),
			Because: "a TIME_WAIT of a connection without timestamps is never reused: bind succeeds and connect fails",
			Source:  "tcp_twsk_unique: tw_ts_recent_stamp",
		},
		{
			Name: "remedies-bind", Cells: claim.Cells{{remedy: {"bind"}}},
			Want: claim.With([]claim.Expectation{claim.Exactly("connected", remedyConnects), claim.Exactly("no port", 0), claim.Exactly("client TIME_WAIT", remedyPorts),
				claim.AtLeast("client TcpExt.TWRecycled", half)}, whole...),
			Because: "a port that was bound explicitly with SO_REUSEADDR takes over its own TIME_WAIT at once, whatever tcp_tw_reuse says, " +
				"when the old connection had timestamps",
			Source: "tcp_twsk_unique: twp is NULL",
		},
		{
			Name: "remedies-more", Cells: claim.Cells{{remedy: {"wider-range", "more-ports", "more-addresses"}}},
			Want: claim.With([]claim.Expectation{claim.Exactly("connected", remedyConnects), claim.Exactly("no port", 0), claim.Exactly("client TIME_WAIT", remedyConnects)}, whole...),
			Because: "a local port is taken for one destination only, and twice the ports or destinations are twice the connections; " +
				"the TIME_WAITs stay with the client",
			Source: "__inet_check_established",
		},
		{
			Name: "remedies-none", Cells: claim.Cells{{}},
			Want: claim.With([]claim.Expectation{claim.Exactly("connected", remedyPorts), claim.Exactly("no port", half), claim.Exactly("client TIME_WAIT", remedyPorts),
				claim.Exactly("balancer TIME_WAIT", 0)}, whole...),
			Because: "the client closes first and keeps each port in TIME_WAIT, until none is left: EADDRNOTAVAIL, and no SYN is sent",
			Source:  "__inet_hash_connect",
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
	if c.Is(remedyPath, "nat") {
		t.Gateway.Kind = lab.Masquerade
	}
	if c.Is(remedy, "more-addresses") {
		// The second address is a server's; the balancer forwards.
		t.Servers = 1
		t.Sysctls = t.Sysctls.On(lab.Balancer, "net.ipv4.ip_forward=1")
	}
	if c.Is(remedy, "linger") && c.Is(unsent, "yes") {
		// So that it is certain that not all can be under way.
		t.Sysctls = t.Sysctls.On(lab.Balancer, "net.ipv4.tcp_rmem=4096 4096 4096")
	}
	return t
}

func remedyDrive(ctx context.Context, c claim.Cell, l *lab.Lab) (claim.Seen, error) {
	r := remedyRun{
		client: l.Client(0), balancer: l.Balancer(),
		kind: c.Value(remedy), unsent: c.Is(unsent, "yes"), used: map[situation.Route]bool{},
	}
	if gateways := l.Nodes(lab.Gateway); len(gateways) > 0 {
		r.gateway = gateways[0]
	}
	return r.drive(ctx, l)
}
