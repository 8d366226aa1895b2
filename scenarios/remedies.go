package scenarios

import (
	"context"
	"fmt"
	"net/netip"

	"golang.org/x/sync/errgroup"

	"twlab/harness/lab"
	"twlab/harness/node"
	"twlab/harness/observe"
	"twlab/harness/tcp"
)

// Remedies is the family of what helps a client that runs out of ports, what it
// costs, and where it moves the TIME_WAITs.
func Remedies() Family {
	const (
		remedy   = "remedy"
		path     = "path"
		clientTS = "client-ts"
		lbTS     = "lb-ts"
		unsent   = "unsent"
	)
	bare := Cells{{lbTS: {"0"}}, {clientTS: {"0"}}}
	// A connection ends properly, so whatever was sent has arrived.
	whole := []Expectation{Exactly("bytes lost", 0), Stays(lab.Balancer, "Tcp.EstabResets")}
	const half = remedyConnects - remedyPorts

	return Family{
		Name:     "remedies",
		Evidence: remedyEvidence(),
		About: fmt.Sprintf("A client with %d local ports connects %d times in a row, each connection ends before the next: "+
			"how many get a port, who has the TIME_WAITs, and does everything that was sent arrive?", remedyPorts, remedyConnects),
		Axes: []Axis{
			{Name: remedy, Values: []string{"none", "lb-closes", "linger", "wider-range", "more-ports", "more-addresses", "bind"}, Product: true,
				Means: "none; the balancer closes first (Connection: close); SO_LINGER with 0 seconds; twice the local ports; " +
					"a second port, or a second address, to connect to; bind to each port in turn with SO_REUSEADDR"},
			{Name: path, Values: []string{"direct", "nat"}, Product: true, Means: "whether a MASQUERADE gateway is in between"},
			{Name: clientTS, Values: []string{"1", "0"}, Product: true, Knob: Knob{Role: lab.Client, Sysctl: "net.ipv4.tcp_timestamps"},
				Means: "tcp_timestamps of the client"},
			{Name: lbTS, Values: []string{"1", "0"}, Product: true, Knob: Knob{Role: lab.Balancer, Sysctl: "net.ipv4.tcp_timestamps"},
				Means: "tcp_timestamps of the balancer"},
			{Name: unsent, Values: []string{"no", "yes"}, Means: "whether the client still has data to send when it closes"},
		},
		Crossed: [][]string{{remedy, unsent}},
		Impossible: []Impossible{
			{Cells{{path: {"nat"}, remedy: {"more-addresses"}}}, "behind the lab's gateway the balancer has one address"},
			{Cells{{unsent: {"yes"}, remedy: {"lb-closes"}}}, "the client waits for the balancer's end, so it is not the one that gives up data"},
		},
		Rules: []Rule{
			{
				Name: "remedies-linger-loses-data", Cells: Cells{{remedy: {"linger"}, unsent: {"yes"}}},
				Want: []Expectation{
					Exactly("connected", remedyConnects), AtLeast("bytes lost", remedyConnects*unsentLeast), Exactly("readers reset", remedyConnects),
					Exactly("client TIME_WAIT", 0), Exactly("balancer TIME_WAIT", 0), AtLeast("client TcpExt.TCPAbortOnData", remedyConnects),
				},
				Because: "close with SO_LINGER of 0 seconds throws away what has not been sent and resets the connection: the reader gets a part and an error " +
					"(its receive buffer has room for 4 KiB here, the sender's for 16 KiB and more)",
				Source: "tcp_disconnect, tcp_close",
			},
			{
				Name: "remedies-linger", Cells: Cells{{remedy: {"linger"}}},
				Want: []Expectation{
					Exactly("connected", remedyConnects), Exactly("client TIME_WAIT", 0), Exactly("balancer TIME_WAIT", 0),
					Exactly("bytes lost", 0), AtLeast("balancer Tcp.EstabResets", remedyConnects), AtLeast("client Tcp.OutRsts", remedyConnects),
				},
				Because: "a RST ends the connection on both sides at once, so no side waits and the port is free",
				Source:  "tcp_close, tcp_reset",
			},
			{
				Name: "remedies-lb-closes", Cells: Cells{{remedy: {"lb-closes"}}},
				Want: with([]Expectation{Exactly("connected", remedyConnects), Exactly("client TIME_WAIT", 0),
					Is("client ports in balancer TIME_WAIT", "all"), Between("balancer TIME_WAIT", 1, remedyPorts)}, whole...),
				Because: "who closes first keeps the TIME_WAIT: it is now the balancer's, one for each port; when the same client comes back on a port, " +
					"its newer timestamp or sequence number takes that over",
				Source: "RFC 9293 section 3.6; tcp_time_wait, tcp_timewait_state_process",
			},
			{
				Name: "remedies-bind-bare", Cells: bare.And(Where{remedy: {"bind"}}),
				Want: with([]Expectation{Exactly("connected", remedyPorts), Exactly("no port", half), Exactly("client TIME_WAIT", remedyPorts),
					Stays(lab.Client, "TcpExt.TWRecycled")}, whole...),
				Because: "a TIME_WAIT of a connection without timestamps is never reused: bind succeeds and connect fails",
				Source:  "tcp_twsk_unique: tw_ts_recent_stamp",
			},
			{
				Name: "remedies-bind", Cells: Cells{{remedy: {"bind"}}},
				Want: with([]Expectation{Exactly("connected", remedyConnects), Exactly("no port", 0), Exactly("client TIME_WAIT", remedyPorts),
					AtLeast("client TcpExt.TWRecycled", half)}, whole...),
				Because: "a port that was bound explicitly with SO_REUSEADDR takes over its own TIME_WAIT at once, whatever tcp_tw_reuse says, " +
					"when the old connection had timestamps",
				Source: "tcp_twsk_unique: twp is NULL",
			},
			{
				Name: "remedies-more", Cells: Cells{{remedy: {"wider-range", "more-ports", "more-addresses"}}},
				Want: with([]Expectation{Exactly("connected", remedyConnects), Exactly("no port", 0), Exactly("client TIME_WAIT", remedyConnects)}, whole...),
				Because: "a local port is taken for one destination only, and twice the ports or destinations are twice the connections; " +
					"the TIME_WAITs stay with the client",
				Source: "__inet_check_established",
			},
			{
				Name: "remedies-none", Cells: Cells{{}},
				Want: with([]Expectation{Exactly("connected", remedyPorts), Exactly("no port", half), Exactly("client TIME_WAIT", remedyPorts),
					Exactly("balancer TIME_WAIT", 0)}, whole...),
				Because: "the client closes first and keeps each port in TIME_WAIT, until none is left: EADDRNOTAVAIL, and no SYN is sent",
				Source:  "__inet_hash_connect",
			},
		},
		Topology: func(c Cell) lab.Topology {
			last := remedyFirstPort + remedyPorts - 1
			if c.Is(remedy, "wider-range") {
				last += remedyPorts
			}
			t := lab.Topology{
				Clients: 1,
				Sysctls: KeepTimeWaits(lab.Client, lab.Balancer).On(lab.Client, fmt.Sprintf("net.ipv4.ip_local_port_range=%d %d", remedyFirstPort, last), "net.ipv4.tcp_tw_reuse=0"),
			}
			if c.Is(path, "nat") {
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
		},
		Drive: func(ctx context.Context, c Cell, l *lab.Lab) (Seen, error) {
			r := remedyRun{
				client: l.Client(0), balancer: l.Balancer(),
				kind: c.Value(remedy), unsent: c.Is(unsent, "yes"), used: map[route]bool{},
			}
			if gateways := l.Nodes(lab.Gateway); len(gateways) > 0 {
				r.gateway = gateways[0]
			}
			return r.drive(ctx, l)
		},
	}
}

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

// remedyRun is one client that connects again and again.
type remedyRun struct {
	client, balancer node.Node
	gateway          node.Node // nil without one
	kind             string
	unsent           bool

	doors                   []door
	connected, noPort, lost int
	readersReset            int
	used                    map[route]bool // by connections to the balancer
}

// door is a listening socket and the node that it is on.
type door struct {
	node.Listening
	at node.Node
}

func (r *remedyRun) drive(ctx context.Context, l *lab.Lab) (seen Seen, err error) {
	if err := r.listen(ctx, l); err != nil {
		return seen, err
	}
	count, err := countMoves(ctx, r.client, r.balancer)
	if err != nil {
		return seen, err
	}
	for i := range remedyConnects {
		if err := r.once(ctx, i); err != nil {
			return seen, fmt.Errorf("connection %d: %w", i, err)
		}
	}
	for _, side := range []node.Node{r.client, r.balancer} {
		all, err := side.Sockets(ctx)
		if err != nil {
			return seen, err
		}
		if side == r.balancer {
			seen.Note("client ports in balancer TIME_WAIT", howMany(r.used, waiting(all, false)))
		}
		seen.Count(string(side.Identity().Role)+" TIME_WAIT", int64(len(all.In(observe.TimeWait))))
	}
	moved, err := count(ctx)
	if err != nil {
		return seen, err
	}
	seen.Moved = map[lab.Role]observe.Counters{lab.Client: moved[0], lab.Balancer: moved[1]}
	seen.Count("connected", int64(r.connected))
	seen.Count("no port", int64(r.noPort))
	seen.Count("bytes lost", int64(r.lost))
	seen.Count("readers reset", int64(r.readersReset))
	return seen, nil
}

// listen opens the doors: one, or two where the remedy is a second one.
func (r *remedyRun) listen(ctx context.Context, l *lab.Lab) error {
	at := []node.Node{r.balancer}
	switch r.kind {
	case "more-ports":
		at = append(at, r.balancer)
	case "more-addresses":
		at = append(at, l.Servers()[0])
	}
	for _, n := range at {
		listening, err := n.Listen(ctx, tcp.ListenSpec{})
		if err != nil {
			return err
		}
		r.doors = append(r.doors, door{listening, n})
	}
	return nil
}

// once connects, sends, and brings the connection to its end on both sides.
func (r *remedyRun) once(ctx context.Context, i int) error {
	to := r.doors[i%len(r.doors)]
	a := tcp.Attempt{To: to.Addr}
	if r.kind == "bind" {
		a.From = netip.AddrPortFrom(netip.IPv4Unspecified(), uint16(remedyFirstPort+i%remedyPorts))
		a.ReuseAddr = true
	}
	outs, err := r.client.Attempt(ctx, []tcp.Attempt{a})
	if err != nil {
		return err
	}
	switch outs[0].Verdict {
	case tcp.Connected:
		r.connected++
	case tcp.NoPort, tcp.PortInUse:
		r.noPort++
		return nil
	default:
		return nil
	}
	// No gateway here changes the port, and only its address hides the client's.
	peer := netip.AddrPortFrom(r.outside(), outs[0].Local.Port())
	r.used[route{peer, to.Addr}] = true
	accepted, err := accept(ctx, to.at, to.Listening, peer)
	if err != nil {
		return err
	}
	conn := remedyConn{
		client: outs[0].Conn, accepted: accepted, to: to,
		local: netip.AddrPortFrom(r.client.Identity().Addr, outs[0].Local.Port()), seenFrom: peer,
	}
	if r.kind == "lb-closes" {
		return r.balancerFirst(ctx, conn)
	}
	return r.clientFirst(ctx, conn)
}

// remedyConn is one connection: its two ends, and the client's address as itself
// and as the door knows it.
type remedyConn struct {
	client, accepted tcp.Handle
	to               door
	local, seenFrom  netip.AddrPort
}

// outside is the address that the client has at every door.
func (r *remedyRun) outside() netip.Addr {
	if r.gateway != nil {
		return r.gateway.Identity().Addr
	}
	return r.client.Identity().Addr
}

// clientFirst has the client send and end the connection as the remedy says.
func (r *remedyRun) clientFirst(ctx context.Context, c remedyConn) error {
	size := remedyBytes
	if r.unsent {
		size = unsentBytes
	}
	sent, err := r.client.Send(ctx, c.client, size)
	if err != nil {
		return err
	}
	if !r.unsent {
		if err := r.awaitAcknowledged(ctx); err != nil {
			return err
		}
	}
	if r.kind == "linger" {
		if err := r.client.End(ctx, c.client, tcp.Abort); err != nil {
			return err
		}
		// What was under way has arrived, or never will, when the RST has.
		if err := r.awaitReset(ctx, c.to); err != nil {
			return err
		}
		if err := r.read(ctx, c.to.at, c.accepted, sent); err != nil {
			return err
		}
		return c.to.at.End(ctx, c.accepted, tcp.CloseNow)
	}
	// The reader reads while the client closes: a FIN comes after the last byte.
	var both errgroup.Group
	both.Go(func() error { return r.client.End(ctx, c.client, tcp.CloseFirst) })
	both.Go(func() error {
		if err := r.read(ctx, c.to.at, c.accepted, sent); err != nil {
			return err
		}
		if err := awaitFinWait2(ctx, r.client, c.local, c.to.Addr); err != nil {
			return err
		}
		return c.to.at.End(ctx, c.accepted, tcp.CloseNow)
	})
	return both.Wait()
}

// balancerFirst has the balancer send an answer and close.
func (r *remedyRun) balancerFirst(ctx context.Context, c remedyConn) error {
	sent, err := c.to.at.Send(ctx, c.accepted, remedyBytes)
	if err != nil {
		return err
	}
	if err := c.to.at.End(ctx, c.accepted, tcp.CloseNow); err != nil {
		return err
	}
	if err := r.read(ctx, r.client, c.client, sent); err != nil {
		return err
	}
	if err := awaitFinWait2(ctx, c.to.at, c.to.Addr, c.seenFrom); err != nil {
		return err
	}
	if err := r.client.End(ctx, c.client, tcp.CloseNow); err != nil {
		return err
	}
	return observe.Await(ctx, "the balancer's TIME_WAIT", func() (bool, error) {
		all, err := c.to.at.Sockets(ctx)
		return len(all.In(observe.FinWait2)) == 0, err
	})
}

// read reads to the end and notes what is missing.
func (r *remedyRun) read(ctx context.Context, at node.Node, conn tcp.Handle, sent int) error {
	got, err := at.Receive(ctx, conn)
	if err != nil {
		return err
	}
	r.lost += sent - got.Bytes
	if got.Errno != 0 {
		r.readersReset++
	}
	return nil
}

func (r *remedyRun) awaitAcknowledged(ctx context.Context) error {
	return observe.Await(ctx, "the data to be acknowledged", func() (bool, error) {
		all, err := r.client.Sockets(ctx)
		open := all.In(observe.Established)
		return len(open) == 1 && open[0].SendQueue == 0, err
	})
}

func (r *remedyRun) awaitReset(ctx context.Context, to door) error {
	return observe.Await(ctx, "the RST to arrive", func() (bool, error) {
		all, err := to.at.Sockets(ctx)
		return len(all.In(observe.Established)) == 0, err
	})
}
