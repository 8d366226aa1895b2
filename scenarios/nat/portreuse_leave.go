package nat

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"twlab/harness/observe"
	"twlab/harness/tcp"
	"twlab/scenarios/situation"
)

// earlierConn is both ends of an earlier connection.
type earlierConn struct {
	client, balancer tcp.Handle
	outside          netip.AddrPort // the client's address and port as the balancer sees them
}

// open makes the earlier connections and sets their clocks.
func (g *portReuse) open(ctx context.Context) (conns []earlierConn, err error) {
	g.outs = nil
	for i := range g.earlier {
		from := netip.AddrPortFrom(netip.Addr{}, situation.SourcePort+i)
		out, err := situation.Connect(ctx, g.first, tcp.Attempt{To: g.listener.Addr, From: from, ReuseAddr: true, ISN: situation.FirstISN})
		if err != nil {
			return nil, err
		}
		outside, err := g.outside(ctx, out.Local)
		if err != nil {
			return nil, err
		}
		g.outs = append(g.outs, outside)
		conn, err := situation.Accept(ctx, g.balancer, g.listener, outside)
		if err != nil {
			return nil, err
		}
		conns = append(conns, earlierConn{out.Conn, conn, outside})
		if g.olderClock && out.Timestamps {
			if err := g.first.AdvanceClock(ctx, out.Conn, int32(situation.ClockLead)); err != nil {
				return nil, err
			}
		}
	}
	return conns, nil
}

// outside is the translation of a client's address and port at the gateway.
func (g *portReuse) outside(ctx context.Context, inside netip.AddrPort) (netip.AddrPort, error) {
	flows, err := g.flows(ctx)
	if err != nil {
		return netip.AddrPort{}, err
	}
	for _, f := range flows {
		if f.Original.Src == inside {
			return f.Reply.Dst, nil
		}
	}
	return netip.AddrPort{}, fmt.Errorf("the gateway has no entry of the connection from %v", inside)
}

// flows are the gateway's entries of connections to the listener.
func (g *portReuse) flows(ctx context.Context) ([]observe.Flow, error) {
	all, err := g.gateway.Flows(ctx)
	return slices.DeleteFunc(all, func(f observe.Flow) bool { return f.Original.Dst != g.listener.Addr }), err
}

// end closes the sides that must close to leave the wanted state.
func (g *portReuse) end(ctx context.Context, c earlierConn) error {
	if g.left != situation.LeftEstablished {
		if err := g.balancer.End(ctx, c.balancer, tcp.CloseNow); err != nil {
			return err
		}
		if err := situation.AwaitFinWait2(ctx, g.balancer, g.listener.Addr, c.outside); err != nil {
			return err
		}
		return g.first.End(ctx, c.client, tcp.CloseAfterPeer)
	}
	if g.first == g.second && g.from == situation.SourcePort {
		// The client must lose its state, or it could not connect again.
		return g.first.End(ctx, c.client, tcp.Vanish)
	}
	return nil
}

// settle waits until the balancer and the gateway have processed the ends of the earlier
// connections.
func (g *portReuse) settle(ctx context.Context) error {
	at, entry := observe.TimeWait, string(observe.TimeWait)
	if g.left == situation.LeftEstablished {
		at, entry = observe.Established, string(observe.Established)
	}
	// A full tick of the timestamp clock passes, so that a newer one is newer.
	tick := time.Now().Add(20 * time.Millisecond)
	return observe.Await(ctx, "the earlier connections to be "+entry, func() (bool, error) {
		if time.Now().Before(tick) {
			return false, nil
		}
		sockets, err := g.balancer.Sockets(ctx)
		if err != nil || len(sockets.Between(g.listener.Addr, netip.AddrPort{}).In(at)) != len(g.outs) {
			return false, err
		}
		flows, err := g.flows(ctx)
		if err != nil {
			return false, err
		}
		if len(flows) < len(g.outs) {
			return false, fmt.Errorf("%w: an entry of the gateway is gone already", errUnlucky)
		}
		return !slices.ContainsFunc(flows, func(f observe.Flow) bool { return f.State != entry }), nil
	})
}

// age waits until the balancer's TIME_WAIT and the gateway's entry are over, if they have
// to be. Listing all sockets and entries of a machine is expensive, so it does not look
// before they can be over.
func (g *portReuse) age(ctx context.Context) error {
	began := time.Now()
	if g.left == situation.LeftNothing {
		err := observe.Await(ctx, "the end of TIME_WAIT", func() (bool, error) {
			if time.Since(began) < situation.TimeWaitLength-time.Second {
				return false, nil
			}
			sockets, err := g.balancer.Sockets(ctx)
			return len(sockets.Between(g.listener.Addr, netip.AddrPort{}).In(observe.TimeWait)) == 0, err
		})
		if err != nil {
			return err
		}
	}
	if !g.expired {
		return nil
	}
	return observe.Await(ctx, "the gateway's entries to expire", func() (bool, error) {
		if time.Since(began) < g.timeout { // the entries are older than that
			return false, nil
		}
		flows, err := g.flows(ctx)
		return len(flows) == 0, err
	})
}
