package situation

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sync/errgroup"

	"twlab/harness/kernel"
	"twlab/harness/lab"
	"twlab/harness/node"
	"twlab/harness/observe"
	"twlab/harness/tcp"
)

// TimeWaitLength is how long a socket stays in TIME_WAIT: TCP_TIMEWAIT_LEN, a constant
// of every Linux kernel (include/net/tcp.h). Only the sysctl tcp_tw_recycle changes it.
const TimeWaitLength = 60 * time.Second

// The two lengths of a TIME_WAIT: always the same, or that of tcp_tw_recycle.
const (
	FullTimeWait     = "60 s"
	RecycledTimeWait = "3.5 RTO"
)

// JiffyAtMost is by how much a timer may look shorter than it was set. It is rounded to
// whole jiffies of at most 10 ms (HZ=100) twice: when it is set and when it is read.
const JiffyAtMost = 2 * 10 * time.Millisecond

// TimerExtra is by how much a socket's timer may show more than its length, on a kernel
// with any HZ:
//   - before Linux 4.1, a minisocket of up to 31 slots waits for the end of one
//     (inet_twsk_schedule): a slot is 4 s / 32 in jiffies, rounded up to a power of 2, so
//     64 jiffies of 1/300 s, or 16 of 1/100 s (INET_TWDR_RECYCLE_TICK);
//   - before Linux 4.8, mod_timer may delay a timer by 1/256, so that it shares its
//     jiffy with others (apply_slack);
//   - later the timer wheel is coarser, but a timer shows the time that was set
//     ("timers: Switch to a non-cascading wheel").
func TimerExtra(on kernel.Release, length time.Duration) time.Duration {
	const slot = 64 * time.Second / 300
	switch {
	case on.Before(4, 1) && length < 31*slot:
		return JiffyAtMost + slot
	case on.Before(4, 8):
		return JiffyAtMost + length/256
	default:
		return JiffyAtMost
	}
}

// shortestRTO is TCP_RTO_MIN of include/net/tcp.h.
const shortestRTO = 200 * time.Millisecond

var (
	// ErrTooLate says that too much time has passed to tell one length from the other.
	ErrTooLate = errors.New("looked too late")
	// ErrCut says that a TIME_WAIT was ended by a RST (RFC 1337). That happens on slow
	// machines: the FIN is retransmitted, and the TIME_WAIT's second answer meets no
	// connection any more, so it is answered with a RST.
	ErrCut = errors.New("the TIME_WAIT was cut short by a RST of the other side")
)

// KeepTimeWaits are settings with which a stray RST ends no TIME_WAIT of the roles. They
// are for labs that count TIME_WAITs and do not wait for the ACK of each FIN (see
// [AwaitFinWait2]). Before Linux 5.13 links may reorder packets: an ACK that another
// processor or a timer sends may arrive after the FIN that follows it. The TIME_WAIT
// answers it, and this answer is answered with a RST. Kernels before 4.15 have one
// tcp_rfc1337 for the whole machine, which is not changed.
func KeepTimeWaits(roles ...lab.Role) (settings lab.Settings) {
	for _, role := range roles {
		settings = append(settings, lab.Setting{Role: role, Name: "net.ipv4.tcp_rfc1337", Value: "1", IfPresent: true})
	}
	return settings
}

// Side is one end of a connection.
type Side struct {
	Node          node.Node
	Conn          tcp.Handle
	Local, Remote netip.AddrPort // as its own kernel sees them
}

// Part closes the first connection at both sides, the client or the balancer first, and
// tells how long the TIME_WAIT at that side lasts.
func (s FiveTupleRun) Part(ctx context.Context, clientFirst bool, out tcp.Result, conn tcp.Handle) (timeWait string, err error) {
	atBalancer := Side{Node: s.Balancer, Conn: conn, Local: s.Listener.Addr, Remote: s.Outside()}
	atClient := Side{Node: s.First, Conn: out.Conn, Local: out.Local, Remote: s.Listener.Addr}
	if clientFirst {
		return CloseInTurn(ctx, atClient, atBalancer)
	}
	return CloseInTurn(ctx, atBalancer, atClient)
}

// CloseInTurn closes one side and, when its FIN has been acknowledged, the other. The
// first side then has the TIME_WAIT; CloseInTurn tells how long it lasts.
func CloseInTurn(ctx context.Context, first, then Side) (timeWait string, err error) {
	rto, err := first.Node.RTO(ctx, first.Conn)
	if err != nil {
		return "", err
	}
	began := time.Now()
	var closing errgroup.Group
	closing.Go(func() error { return first.Node.End(ctx, first.Conn, tcp.CloseFirst) })
	if err := AwaitFinWait2(ctx, first.Node, first.Local, first.Remote); err != nil {
		return "", errors.Join(err, closing.Wait())
	}
	count, err := CountMoves(ctx, then.Node)
	if err != nil {
		return "", errors.Join(err, closing.Wait())
	}
	last := time.Now()
	closing.Go(func() error { return then.Node.End(ctx, then.Conn, tcp.CloseAfterPeer) })
	if err := closing.Wait(); err != nil {
		return "", err
	}
	var left, ended time.Duration
	err = observe.Await(ctx, "TIME_WAIT at "+first.Node.Identity().Name, func() (bool, error) {
		all, err := first.Node.Sockets(ctx)
		mine := all.Between(first.Local, first.Remote)
		ended = time.Since(last)
		if err != nil || len(mine) == 0 {
			left = 0
			return true, err
		}
		left = mine[0].Expires
		return mine[0].State == observe.TimeWait, nil
	})
	if err != nil {
		return "", err
	}
	moved, err := count(ctx)
	if err != nil {
		return "", err
	}
	if left == 0 && kernel.ResetsSent.Of(moved[0]) > 0 {
		return "", ErrCut
	}
	release, err := first.Node.Release(ctx)
	if err != nil {
		return "", err
	}
	// The answers to the FINs are samples for the timeout too. None of them took longer
	// than all of this together (tcp_rtt_estimator gives them a weight below 9/8).
	return timeWaitLength(release, left, ended, rto+(ended+last.Sub(began))*9/8)
}

// timeWaitLength tells the length of a TIME_WAIT that began at most elapsed ago and has
// the time left still to run (0: it is over). The connection's retransmission timeout
// was at most rto.
func timeWaitLength(on kernel.Release, left, elapsed, rto time.Duration) (string, error) {
	may := func(least, most time.Duration) bool {
		return left <= most+TimerExtra(on, most) && least <= left+elapsed+JiffyAtMost
	}
	full := may(TimeWaitLength, TimeWaitLength)
	short := may(shortestRTO*7/2, rto*7/2)
	switch {
	case full && short:
		return "", fmt.Errorf("%w: a TIME_WAIT that began up to %v ago and has %v left may be of %s or %s",
			ErrTooLate, elapsed, left, FullTimeWait, RecycledTimeWait)
	case full:
		return FullTimeWait, nil
	case short:
		return RecycledTimeWait, nil
	default:
		return fmt.Sprintf("%v to %v", left, left+elapsed), nil
	}
}
