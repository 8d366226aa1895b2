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

	"twlab/harness/diagnose"
	"twlab/harness/ipvs"
	"twlab/harness/kernel"
	"twlab/harness/lab"
	"twlab/harness/node"
	"twlab/harness/observe"
	"twlab/harness/reason"
	"twlab/harness/recording"
	"twlab/harness/script"
	"twlab/harness/tcp"
	"twlab/harness/topo"
)

// Probe finds out what a node's kernel can do.
type Probe func(context.Context, node.Node) (kernel.Facts, error)

// ByRelease is a Probe that knows what mainline of the kernel's release can do.
func ByRelease(ctx context.Context, n node.Node) (kernel.Facts, error) {
	release, err := n.Release(ctx)
	return kernel.FactsOf(release), err
}

// Result is the result of a step.
type Result = recording.Result

// Runner runs scenarios.
type Runner struct {
	// Probe says what a node's kernel can do, where a condition asks for a feature; nil is
	// [ByRelease].
	Probe Probe
	// Kinds are the nodes that are not namespaces of the running kernel, by name.
	Kinds map[string]topo.NodeKind
	// Progress, if it is not nil, is told when a step begins.
	Progress func(Progress)
	// Keep, if it is not nil, is called when everything is recorded and the lab still stands.
	// The lab is closed when it returns.
	Keep func(context.Context, recording.Recording, *lab.Lab) error
}

// Progress is how far a run has come: to the step of that number, from 1 on, of so many.
type Progress struct {
	Step, Steps int
	What        string
}

// Run runs a scenario on the running kernel.
func Run(ctx context.Context, s script.Scenario, probe Probe) (recording.Recording, error) {
	return Runner{Probe: probe}.Run(ctx, s)
}

// Run builds the network of a scenario, takes its steps, and returns what was seen. A step
// that fails ends the run: the recording says which and why. The error is for what is not a
// step: a scenario that does not pass its check, a lab that cannot be built, the end of ctx.
// With it the recording has what was seen until then, and says why there is no more.
func (r Runner) Run(ctx context.Context, s script.Scenario) (recording.Recording, error) {
	seen := recording.Recording{Version: recording.FormatVersion, Scenario: s.Name, Planned: len(s.Steps)}
	unbuilt := func(err error) (recording.Recording, error) {
		if seen.Unbuilt = err.Error(); ctx.Err() != nil {
			seen.Unbuilt, seen.Interrupted = "", context.Cause(ctx).Error()
		}
		return seen, fmt.Errorf("scenario %q: %w", s.Name, err)
	}
	if wrong := s.Check(); len(wrong) > 0 {
		return unbuilt(errors.New(wrong[0].String()))
	}
	asked := s.Network
	s.Network = ofKinds(s.Network, r.Kinds)
	plan, err := s.Network.Plan()
	if err != nil {
		return unbuilt(err)
	}
	l, err := lab.BuildNetwork(ctx, network(s, plan))
	if err != nil && cannot(err) {
		seen.Steps = []recording.Step{{Number: 1, ID: s.Steps[0].ID, Verb: s.Steps[0].Do.Verb(), What: What(s.Steps[0].Do)}}
		fail(&seen.Steps[0], err)
		return seen, nil
	}
	if err != nil {
		return unbuilt(err)
	}
	p := newPlayer(r, s, plan, l, seen)
	for _, n := range asked.Nodes {
		p.tracks[n.Name] = n.Tracking == topo.Always
	}
	err = p.play(ctx)
	if r.Keep != nil && err == nil {
		err = r.Keep(ctx, p.recording, l)
	}
	p.stop()
	closed := l.Close()
	if whole := errors.Join(p.ended, closed); whole != nil {
		p.recording.Failed = whole.Error()
	}
	return p.recording, errors.Join(err, closed)
}

// ofKinds gives nodes their kinds. One that can track every packet by itself needs no rule
// for that, and a guest can have none.
func ofKinds(n topo.Network, kinds map[string]topo.NodeKind) topo.Network {
	n.Nodes = slices.Clone(n.Nodes)
	for i := range n.Nodes {
		kind, own := kinds[n.Nodes[i].Name]
		if !own {
			continue
		}
		if t, can := kind.(topo.Tracker); can && n.Nodes[i].Tracking == topo.Always {
			kind, n.Nodes[i].Tracking = t.Tracking(), topo.AsRulesWant
		}
		n.Nodes[i].Kind = kind
	}
	return n
}

// player runs one scenario.
type player struct {
	Runner
	scenario  script.Scenario
	plan      topo.Plan
	lab       *lab.Lab
	began     time.Time // the first step
	recording recording.Recording
	known     recording.Recording     // the nodes and what is missing, as the first step began
	ended     error                   // why the end of the recording is missing
	facts     map[string]kernel.Facts // of each node's kernel
	tracks    map[string]bool         // the nodes that track connections whatever their rules
	reasons   *reason.Watch           // nil where nobody may know
	looked    time.Duration           // how long the look after the step before took

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

func newPlayer(r Runner, s script.Scenario, plan topo.Plan, l *lab.Lab, begun recording.Recording) *player {
	if r.Probe == nil {
		r.Probe = ByRelease
	}
	return &player{
		Runner: r, scenario: s, plan: plan, lab: l, recording: begun,
		facts: map[string]kernel.Facts{}, tracks: map[string]bool{},
		conns: map[string][]*connection{}, rules: map[string]topo.Rule{}, drops: map[string]*lab.Drops{},
		since: map[string]moment{}, running: map[string]*running{},
		halt: func() {},
	}
}

// play takes the steps.
func (p *player) play(ctx context.Context) error {
	within, halt := context.WithCancel(ctx)
	p.halt = halt
	if err := p.begin(within); err != nil {
		if p.recording.Unbuilt = err.Error(); ctx.Err() != nil {
			p.recording.Unbuilt, p.recording.Interrupted = "", context.Cause(ctx).Error()
		}
		return err
	}
	if here, err := p.isHere(); err != nil || !here {
		return err
	}
	for i, step := range p.scenario.Steps {
		if ctx.Err() != nil {
			p.recording.Interrupted = context.Cause(ctx).Error()
			break
		}
		what := What(step.Do)
		p.recording.Steps = append(p.recording.Steps, recording.Step{Number: i + 1, ID: step.ID, Verb: step.Do.Verb(), What: what, Background: step.Background})
		if p.Progress != nil {
			p.Progress(Progress{Step: i + 1, Steps: len(p.scenario.Steps), What: what})
		}
		p.step(within, step, i)
		if r := &p.recording.Steps[i]; r.Problem != "" {
			if ctx.Err() != nil { // that is why it failed
				p.recording.Interrupted = context.Cause(ctx).Error()
				r.Problem, r.Cannot, r.Interrupted = "", false, true
			}
			break
		}
	}
	p.recording.Took = time.Since(p.began)
	p.ended = p.end(ctx)
	if p.recording.Interrupted != "" {
		return errors.Join(context.Cause(ctx), p.ended)
	}
	return p.ended
}

// isHere reports whether the scenario can be run on these kernels. If not, its first step says why.
func (p *player) isHere() (bool, error) {
	here, why, err := p.applies(p.scenario.When)
	if err != nil || here {
		return here, err
	}
	first := p.scenario.Steps[0]
	p.recording.Steps = []recording.Step{{Number: 1, ID: first.ID, Verb: first.Do.Verb(), What: What(first.Do), Problem: why, Cannot: true}}
	return false, nil
}

// stop ends the steps that are still under way.
func (p *player) stop() {
	p.halt()
	p.under.Wait()
}

// lastLook is how long the last look at the network may take when the run was interrupted.
const lastLook = 5 * time.Second

// end ends the recording, also when ctx has ended.
func (p *player) end(ctx context.Context) error {
	if ctx.Err() != nil {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeout(context.WithoutCancel(ctx), lastLook)
		defer stop()
	}
	if err := p.gather(); err != nil {
		return err
	}
	var err error
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

// step takes one step: after its pause, and if it applies.
func (p *player) step(ctx context.Context, step script.Step, i int) {
	r := &p.recording.Steps[i]
	if applies, why, err := p.applies(step.When); err != nil || !applies {
		r.Skipped = why
		fail(r, err)
		return
	}
	if err := observe.Pass(ctx, max(0, step.After-p.looked), "the pause before the step"); err != nil {
		fail(r, err)
		return
	}
	r.Began, p.looked = time.Since(p.began), 0
	now, err := p.moment(ctx)
	if err != nil {
		fail(r, err)
		return
	}
	p.mu.Lock()
	p.since[step.ID] = now
	p.mu.Unlock()
	if step.Background {
		p.launch(ctx, step, i)
	} else {
		if r.Result, err = p.act(ctx, step.ID, step.Do); err == nil {
			err = p.opened(step, r.Result)
		}
		r.Ended = time.Since(p.began)
	}
	if err == nil {
		err = p.lookAndJudge(ctx, step, i, now)
	}
	fail(r, err)
}

// lookAndJudge notes the state after a step, and compares what is expected of it with what was
// seen. What has died is explained by the state right after it. Otherwise the state is that after
// the waiting for what is expected of the network, because the next step begins there.
func (p *player) lookAndJudge(ctx context.Context, step script.Step, i int, from moment) (err error) {
	r := &p.recording.Steps[i]
	died := diagnose.Died(r.Result)
	if died {
		if err := p.look(ctx, step, i); err != nil {
			return err
		}
	}
	if a, ok := step.Do.(script.Await); ok {
		from = p.since[a.Step]
	}
	if r.Findings, err = p.judge(ctx, step.Expect, r.Result, from); err != nil {
		return err
	}
	if !died {
		if err := p.look(ctx, step, i); err != nil {
			return err
		}
	}
	return errors.Join(p.judgeClocks(step, i), p.judgeCause(ctx, step, i))
}

// fail notes why a step could not be taken.
func fail(s *recording.Step, err error) {
	if err == nil {
		return
	}
	s.Problem, s.Cannot = err.Error(), cannot(err)
}

// cannot reports whether an error says that this machine or kernel lacks something.
func cannot(err error) bool {
	for _, lacks := range []error{
		kernel.ErrSysctlUnknown, kernel.ErrSysctlGone, kernel.ErrSysctlNotYet, kernel.ErrSysctlGlobal, kernel.ErrSysctlReadOnly, lab.ErrGuest, ipvs.ErrMissing, ipvs.ErrScheduler, lab.ErrNoNetem,
		tcp.ErrNoMultipath,
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
	r.Result, r.Ended = run.result, time.Since(p.began)
	fail(r, run.err)
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
