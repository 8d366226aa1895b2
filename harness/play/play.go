//go:build linux

// Package play runs a scenario in a lab and records what happened.
package play

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"twlab/harness/kernel"
	"twlab/harness/lab"
	"twlab/harness/node"
	"twlab/harness/observe"
	"twlab/harness/script"
	"twlab/harness/topo"
)

// Probe finds out what a node's kernel can do.
type Probe func(context.Context, node.Node) (kernel.Facts, error)

// ByRelease is a Probe that knows what mainline of the kernel's release can do.
func ByRelease(ctx context.Context, n node.Node) (kernel.Facts, error) {
	release, err := n.Release(ctx)
	return kernel.FactsOf(release), err
}

// Run builds the network of a scenario, takes its steps, and returns what was seen. Where a
// condition asks for a feature, probe says whether a kernel has it. A step that fails ends the
// run: the recording says which and why. The error is for what is not a step: a scenario that
// does not pass its check, a lab that cannot be built, the end of ctx.
func Run(ctx context.Context, s script.Scenario, probe Probe) (Recording, error) {
	if wrong := s.Check(); len(wrong) > 0 {
		return Recording{}, fmt.Errorf("scenario %q: %s", s.Name, wrong[0])
	}
	plan, err := s.Network.Plan()
	if err != nil {
		return Recording{}, fmt.Errorf("scenario %q: %w", s.Name, err)
	}
	l, err := lab.BuildNetwork(ctx, network(s, plan))
	if err != nil && cannot(err) {
		return unbuilt(s, err), nil
	}
	if err != nil {
		return Recording{}, fmt.Errorf("scenario %q: %w", s.Name, err)
	}
	p := newPlayer(s, plan, l)
	err = p.play(ctx, probe)
	p.stop()
	return p.recording, errors.Join(err, l.Close())
}

// unbuilt is the recording of a scenario whose network this machine cannot have: no step was
// taken, and the first one says why.
func unbuilt(s script.Scenario, why error) Recording {
	step := Step{Number: 1, ID: s.Steps[0].ID, Verb: s.Steps[0].Do.Verb(), What: What(s.Steps[0].Do)}
	step.fail(why)
	return Recording{Version: FormatVersion, Scenario: s.Name, Steps: []Step{step}}
}

// player runs one scenario.
type player struct {
	scenario  script.Scenario
	plan      topo.Plan
	lab       *lab.Lab
	recording Recording
	facts     map[string]kernel.Facts // of each node's kernel

	mu        sync.Mutex               // of what follows, which steps in the background use as well
	conns     map[string][]*connection // by the ID of the step that made them
	listeners []listener
	rules     map[string]topo.Rule
	drops     map[string]*lab.Drops
	since     map[string]moment // when each step with an ID began
	running   map[string]*running
	under     sync.WaitGroup
	halt      context.CancelFunc // ends the steps in the background
}

// moment is the network at the beginning of a step.
type moment struct {
	counters map[string]kernel.Counters // of the nodes that an expectation names
}

// running is a step in the background.
type running struct {
	index  int // in the recording
	over   chan struct{}
	result Result
	err    error
}

func newPlayer(s script.Scenario, plan topo.Plan, l *lab.Lab) *player {
	return &player{
		scenario: s, plan: plan, lab: l,
		recording: Recording{Version: FormatVersion, Scenario: s.Name},
		facts:     map[string]kernel.Facts{},
		conns:     map[string][]*connection{}, rules: map[string]topo.Rule{}, drops: map[string]*lab.Drops{},
		since: map[string]moment{}, running: map[string]*running{},
		halt: func() {},
	}
}

// play takes the steps.
func (p *player) play(ctx context.Context, probe Probe) error {
	ctx, p.halt = context.WithCancel(ctx)
	if err := p.begin(ctx, probe); err != nil {
		return err
	}
	for i, step := range p.scenario.Steps {
		p.recording.Steps = append(p.recording.Steps, Step{Number: i + 1, ID: step.ID, Verb: step.Do.Verb(), What: What(step.Do)})
		p.step(ctx, step, i)
		if p.recording.Steps[i].Problem != "" {
			break
		}
	}
	p.recording.Took = time.Since(p.recording.Began)
	return p.end(ctx)
}

// stop ends the steps that are still under way.
func (p *player) stop() {
	p.halt()
	p.under.Wait()
}

// begin begins the recording.
func (p *player) begin(ctx context.Context, probe Probe) (err error) {
	var links []string
	for _, n := range p.plan.Nodes {
		for _, e := range n.Ends {
			if e.Outer {
				links = append(links, n.Name+"/"+e.Interface)
			}
		}
	}
	if err := p.lab.Capture(links...); err != nil {
		return err
	}
	p.recording.Kernels = map[string]kernel.Release{}
	for _, n := range p.plan.Nodes {
		if p.facts[n.Name], err = probe(ctx, p.node(n.Name)); err != nil {
			return err
		}
		p.recording.Kernels[n.Name] = p.facts[n.Name].Release
	}
	if p.recording.Before, err = p.states(ctx); err != nil {
		return err
	}
	p.recording.Began = time.Now()
	return nil
}

// end ends the recording.
func (p *player) end(ctx context.Context) (err error) {
	if p.recording.Packets, err = p.lab.Packets(); err != nil {
		p.recording.NoPackets = err.Error()
	}
	if p.recording.After, err = p.states(ctx); err != nil {
		return err
	}
	return p.programs()
}

// node finds a node, which the check has found before.
func (p *player) node(name string) node.Node {
	n, err := p.lab.Node(name)
	if err != nil {
		panic(fmt.Sprintf("a scenario that was checked: %v", err))
	}
	return n
}

// states reads the tables of all nodes.
func (p *player) states(ctx context.Context) (map[string]State, error) {
	all := map[string]State{}
	for _, who := range p.plan.Nodes {
		n := p.node(who.Name)
		var s State
		var err error
		if s.Counters, err = n.Counters(ctx); err != nil {
			return nil, err
		}
		if s.Sockets, err = n.Sockets(ctx); err != nil {
			return nil, err
		}
		if len(p.plan.RulesOf(who)) > 0 || p.hasRules(who.Name) {
			if s.Flows, err = n.Flows(ctx); err != nil {
				return nil, err
			}
			if s.Rules, err = n.Rules(ctx); err != nil {
				return nil, err
			}
		}
		all[who.Name] = s
	}
	return all, nil
}

// hasRules reports whether a step adds rules to a node.
func (p *player) hasRules(name string) bool {
	return slices.ContainsFunc(p.scenario.Steps, func(s script.Step) bool {
		switch a := s.Do.(type) {
		case script.AddRule:
			return a.Node == name
		case script.Drop:
			return a.Node == name
		default:
			return false
		}
	})
}

// step takes one step: after its pause, and if it applies.
func (p *player) step(ctx context.Context, step script.Step, i int) {
	r := &p.recording.Steps[i]
	if applies, why, err := p.applies(step.When); err != nil || !applies {
		r.Skipped = why
		r.fail(err)
		return
	}
	if err := observe.Pass(ctx, step.After, "the pause before the step"); err != nil {
		r.fail(err)
		return
	}
	r.Began = time.Since(p.recording.Began)
	now, err := p.moment(ctx)
	if err != nil {
		r.fail(err)
		return
	}
	p.mu.Lock()
	p.since[step.ID] = now
	p.mu.Unlock()
	if step.Background {
		p.launch(ctx, step, i)
	} else {
		r.Result, err = p.act(ctx, step.ID, step.Do)
		r.Ended = time.Since(p.recording.Began)
	}
	if err == nil {
		from := now
		if a, ok := step.Do.(script.Await); ok {
			from = p.since[a.Step]
		}
		r.Findings, err = p.judge(ctx, step.Expect, r.Result, from)
	}
	r.fail(err)
}

// fail notes why a step could not be taken.
func (s *Step) fail(err error) {
	if err == nil {
		return
	}
	s.Problem, s.Cannot = err.Error(), cannot(err)
}

// cannot reports whether an error says that this machine or kernel lacks something.
func cannot(err error) bool {
	for _, lacks := range []error{
		kernel.ErrSysctlUnknown, kernel.ErrSysctlGone, kernel.ErrSysctlNotYet, kernel.ErrSysctlGlobal, lab.ErrGuest, lab.ErrNoNetem,
	} {
		if errors.Is(err, lacks) {
			return true
		}
	}
	return false
}

// launch takes a step in the background.
func (p *player) launch(ctx context.Context, step script.Step, i int) {
	run := &running{index: i, over: make(chan struct{})}
	p.running[step.ID] = run
	p.under.Go(func() {
		defer close(run.over)
		run.result, run.err = p.act(ctx, step.ID, step.Do)
	})
}

// await waits for a step in the background. Its result is that of the step.
func (p *player) await(ctx context.Context, id string) (Result, error) {
	run, found := p.running[id]
	if !found {
		return Result{}, fmt.Errorf("await %s: that step was left out", id)
	}
	select {
	case <-run.over:
	case <-ctx.Done():
		return Result{}, fmt.Errorf("await %s: %w", id, ctx.Err())
	}
	r := &p.recording.Steps[run.index]
	r.Result, r.Ended = run.result, time.Since(p.recording.Began)
	r.fail(run.err)
	return run.result, run.err
}

// moment notes what expectations about changes start from: the counters of the nodes that
// any of them names.
func (p *player) moment(ctx context.Context) (moment, error) {
	m := moment{counters: map[string]kernel.Counters{}}
	for _, step := range p.scenario.Steps {
		for _, e := range step.Expect {
			for name := range e.Counters {
				if _, read := m.counters[name]; read {
					continue
				}
				var err error
				if m.counters[name], err = p.node(name).Counters(ctx); err != nil {
					return m, err
				}
			}
		}
	}
	return m, nil
}
