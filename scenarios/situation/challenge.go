package situation

import (
	"context"
	"fmt"
	"time"

	"twlab/harness/lab"
	"twlab/harness/observe"
	"twlab/harness/tcp"
)

// invalidRatelimit is the default of net.ipv4.tcp_invalid_ratelimit.
const invalidRatelimit = 500 * time.Millisecond

// LimitOver is the time after which the rate limit is certainly over.
const LimitOver = invalidRatelimit + TickAtMost

// stands tells whether the first connection must still be established.
func (s FiveTupleRun) stands() bool { return s.Left == LeftEstablished || s.Left == LeftChallenged }

// quiet waits until the balancer may send a challenge ACK again. Before Linux 4.19 a
// client that leaves repair mode sends a window probe, so a client whose clock was set has
// sent some. The balancer's answer to a probe counts for the same rate limit: without this
// wait, it would be chance whether the second SYN still gets a challenge ACK.
func (s FiveTupleRun) quiet(ctx context.Context) error {
	packets, err := s.Lab.Packets()
	if err != nil {
		return err
	}
	path := s.Lab.Path(s.First.Identity().Name)
	point := path.NearestToServer()
	var next uint32 // of the first client, which has sent no data
	var probed time.Time
	for _, p := range packets {
		switch {
		case p.Point != point || p.Src != s.Outside() || p.Dst != s.Listener.Addr:
		case p.Flags.Has(observe.FlagSYN):
			next, probed = p.Seq+1, time.Time{}
		case p.Flags.Has(observe.FlagACK) && int32(p.Seq-next) < 0:
			probed = p.Time
		}
	}
	if s.Clock == Equal { // the clock was set for a moment after this
		probed = time.Now()
	}
	return observe.Await(ctx, "the balancer to challenge again", func() (bool, error) {
		return time.Since(probed) > LimitOver, nil
	})
}

// knock makes the second client send a SYN whose answer is lost on the path. It tells
// when the balancer answered; the zero time means that it did not.
func (s FiveTupleRun) knock(ctx context.Context) (answered time.Time, err error) {
	const once = " -m statistic --mode nth --every 1000 --packet 0"
	err = s.Lab.AddRules(lab.Rule{Role: lab.Gateway, Table: "filter", Chain: "FORWARD", Spec: s.ackToClient() + once + " -j DROP"})
	if err != nil {
		return answered, err
	}
	earlier, err := s.Lab.Packets()
	if err != nil {
		return answered, err
	}
	// Long enough for an answer, and shorter than the first retransmission timeout.
	const budget = 100 * time.Millisecond
	a := tcp.Attempt{To: s.Listener.Addr, From: s.From(), ReuseAddr: true, ISN: s.SecondISN(), Budget: budget}
	outs, err := s.Second.Attempt(ctx, []tcp.Attempt{a})
	if err != nil {
		return answered, err
	}
	if outs[0].Outcome != tcp.Undecided {
		return answered, fmt.Errorf("%v, want no outcome", outs[0])
	}
	packets, err := s.Lab.Packets()
	if err != nil {
		return answered, err
	}
	for _, p := range packets[len(earlier):] {
		if p.Src == s.Listener.Addr && p.Dst == s.Outside() && p.Flags.Has(observe.FlagACK) && !p.Flags.Has(observe.FlagSYN) {
			answered = p.Time
		}
	}
	return answered, nil
}

// limited tells whether the first SYN came while the rate limit was certainly in force,
// or whether the balancer answers no SYN at all.
func limited(challenged time.Time, account observe.SYNAccount) bool {
	if challenged.IsZero() {
		return account.ACKs == 0
	}
	return account.Sent > 0 && account.SYNs[0].Sent.Sub(challenged) < invalidRatelimit-TickAtMost
}
