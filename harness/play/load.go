//go:build linux

package play

import (
	"context"
	"slices"

	"twlab/harness/explain"
	"twlab/harness/load"
	"twlab/harness/recording"
	"twlab/harness/script"
	"twlab/harness/tcp"
)

// load makes the attempts of a load.
func (p *player) load(ctx context.Context, a script.Load) (Result, error) {
	clients := p.clients(a.From)
	one, err := p.attempt(ctx, clients[0], a.From, a.To, a.Then, script.Options{Ports: a.Ports})
	if err != nil {
		return Result{}, err
	}
	plan := load.Plan{
		Clients: clients, Attempt: one, Each: a.Each, Rate: float64(a.Rate), Duration: a.For, InFlight: a.InFlight, Seed: 1,
	}
	why := explain.Begin(p.lab, p.reasons, p.known, &plan)
	before, err := p.states(ctx)
	if err != nil {
		return Result{}, err
	}
	got, err := load.Run(ctx, plan)
	if err != nil {
		return Result{}, err
	}
	after, err := p.states(ctx)
	if err != nil {
		return Result{}, err
	}
	l := recording.Load{Outcomes: map[string]int{}, Late: got.Late, SYNs: got.SYNs, Offered: got.Offered, Achieved: got.Achieved}
	for outcome, n := range got.Outcomes {
		l.Outcomes[string(outcome)] = n
	}
	if l.Causes, l.AtOnce, err = why.Causes(before, after); err != nil {
		return Result{}, err
	}
	return Result{Load: &l}, nil
}

// inTurn makes the attempts of a client one after the other.
func inTurn(attempts []tcp.Attempt, try func([]tcp.Attempt) ([]tcp.Result, error)) (all []tcp.Result, err error) {
	for one := range slices.Chunk(attempts, 1) {
		got, err := try(one)
		if err != nil {
			return nil, err
		}
		all = append(all, got...)
	}
	return all, nil
}

// counts are the numbers of attempts of a step, by outcome.
func counts(r Result) map[string]int {
	if r.Load != nil {
		return r.Load.Outcomes
	}
	count := map[string]int{}
	for _, a := range r.Attempts {
		count[a.Outcome]++
	}
	return count
}

// dispositions are the numbers of last requests of a step, by what became of them.
func dispositions(r Result) map[string]int {
	count := map[string]int{}
	for _, a := range r.Attempts {
		if n := len(a.Replies); n > 0 {
			count[a.Replies[n-1].Disposition]++
		}
	}
	return count
}

// ofLoad compares what became of a load.
func (p *player) ofLoad(f *found, e script.Expectation, l recording.Load) {
	if e.SYNs != nil {
		p.within(f, "syns", *e.SYNs, int64(l.SYNs))
	}
	if e.Late != nil {
		p.within(f, "late", *e.Late, int64(l.Late))
	}
}
