package timewait

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sync/errgroup"

	"twlab/harness/kernel"
	"twlab/harness/lab"
	"twlab/harness/observe"
	"twlab/harness/tcp"
	"twlab/scenarios/claim"
	"twlab/scenarios/situation"
)

// twoAges is the situation of two clients with different uptimes behind one address: one
// connects, and the other one tries to. No clock is changed.
type twoAges struct {
	situation.FiveTupleRun
	// SameTuple: each try is from the first client's port, whose connection is in
	// TIME_WAIT at the balancer. Otherwise each try is from another port, and the first
	// client keeps connecting while the second one tries.
	SameTuple bool
	// Recycle is the value of the balancer's tcp_tw_recycle in that case.
	Recycle string
	// ClientCloses: the first client closes its connections first.
	ClientCloses bool
	// Tries is how often the second client tries.
	Tries int
}

// secondTry is one try of the second client.
type secondTry struct {
	situation.FiveTupleSeen
	// withTimestamps says that both clients have sent a timestamp, so that Behind means
	// something. With other ports, it compares the second client's last SYN with the first
	// client's last FIN before it.
	withTimestamps bool
}

// secondPort is the second client's first port, if it does not use the first client's.
const secondPort uint16 = 50000

// pace is how long the first client waits between two connections.
const pace = 100 * time.Millisecond

func (s twoAges) drive(ctx context.Context) (seen claim.Seen, err error) {
	err = s.Lab.Capture(s.First.Identity().Name, s.Second.Identity().Name, s.Balancer.Identity().Name)
	if err != nil {
		return seen, err
	}
	recycle, timeWait := "not asked", ""
	if !s.SameTuple {
		recycle, _, err = sameAddress{Recycle: s.Recycle, Role: lab.Balancer}.setRecycle(ctx, s.Lab)
		if err != nil {
			return seen, err
		}
	}
	if s.Listener, err = s.Balancer.Listen(ctx, tcp.ListenSpec{}); err != nil {
		return seen, err
	}
	count, err := situation.CountMoves(ctx, s.Second, s.Gateway, s.Balancer)
	if err != nil {
		return seen, err
	}
	began := time.Now()
	var tries []secondTry
	if s.SameTuple {
		tries, err = s.sameTuples(ctx)
	} else {
		tries, timeWait, err = s.otherPorts(ctx)
	}
	if err != nil {
		return seen, err
	}
	tried := time.Since(began)
	moved, err := count(ctx)
	if err != nil {
		return seen, err
	}
	seen = summary(tries)
	seen.Moved = map[lab.Role]kernel.Counters{lab.Client: moved[0], lab.Gateway: moved[1], lab.Balancer: moved[2]}
	seen.Note("tcp_tw_recycle", recycle)
	seen.Note("time-wait", timeWait)
	seen.Count("passive rejects", kernel.PAWSPassive.Of(moved[2]))
	seen.Count("paws rejects", kernel.PAWSRejects(moved[2]))
	seen.Count("tried s", int64(tried.Seconds()))
	if last := tries[len(tries)-1]; !s.SameTuple && s.Tries > 3 && last.Second.Outcome == tcp.TimedOut {
		return seen, s.afterwards(ctx, &seen)
	}
	return seen, nil
}

// sameTuples lets the second client try again and again, each time from a port that the
// first one has just used. If a TIME_WAIT was cut short, that is not a try.
func (s twoAges) sameTuples(ctx context.Context) (tries []secondTry, err error) {
	s.Port = situation.SourcePort
	for cut := 0; len(tries) < s.Tries; s.Port++ {
		seen, err := s.Once(ctx)
		if errors.Is(err, situation.ErrCut) && cut < s.Tries {
			cut++
			continue
		}
		if err != nil {
			return nil, err
		}
		if !seen.Second.Conn.IsZero() {
			if err := s.Second.End(ctx, seen.Second.Conn, tcp.Abort); err != nil {
				return nil, err
			}
		}
		tries = append(tries, secondTry{FiveTupleSeen: seen, withTimestamps: seen.Clocks != situation.AsItComes})
	}
	return tries, nil
}

// otherPorts lets the second client try while the first one keeps connecting, and tells how
// long the TIME_WAIT of the first client's first connection lasts.
func (s twoAges) otherPorts(ctx context.Context) (tries []secondTry, timeWait string, err error) {
	if timeWait, err = s.visit(ctx, 0); err != nil {
		return nil, "", fmt.Errorf("first connection: %w", err)
	}
	going, stop := context.WithCancel(ctx)
	defer stop()
	var visits errgroup.Group
	visits.Go(func() error { return s.keepVisiting(ctx, going) })
	for i := range uint16(s.Tries) {
		t, failed := s.try(ctx, i)
		if err = failed; err != nil {
			break
		}
		tries = append(tries, t)
	}
	stop()
	return tries, timeWait, errors.Join(err, visits.Wait())
}

// keepVisiting lets the first client connect until going ends.
func (s twoAges) keepVisiting(ctx, going context.Context) error {
	for i := uint16(1); ; i++ {
		until := time.Now().Add(pace)
		err := observe.Await(going, "the next connection", func() (bool, error) { return time.Now().After(until), nil })
		if going.Err() != nil {
			return ctx.Err()
		}
		if err == nil {
			_, err = s.visit(ctx, i)
		}
		if err != nil && !errors.Is(err, situation.ErrCut) { // ErrCut: the address is remembered already
			return fmt.Errorf("connection %d of the first client: %w", i+1, err)
		}
	}
}

// visit is one connection of the first client, from its opening to its end.
func (s twoAges) visit(ctx context.Context, number uint16) (timeWait string, err error) {
	s.Port = situation.SourcePort + number
	out, err := situation.Connect(ctx, s.First, tcp.Attempt{To: s.Listener.Addr, From: s.From(), ReuseAddr: true})
	if err != nil {
		return "", err
	}
	conn, err := situation.Accept(ctx, s.Balancer, s.Listener, s.Outside())
	if err != nil {
		return "", err
	}
	return s.Part(ctx, s.ClientCloses, out, conn)
}

// try is one try of the second client, from its own port. A connection is reset at once, so
// that no address is remembered because of it.
func (s twoAges) try(ctx context.Context, number uint16) (t secondTry, err error) {
	earlier, err := s.Lab.Packets()
	if err != nil {
		return t, err
	}
	from := netip.AddrPortFrom(netip.Addr{}, secondPort+number)
	outs, err := s.Second.Attempt(ctx, []tcp.Attempt{{To: s.Listener.Addr, From: from, ReuseAddr: true, Ending: tcp.Abort}})
	if err != nil {
		return t, fmt.Errorf("second client: %w", err)
	}
	packets, err := s.Lab.Packets()
	if err != nil {
		return t, err
	}
	t.Second = outs[0]
	t.SYNs = observe.AccountSYNs(packets, s.Lab.Path(s.Second.Identity().Name), t.Second.Local, s.Listener.Addr)
	if len(t.SYNs.SYNs) == 0 {
		return t, errors.New("no SYN of the second client was recorded")
	}
	last := t.SYNs.SYNs[len(t.SYNs.SYNs)-1].Timestamp
	if goodbye, found := s.lastFIN(earlier); found && last.Present {
		t.withTimestamps, t.Behind = true, int32(goodbye-last.Value)
	}
	return t, nil
}

// lastFIN is the timestamp of the first client's last FIN that reached the balancer, or the
// wire to it. The balancer remembers it when the TIME_WAIT begins.
func (s twoAges) lastFIN(packets []observe.Packet) (value uint32, found bool) {
	path := s.Lab.Path(s.First.Identity().Name)
	point := path.NearestToServer()
	for _, p := range packets {
		if p.Point == point && p.Src.Addr() == s.Outside().Addr() && p.Src.Port() < secondPort &&
			p.Flags.Has(observe.FlagFIN) && p.Timestamp.Present {
			value, found = p.Timestamp.Value, true
		}
	}
	return value, found
}

// afterwards lets the second client try, after the first one has stopped, until it
// connects, and notes why it does.
func (s twoAges) afterwards(ctx context.Context, seen *claim.Seen) error {
	began := time.Now()
	for i := uint16(s.Tries); ; i++ {
		t, err := s.try(ctx, i)
		if err != nil {
			return err
		}
		silence := time.Since(began)
		if t.Second.Outcome == tcp.TimedOut && silence < 2*situation.TimeWaitLength {
			continue
		}
		why := fmt.Sprintf("nothing: %d ticks behind", t.Behind)
		switch {
		case t.Behind <= tickOfPAWS:
			why = "caught up"
		case silence > situation.TimeWaitLength:
			why = "forgotten"
		}
		seen.Note("afterwards", string(t.Second.Outcome))
		seen.Note("let in because", why)
		seen.Count("silence s", int64(silence.Seconds()))
		return nil
	}
}
