package scenarios

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"twlab/harness/crowd"
	"twlab/harness/lab"
	"twlab/harness/node"
	"twlab/harness/observe"
	"twlab/harness/tcp"
)

// The axes of the family of the ceiling, and the values that its driver and its
// rules have in common.
const (
	ceilingLimit  = "limit"
	ceilingISN    = "isn"
	ceilingPorts  = "ports"
	ceilingRandom = "random"

	limitIdle   = "gateway-idle"
	limitEnded  = "gateway-ended"
	limitClient = "client"
	isnOwn      = "own"
	isnSame     = "same"
)

const (
	// ceilingHold is T.
	ceilingHold = 2 * time.Second
	// ceilingRounds is over how many rounds of all ports connections are counted.
	ceilingRounds = 4
	// ceilingLoad is how many times more attempts there are than can connect.
	ceilingLoad = 3
)

// Ceiling is the family of the most connections per second: whoever has P ports
// for a door and keeps each for T seconds makes at most P/T of them in a second.
//
// Where T begins with the end of a connection it is P/(T+d), and d, how long a
// connection itself lasts, is how long two processes take to close it. A busy
// machine makes that much, and it cannot all be measured; that no port is given away
// before its time is exact on any.
func Ceiling() Family {
	const percent = "percent of the ceiling"
	reached, counted := Between(percent, 95, 105), AtMost("counted, percent", 105)
	const soonest = "soonest reuse, ms"
	hold := ceilingHold.Milliseconds()
	held := Between(soonest, hold-tickAtMost.Milliseconds(), hold+hold/10)
	// Where both ends close, an ACK that crosses the last FIN may be taken for a
	// refusal: then nothing is said of what TIME_WAITs reject.
	alone := func(who string) []Expectation {
		want := []Expectation{AtLeast(refusedBy(who), 1), Exactly("undecided", 0)}
		for _, other := range []string{byClient, byGateway, byQueue} {
			if other != who {
				want = append(want, Exactly(refusedBy(other), 0))
			}
		}
		return want
	}
	return Family{
		Name:     "ceiling",
		Evidence: ceilingEvidence(),
		About: fmt.Sprintf("Clients connect to one door at %d times the rate P/T, where somebody has P ports for them and holds each for T = %v: how many "+
			"connections come about, counted over %d rounds of all ports, and who refuses the others?", ceilingLoad, ceilingHold, ceilingRounds),
		Axes: []Axis{
			{Name: ceilingLimit, Values: []string{limitIdle, limitEnded, limitClient}, Product: true,
				Means: "who has P ports, and when T begins: the gateway (--to-ports), with the last packet of a connection whose ends have vanished " +
					"(nf_conntrack_tcp_timeout_established); the gateway, with the end of the connection (..._time_wait); a client (ip_local_port_range), " +
					"with its TIME_WAIT (tcp_tw_reuse_delay, and tcp_tw_reuse=1)"},
			{Name: ceilingISN, Values: []string{isnOwn, isnSame}, Product: true,
				Means: "the initial sequence numbers of the connections: the kernel's own, or all the same, so that none is newer than an ended one's"},
			// Of an odd number connect does not always find the last (__inet_hash_connect
			// takes an even number of steps).
			{Name: ceilingPorts, Values: []string{"48", "24"}, Means: "P", Own: Numbers{Least: 8, Most: 256, Step: 2}},
			{Name: ceilingRandom, Values: []string{randomNo, randomFully}, Means: "how the gateway chooses: as they come, or by --random-fully"},
		},
		Waits: []Wait{{Cells{{}}, 10 * time.Second}},
		Rules: []Rule{
			{
				Name: "ceiling-idle", Cells: Cells{{ceilingLimit: {limitIdle}}},
				Want: with([]Expectation{reached, counted, held}, with(alone(byGateway), Exactly(refusedBy(byClock), 0), Exactly(refusedBy(byNumber), 0), Exactly(refusedBy(byDoor), 0),
					Exactly("unaccounted", 0))...),
				Because: "a gateway without a free port drops the SYN and the balancer never sees it; a port whose connection stands, as far as the " +
					"gateway knows, is free again when its entry has run out",
				Source: "nf_nat_l4proto_unique_tuple; __nf_conntrack_confirm, insert_failed; nf_conntrack_tcp_timeout_established",
			},
			{
				Name: "ceiling-client", Cells: Cells{{ceilingLimit: {limitClient}}}, Kernels: []Condition{Has(lab.Client, ReuseDelay)},
				Want: with([]Expectation{reached, counted, held}, alone(byClient)...),
				Because: "a client without a free port gets EADDRNOTAVAIL at once and sends nothing, and a port is free again when its TIME_WAIT is as " +
					"old as tcp_tw_reuse_delay",
				Source: "__inet_hash_connect, tcp_twsk_unique; commit ca6a6f93867a",
			},
			{
				Name: "ceiling-client-seconds", Cells: Cells{{ceilingLimit: {limitClient}}},
				Want:    with([]Expectation{Between(percent, 50, 210)}, alone(byClient)...),
				Because: "without tcp_tw_reuse_delay a port is free again when a second of the clock has begun, and two before Linux 4.19, whatever T is",
				Source:  "tcp_twsk_unique: tw_ts_recent_stamp; commit cca9bab1b72c",
			},
			{
				Name: "ceiling-evicted", Cells: Cells{{ceilingISN: {isnOwn}}}, Kernels: []Condition{Has(lab.Gateway, EvictsClosing)},
				Want: []Expectation{AtLeast(percent, 110), AtMost(soonest, hold/2), Exactly(refusedBy(byClient), 0), Exactly("undecided", 0)},
				Because: "there is no such ceiling where the NAT takes the port of an ended connection for a new one when it has no other: only " +
					"those that stand at the same time need different ports",
				Source: "commit 4589725502871, nf_nat_used_tuple_harder, nf_seq_has_advanced",
			},
			{
				Name: "ceiling-ended", Cells: Cells{{}}, Want: with([]Expectation{reached, counted, held}, alone(byGateway)...),
				Because: "a gateway that must not or cannot evict keeps the port of an ended connection until its entry has run out",
				Source:  "nf_nat_l4proto_unique_tuple; __nf_conntrack_confirm, insert_failed; nf_conntrack_tcp_timeout_time_wait",
			},
		},
		Needs: []Knob{
			{Role: lab.Gateway, Sysctl: "net.netfilter.nf_conntrack_tcp_timeout_established"},
			{Role: lab.Gateway, Sysctl: "net.netfilter.nf_conntrack_tcp_timeout_time_wait"},
			{Role: lab.Client, Sysctl: reuseDelay}, {Role: lab.Client, Sysctl: "net.ipv4.tcp_tw_reuse"},
			{Role: lab.Client, Sysctl: "net.ipv4.ip_local_port_range"}, {Role: lab.Client, Sysctl: "net.ipv4.tcp_syn_retries"},
		},
		Topology: ceilingTopology,
		Drive:    driveCeiling,
	}
}

func ceilingTopology(c Cell) lab.Topology {
	ports, hold := c.number(ceilingPorts), int(ceilingHold.Seconds())
	t := lab.Topology{
		Clients: 4,
		Gateway: lab.GatewaySpec{Kind: lab.Masquerade},
		// Few retries, so that who is refused soon gives up. One clock for all, so
		// that the balancer's TIME_WAITs refuse nobody.
		Sysctls: lab.On(lab.Client, "net.ipv4.tcp_syn_retries=1", "net.ipv4.tcp_timestamps=2"),
	}
	timer := "established"
	switch c.Value(ceilingLimit) {
	case limitClient:
		t.Clients = 1
		t.Sysctls = t.Sysctls.On(lab.Client, "net.ipv4.tcp_tw_reuse=1",
			fmt.Sprintf("net.ipv4.ip_local_port_range=%d %d", sourcePort, int(sourcePort)+ports-1))
		t.Sysctls = append(t.Sysctls, lab.Setting{
			Role: lab.Client, Name: reuseDelay, Value: strconv.Itoa(1000 * hold), IfPresent: true,
		})
		return t
	case limitEnded:
		timer = "time_wait"
	}
	t.Gateway.Ports, t.Gateway.Random = poolOf(ports), randomMode(c.Value(ceilingRandom))
	t.Sysctls = t.Sysctls.On(lab.Gateway, fmt.Sprintf("net.netfilter.nf_conntrack_tcp_timeout_%s=%d", timer, hold))
	return t
}

func driveCeiling(ctx context.Context, c Cell, l *lab.Lab) (seen Seen, err error) {
	gateway, balancer := l.Gateway(), l.Balancer()
	ports := c.number(ceilingPorts)
	there, here := tcp.Vanish, tcp.Vanish // the endings of the balancer and of the client
	switch c.Value(ceilingLimit) {
	case limitEnded:
		there, here = tcp.CloseFirst, tcp.CloseAfterPeer
	case limitClient:
		there, here = tcp.CloseAfterPeer, tcp.CloseFirst
	}
	door, err := balancer.Listen(ctx, tcp.ListenSpec{Ending: there})
	if err != nil {
		return seen, err
	}
	attempt := tcp.Attempt{To: door.Addr, Ending: here}
	if c.Is(ceilingISN, isnSame) {
		attempt.ISN = firstISN
	}
	if err := l.Capture(string(lab.Balancer)); err != nil {
		return seen, err
	}
	// The ports are given away within T/3, and again in as much time, each time
	// T+d later. What is counted begins and ends in between, so that it is full
	// rounds.
	between := 2 * ceilingHold / ceilingLoad
	r, err := crowd.Run(ctx, crowd.Plan{
		Clients: l.Nodes(lab.Client), Watched: []node.Node{gateway, balancer}, Attempt: attempt, Seed: shareSeed,
		Rate:     ceilingLoad * float64(ports) / ceilingHold.Seconds(),
		Duration: ceilingRounds*ceilingHold + 3*ceilingHold/2, Interval: ceilingHold / ceilingLoad,
	})
	if err != nil {
		return seen, err
	}
	round := ceilingHold
	if !c.Is(ceilingLimit, limitIdle) {
		round += r.Lasted.Mean()
	}
	connected := r.ConnectedBetween(between, between+ceilingRounds*round)
	packets, err := l.Packets()
	if err != nil {
		return seen, err
	}
	gaps := reuseGaps(packets, door.Addr, c.Is(ceilingLimit, limitClient))
	if len(gaps) < ports {
		return seen, fmt.Errorf("ports were used again %d times, want at least %d", len(gaps), ports)
	}
	// Of a crowd that is kept waiting itself, the middle one of the times after
	// which a port was used again tells what the ceiling is; the number of
	// connections, that it is not exceeded.
	seen.Count("percent of the ceiling", int64(100*ceilingHold/max(gaps[len(gaps)/2], time.Microsecond)))
	seen.Count("counted, percent", int64(100*connected/(ceilingRounds*ports)))
	seen.Count("soonest reuse, ms", gaps[0].Milliseconds())
	seen.Note("round", round.Round(time.Millisecond).String())
	FatesOf(r).note(&seen, r)
	seen.Note("schedule", fmt.Sprintf("%.0f/s offered, %.0f/s begun, behind %v", r.Offered, r.Achieved, r.Behind))
	return seen, nil
}

// reuseGaps are the times between the last packet of a connection and the SYN of
// the next one from the same port, where they leave the gateway, the shortest
// first. A connection whose last packet is a RST is left out: an ACK that crossed
// the last FIN is answered so, and that ends a TIME_WAIT before its time (RFC 1337).
// So is, unless clients are to use their own ports again, a SYN from the same
// client's same port, which has come by chance: the gateway knows that connection
// (resolve_normal_ct), and gives no port.
func reuseGaps(packets []observe.Packet, door netip.AddrPort, own bool) (gaps []time.Duration) {
	type mark struct { // which a gateway leaves as it is
		id       uint16
		seq, now uint32
	}
	behind := map[mark]netip.AddrPort{} // the client's own port behind a SYN
	type use struct {
		packet observe.Packet
		by     netip.AddrPort
	}
	last := map[uint16]use{}
	for _, p := range packets {
		if p.Point != string(lab.Gateway) || p.Src != door && p.Dst != door {
			continue
		}
		m := mark{p.ID, p.Seq, p.Timestamp.Value}
		if p.Interface != string(lab.Balancer) {
			if p.Flags == observe.FlagSYN {
				behind[m] = p.Src
			}
			continue
		}
		port := p.Src.Port()
		if p.Src == door {
			port = p.Dst.Port()
		}
		before, used := last[port]
		next := use{p, before.by}
		if p.Flags == observe.FlagSYN {
			next.by = behind[m]
			again := next.by == before.by && next.by.IsValid()
			if used && (own || !again) && !before.packet.Flags.Has(observe.FlagRST) {
				gaps = append(gaps, p.Time.Sub(before.packet.Time))
			}
		}
		last[port] = next
	}
	slices.Sort(gaps)
	return gaps
}
