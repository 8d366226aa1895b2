package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"twlab/harness/lab"
	"twlab/harness/node"
	"twlab/harness/ns"
	"twlab/harness/observe"
	"twlab/harness/tcp"
	"twlab/harness/topo"
)

// batch is how many attempts are under way at once when a rate is measured.
const batch = 500

// rateRounds is how many rounds a rate gets for each round of a lab: its samples
// take a fraction of a second, which one busy neighbour spoils.
const rateRounds = 5

// attempter makes n connections from one node to another and aborts each.
type attempter func(ctx context.Context, n int) error

// viaNode makes them by one call of node.Attempt.
func viaNode(n node.Node, to netip.AddrPort) attempter {
	return func(ctx context.Context, count int) error {
		attempts := make([]tcp.Attempt, count)
		for i := range attempts {
			attempts[i] = tcp.Attempt{To: to, Ending: tcp.Abort}
		}
		outcomes, err := n.Attempt(ctx, attempts)
		if err != nil {
			return err
		}
		for _, o := range outcomes {
			if o.Outcome != tcp.Connected {
				return fmt.Errorf("attempt to %v: %v", to, o)
			}
		}
		return nil
	}
}

// bySystemCalls makes them one after the other, with nothing but system calls.
func bySystemCalls(space *ns.Namespace, to netip.AddrPort) attempter {
	sa := &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}
	linger := &unix.Linger{Onoff: 1, Linger: 0}
	return func(_ context.Context, count int) error {
		return space.Do(func() error {
			for range count {
				fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
				if err != nil {
					return err
				}
				err = unix.Connect(fd, sa)
				if err == nil {
					err = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, linger)
				}
				if err := errors.Join(err, unix.Close(fd)); err != nil {
					return err
				}
			}
			return nil
		})
	}
}

// target is a listening socket and the node it belongs to.
type target struct {
	server node.Node
	at     netip.AddrPort
}

// listen opens a listener that takes every connection and lets the peer end it.
func listen(ctx context.Context, server node.Node) (target, error) {
	l, err := server.Listen(ctx, tcp.ListenSpec{
		At: netip.AddrPortFrom(netip.Addr{}, 80), Ending: tcp.CloseAfterPeer,
	})
	return target{server, l.Addr}, err
}

// settle waits until the listener has accepted all that was connected: neither
// side of a comparison pays for what the other left behind, and the accept queue
// never runs full.
func (t target) settle(ctx context.Context) error {
	return observe.Await(ctx, "the listener to accept everything", func() (bool, error) {
		sockets, err := t.server.Sockets(ctx)
		if err != nil {
			return false, err
		}
		listening := sockets.In(observe.Listen)
		return len(listening) == len(sockets) && listening[0].RecvQueue == 0, nil
	})
}

// measure makes total attempts, each time so many at once, and returns how long
// that took: without the time between them in which the listener catches up.
// around, when it is not nil, is called before and after and is part of it.
func (t target) measure(ctx context.Context, attempt attempter, total, atOnce int, around func() error) (time.Duration, error) {
	var took time.Duration
	for done := 0; done < total; done += atOnce {
		began := time.Now()
		if around != nil {
			if err := around(); err != nil {
				return 0, err
			}
		}
		if err := attempt(ctx, min(atOnce, total-done)); err != nil {
			return 0, err
		}
		if around != nil {
			if err := around(); err != nil {
				return 0, err
			}
		}
		took += time.Since(began)
		if err := t.settle(ctx); err != nil {
			return 0, err
		}
	}
	return took, nil
}

// benchAttempts compares the rate of node.Attempt, and that of a load whose
// counters are read all the while, with that of bare system calls
// in the same namespace, towards the same listener. The namespaces are the bare
// ones, because a lab does not hand out its own; node.Local is what it makes of
// them.
func benchAttempts(ctx context.Context, t *table, o options) (err error) {
	machines := plan(1)
	bare, err := buildBare(machines, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, bare.Close()) }()
	local := func(i int, role topo.Role) *node.Local {
		id := topo.Identity{Name: machines[i].name, Role: role, Addr: machines[i].addr}
		return node.NewLocal(id, bare.spaces[i].Do)
	}
	// The gateway listens: one link, and nothing between.
	server, client := local(0, topo.Gateway), local(2, topo.Client)
	defer func() { err = errors.Join(err, client.Close(), server.Close()) }()
	listener, err := listen(ctx, server)
	if err != nil {
		return err
	}

	aborted := tcp.Attempt{To: listener.at, Ending: tcp.Abort}
	ways := []attempter{viaNode(client, listener.at), bySystemCalls(bare.spaces[2], listener.at), viaLoad(client, server, aborted)}
	rates := make([]sample, len(ways))
	for round := range rateRounds*o.rounds + 1 {
		for i := range ways {
			i := (i + round) % len(ways)
			took, err := listener.measure(ctx, ways[i], o.attempts, batch, nil)
			if err != nil {
				return err
			}
			if round > 0 { // the first one is for warming up
				rates[i] = append(rates[i], float64(o.attempts)/took.Seconds())
			}
		}
	}
	t.compare(fmt.Sprintf("connects, %d at once, against a loop of system calls", batch), rates[0], rates[1], perSecond, goal{atLeast: 0.8})
	t.compare("connects of a load, counters captured, against the same loop", rates[2], rates[1], perSecond, goal{atLeast: 0.8})
	return nil
}

// benchEvidence compares attempts that are recorded, and attempts that have the
// client's counters read before and after, with attempts that nobody watches.
func benchEvidence(ctx context.Context, t *table, o options) error {
	for _, atOnce := range []int{1, 100} {
		total := min(o.attempts, 500*atOnce)
		var plain, counted, captured sample
		for round := range rateRounds*o.rounds + 1 {
			for _, side := range []struct {
				took     *sample
				counters bool
				capture  bool
			}{{took: &plain}, {took: &counted, counters: true}, {took: &captured, capture: true}} {
				took, err := observed(ctx, total, atOnce, side.counters, side.capture)
				if err != nil {
					return err
				}
				if round > 0 {
					*side.took = append(*side.took, took.Seconds()/float64(total))
				}
			}
		}
		what := fmt.Sprintf("an attempt, %d at once", atOnce)
		t.compare(what+": counters read twice, against not", counted, plain, microseconds, goal{})
		t.compare(what+": link recorded, against not", captured, plain, microseconds, goal{})
	}
	return nil
}

// observed measures in a lab of its own, since a recording ends with its lab.
func observed(ctx context.Context, total, atOnce int, counters, capture bool) (took time.Duration, err error) {
	l, err := lab.Build(ctx, lab.Topology{Clients: 1})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	client := l.Client(0)
	listener, err := listen(ctx, l.Balancer())
	if err != nil {
		return 0, err
	}
	if capture {
		if err := l.Capture(client.Identity().Name); err != nil {
			return 0, err
		}
	}
	var around func() error
	if counters {
		around = func() error {
			_, err := client.Counters(ctx)
			return err
		}
	}
	took, err = listener.measure(ctx, viaNode(client, listener.at), total, atOnce, around)
	if err != nil || !capture {
		return took, err
	}
	// Lost packets are an error here: a recording with holes costs less.
	packets, err := l.Packets()
	if want := 2 * 3 * total; err == nil && len(packets) < want {
		err = fmt.Errorf("recorded %d packets of %d attempts, want at least %d", len(packets), total, want)
	}
	return took, err
}
