package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"time"

	"twlab/harness/lab"
	"twlab/harness/ns"
	"twlab/harness/observe"
	"twlab/harness/topo"
)

// closeTimeout bounds the wait for the kernel to take a lab down: minutes beyond
// what the largest one takes.
const closeTimeout = 5 * time.Minute

// timing is what one way of making a lab took.
type timing struct{ build, close, gone sample }

// way is one way of making a lab, and what it took so far.
type way struct {
	name string
	make func(ctx context.Context, clients int) (made, error)
	took timing
}

// made is a lab, whoever made it.
type made interface {
	Watch(w *ns.Watch) error
	Close() error
}

// benchLabs compares lab.Build and Lab.Close with the same objects made by a
// bare loop and by ip(8).
func benchLabs(ctx context.Context, t *table, o options) (err error) {
	settings, err := baselineSettings()
	if err != nil {
		return err
	}
	watch, err := ns.NewWatch()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, watch.Close()) }()

	haveIP := true
	for _, program := range []string{"ip", "sysctl"} {
		if _, err := exec.LookPath(program); err != nil {
			t.note("no lab is made by ip(8), because " + program + " is not installed")
			haveIP = false
		}
	}
	ways := func(clients int) []*way {
		build := func(ip topo.IPVersion) func(context.Context, int) (made, error) {
			return func(ctx context.Context, clients int) (made, error) {
				return lab.Build(ctx, lab.Topology{Clients: clients, IP: ip, Gateway: lab.GatewaySpec{Kind: lab.Masquerade}})
			}
		}
		all := []*way{
			{name: "Build", make: build(topo.IPv4)},
			{name: "Build with IPv6", make: build(topo.IPv6)},
			{name: "Build with both versions", make: build(topo.DualStack)},
			{name: "bare loop", make: func(_ context.Context, clients int) (made, error) {
				return buildBare(plan(clients), settings)
			}},
		}
		if haveIP && clients <= o.ipClients {
			all = append(all, &way{name: "ip(8)", make: func(ctx context.Context, clients int) (made, error) {
				return buildByCommands(ctx, plan(clients), settings)
			}})
		}
		return all
	}

	// What is made first loads modules and programs for all that follow.
	for _, w := range ways(1) {
		if err := w.round(ctx, 1, watch); err != nil {
			return err
		}
	}
	for _, clients := range o.clients {
		all := ways(clients)
		for round := range roundsFor(clients, o.rounds) {
			for i := range all {
				w := all[(i+round)%len(all)] // nobody always comes first
				if err := w.round(ctx, clients, watch); err != nil {
					return fmt.Errorf("%d clients: %w", clients, err)
				}
			}
		}
		ours, label := all[0].took, fmt.Sprintf("%d clients", clients)
		if clients == 1 {
			label = "1 client"
		}
		for _, w := range all[1:] {
			what := func(step string) string { return fmt.Sprintf("%s: %s, against %s", label, step, w.name) }
			var within goal
			switch w.name {
			case "bare loop":
				within = goal{atMost: 1.3}
			case "ip(8)":
				within = goal{atMost: 0.2}
			}
			t.compare(what("Build"), ours.build, w.took.build, seconds, within)
			t.compare(what("Close"), ours.close, w.took.close, seconds, goal{})
			t.compare(what("Close until the kernel is done"), ours.gone, w.took.gone, seconds, goal{})
		}
	}
	return nil
}

func roundsFor(clients, rounds int) int {
	switch {
	case clients >= 4000:
		return 1
	case clients >= 1000:
		return min(rounds, 3)
	default:
		return rounds
	}
}

// round makes a lab, takes it down and waits until the kernel is done with it, so
// that the next round starts on a quiet machine.
func (w *way) round(ctx context.Context, clients int, watch *ns.Watch) error {
	began := time.Now()
	m, err := w.make(ctx, clients)
	if err != nil {
		return fmt.Errorf("%s: %w", w.name, err)
	}
	built := time.Since(began)
	if err := m.Watch(watch); err != nil {
		return errors.Join(fmt.Errorf("%s: %w", w.name, err), m.Close())
	}
	began = time.Now()
	if err := m.Close(); err != nil {
		return fmt.Errorf("%s: %w", w.name, err)
	}
	closed := time.Since(began)
	within, cancel := context.WithTimeout(ctx, closeTimeout)
	defer cancel()
	if err := awaitCleanup(within, watch); err != nil {
		return fmt.Errorf("%s: %w", w.name, err)
	}
	w.took.gone.add(time.Since(began))
	w.took.build.add(built)
	w.took.close.add(closed)
	return nil
}

// awaitCleanup waits until the kernel has done all its work on watched namespaces
// that were closed. They lose their numbers when that work begins (cleanup_net:
// unhash_nsid, then the exit functions). One work item does it all, run by run,
// so one more namespace that is closed then loses its number in a later run.
func awaitCleanup(ctx context.Context, watch *ns.Watch) error {
	gone := func() (bool, error) {
		alive, err := watch.Alive()
		return alive == 0, err
	}
	if err := observe.Await(ctx, "the kernel to take the lab down", gone); err != nil {
		return err
	}
	last, err := ns.New()
	if err != nil {
		return err
	}
	if err := errors.Join(watch.Add(last), last.Close()); err != nil {
		return err
	}
	return observe.Await(ctx, "the kernel to be done with the lab", gone)
}
