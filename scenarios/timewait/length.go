package timewait

import (
	"context"
	"fmt"

	"twlab/harness/lab"
	"twlab/harness/tcp"
	"twlab/scenarios/claim"
	"twlab/scenarios/situation"
)

// The axes of the family, and the values that its driver and its rules share.
const (
	fin          = "fin-timeout"
	lengthCloser = "closer"
	ts           = "ts"
	look         = "look"

	lengthClient = "client"
	lengthLB     = "balancer"
	early        = "beginning"
	late         = "end"
)

// Length is the family of how long TIME_WAIT lasts, and whether tcp_fin_timeout changes
// it.
func Length() situation.Family {
	return situation.Family{
		Family: claim.Family{
			Name:     "length",
			Evidence: lengthEvidence(),
			About:    "A connection is closed while tcp_fin_timeout has some value: how long does the socket that closed first stay in TIME_WAIT?",
			Axes: []claim.Axis{
				{Name: fin, Values: []string{"60", "1", "5", "120"}, Product: true,
					Means: "tcp_fin_timeout of the side that closes first, in seconds"},
				{Name: lengthCloser, Values: []string{lengthClient, lengthLB}, Product: true, Means: "which side closes first"},
				{Name: ts, Values: []string{"1", "0"}, Product: true, Sysctl: claim.RoleSysctl{Role: lab.Client, Sysctl: "net.ipv4.tcp_timestamps"},
					Means: "tcp_timestamps of the client: whether the connection has timestamps"},
				{Name: look, Values: []string{early, late},
					Means: "whether the driver reads the kernel's timer when TIME_WAIT begins, or waits for its end"},
			},
			Waits: []claim.Wait{{Cells: claim.Cells{{look: {late}}}, About: situation.TimeWaitLength}},
			Rules: lengthRules(),
		},
		Topology: lengthTopology,
		Drive:    lengthDrive,
		Tell:     lengthTell,
	}
}

// lengthRules are about the end of TIME_WAIT first, and then about the timer at its
// beginning, with a rule for each tcp_fin_timeout.
func lengthRules() []claim.Rule {
	// TIME_WAIT is constant; FIN_WAIT2 changes.
	lasts := func(half, halfLasts string) []claim.Expectation {
		return []claim.Expectation{
			claim.Is("time-wait", "60 s"), claim.Is("fin-wait-2 lasts", halfLasts), claim.Is("fin-wait-2", half),
			claim.Is("peer", "nothing"), claim.Is("at the end", "not waited for"),
		}
	}
	over := func(before string) []claim.Expectation {
		return []claim.Expectation{
			claim.Is("time-wait", "60 s"), claim.Is("at the end", "gone"), claim.Is("gone after", "60 s"),
			claim.Is("outcome before", before), claim.Is("outcome afterwards", string(tcp.Connected)), claim.Exactly("ports taken over", 0),
			claim.Is("peer", "nothing"), claim.AtLeast("time-waits counted", 1),
		}
	}
	const minisocket = "minisocket"
	const constant = "TCP_TIMEWAIT_LEN, tcp_time_wait"

	return []claim.Rule{
		{
			Name: "length-over-port-free", Cells: claim.Cells{{look: {late}, lengthCloser: {lengthClient}}},
			Want:     over(string(tcp.NoPort)),
			Uncaused: "the attempt that finds no port is an earlier one, and the last one connects",
			Because:  "the client's only port is taken until its TIME_WAIT has lasted 60 s, whatever tcp_fin_timeout says, and is free after that",
			Source:   constant + ", __inet_check_established",
		},
		{
			Name: "length-over", Cells: claim.Cells{{look: {late}, lengthCloser: {lengthLB}}}, Want: over("not tried"),
			Because: "the balancer's TIME_WAIT has lasted 60 s, whatever tcp_fin_timeout says, and the five-tuple is free again",
			Source:  constant,
		},
		{
			Name: "length-fin-timeout-60", Cells: claim.Cells{{fin: {"60"}}},
			Want:    lasts(minisocket, "60 s"),
			Because: "both last 60 s by default, which is why tcp_fin_timeout is mistaken for the length of TIME_WAIT",
			Source:  "TCP_TIMEWAIT_LEN and TCP_FIN_TIMEOUT, include/net/tcp.h",
		},
		{
			Name: "length-fin-timeout-1", Cells: claim.Cells{{fin: {"1"}}},
			Want:    lasts(minisocket, "1 s"),
			Because: "tcp_fin_timeout=1 shortens FIN_WAIT2 of an orphaned socket to 1 s; the length of TIME_WAIT is a constant",
			Source:  constant + ", tcp_fin_time; rounded up to a slot (inet_twsk_schedule before Linux 4.1)",
		},
		{
			Name: "length-fin-timeout-5", Cells: claim.Cells{{fin: {"5"}}},
			Want:    lasts(minisocket, "5 s"),
			Because: "tcp_fin_timeout=5 shortens FIN_WAIT2 of an orphaned socket to 5 s; the length of TIME_WAIT is a constant",
			Source:  constant + ", tcp_fin_time; rounded up to a slot (inet_twsk_schedule before Linux 4.1)",
		},
		{
			Name: "length-fin-timeout-120", Cells: claim.Cells{{fin: {"120"}}},
			Want: lasts("full socket", "60 s"),
			Because: "tcp_fin_timeout=120 does not lengthen TIME_WAIT. FIN_WAIT2 spends the time above 60 s as a full socket, whose timer shows " +
				"120 s - 60 s; a minisocket then takes the other 60 s",
			Source: constant + "; tcp_rcv_state_process: tmo > TCP_TIMEWAIT_LEN; up to 1/256 more before Linux 4.8 (apply_slack)",
		},
	}
}

func lengthTopology(c claim.Cell) lab.Topology {
	role := lab.Client
	if c.Either(lengthCloser, lengthLB, lengthClient) {
		role = lab.Balancer
	}
	t := lab.Topology{Clients: 1, Sysctls: lab.On(role, "net.ipv4.tcp_fin_timeout="+c.Value(fin))}
	if c.Either(look, late, early) {
		// One port, so that the next connection needs the same one.
		t.Sysctls = t.Sysctls.On(lab.Client, "net.ipv4.ip_local_port_range=40000 40000", "net.ipv4.tcp_tw_reuse=0")
	}
	return t
}

func lengthDrive(ctx context.Context, c claim.Cell, l *lab.Lab) (claim.Seen, error) {
	s := sides{client: l.Client(0), balancer: l.Balancer(), byClient: c.Either(lengthCloser, lengthClient, lengthLB)}
	drive := s.beginning
	if c.Either(look, late, early) {
		drive = s.end
	}
	seen, err := drive(ctx)
	if err != nil {
		return seen, fmt.Errorf("length: %w", err)
	}
	return seen, nil
}
