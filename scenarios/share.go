package scenarios

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"twlab/harness/crowd"
	"twlab/harness/lab"
	"twlab/harness/node"
	"twlab/harness/observe"
	"twlab/harness/tcp"
)

// The axes of the family of shares, and the values that its driver and its rules
// have in common.
const (
	shareClocks = "clocks"
	shareLBTS   = "lb-ts"
	shareRandom = "random"
	shareHold   = "hold"

	clocksConnection = "per-connection"
	clocksHost       = "per-host"
	clocksShared     = "shared"
	clocksNone       = "none"
)

// shareSYNs is how many TIME_WAITs the second crowd meets: as many ports as the
// gateway has, and not more than it tries before it gives up
// (nf_nat_l4proto_unique_tuple: 128). shareHosts share them out evenly.
const (
	shareSYNs  = 128
	shareHosts = 32
	// shareSeed draws the clocks of hosts, and in every family of crowds the order
	// of the clients. What the kernel draws (offsets, sequence numbers, ports) has
	// no seed that could be set.
	shareSeed = 20211125
)

// Share is the family of how many SYNs are refused: a crowd uses up all ports of a
// gateway, the gateway forgets, and a second crowd uses them all again.
func Share() Family {
	half := about("refused", shareSYNs, 0.5)
	common := []Expectation{
		Exactly("connected", shareSYNs), Exactly(refusedBy(byQueue), 0), Exactly(refusedBy(byDoor), 0), Exactly("unaccounted", 0),
	}
	met := with(common, Exactly("time-waits", shareSYNs))
	none := []Expectation{Exactly("refused", 0), Exactly(refusedBy(byClock), 0)}
	stamped := Where{shareLBTS: {"1"}}
	return Family{
		Name:     "share",
		Evidence: shareEvidence(),
		About: fmt.Sprintf("%d hosts behind a gateway of %d ports use up all of them, the balancer closes first, the gateway forgets after its hold "+
			"time, and the hosts use all ports again: how many of the SYNs are refused before all are in, and what decides that? "+
			"Bounds are such that a true claim fails once in a million cells", shareHosts, shareSYNs),
		Axes: []Axis{
			{Name: shareClocks, Values: []string{clocksConnection, clocksHost, clocksShared, clocksNone}, Product: true,
				Means: "the clients' timestamp clocks: as the kernel makes them, with an offset for each connection (tcp_timestamps=1); one for each " +
					"host, half of them ahead, as drawn by a seed; one for all (tcp_timestamps=2); no timestamps"},
			{Name: shareLBTS, Values: []string{"1", "0"}, Product: true, Knob: Knob{Role: lab.Balancer, Sysctl: "net.ipv4.tcp_timestamps"},
				Means: "tcp_timestamps of the balancer"},
			{Name: shareRandom, Values: []string{randomNo, randomPlain, randomFully},
				Means: "how the gateway chooses among its ports: as they come; by --random; by --random-fully"},
			{Name: shareHold, Values: []string{"1", "30", "50", "65", "90", "120"},
				Knob:  Knob{Role: lab.Gateway, Sysctl: "net.netfilter.nf_conntrack_tcp_timeout_time_wait"},
				Means: "for how many seconds the gateway keeps the entry of an ended connection; the balancer keeps its TIME_WAIT for 60"},
		},
		Crossed: [][]string{{shareClocks, shareHold}},
		Waits: []Wait{
			{Cells{{shareHold: {"120"}}}, 120 * time.Second}, {Cells{{shareHold: {"90"}}}, 90 * time.Second},
			{Cells{{shareHold: {"50", "65"}}}, 50 * time.Second}, {Cells{{shareHold: {"30"}}}, 30 * time.Second},
		},
		Rules: []Rule{
			{
				Name: "share-outlived", Cells: Cells{{shareHold: {"65", "90", "120"}}},
				Want:    with(none, with(common, Exactly("time-waits", 0))...),
				Because: "a gateway that holds a port for longer than 60 s gives it away when the balancer has nothing left of the earlier connection",
				Source:  "TCP_TIMEWAIT_LEN; nf_conntrack_tcp_timeout_time_wait",
			},
			{
				Name: "share-one-clock", Cells: Cells{stamped}.And(Where{shareClocks: {clocksShared}}), Want: with(none, met...),
				Because: "one clock for all only goes forward: every TIME_WAIT gives way to a newer timestamp",
				Source:  "RFC 6191, tcp_timewait_state_process",
			},
			{
				Name: "share-clocks-of-hosts", Cells: Cells{stamped}.And(Where{shareClocks: {clocksHost}}),
				Want: with([]Expectation{half, Is("refused as the clocks say", "yes"), Exactly(refusedBy(byNumber), 0)}, met...),
				Because: "exactly those ports are refused whose last host had its clock ahead, whatever the way in which the gateway hands them out: " +
					"of hosts whose clocks have nothing to do with each other, half",
				Source: "RFC 7323 section 5.4, tcp_timewait_state_process",
			},
			{
				Name: "share-clocks-of-old", Cells: Cells{stamped}.And(Where{shareClocks: {clocksConnection}}),
				Kernels: []Condition{Lacks(lab.Client, TimestampsMode2)}, Want: with(none, met...),
				Because: "without random offsets all namespaces of one kernel have one clock",
				Source:  "tcp_time_stamp before commit 95a22caee396",
			},
			{
				Name: "share-clocks-of-connections", Cells: Cells{stamped}.And(Where{shareClocks: {clocksConnection}}),
				Want:    with([]Expectation{half, AtLeast(refusedBy(byClock), 1), Exactly(refusedBy(byNumber), 0)}, met...),
				Because: "with random offsets each SYN is older than what was last seen from its port by the toss of a coin",
				Source:  "secure_tcp_ts_off; RFC 7323 section 5.4; tcp_timewait_state_process",
			},
			{
				Name: "share-numbers", Cells: Cells{{}},
				Want: with([]Expectation{half, Exactly(refusedBy(byClock), 0), AtLeast(refusedBy(byNumber), 1)}, met...),
				Because: "without timestamps the initial sequence number decides, and that is another coin: to turn timestamps off changes who " +
					"is refused and not how many",
				Source: "RFC 6528, secure_tcp_seq; RFC 1122 section 4.2.2.13, tcp_timewait_state_process",
			},
		},
		Topology: func(c Cell) lab.Topology {
			stamps := map[string]string{clocksConnection: "1", clocksHost: "2", clocksShared: "2", clocksNone: "0"}
			t := lab.Topology{
				Clients: shareHosts,
				Gateway: lab.GatewaySpec{Kind: lab.Masquerade, Ports: poolOf(shareSYNs), Random: randomMode(c.Value(shareRandom))},
				Sysctls: lab.On(lab.Client, "net.ipv4.tcp_timestamps="+stamps[c.Value(shareClocks)]).
					On(lab.Gateway, "net.netfilter.nf_conntrack_tcp_be_liberal=1"), // see gatewayTopology
			}
			return t
		},
		Drive: func(ctx context.Context, c Cell, l *lab.Lab) (Seen, error) {
			return driveShare(ctx, l, c.Is(shareClocks, clocksHost))
		},
	}
}

// poolOf is a pool of so many ports.
func poolOf(ports int) lab.PortRange {
	return lab.PortRange{First: sourcePort, Last: sourcePort + uint16(ports) - 1}
}

func randomMode(value string) lab.RandomMode {
	return map[string]lab.RandomMode{randomPlain: lab.Random, randomFully: lab.FullyRandom}[value]
}

func driveShare(ctx context.Context, l *lab.Lab, ahead bool) (seen Seen, err error) {
	u, err := useUp(ctx, l, shareSYNs, 0)
	if err != nil {
		return seen, err
	}
	hosts := 0
	if ahead {
		if hosts, err = u.drawClocks(ctx); err != nil {
			return seen, err
		}
	}
	if err := u.end(ctx); err != nil {
		return seen, fmt.Errorf("first crowd: %w", err)
	}
	if err := u.forget(ctx); err != nil {
		return seen, err
	}
	full, err := u.balancer.Occupancy(ctx)
	if err != nil {
		return seen, err
	}
	again, err := u.again(ctx, shareSYNs/shareHosts)
	if err != nil {
		return seen, fmt.Errorf("second crowd: %w", err)
	}
	f := FatesOf(again)
	f.note(&seen, again)
	seen.Count("refused", f.Clock+f.Number)
	seen.Count("time-waits", int64(full.TimeWait))
	seen.Count("ahead", int64(hosts*shareSYNs/shareHosts))
	seen.Note("refused as the clocks say", yesNo(int(f.Clock) == hosts*shareSYNs/shareHosts))
	return seen, nil
}

// usedUp is a gateway of whose ports each has a connection.
type usedUp struct {
	clients           []node.Node
	gateway, balancer node.Node
	door              node.Listening
	ports             int

	conns    [][]tcp.Handle // of each client
	accepted []tcp.Handle   // at the balancer
	closed   time.Time      // when the first connection began to end
	ended    time.Time      // when the last one had ended
}

// useUp has the clients use up all ports, one client after the other, so that no
// two of them clash over one. An isn of 0 leaves the sequence numbers to the kernel.
func useUp(ctx context.Context, l *lab.Lab, ports int, isn uint32) (u *usedUp, err error) {
	u = &usedUp{
		clients: l.Nodes(lab.Client), gateway: l.Gateway(), balancer: l.Balancer(), ports: ports,
	}
	if u.door, err = u.balancer.Listen(ctx, tcp.ListenSpec{}); err != nil {
		return nil, err
	}
	for i, c := range u.clients {
		attempts := make([]tcp.Attempt, ports/len(u.clients))
		for j := range attempts {
			attempts[j] = tcp.Attempt{To: u.door.Addr, ISN: isn}
		}
		outs, err := c.Attempt(ctx, attempts)
		if err != nil {
			return nil, fmt.Errorf("first crowd: %w", err)
		}
		u.conns = append(u.conns, nil)
		for _, o := range outs {
			if o.Verdict != tcp.Connected {
				return nil, fmt.Errorf("first crowd: %s: %v, want a connection", c.Identity().Name, o)
			}
			u.conns[i] = append(u.conns[i], o.Conn)
		}
	}
	var there observe.Sockets
	err = observe.Await(ctx, "the balancer to have all connections", func() (bool, error) {
		all, err := u.balancer.Sockets(ctx)
		there = all.Between(u.door.Addr, netip.AddrPort{}).In(observe.Established)
		return len(there) == ports, err
	})
	if err != nil {
		return nil, fmt.Errorf("first crowd: %w", err)
	}
	for _, s := range there {
		conn, err := u.balancer.Accept(ctx, u.door.Handle, s.Remote)
		if err != nil {
			return nil, err
		}
		u.accepted = append(u.accepted, conn)
	}
	return u, nil
}

// drawClocks puts the clocks of half of the clients ahead, as the seed says, and
// tells of how many.
func (u *usedUp) drawClocks(ctx context.Context) (hosts int, err error) {
	random := rand.New(rand.NewPCG(shareSeed, 0)) //nolint:gosec // it is to be the same again
	for i := range u.clients {
		if random.IntN(2) == 0 {
			continue
		}
		hosts++
		if err := u.putAhead(ctx, i); err != nil {
			return hosts, err
		}
	}
	return hosts, nil
}

// putAhead puts the clock of a client ahead of all others.
func (u *usedUp) putAhead(ctx context.Context, client int) error {
	for _, conn := range u.conns[client] {
		if err := u.clients[client].AdvanceClock(ctx, conn, int32(clockLead)); err != nil {
			return err
		}
	}
	return nil
}

// end has the balancer close every connection, and then the clients, and waits
// for all TIME_WAITs.
func (u *usedUp) end(ctx context.Context) error {
	u.closed = time.Now()
	for _, conn := range u.accepted {
		if err := u.balancer.End(ctx, conn, tcp.CloseNow); err != nil {
			return err
		}
	}
	// As in awaitFinWait2: an ACK that came later would end the TIME_WAIT.
	err := observe.Await(ctx, "the FINs to be acknowledged", func() (bool, error) {
		all, err := u.balancer.Sockets(ctx)
		return len(all.Between(u.door.Addr, netip.AddrPort{}).In(observe.FinWait2)) == u.ports, err
	})
	if err != nil {
		return err
	}
	for i, c := range u.clients {
		for _, conn := range u.conns[i] {
			if err := c.End(ctx, conn, tcp.CloseAfterPeer); err != nil {
				return err
			}
		}
	}
	tick := time.Now().Add(tickAtMost)
	err = observe.Await(ctx, "the balancer's TIME_WAITs, the last of the clients' sockets, and a tick of the clock", func() (bool, error) {
		full, err := u.balancer.Occupancy(ctx)
		if err != nil || full.TimeWait != u.ports {
			return false, err
		}
		for _, c := range u.clients {
			if full, err := c.Occupancy(ctx); err != nil || full.Sockets > 0 {
				return false, err
			}
		}
		return time.Now().After(tick), nil
	})
	u.ended = time.Now()
	return err
}

// forget waits until the gateway has no entry of the connections any more.
func (u *usedUp) forget(ctx context.Context) error {
	hold, err := holdTime(ctx, u.gateway)
	if err != nil {
		return err
	}
	return observe.Await(ctx, "the gateway to forget", func() (bool, error) {
		if time.Since(u.ended) < hold { // to look at all entries is dear
			return false, nil
		}
		flows, err := u.gateway.Flows(ctx)
		return len(flows) == 0, err
	})
}

// holdTime is how long the gateway keeps the entry of an ended connection.
func holdTime(ctx context.Context, gateway node.Node) (time.Duration, error) {
	seconds, err := gateway.Sysctl(ctx, "net.netfilter.nf_conntrack_tcp_timeout_time_wait")
	if err != nil {
		return 0, err
	}
	hold, err := time.ParseDuration(seconds + "s")
	if err != nil {
		return 0, fmt.Errorf("hold time of the gateway: %w", err)
	}
	return hold, nil
}

// errOutlived says that TIME_WAITs may have ended by themselves before they were met.
var errOutlived = errors.New("the second crowd came too late for the TIME_WAITs of the first")

// again has every client make so many connections that stay.
func (u *usedUp) again(ctx context.Context, each int) (crowd.Result, error) {
	began := time.Since(u.closed)
	r, err := crowd.Run(ctx, crowd.Plan{
		Clients: u.clients, Watched: []node.Node{u.gateway, u.balancer}, Each: each, Seed: shareSeed,
		Attempt: tcp.Attempt{To: u.door.Addr},
		// Those that are refused wait for each other on no kernel. Two that clash
		// over a port are the gateway's to refuse, and try again.
		InFlight: u.ports,
	})
	if err == nil && began < TimeWaitLength && time.Since(u.closed) > TimeWaitLength {
		err = fmt.Errorf("%w: from %v to %v", errOutlived, began, time.Since(u.closed))
	}
	return r, err
}
