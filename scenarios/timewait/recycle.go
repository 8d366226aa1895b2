package timewait

import (
	"context"
	"fmt"

	"twlab/harness/kernel"
	"twlab/harness/lab"
	"twlab/harness/recycle"
	"twlab/harness/tcp"
	"twlab/scenarios/claim"
	"twlab/scenarios/situation"
)

// Recycle is the family of tcp_tw_recycle: who can set it, how long TIME_WAIT
// lasts then, and whom the balancer turns away.
func Recycle() situation.Family { return recycleFamily(nil) }

// recycleFamily is that family with the sysctl, or with an emulation in its place.
func recycleFamily(emulate *recycle.Config) situation.Family {
	const (
		role     = "role"
		knob     = "recycle"
		gap      = "gap"
		clock    = "clock"
		clientTS = "client-ts"
		lbTS     = "lb-ts"
		closer   = "closer"
		path     = "path"
		client   = "client"
		lb       = "lb"
		balancer = "balancer"
		outside  = "outside"
		first    = "first-only"
	)
	acting := []struct {
		value string
		role  lab.Role
	}{{balancer, lab.Balancer}, {client, lab.Client}}

	accepted := func(state, timeWait string) []claim.Expectation {
		return []claim.Expectation{
			claim.Is("knob", state), situation.Verdict(tcp.Connected), claim.Is("answers", "SYN-ACK"), claim.Exactly("passive rejects", 0),
			claim.Stays(lab.Client, "TcpExt.TCPSynRetrans"), claim.Stays(lab.Gateway, "Conntrack.insert_failed"), claim.Is("time-wait", timeWait),
		}
	}
	const set, full, short = "set", situation.FullTimeWait, situation.RecycledTimeWait
	dropped := []claim.Expectation{ // the SYN and its repetitions within 3 s, after 1 s and, since Linux 6.5, after 2 s
		claim.Is("knob", set), situation.Verdict(tcp.TimedOut), claim.Exactly("syn-acks", 0), claim.Between("syns", 2, 3), claim.Is("all syns reached", "yes"),
		claim.Between("passive rejects", 2, 3), claim.Is("reset", "none"), claim.Stays(lab.Gateway, "Conntrack.insert_failed"), claim.Is("time-wait", short),
	}
	// The balancer has closed first a connection with timestamps, so that it
	// remembers the last one of that address.
	remembers := claim.Where{role: {balancer}, closer: {lb}, knob: {"1"}, clientTS: {"1", first}, lbTS: {"1"}}
	inside := claim.Where{gap: {"inside"}}
	const source = "tcp_v4_conn_request, tcp_conn_request, tcp_peer_is_proven before commit 4396e46187ca"

	rules := []claim.Rule{{
		Name: "recycle-untouched", Cells: claim.Cells{{knob: {"untouched"}}}, Want: accepted("untouched", full),
		Because: "nobody has set tcp_tw_recycle, and off is the default of every kernel that has it: TIME_WAIT lasts 60 s, " +
			"and a SYN from another port of the same address may have any timestamp",
		Source: "tcp_time_wait; tcp_timewait_state_process looks at its own five-tuple only",
	}}
	for _, who := range acting {
		its := claim.Where{role: {who.value}}
		rules = append(rules,
			claim.Rule{
				Name: "recycle-gone-" + who.value, Cells: claim.Cells{its},
				Kernels: []claim.Condition{claim.Lacks(who.role, kernel.TwRecycle), claim.Lacks(who.role, kernel.PassivePAWS)},
				Want:    append(accepted(situation.KnobGone, full), claim.Is("passive counter", "none")),
				Because: "tcp_tw_recycle is no more since Linux 4.12, nor is its counter: " +
					"it cannot be set, shortens nothing, and drops nothing",
				Source: "commit 4396e46187ca, tcp: remove tcp_tw_recycle",
			},
			claim.Rule{
				Name: "recycle-not-here-" + who.value, Cells: claim.Cells{its},
				Kernels: []claim.Condition{claim.Lacks(who.role, kernel.TwRecycle), claim.Has(who.role, kernel.PassivePAWS)},
				Want:    append(accepted(situation.KnobNotHere, full), claim.Is("passive counter", "there")),
				Because: "from Linux 3.5 to 4.10 only the first network namespace of a machine shows tcp_tw_recycle",
				Source:  "net/ipv4/sysctl_net_ipv4.c: register_net_sysctl(&init_net); commit 1946e672c173",
			},
			claim.Rule{
				Name: "recycle-off-" + who.value, Cells: claim.Cells{its}.And(claim.Where{knob: {"0"}}),
				Kernels: []claim.Condition{claim.Has(who.role, kernel.TwRecycle)},
				Want:    accepted(set, full),
				Because: "tcp_tw_recycle=0 remembers no address, and TIME_WAIT lasts 60 s",
				Source:  "tcp_time_wait: recycle_ok",
			})
	}
	rules = append(rules,
		claim.Rule{
			Name: "recycle-older-dropped", Cells: claim.Cells{remembers}.And(inside).And(claim.Where{clock: {"older"}}),
			Kernels: []claim.Condition{claim.Has(lab.Balancer, kernel.TwRecycle)}, Want: dropped,
			Because: "the balancer remembers the last timestamp of the address for 60 s after a connection that it closed first, " +
				"and drops every SYN from there that is older by more than one tick, without a word: whoever shares the address waits in vain",
			Source: source,
		},
		claim.Rule{
			Name: "recycle-bare-dropped", Cells: claim.Cells{remembers}.And(inside).And(claim.Where{clientTS: {first}}),
			Kernels: []claim.Condition{claim.Has(lab.Balancer, kernel.TwRecycle), claim.Has(lab.Balancer, kernel.StrictRecycle)}, Want: dropped,
			Because: "since Linux 3.17 a SYN without timestamps is dropped too while the address is remembered",
			Source:  source + "; commit a26552afe894",
		},
		claim.Rule{
			Name: "recycle-forgotten", Cells: claim.Cells{remembers}.And(claim.Where{gap: {outside}}),
			Kernels: []claim.Condition{claim.Has(lab.Balancer, kernel.TwRecycle)},
			Want:    accepted(set, short),
			Because: "60 s after the last connection the address is forgotten (TCP_PAWS_MSL)",
			Source:  source,
		},
		claim.Rule{
			Name: "recycle-newer", Cells: claim.Cells{remembers}, Kernels: []claim.Condition{claim.Has(lab.Balancer, kernel.TwRecycle)},
			Want: accepted(set, short),
			Because: "a newer timestamp passes, and before Linux 3.17 a SYN without one as well; " +
				"the balancer's TIME_WAIT lasts for 3.5 retransmission timeouts only",
			Source: source + "; tcp_time_wait",
		},
		claim.Rule{
			Name:    "recycle-client-short",
			Cells:   claim.Cells{{role: {client}, closer: {client}, knob: {"1"}, clientTS: {"1", first}, lbTS: {"1"}}},
			Kernels: []claim.Condition{claim.Has(lab.Client, kernel.TwRecycle)},
			Want:    accepted(set, short),
			Because: "a client with tcp_tw_recycle keeps its own TIME_WAITs for 3.5 retransmission timeouts only, " +
				"if the connection had timestamps",
			Source: "tcp_time_wait: tw_timeout = rto",
		})
	for _, who := range acting {
		rules = append(rules, claim.Rule{
			Name: "recycle-useless-" + who.value, Cells: claim.Cells{{role: {who.value}}}, Kernels: []claim.Condition{claim.Has(who.role, kernel.TwRecycle)},
			Want: accepted(set, full),
			Because: "without timestamps, or when the other side has closed first, tcp_tw_recycle neither shortens TIME_WAIT " +
				"nor remembers the address",
			Source: "tcp_time_wait: tw_recycle && ts_recent_stamp",
		})
	}
	return situation.Family{
		Family: claim.Family{
			Name:     "recycle",
			Evidence: sameAddressEvidence(),
			About: "tcp_tw_recycle is set, a connection ends, and the same address connects from another port: " +
				"is that possible at all, how long is TIME_WAIT, and does the client get in?",
			Axes: []claim.Axis{
				{Name: knob, Values: []string{"1", "0", "untouched"}, Product: true, Means: "tcp_tw_recycle"},
				{Name: clientTS, Values: []string{"1", "0", first}, Product: true,
					Means: "tcp_timestamps of the clients; or the first connection has them, and the second SYN does not"},
				{Name: lbTS, Values: []string{"1", "0"}, Product: true, Knob: claim.Knob{Role: lab.Balancer, Sysctl: "net.ipv4.tcp_timestamps"},
					Means: "tcp_timestamps of the balancer"},
				{Name: clock, Values: []string{"older", "newer"}, Product: true,
					Means: "the second connection's timestamp against the last one of the first"},
				{Name: role, Values: []string{balancer, client}, Means: "who sets tcp_tw_recycle"},
				{Name: closer, Values: []string{lb, client}, Means: "who closes the first connection first"},
				{Name: path, Values: []string{"nat", "direct"},
					Means: "whether another client behind the same address comes next, or the same one"},
				{Name: gap, Values: []string{"inside", outside}, Means: "whether it comes within 60 s"},
			},
			Crossed: [][]string{{role, closer}, {path, gap}},
			Impossible: []claim.Impossible{
				{Cells: claim.Cells{{clientTS: {"0", first}, clock: {"older"}}}, Because: "a SYN without timestamp has no clock that could be older"},
				{Cells: claim.Cells{{lbTS: {"0"}, clock: {"older"}}}, Because: "a balancer without timestamps has been shown no clock to be older than"},
			},
			Waits: []claim.Wait{{Cells: claim.Cells{{gap: {outside}}}, About: situation.TimeWaitLength}},
			Rules: rules,
		},
		Topology: func(c claim.Cell) lab.Topology {
			t := lab.Topology{
				Clients: 1, Names: []string{"phone-a"},
				Gateway: lab.GatewaySpec{Kind: lab.Routed},
				// Few retries: a client that is shut out gives up after 3 s.
				Sysctls: lab.On(lab.Client, "net.ipv4.tcp_syn_retries=1"),
			}
			if c.Is(clientTS, "0") {
				t.Sysctls = t.Sysctls.On(lab.Client, "net.ipv4.tcp_timestamps=0")
			}
			if c.Is(path, "nat") {
				t.Clients, t.Names = 2, []string{"phone-a", "phone-b"}
				t.Gateway.Kind = lab.Masquerade
			}
			return t
		},
		Drive: func(ctx context.Context, c claim.Cell, l *lab.Lab) (claim.Seen, error) {
			s := sameAddress{
				Recycle: c.Value(knob), Role: lab.Balancer, ClientCloses: c.Is(closer, client),
				Clock: situation.Order(c.Value(clock)), SecondBare: c.Is(clientTS, first), Outside: c.Is(gap, outside),
				Emulate: emulate,
			}
			if c.Is(role, client) {
				s.Role = lab.Client
			}
			seen, err := s.Drive(ctx, l)
			if err != nil {
				return seen, fmt.Errorf("recycle: %w", err)
			}
			return seen, nil
		},
	}
}
