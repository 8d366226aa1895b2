package client

import (
	"context"
	"fmt"
	"net/netip"

	"golang.org/x/sync/errgroup"

	"twlab/harness/kernel"
	"twlab/harness/lab"
	"twlab/harness/node"
	"twlab/harness/observe"
	"twlab/harness/tcp"
	"twlab/scenarios/claim"
	"twlab/scenarios/situation"
)

// remedyRun is one client that connects again and again.
type remedyRun struct {
	client, balancer node.Node
	gateway          node.Node // nil without one
	kind             string
	unsent           bool

	listeners               []listener
	connected, noPort, lost int
	readersReset            int
	used                    map[situation.Route]bool // by connections to the balancer
}

// listener is a listening socket and the node that it is on.
type listener struct {
	node.Listening
	at node.Node
}

func (r *remedyRun) drive(ctx context.Context, l *lab.Lab) (seen claim.Seen, err error) {
	if err := r.listen(ctx, l); err != nil {
		return seen, err
	}
	count, err := situation.CountMoves(ctx, r.client, r.balancer)
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
			seen.Note("client ports in balancer TIME_WAIT", situation.HowMany(r.used, situation.Waiting(all, false)))
		}
		seen.Count(string(side.Identity().Role)+" TIME_WAIT", int64(len(all.In(observe.TimeWait))))
	}
	moved, err := count(ctx)
	if err != nil {
		return seen, err
	}
	seen.Moved = map[lab.Role]kernel.Counters{lab.Client: moved[0], lab.Balancer: moved[1]}
	seen.Count("connected", int64(r.connected))
	seen.Count("no port", int64(r.noPort))
	seen.Count("bytes lost", int64(r.lost))
	seen.Count("readers reset", int64(r.readersReset))
	return seen, nil
}

// listen opens the listeners: one, or two where the remedy is a second one.
func (r *remedyRun) listen(ctx context.Context, l *lab.Lab) error {
	at := []node.Node{r.balancer}
	switch r.kind {
	case "none", "wider-range", "bind", "linger", "balancer-closes": // one listener
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
		r.listeners = append(r.listeners, listener{listening, n})
	}
	return nil
}

// once connects, sends, and brings the connection to its end on both sides.
func (r *remedyRun) once(ctx context.Context, i int) error {
	to := r.listeners[i%len(r.listeners)]
	a := tcp.Attempt{To: to.Addr}
	if r.kind == "bind" {
		a.From = netip.AddrPortFrom(netip.Addr{}, uint16(remedyFirstPort+i%remedyPorts))
		a.ReuseAddr = true
	}
	outs, err := r.client.Attempt(ctx, []tcp.Attempt{a})
	if err != nil {
		return err
	}
	switch outs[0].Outcome {
	case tcp.Connected:
		r.connected++
	case tcp.NoPort, tcp.PortInUse:
		r.noPort++
		return nil
	default:
		return nil
	}
	// A gateway here changes the address, but not the port.
	peer := netip.AddrPortFrom(r.outside(), outs[0].Local.Port())
	r.used[situation.Route{From: peer, To: to.Addr}] = true
	accepted, err := situation.Accept(ctx, to.at, to.Listening, peer)
	if err != nil {
		return err
	}
	conn := remedyConn{
		client: outs[0].Conn, accepted: accepted, to: to,
		local: netip.AddrPortFrom(r.client.Identity().Addr, outs[0].Local.Port()), seenFrom: peer,
	}
	if r.kind == "balancer-closes" {
		return r.balancerFirst(ctx, conn)
	}
	return r.clientFirst(ctx, conn)
}

// remedyConn is one connection: its two ends, and the client's address as the client
// and as the listener sees it.
type remedyConn struct {
	client, accepted tcp.Handle
	to               listener
	local, seenFrom  netip.AddrPort
}

// outside is the client's address as every listener sees it.
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
		// When the RST has arrived, no more data will arrive.
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
		if err := situation.AwaitFinWait2(ctx, r.client, c.local, c.to.Addr); err != nil {
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
	if err := situation.AwaitFinWait2(ctx, c.to.at, c.to.Addr, c.seenFrom); err != nil {
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

func (r *remedyRun) awaitReset(ctx context.Context, to listener) error {
	return observe.Await(ctx, "the RST to arrive", func() (bool, error) {
		all, err := to.at.Sockets(ctx)
		return len(all.In(observe.Established)) == 0, err
	})
}

// remedyEvidence is what [remedyRun.drive] notes.
func remedyEvidence() []claim.Evidence {
	return []claim.Evidence{
		situation.ClientWaits,
		{Name: "balancer TIME_WAIT", Unit: situation.Sockets, Means: "TIME_WAITs at the balancer afterwards"},
		{Name: "connected", Unit: situation.Attempts, Means: "attempts that connected"},
		situation.NoPortEvidence, situation.BytesLost,
		{Name: "readers reset", Unit: "connections", Means: "connections whose reader got ECONNRESET instead of the end of the data"},
		{Name: "client ports in balancer TIME_WAIT", Unit: situation.ShareOfPorts, Means: "whether the balancer has all, some or none of the connections' five-tuples in TIME_WAIT afterwards"},
	}
}
