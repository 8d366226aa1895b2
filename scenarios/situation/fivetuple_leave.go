package situation

import (
	"context"
	"fmt"
	"time"

	"twlab/harness/lab"
	"twlab/harness/observe"
	"twlab/harness/tcp"
)

// cut tells whether a RST of the first connection reached the balancer, or the wire to
// it, after the FIN and before the SYN of the second one. It may have been on its way
// when the TIME_WAIT was looked at.
func (s FiveTupleRun) cut() (bool, error) {
	packets, err := s.Lab.Packets()
	if err != nil {
		return false, err
	}
	path := s.Lab.Path(s.First.Identity().Name)
	point := path.NearestToServer()
	ended := false
	for _, p := range packets {
		switch {
		case p.Point != point || p.Src != s.Outside() || p.Dst != s.Listener.Addr:
		case p.Flags.Has(observe.FlagFIN):
			ended = true
		case ended && p.Flags.Has(observe.FlagRST):
			return true, nil
		case ended && p.Flags.Has(observe.FlagSYN):
			return false, nil
		}
	}
	return false, nil
}

// leave lets the first client connect, and leaves the wanted state of that connection at
// the balancer. If another client comes next, it leaves no entry at the gateway.
func (s FiveTupleRun) leave(ctx context.Context, seen *FiveTupleSeen) (last shown, err error) {
	clock, probed, err := s.secondClock(ctx)
	if err != nil {
		return last, err
	}
	a := tcp.Attempt{To: s.Listener.Addr, From: s.From(), ReuseAddr: true}
	if s.ISN != AsItComes {
		a.ISN = FirstISN
	}
	if seen.First, err = Connect(ctx, s.First, a); err != nil {
		return last, err
	}
	conn, err := Accept(ctx, s.Balancer, s.Listener, s.Outside())
	if err != nil {
		return last, err
	}
	if !probed {
		// Both clients have the same offset, or none.
		if clock, err = readClock(ctx, s.First, seen.First.Conn); err != nil {
			return last, err
		}
	}
	if seen.First.Timestamps && (probed || s.Clock != Newer) {
		if err := s.Steer(ctx, clock, seen.First.Conn, conn); err != nil {
			return last, err
		}
	}
	if err := s.end(ctx, seen.First.Conn, conn); err != nil {
		return last, err
	}
	if s.stands() {
		if err := s.quiet(ctx); err != nil {
			return last, err
		}
	}
	if seen.Left, err = s.awaitLeft(ctx); err != nil {
		return last, err
	}
	if s.First != s.Second {
		if err := s.deleteEntry(ctx); err != nil {
			return last, err
		}
	}
	if !seen.First.Timestamps {
		return last, nil
	}
	value, err := s.LastShown()
	return shown{known: true, value: value, clock: clock, tick: s.tick}, err
}

// end closes the sides that must close to leave the wanted state.
func (s FiveTupleRun) end(ctx context.Context, first, atBalancer tcp.Handle) error {
	if !s.stands() {
		if err := s.Balancer.End(ctx, atBalancer, tcp.CloseNow); err != nil {
			return err
		}
		if err := AwaitFinWait2(ctx, s.Balancer, s.Listener.Addr, s.Outside()); err != nil {
			return err
		}
	}
	switch {
	case s.Left == LeftTimeWait || s.Left == LeftNothing:
		return s.First.End(ctx, first, tcp.CloseAfterPeer)
	case s.First == s.Second:
		return s.vanish(ctx, first)
	default:
		return nil
	}
}

// vanish makes the client drop its connection without a segment, in repair mode. Kernels
// before 4.10 do not allow repair mode once the balancer has closed (tcp_can_repair_sock:
// ESTABLISHED and CLOSE only): there the client resets the connection, and the gateway
// drops the RST.
func (s FiveTupleRun) vanish(ctx context.Context, conn tcp.Handle) error {
	release, err := s.First.Release(ctx)
	if err != nil {
		return err
	}
	if s.stands() || !release.Before(4, 10) {
		return s.First.End(ctx, conn, tcp.Vanish)
	}
	rst := fmt.Sprintf("-i %s -p tcp --sport %d --tcp-flags RST RST -m statistic --mode nth --every 1000 --packet 0 -j DROP",
		s.First.Identity().Name, s.Port)
	if err := s.Lab.AddRules(lab.Rule{Role: lab.Gateway, Table: "raw", Chain: "PREROUTING", Spec: rst}); err != nil {
		return err
	}
	if err := s.First.End(ctx, conn, tcp.Abort); err != nil {
		return err
	}
	return observe.Await(ctx, "the RST to be lost", func() (bool, error) {
		packets, err := s.Lab.Packets()
		lost := 0
		for _, p := range packets {
			if p.Point == s.Gateway.Identity().Name && p.Direction == observe.In && p.Src.Port() == s.Port && p.Flags.Has(observe.FlagRST) {
				lost++
			}
		}
		return lost > 0, err
	})
}

// awaitLeft waits until the balancer's socket has the wanted state.
func (s FiveTupleRun) awaitLeft(ctx context.Context) (left observe.Socket, err error) {
	// Listing sockets is expensive, so the first look is when the state is possible.
	// Equal clocks are waited for in another way.
	ripe := time.Now()
	if s.Clock != Equal {
		ripe = ripe.Add(TickAtMost)
	}
	err = observe.Await(ctx, fmt.Sprintf("what is left at the balancer to be %s", s.Left), func() (bool, error) {
		if time.Now().Before(ripe) {
			return false, nil
		}
		all, err := s.Balancer.Sockets(ctx)
		if err != nil {
			return false, err
		}
		mine := all.Between(s.Listener.Addr, s.Outside())
		if len(mine) == 0 {
			left = observe.Socket{}
			if s.Left == LeftTimeWait { // and it is not over yet
				return false, ErrCut
			}
			return s.Left == LeftNothing, nil
		}
		left = mine[0]
		switch s.Left {
		case LeftTimeWait:
			early := left.Expires - (TimeWaitLength - s.Aged)
			ripe = time.Now().Add(early)
			return left.State == observe.TimeWait && early <= 0, nil
		case LeftFinWait2:
			return left.State == observe.FinWait2 && left.Mini(), nil
		case LeftEstablished, LeftChallenged:
			return left.State == observe.Established && left.SendQueue == 0, nil
		default:
			return false, nil
		}
	})
	return left, err
}

// deleteEntry deletes the gateway's entry of the connection, like a gateway whose conntrack
// timeout is shorter than the balancer's 60 s. Linux's own timeout is 120 s
// (nf_conntrack_tcp_timeout_time_wait).
func (s FiveTupleRun) deleteEntry(ctx context.Context) error {
	n, err := s.Gateway.DeleteFlows(ctx, observe.FlowMatch{Reply: observe.Tuple{Src: s.Listener.Addr, Dst: s.Outside()}})
	if err != nil {
		return err
	}
	if n != 1 {
		return fmt.Errorf("gateway deleted %d entries of connections from %v, want 1", n, s.Outside())
	}
	return nil
}

// fault puts the fault on the path, for this port.
func (s FiveTupleRun) fault() error {
	second := s.Second.Identity().Name
	rst := fmt.Sprintf("-i %s -p tcp --sport %d --tcp-flags RST RST", second, s.Port)
	rule := lab.Rule{Role: lab.Gateway, Table: "filter", Chain: "FORWARD"}
	switch s.Fault {
	case NoFault:
		return nil
	case DropsInvalid:
		rule.Spec = "-m conntrack --ctstate INVALID -j DROP"
	case EatsRST:
		rule.Spec = rst + " -j DROP"
	case UnNATedRST:
		rule.Table, rule.Chain, rule.Spec = "raw", "PREROUTING", rst+" -j CT --notrack"
	case EatsACK:
		rule.Spec = s.ackToClient() + " -j DROP"
	default:
		return fmt.Errorf("unknown fault %q", s.Fault)
	}
	return s.Lab.AddRules(rule)
}

// ackToClient matches the balancer's bare ACKs to the client's port.
func (s FiveTupleRun) ackToClient() string {
	return fmt.Sprintf("-i balancer -p tcp --dport %d --tcp-flags SYN,RST,FIN,ACK ACK", s.Port)
}
