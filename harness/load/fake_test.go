//go:build linux

package load_test

import (
	"context"
	"errors"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"twlab/harness/kernel"
	"twlab/harness/load"
	"twlab/harness/node"
	"twlab/harness/observe"
	"twlab/harness/tcp"
	"twlab/harness/topo"
)

// scripted is a node that answers as the test says.
type scripted struct {
	node.Node
	attempt   func(ctx context.Context, n int) ([]tcp.Result, error)
	occupancy func() error
}

func (s scripted) Identity() topo.Identity { return topo.Identity{Name: "client0", Role: topo.Client} }

func (s scripted) Counters(context.Context) (kernel.Counters, error) { return kernel.Counters{}, nil }

func (s scripted) Occupancy(context.Context) (observe.Occupancy, error) {
	if s.occupancy == nil {
		return observe.Occupancy{}, nil
	}
	return observe.Occupancy{}, s.occupancy()
}

func (s scripted) Attempt(ctx context.Context, attempts []tcp.Attempt) ([]tcp.Result, error) {
	return s.attempt(ctx, len(attempts))
}

func plan(client node.Node) load.Plan {
	return load.Plan{Clients: []node.Node{client}, Attempt: tcp.Attempt{To: netip.MustParseAddrPort("10.0.0.1:80")}}
}

func TestAttemptsOfOneCallHaveMomentsOfTheirOwn(t *testing.T) {
	p := plan(scripted{attempt: func(_ context.Context, n int) ([]tcp.Result, error) {
		outcomes := make([]tcp.Result, n)
		for i := range outcomes {
			outcomes[i] = tcp.Result{Outcome: tcp.Connected, SYNs: 1, Waited: time.Duration(i) * time.Hour, Took: time.Minute}
		}
		return outcomes, nil
	}})
	p.Each, p.InFlight = 10, 40 // in one call
	r, err := load.Run(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	const around = 30 * time.Minute
	for i := range 10 {
		outcome := time.Duration(i)*time.Hour + time.Minute
		if n := r.ConnectedBetween(outcome-around, outcome+around); n != 1 {
			t.Errorf("%d connected around %v, want 1", n, outcome)
		}
	}
	if n := r.MostConnectedWithin(3 * time.Hour); n != 3 {
		t.Errorf("at most %d connected within 3 h, want 3", n)
	}
}

func TestAFailedLookEndsTheLoadAtOnce(t *testing.T) {
	broken := errors.New("no tables today")
	var looks atomic.Int32
	p := plan(scripted{
		attempt: func(ctx context.Context, _ int) ([]tcp.Result, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		},
		occupancy: func() error {
			if looks.Add(1) > 2 {
				return broken
			}
			return nil
		},
	})
	p.Rate, p.Duration, p.Interval = 1, time.Hour, time.Millisecond
	if _, err := load.Run(t.Context(), p); !errors.Is(err, broken) {
		t.Errorf("got %v, want %v", err, broken)
	}
}
