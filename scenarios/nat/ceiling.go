package nat

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"twlab/harness/lab"
	"twlab/harness/load"
	"twlab/harness/node"
	"twlab/harness/observe"
	"twlab/harness/tcp"
	"twlab/scenarios/claim"
	"twlab/scenarios/situation"
)

// The axes of the family of the ceiling, and the values that its driver and its
// rules share.
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
	// ceilingTimeout is T.
	ceilingTimeout = 2 * time.Second
	// ceilingRounds is the number of rounds of all ports in which connections are counted.
	ceilingRounds = 4
	// ceilingLoad is how many times more attempts there are than can connect.
	ceilingLoad = 3
)

// Ceiling is the family of the maximum number of connections per second: P ports for one
// destination, each kept for T seconds, allow at most P/T connections per second.
//
// If T begins with the end of a connection, the ceiling is P/(T+d), where d is how long the
// connection itself lasts, that is, how long two processes take to close it. On a busy
// machine d is large, and not all of it can be measured. But on any machine it is exact
// that no port is reused before its time.
func Ceiling() situation.Family {
	return situation.Family{
		Family: claim.Family{
			Name:     "ceiling",
			Evidence: ceilingEvidence(),
			About: fmt.Sprintf("Clients connect to one destination at %d times the rate P/T. The gateway or the client has P ports for it, and keeps each port "+
				"for T = %v: how many connections are established, counted over %d rounds of all ports, and who refuses the others?", ceilingLoad, ceilingTimeout, ceilingRounds),
			Axes: []claim.Axis{
				{Name: ceilingLimit, Values: []string{limitIdle, limitEnded, limitClient}, Product: true,
					Means: "who has P ports, and when T begins: the gateway (--to-ports), with the last packet of a connection whose ends have vanished " +
						"(nf_conntrack_tcp_timeout_established); the gateway, when the connection has ended (..._time_wait); or a client " +
						"(ip_local_port_range), when its TIME_WAIT begins (tcp_tw_reuse_delay, with tcp_tw_reuse=1)"},
				{Name: ceilingISN, Values: []string{isnOwn, isnSame}, Product: true,
					Means: "the initial sequence numbers of the connections: chosen by the kernel, or all the same, so that none is newer than that of " +
						"an ended connection"},
				// Of an odd number connect does not always find the last (__inet_hash_connect
				// takes an even number of steps).
				{Name: ceilingPorts, Values: []string{"48", "24"}, Means: "P, the number of ports", Own: claim.Numbers{Least: 8, Most: 256, Step: 2}},
				{Name: ceilingRandom, Values: []string{randomNo, randomFully}, Means: "how the gateway chooses a port: without an option, or by --random-fully"},
			},
			Waits: []claim.Wait{{Cells: claim.Cells{{}}, About: 10 * time.Second}},
			Rules: ceilingRules(),
			Needs: []claim.RoleSysctl{
				{Role: lab.Gateway, Sysctl: "net.netfilter.nf_conntrack_tcp_timeout_established"},
				{Role: lab.Gateway, Sysctl: "net.netfilter.nf_conntrack_tcp_timeout_time_wait"},
				{Role: lab.Client, Sysctl: situation.ReuseDelay}, {Role: lab.Client, Sysctl: "net.ipv4.tcp_tw_reuse"},
				{Role: lab.Client, Sysctl: "net.ipv4.ip_local_port_range"}, {Role: lab.Client, Sysctl: "net.ipv4.tcp_syn_retries"},
			},
		},
		Topology: ceilingTopology,
		Drive:    driveCeiling,
		Untold:   "its answer is after which time ports are used again, of all connections of a load, for which files have no word",
	}
}

func ceilingTopology(c claim.Cell) lab.Topology {
	ports, timeout := c.Number(ceilingPorts), int(ceilingTimeout.Seconds())
	t := lab.Topology{
		Clients: 4,
		Gateway: lab.GatewaySpec{Kind: lab.Masquerade},
		// Few retries, so that a refused attempt soon gives up. One clock for all, so
		// that the balancer's TIME_WAITs reject no SYN.
		Sysctls: lab.On(lab.Client, "net.ipv4.tcp_syn_retries=1", "net.ipv4.tcp_timestamps=2"),
	}
	timer := "established"
	switch c.Value(ceilingLimit) {
	case limitClient:
		t.Clients = 1
		t.Sysctls = t.Sysctls.On(lab.Client, "net.ipv4.tcp_tw_reuse=1",
			fmt.Sprintf("net.ipv4.ip_local_port_range=%d %d", situation.SourcePort, int(situation.SourcePort)+ports-1))
		t.Sysctls = append(t.Sysctls, lab.Setting{
			Role: lab.Client, Name: situation.ReuseDelay, Value: strconv.Itoa(1000 * timeout), IfPresent: true,
		})
		return t
	case limitEnded:
		timer = "time_wait"
	}
	t.Gateway.Ports, t.Gateway.Random = poolOf(ports), randomMode(c.Value(ceilingRandom))
	t.Sysctls = t.Sysctls.On(lab.Gateway, fmt.Sprintf("net.netfilter.nf_conntrack_tcp_timeout_%s=%d", timer, timeout))
	return t
}

func driveCeiling(ctx context.Context, c claim.Cell, l *lab.Lab) (seen claim.Seen, err error) {
	gateway, balancer := l.Gateway(), l.Balancer()
	ports := c.Number(ceilingPorts)
	there, here := tcp.Vanish, tcp.Vanish // the endings of the balancer and of the client
	switch c.Value(ceilingLimit) {
	case limitEnded:
		there, here = tcp.CloseFirst, tcp.CloseAfterPeer
	case limitClient:
		there, here = tcp.CloseAfterPeer, tcp.CloseFirst
	}
	listener, err := balancer.Listen(ctx, tcp.ListenSpec{Ending: there})
	if err != nil {
		return seen, err
	}
	attempt := tcp.Attempt{To: listener.Addr, Ending: here}
	if c.Either(ceilingISN, isnSame, isnOwn) {
		attempt.ISN = situation.FirstISN
	}
	if err := l.Capture(string(lab.Balancer)); err != nil {
		return seen, err
	}
	// All ports are used within T/3; T+d later they are all reused within T/3, and so
	// on. The count begins and ends between two such bursts, so it covers full rounds.
	between := 2 * ceilingTimeout / ceilingLoad
	r, err := load.Run(ctx, load.Plan{
		Clients: l.Nodes(lab.Client), Watched: []node.Node{gateway, balancer}, Attempt: attempt, Seed: shareSeed,
		Rate:     ceilingLoad * float64(ports) / ceilingTimeout.Seconds(),
		Duration: ceilingRounds*ceilingTimeout + 3*ceilingTimeout/2, Interval: ceilingTimeout / ceilingLoad,
	})
	if err != nil {
		return seen, err
	}
	// Ports are free for the next attempt, and attempts are to come while they are. Where
	// they came much later, what is measured is this machine.
	if late := r.Behind.Quantile(0.9); late > ceilingTimeout/4 {
		return seen, fmt.Errorf("the load fell behind its schedule (%v): this machine is too busy for %.0f attempts per second; run it with fewer --procs", r.Behind, r.Offered)
	}
	round := ceilingTimeout
	if !c.Is(ceilingLimit, limitIdle) {
		round += r.Lasted.Mean()
	}
	connected := r.ConnectedBetween(between, between+ceilingRounds*round)
	packets, err := l.Packets()
	if err != nil {
		return seen, err
	}
	gaps := reuseGaps(packets, listener.Addr, c.Is(ceilingLimit, limitClient))
	if len(gaps) < ports {
		return seen, fmt.Errorf("ports were used again %d times, want at least %d", len(gaps), ports)
	}
	// The load itself may have to wait. So the median time after which a port was used
	// again tells what the ceiling is, and the number of connections tells only that it
	// is not exceeded.
	seen.Count("percent of the ceiling", int64(100*ceilingTimeout/max(gaps[len(gaps)/2], time.Microsecond)))
	seen.Count("counted, percent", int64(100*connected/(ceilingRounds*ports)))
	seen.Count("soonest reuse, ms", gaps[0].Milliseconds())
	seen.Note("round", round.Round(time.Millisecond).String())
	situation.DispositionsOf(r).Note(&seen, r)
	seen.Note("schedule", fmt.Sprintf("%.0f/s offered, %.0f/s begun, behind %v", r.Offered, r.Achieved, r.Behind))
	return seen, nil
}

// reuseGaps are the times between the last packet of a connection and the SYN of the next
// one from the same port, measured where they leave the gateway, the shortest first.
//
// A connection whose last packet is a RST is left out: the RST answers an ACK that crossed
// the last FIN, and ends a TIME_WAIT early (RFC 1337). Unless clients reuse their own ports
// (own), a connection is also left out if its client has used the same port again by
// chance: the gateway then deletes the entry, takes the SYN for a new connection and gives
// it any port, so the old port is free for all clients (nf_conntrack_tcp_packet, "attempt
// to reopen a closed/aborted connection").
func reuseGaps(packets []observe.Packet, listener netip.AddrPort, own bool) (gaps []time.Duration) {
	type mark struct { // what a gateway does not change in a SYN
		id       uint16
		seq, now uint32
	}
	behind := map[mark]netip.AddrPort{} // the client's own port behind a SYN
	came := map[netip.AddrPort]time.Time{}
	type use struct {
		packet observe.Packet
		by     netip.AddrPort
	}
	last := map[uint16]use{}
	for _, p := range packets {
		if p.Point != string(lab.Gateway) || p.Src != listener && p.Dst != listener {
			continue
		}
		m := mark{p.ID, p.Seq, p.Timestamp.Value}
		if p.Interface != string(lab.Balancer) {
			if p.Flags == observe.FlagSYN {
				behind[m] = p.Src
				came[p.Src] = p.Time
			}
			continue
		}
		port := p.Src.Port()
		if p.Src == listener {
			port = p.Dst.Port()
		}
		before, used := last[port]
		next := use{p, before.by}
		if p.Flags == observe.FlagSYN {
			next.by = behind[m]
			again := came[before.by].After(before.packet.Time)
			if used && (own || !again) && !before.packet.Flags.Has(observe.FlagRST) {
				gaps = append(gaps, p.Time.Sub(before.packet.Time))
			}
		}
		last[port] = next
	}
	slices.Sort(gaps)
	return gaps
}

// ceilingEvidence is what [driveCeiling] notes beside the account of its load.
func ceilingEvidence() []claim.Evidence {
	return append(situation.LoadEvidence(),
		claim.Evidence{Name: "percent of the ceiling", Unit: "%", Means: "T divided by the median time after which a port was used again"},
		claim.Evidence{Name: "counted, percent", Unit: "%", Means: "connections in the counted rounds, divided by the number that P ports allow"},
		claim.Evidence{Name: "soonest reuse, ms", Unit: situation.InMS, Means: "the shortest time after which a port was used again"},
		claim.Evidence{Name: "round", Unit: "a duration", Means: "how long one round of all ports is assumed to last", Aside: true},
		claim.Evidence{Name: "schedule", Unit: "text", Means: "how many attempts per second were planned and started", Aside: true},
	)
}
