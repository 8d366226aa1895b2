package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"twlab/harness/lab"
	"twlab/harness/node"
	"twlab/harness/reason"
	"twlab/harness/tcp"
)

// benchReasons compares the rate of connects while the kernel tells why it drops and resets with
// that while it does not: of connections that are aborted, which end in a drop each, and of
// attempts that are refused, which are a reset and a drop each.
func benchReasons(ctx context.Context, t *table, o options) error {
	const closed = 81
	for _, c := range []struct {
		what string
		way  func(client node.Node, listener netip.AddrPort) attempter
	}{
		{"connects, 100 at once: reasons of drops told, against not", viaNode},
		{"refused connects, 100 at once: the same", func(client node.Node, listener netip.AddrPort) attempter {
			return refused(client, netip.AddrPortFrom(listener.Addr(), closed))
		}},
	} {
		var rates [2]sample // without and with
		for round := range rateRounds*o.rounds + 1 {
			for i := range rates {
				i := (i + round) % len(rates)
				rate, err := rateTold(ctx, o.attempts, i == 1, c.way)
				if errors.Is(err, reason.ErrUnknown) {
					t.note("the cost of reasons was not measured: " + err.Error())
					return nil
				}
				if err != nil {
					return err
				}
				if round > 0 { // the first one is for warming up
					rates[i] = append(rates[i], rate)
				}
			}
		}
		t.paired(c.what, rates[1], rates[0], perSecond, goal{atLeast: 0.9})
	}
	return nil
}

// rateTold measures a rate in a lab of its own, whose watch ends with it.
func rateTold(ctx context.Context, attempts int, told bool, way func(node.Node, netip.AddrPort) attempter) (rate float64, err error) {
	l, err := lab.Build(ctx, lab.Topology{Clients: 1, Gateway: lab.GatewaySpec{Kind: lab.Masquerade}})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	listener, err := listen(ctx, l.Balancer())
	if err != nil {
		return 0, err
	}
	var w *reason.Watch
	if told {
		if w, _, err = reason.Attach(l); err != nil {
			return 0, err
		}
	}
	took, err := listener.measure(ctx, way(l.Client(0), listener.at), attempts, 100, nil)
	if err != nil || !told {
		return float64(attempts) / took.Seconds(), err
	}
	// A watch that has nothing to tell costs nothing.
	events, err := w.Events()
	if err == nil && len(events) < attempts {
		err = fmt.Errorf("%d events of %d attempts", len(events), attempts)
	}
	return float64(attempts) / took.Seconds(), err
}

// refused makes attempts to a port where nobody listens.
func refused(n node.Node, to netip.AddrPort) attempter {
	return func(ctx context.Context, count int) error {
		attempts := make([]tcp.Attempt, count)
		for i := range attempts {
			attempts[i] = tcp.Attempt{To: to}
		}
		outcomes, err := n.Attempt(ctx, attempts)
		if err != nil {
			return err
		}
		for _, o := range outcomes {
			if o.Outcome != tcp.Refused {
				return fmt.Errorf("attempt to %v: %v, want Refused", to, o)
			}
		}
		return nil
	}
}
