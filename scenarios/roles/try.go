package roles

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"twlab/harness/kernel"
	"twlab/harness/node"
	"twlab/harness/observe"
	"twlab/harness/tcp"
	"twlab/scenarios/situation"
)

// experiments find out about features that no file shows.
func experiments() map[kernel.Feature]func(context.Context, node.Node) (kernel.Fact, error) {
	return map[kernel.Feature]func(context.Context, node.Node) (kernel.Fact, error){
		kernel.IgnoresSYN:  tryIgnoresSYN,
		kernel.RSTRestarts: tryRST,
	}
}

// tryFeatures finds out by experiment about the features that no file shows.
func tryFeatures(ctx context.Context, f kernel.Facts, alone node.Node) error {
	for _, info := range kernel.Features() {
		if !f.Release.Before(info.Settled.Major, info.Settled.Minor) {
			continue
		}
		try, known := experiments()[info.Feature]
		if !known {
			return fmt.Errorf("try %s: nobody has written how", info.Feature)
		}
		fact, err := try(ctx, alone)
		if err != nil {
			return fmt.Errorf("try %s: %w", info.Feature, err)
		}
		if fact != kernel.Unknown {
			f.Features[info.Feature] = fact
		}
	}
	return nil
}

// loopbackBudget is how long a second connection over the loopback is tried. There, all
// effects of its first SYN have happened when connect(2) returns.
const loopbackBudget = 200 * time.Millisecond

// itself is a connection from a node to itself, over the loopback.
type itself struct {
	node               node.Node
	listener           netip.AddrPort // where it was accepted
	connected, waiting tcp.Handle     // its two sides
	from               netip.AddrPort
}

func connectItself(ctx context.Context, n node.Node, isn uint32) (c itself, err error) {
	c.node = n
	loopback := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	listening, err := n.Listen(ctx, tcp.ListenSpec{At: netip.AddrPortFrom(loopback, 80)})
	if err != nil {
		return c, err
	}
	c.listener, c.from = listening.Addr, netip.AddrPortFrom(loopback, situation.SourcePort)
	out, err := situation.Connect(ctx, n, tcp.Attempt{To: c.listener, From: c.from, ReuseAddr: true, ISN: isn})
	if err != nil {
		return c, err
	}
	c.connected = out.Conn
	if c.waiting, err = n.Accept(ctx, listening.Handle, c.from); err != nil {
		return c, err
	}
	return c, n.End(ctx, listening.Handle, tcp.CloseNow)
}

// again sends a SYN for the same five-tuple, and waits at most loopbackBudget.
func (c itself) again(ctx context.Context, isn uint32) error {
	_, err := c.node.Attempt(ctx, []tcp.Attempt{{To: c.listener, From: c.from, ReuseAddr: true, ISN: isn, Budget: loopbackBudget}})
	return err
}

// left are the sockets of the accepting side.
func (c itself) left(ctx context.Context) (observe.Sockets, error) {
	all, err := c.node.Sockets(ctx)
	return all.Between(c.listener, c.from), err
}

// tryIgnoresSYN tells whether an established connection ignores a SYN. Otherwise it answers
// with an ACK, and the RST that answers this ACK resets it.
func tryIgnoresSYN(ctx context.Context, n node.Node) (kernel.Fact, error) {
	c, err := connectItself(ctx, n, 0)
	if err != nil {
		return kernel.Unknown, err
	}
	if err := n.End(ctx, c.connected, tcp.Vanish); err != nil {
		return kernel.Unknown, err
	}
	if err := c.again(ctx, 0); err != nil {
		return kernel.Unknown, err
	}
	left, err := c.left(ctx)
	if err != nil {
		return kernel.Unknown, err
	}
	fact := kernel.No
	if len(left.In(observe.Established)) > 0 {
		fact = kernel.Yes
	}
	return fact, n.End(ctx, c.waiting, tcp.Abort)
}

// tryRST tells whether a RST restarts the timer of a TIME_WAIT that tcp_rfc1337 protects. The
// RST answers the ACK with which the TIME_WAIT rejects an older sequence number; without
// timestamps this rejection itself does not change the timer.
func tryRST(ctx context.Context, n node.Node) (fact kernel.Fact, err error) {
	for name, value := range map[string]string{"net.ipv4.tcp_rfc1337": "1", "net.ipv4.tcp_timestamps": "0"} {
		was, failed := n.Sysctl(ctx, name)
		if failed == nil {
			failed = n.SetSysctl(ctx, name, value)
		}
		if failed != nil {
			return kernel.Unknown, failed
		}
		defer func() { err = errors.Join(err, n.SetSysctl(ctx, name, was)) }()
	}
	c, err := connectItself(ctx, n, situation.FirstISN)
	if err != nil {
		return kernel.Unknown, err
	}
	seen, err := c.hitTimeWait(ctx)
	if err != nil {
		return kernel.Unknown, err
	}
	switch timer := seen.Timer(); timer {
	case "re-armed":
		return kernel.Yes, nil
	case "running":
		return kernel.No, nil
	default:
		return kernel.Unknown, fmt.Errorf("the TIME_WAIT's timer is %s", timer)
	}
}

// hitTimeWait closes the connection, the accepting side first, waits until the TIME_WAIT is
// older, and sends a SYN with an older sequence number, which the TIME_WAIT rejects. It notes
// the TIME_WAIT before and after.
func (c itself) hitTimeWait(ctx context.Context) (seen situation.FiveTupleSeen, err error) {
	if err := c.node.End(ctx, c.waiting, tcp.CloseNow); err != nil {
		return seen, err
	}
	if err := situation.AwaitFinWait2(ctx, c.node, c.listener, c.from); err != nil {
		return seen, err
	}
	if err := c.node.End(ctx, c.connected, tcp.CloseAfterPeer); err != nil {
		return seen, err
	}
	err = observe.Await(ctx, "the TIME_WAIT to be older", func() (bool, error) {
		left, err := c.left(ctx)
		if err != nil || len(left) != 1 {
			return false, err
		}
		seen.Left = left[0]
		return seen.Left.State == observe.TimeWait && seen.Left.Expires <= situation.TimeWaitLength-2*situation.TimerSlack, nil
	})
	if err != nil {
		return seen, err
	}
	began := time.Now()
	count, err := situation.CountMoves(ctx, c.node)
	if err != nil {
		return seen, err
	}
	if err := c.again(ctx, situation.FirstISN-situation.IsnGap); err != nil {
		return seen, err
	}
	left, err := c.left(ctx)
	if err != nil {
		return seen, err
	}
	seen.Between = time.Since(began)
	moved, err := count(ctx)
	if err != nil {
		return seen, err
	}
	if rsts := kernel.ResetsSent.Of(moved[0]); len(left) != 1 || rsts == 0 {
		return seen, fmt.Errorf("after %d RSTs there are %v, want a RST and a TIME_WAIT", rsts, left)
	}
	seen.After = left[0]
	return seen, nil
}
