package scenarios

import (
	"context"
	"fmt"
	"time"

	"twlab/harness/lab"
	"twlab/harness/tcp"
)

// Uptimes is the family of the document's mobile network: clients that have been
// up for different times, behind one address. Nobody's clock is steered.
func Uptimes() Family {
	const (
		next     = "next"
		memory   = "memory"
		lbTS     = "lb-ts"
		closer   = "closer"
		tries    = "tries"
		younger  = "younger"
		older    = "older"
		recycle  = "recycle"
		off      = "recycle-off"
		timeWait = "time-wait"
		lb       = "lb"
		client   = "client"
		few      = "3"
		many     = "30"
	)
	// Milliseconds since Linux 4.13, and long enough for clocks of 100 Hz too.
	const bootGap = 3 * time.Second

	gotIn := func(knob []string, length string) []Expectation {
		return []Expectation{
			verdict(tcp.Connected), Is("answers", "SYN-ACK"), Is("knob", knob...), Is("time-wait", length), Exactly("passive rejects", 0),
			Stays(lab.Client, "TcpExt.TCPSynRetrans"), Stays(lab.Gateway, "Conntrack.insert_failed"),
		}
	}
	const set, unasked = "set", "not asked"
	shutOut := []Expectation{
		verdict(tcp.TimedOut), Is("clocks", "older"), Is("knob", set), Is("time-wait", recycledTimeWait), Is("all syns reached", "yes"),
		Exactly("syn-acks", 0), Is("reset", "none"), AtLeast("passive rejects", 6), Stays(lab.Gateway, "Conntrack.insert_failed"),
	}
	answered := []Expectation{
		verdict(tcp.Connected), Is("clocks", "older"), Is("knob", unasked), Is("answers", "ACK, SYN-ACK"), Is("reset", "reached"),
		AtLeast("paws rejects", 3), Stays(lab.Gateway, "Conntrack.insert_failed"),
	}
	own := Has(lab.Client, OwnMachine)
	comesLater := Where{next: {younger}}
	remembers := Where{memory: {recycle}, closer: {lb}, lbTS: {"1"}}
	const source = "tcp_conn_request, tcp_peer_is_proven before commit 4396e46187ca"

	return Family{
		Name:     "uptimes",
		Evidence: twoAgesEvidence(),
		About: "Two clients with different uptimes are behind one address; timestamps are uptimes, and nobody's clock is steered. " +
			"One keeps connecting, the other comes after it: does it get in?",
		Axes: []Axis{
			{Name: next, Values: []string{younger, older}, Product: true,
				Means: "which client comes second: the one that was booted later, or the one that was booted first; tcp_timestamps=2 on both"},
			{Name: memory, Values: []string{recycle, timeWait, off}, Product: true,
				Means: "what the balancer has of the first: its address (tcp_tw_recycle=1), the same five-tuple in TIME_WAIT, or nothing (tcp_tw_recycle=0)"},
			{Name: lbTS, Values: []string{"1", "0"}, Product: true, Knob: Knob{Role: lab.Balancer, Sysctl: "net.ipv4.tcp_timestamps"},
				Means: "tcp_timestamps of the balancer"},
			{Name: closer, Values: []string{lb, client}, Means: "who closes the first client's connections first"},
			{Name: tries, Values: []string{few, many},
				Means: "how often the second tries while the first goes on; the last of 30 comes after more than the 60 s for which an address is remembered"},
		},
		Impossible: []Impossible{
			{Cells{{memory: {timeWait}, closer: {client}}}, "a five-tuple is in TIME_WAIT at the balancer when that has closed first"},
			{Cells{{memory: {timeWait}, lbTS: {"0"}}}, "without timestamps the initial sequence number decides, which the clients choose as they like"},
		},
		Waits: []Wait{{Cells{{tries: {many}}}, 30 * time.Second}},
		Rules: []Rule{
			{
				Name: "uptimes-answered", Cells: Cells{{memory: {timeWait}}}.And(comesLater),
				Kernels: []Condition{own, Has(lab.Client, PromptSYN)},
				Want:    with(answered, AtMost("latest ms", 900)),
				Because: "the younger client's timestamps are older: TIME_WAIT rejects its SYN by an ACK, the RST that answers removes the TIME_WAIT, " +
					"and the repeated SYN gets in",
				Source: "tcp_timewait_state_process, tcp_paws_check; commit 9603d47bad46 for the prompt repetition",
			},
			{
				Name: "uptimes-answered-1s", Cells: Cells{{memory: {timeWait}}}.And(comesLater),
				Kernels: []Condition{own, Lacks(lab.Client, PromptSYN)},
				Want:    with(answered, AtLeast("soonest ms", 900)),
				Because: "as on later kernels, but the client sends its SYN again only when its timer fires",
				Source:  "tcp_rcv_synsent_state_process before commit 9603d47bad46",
			},
			{
				Name: "uptimes-five-tuple-newer", Cells: Cells{{memory: {timeWait}}},
				Want: []Expectation{verdict(tcp.Connected), Is("clocks", "not older"), Is("knob", unasked), Is("answers", "SYN-ACK"),
					Exactly("paws rejects", 0), Stays(lab.Client, "TcpExt.TCPSynRetrans")},
				Because: "the older client's timestamps are newer; and clients that are namespaces of one kernel have one uptime, " +
					"so that whoever comes second has the newer timestamp",
				Source: "tcp_clock_ms, before Linux 4.13 tcp_time_stamp; tcp_timewait_state_process",
			},
			{
				Name: "uptimes-recycle-gone", Cells: Cells{{memory: {recycle, off}}}, Kernels: []Condition{Lacks(lab.Balancer, TwRecycle)},
				Want: gotIn([]string{knobGone, knobNotHere}, fullTimeWait),
				Because: "from another port no SYN meets a TIME_WAIT, and without tcp_tw_recycle no address is remembered: " +
					"uptimes are no matter",
				Source: "commit 4396e46187ca, tcp: remove tcp_tw_recycle; before 4.11 namespaces do not show it",
			},
			{
				Name: "uptimes-shut-out-for-long", Cells: Cells{remembers}.And(comesLater).And(Where{tries: {many}}),
				Kernels: []Condition{own, Has(lab.Balancer, TwRecycle)},
				Want:    with(shutOut, AtLeast("tried s", 61), Is("afterwards", string(tcp.Connected)), Is("let in because", "caught up", "forgotten")),
				Because: "each connection of the older client begins the 60 s anew: the younger never gets in as long as the older keeps connecting; " +
					"when that stops, it does as soon as its clock has caught up, or after 60 s",
				Source: source,
			},
			{
				Name: "uptimes-shut-out", Cells: Cells{remembers}.And(comesLater),
				Kernels: []Condition{own, Has(lab.Balancer, TwRecycle)}, Want: shutOut,
				Because: "the balancer remembers the last timestamp of the address, which is the older client's, and drops every SYN of the younger " +
					"without a word",
				Source: source,
			},
			{
				Name: "uptimes-unremembered", Cells: Cells{{memory: {off}}, {closer: {client}}, {lbTS: {"0"}}},
				Kernels: []Condition{Has(lab.Balancer, TwRecycle)},
				Want:    gotIn([]string{set}, fullTimeWait),
				Because: "without tcp_tw_recycle, or without timestamps, or when the client has closed first, the balancer remembers no address",
				Source:  "tcp_time_wait: tw_recycle && ts_recent_stamp",
			},
			{
				Name: "uptimes-newer", Cells: Cells{{}}, Kernels: []Condition{Has(lab.Balancer, TwRecycle)},
				Want: with(gotIn([]string{set}, recycledTimeWait), Is("clocks", "not older")),
				Because: "the older client's timestamps are newer; and clients that are namespaces of one kernel have one uptime, " +
					"so that whoever comes second has the newer timestamp",
				Source: source,
			},
		},
		Topology: func(Cell) lab.Topology {
			return lab.Topology{
				Clients: 2, Names: []string{"old", "young"},
				Gateway: lab.GatewaySpec{Kind: lab.Masquerade},
				BootGap: bootGap,
				// Uptime on every kernel: before 4.10, 2 is the same as 1.
				Sysctls: lab.On(lab.Client, "net.ipv4.tcp_timestamps=2", "net.ipv4.tcp_syn_retries=1"),
			}
		},
		Drive: func(ctx context.Context, c Cell, l *lab.Lab) (Seen, error) {
			clients := l.Nodes(lab.Client)
			s := twoAges{
				fiveTuple: fiveTuple{
					FiveTuple: FiveTuple{Left: LeftTimeWait},
					lab:       l, first: clients[0], second: clients[1],
					gateway: l.Gateway(), balancer: l.Balancer(), translate: true,
				},
				SameTuple: c.Is(memory, timeWait), Recycle: "1", ClientCloses: c.Is(closer, client), Tries: 3,
			}
			if c.Is(next, older) {
				s.first, s.second = s.second, s.first
			}
			if c.Is(memory, off) {
				s.Recycle = "0"
			}
			if c.Is(tries, many) {
				s.Tries = 30
			}
			seen, err := s.drive(ctx)
			if err != nil {
				return seen, fmt.Errorf("uptimes: %w", err)
			}
			return seen, nil
		},
	}
}
