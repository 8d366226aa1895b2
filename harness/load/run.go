//go:build linux

package load

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"twlab/harness/kernel"
	"twlab/harness/node"
	"twlab/harness/observe"
	"twlab/harness/tcp"
	"twlab/harness/topo"
)

// Result is the result of a load.
type Result struct {
	Clients  int    `json:"clients"`
	Attempts int    `json:"attempts"`
	Seed     uint64 `json:"seed"`
	// Offered is the rate of the schedule, 0 without one; Achieved is the rate at which
	// attempts really started. Both are per second.
	Offered  float64 `json:"offered"`
	Achieved float64 `json:"achieved"`
	// Behind is the delay of the attempts after their scheduled time.
	Behind Distribution `json:"behind"`
	// Took is the time from the first attempt to the end of the last one.
	Took time.Duration `json:"took"`

	// Outcomes counts all attempts by outcome.
	Outcomes map[tcp.Outcome]int `json:"outcomes"`
	// Late is the number of connected attempts that sent more than one SYN.
	Late int `json:"late"`
	// SYNs is the number of SYNs that all attempts sent. It is how much Tcp.ActiveOpens and
	// TcpExt.TCPSynRetrans of the clients moved; no other connections may use these clients
	// meanwhile. A kernel without the latter (before Linux 3.15) counts what TCP_INFO said
	// of each attempt.
	SYNs int `json:"syns"`
	// Latency is the time from connect(2) to the outcome of the connected attempts; TookBy
	// is that of all attempts, by outcome.
	Latency Distribution                 `json:"latency"`
	TookBy  map[tcp.Outcome]Distribution `json:"tookBy"`
	// Lasted is the time from the outcome of connected attempts to their end, without
	// connections that are kept.
	Lasted Distribution `json:"lasted"`

	// Moved says how much the counters of each role moved, summed over its nodes.
	Moved map[topo.Role]kernel.Counters `json:"-"`
	// TimeWaitBefore is the number of TIME_WAITs of each role before the first attempt.
	TimeWaitBefore map[topo.Role]int `json:"-"`
	// Series has a row for each interval, from the first attempt to the end of
	// the last one.
	Series []Row `json:"-"`

	ends []ended
}

// ConnectedBetween counts the attempts that connected in this time; both limits are since
// the start of the load.
func (r Result) ConnectedBetween(from, until time.Duration) (n int) {
	for _, e := range r.ends {
		if e.result.Outcome == tcp.Connected && from <= e.decided && e.decided < until {
			n++
		}
	}
	return n
}

// MostConnectedWithin returns the largest number of attempts that connected within any
// period of this length.
func (r Result) MostConnectedWithin(stretch time.Duration) (most int) {
	var moments []time.Duration
	for _, e := range r.ends {
		if e.result.Outcome == tcp.Connected {
			moments = append(moments, e.decided)
		}
	}
	slices.Sort(moments)
	first := 0
	for i, m := range moments {
		for m-moments[first] >= stretch {
			first++
		}
		most = max(most, i-first+1)
	}
	return most
}

// Failed returns the number of attempts that did not connect.
func (r Result) Failed() int { return r.Attempts - r.Outcomes[tcp.Connected] }

// Run makes the attempts of the plan, and returns when each has its outcome and its ending.
// An error means that something else than the network failed, or that ctx ended; it ends
// the load at once.
func Run(ctx context.Context, p Plan) (Result, error) {
	if err := p.Validate(); err != nil {
		return Result{}, err
	}
	r := &run{Plan: p, nodes: slices.Concat(p.Clients, p.Watched)}
	result, err := r.run(ctx)
	if err != nil {
		return Result{}, fmt.Errorf("load: %w", err)
	}
	return result, nil
}

// run is a load under way.
type run struct {
	Plan
	nodes []node.Node
	began time.Time

	mu     sync.Mutex
	begun  int // attempts that were handed to their clients
	ends   []ended
	behind []time.Duration
}

// ended is one attempt that is over.
type ended struct {
	began, decided time.Duration // since the load began
	result         tcp.Result
}

func (r *run) run(ctx context.Context) (Result, error) {
	before, err := node.CountersOf(ctx, r.nodes)
	if err != nil {
		return Result{}, err
	}
	timeWait, err := r.timeWait(ctx)
	if err != nil {
		return Result{}, err
	}
	r.began = time.Now()
	w := &watch{run: r}
	if err := r.watched(ctx, w); err != nil {
		return Result{}, err
	}
	took := time.Since(r.began)
	if err := w.look(ctx, took); err != nil {
		return Result{}, err
	}
	after, err := r.settled(ctx)
	if err != nil {
		return Result{}, err
	}
	result := r.sum(took)
	result.TimeWaitBefore = timeWait
	result.Moved = moved(r.nodes, before, after)
	if n, counted := synsOf(result.Moved[topo.Client]); counted {
		result.SYNs = n
	}
	result.Series = w.series()
	return result, nil
}

// watched makes all attempts while w observes. When either fails, the other is stopped.
func (r *run) watched(ctx context.Context, w *watch) error {
	connecting, giveUp := context.WithCancel(ctx)
	defer giveUp()
	watching, stop := context.WithCancel(ctx)
	defer stop()
	var watcher errgroup.Group
	watcher.Go(func() error {
		err := w.watch(watching)
		if err != nil {
			giveUp()
		}
		return err
	})
	err := r.connect(connecting)
	stop()
	// If the watcher failed, that is why connect did.
	if watchErr := watcher.Wait(); watchErr != nil {
		return watchErr
	}
	return err
}

// timeWait counts the TIME_WAITs of each role.
func (r *run) timeWait(ctx context.Context) (map[topo.Role]int, error) {
	all := map[topo.Role]int{}
	for _, n := range r.nodes {
		full, err := n.Occupancy(ctx)
		if err != nil {
			return nil, err
		}
		all[n.Identity().Role] += full.TimeWait
	}
	return all, nil
}

// synsOf returns the number of SYNs sent, if the kernel counts all of them.
func synsOf(moved kernel.Counters) (n int, counted bool) {
	again, counted := moved["TcpExt.TCPSynRetrans"]
	return int(moved["Tcp.ActiveOpens"] + again), counted
}

// connect starts all attempts, each when it is due.
func (r *run) connect(ctx context.Context) error {
	slots := semaphore.NewWeighted(int64(r.inFlight()))
	running, ctx := errgroup.WithContext(ctx)
	begin := func(client node.Node, due []time.Duration) error {
		if err := slots.Acquire(ctx, int64(len(due))); err != nil {
			return err
		}
		running.Go(func() error {
			defer slots.Release(int64(len(due)))
			return r.attempt(ctx, client, due)
		})
		return nil
	}
	schedule := r.inTurns
	if r.Rate == 0 {
		schedule = r.atOnce
	}
	err := schedule(ctx, begin)
	// An error of an attempt is what stopped the schedule.
	if failed := running.Wait(); failed != nil {
		return failed
	}
	return err
}

// chunk is the maximum number of attempts of one call to a client.
const chunk = 50

// noTime means that an attempt is not scheduled.
const noTime time.Duration = -1

// atOnce starts the attempts as fast as InFlight permits.
func (r *run) atOnce(_ context.Context, begin func(node.Node, []time.Duration) error) error {
	size := max(1, min(chunk, r.inFlight()/4))
	for left := r.Each; left > 0; left -= size {
		now := make([]time.Duration, min(size, left))
		for j := range now {
			now[j] = noTime
		}
		for _, i := range r.order(uint64(left)) {
			if err := begin(r.Clients[i], now); err != nil {
				return err
			}
		}
	}
	return nil
}

// inTurns starts the attempts on the schedule. All that became due since its last look
// start together, with one call for each client.
func (r *run) inTurns(ctx context.Context, begin func(node.Node, []time.Duration) error) error {
	const tick = time.Millisecond
	apart := float64(time.Second) / r.Rate
	timer := time.NewTimer(0)
	defer timer.Stop()
	var turns []int
	for next, total := 0, r.Attempts(); next < total; {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		own := map[int][]time.Duration{}
		var who []int
		for passed := time.Since(r.began); next < total; next++ {
			due := time.Duration(float64(next) * apart)
			if due > passed {
				break
			}
			if len(turns) == 0 {
				turns = r.order(uint64(next))
			}
			i := turns[0]
			turns = turns[1:]
			if len(own[i]) == 0 {
				who = append(who, i)
			}
			own[i] = append(own[i], due)
		}
		for _, i := range who {
			for part := range slices.Chunk(own[i], max(1, min(chunk, r.inFlight()))) {
				if err := begin(r.Clients[i], part); err != nil {
					return err
				}
			}
		}
		due := time.Duration(float64(next) * apart)
		timer.Reset(max(tick, due-time.Since(r.began)))
	}
	return nil
}

// order is the order of the clients in one round.
func (r *run) order(round uint64) []int {
	return rand.New(rand.NewPCG(r.Seed, round)).Perm(len(r.Clients)) //nolint:gosec // the same seed must give the same order
}

// attempt makes a client's attempts and records the results.
func (r *run) attempt(ctx context.Context, client node.Node, due []time.Duration) error {
	attempts := slices.Repeat([]tcp.Attempt{r.Attempt}, len(due))
	r.mu.Lock()
	r.begun += len(due)
	r.mu.Unlock()
	called := time.Since(r.began)
	outcomes, err := client.Attempt(ctx, attempts)
	if err != nil {
		return err
	}
	for _, o := range outcomes {
		if err := o.End.Err(); err != nil {
			return fmt.Errorf("%s: connection from %v: %s: %w", client.Identity().Name, o.Local, r.Attempt.Ending, err)
		}
	}
	if r.Ended != nil {
		r.Ended(r.over(client, called, outcomes))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, o := range outcomes {
		began := called + o.Waited
		r.ends = append(r.ends, ended{began: began, decided: began + o.Took, result: o})
		if due[i] != noTime {
			r.behind = append(r.behind, max(0, began-due[i]))
		}
	}
	return nil
}

// over are the attempts of one call, which began at a time since the load did.
func (r *run) over(client node.Node, called time.Duration, outcomes []tcp.Result) (all []Over) {
	for _, o := range outcomes {
		began := r.began.Add(called + o.Waited)
		all = append(all, Over{Client: client, Began: began, Decided: began.Add(o.Took), Result: o})
	}
	return all
}

// sum adds up the results of all attempts.
func (r *run) sum(whole time.Duration) Result {
	result := Result{
		Clients: len(r.Clients), Attempts: len(r.ends), Seed: r.Seed,
		Offered: r.Rate, Behind: newDistribution(r.behind), Took: whole,
		Outcomes: map[tcp.Outcome]int{}, TookBy: map[tcp.Outcome]Distribution{}, ends: r.ends,
	}
	took := map[tcp.Outcome][]time.Duration{}
	var lasted []time.Duration
	var last time.Duration // beginning of an attempt
	for _, e := range r.ends {
		last = max(last, e.began)
		result.Outcomes[e.result.Outcome]++
		result.SYNs += e.result.SYNs
		took[e.result.Outcome] = append(took[e.result.Outcome], e.result.Took)
		if e.result.Outcome != tcp.Connected {
			continue
		}
		if e.result.Lasted > 0 {
			lasted = append(lasted, e.result.Lasted)
		}
		if e.result.SYNs > 1 {
			result.Late++
		}
	}
	result.Lasted = newDistribution(lasted)
	for v, times := range took {
		result.TookBy[v] = newDistribution(times)
	}
	result.Latency = result.TookBy[tcp.Connected]
	if last > 0 {
		result.Achieved = float64(len(r.ends)) / last.Seconds()
	}
	return result
}

// settled reads the counters when those of the watched nodes have come to rest: the last
// packet of a connection may still be on its way when the client has its outcome. It does
// not wait for counters that never rest, such as those of TIME_WAITs that expire.
func (r *run) settled(ctx context.Context) ([]kernel.Counters, error) {
	const looks = 20
	last, err := node.CountersOf(ctx, r.Watched)
	if err != nil {
		return nil, err
	}
	look := 0
	err = observe.Await(ctx, "the counters to come to rest", func() (bool, error) {
		now, err := node.CountersOf(ctx, r.Watched)
		if err != nil {
			return false, err
		}
		resting := slices.EqualFunc(last, now, func(a, b kernel.Counters) bool { return len(b.Sub(a).Moved()) == 0 })
		last = now
		look++
		return look > 1 && resting || look == looks, nil
	})
	if err != nil {
		return nil, err
	}
	clients, err := node.CountersOf(ctx, r.Clients)
	return append(clients, last...), err
}

// moved adds up by role how counters moved.
func moved(nodes []node.Node, before, after []kernel.Counters) map[topo.Role]kernel.Counters {
	sums := map[topo.Role]kernel.Counters{}
	for i, n := range nodes {
		role := n.Identity().Role
		if sums[role] == nil {
			sums[role] = kernel.Counters{}
		}
		for name, by := range after[i].Sub(before[i]) {
			sums[role][name] += by
		}
	}
	return sums
}
