//go:build linux

package play

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"twlab/harness/diagnose"
	"twlab/harness/observe"
	"twlab/harness/reason"
	"twlab/harness/recorded"
	"twlab/harness/recording"
	"twlab/harness/script"
)

// watchReasons has the kernel tell of drops and resets, where it does.
func (p *player) watchReasons() error {
	w, unseen, err := reason.Attach(p.lab)
	switch {
	case errors.Is(err, reason.ErrUnknown):
		p.missing(recording.OfEvents, err.Error())
	case err != nil:
		return err
	case len(unseen) > 0:
		p.missing(recording.OfEvents, fmt.Sprintf("the kernels of %s are not watched", strings.Join(unseen, ", ")))
	}
	p.reasons = w
	return nil
}

func (p *player) missing(kind recording.Evidence, why string) {
	if p.recording.Missing == nil {
		p.recording.Missing = map[recording.Evidence]string{}
	}
	p.recording.Missing[kind] = why
}

// gather puts what taps and kernels have told so far into the recording.
func (p *player) gather() error {
	all, err := p.lab.Packets()
	if err != nil {
		p.missing(recording.OfPackets, err.Error())
	}
	p.recording.Packets = recorded.Packets(all)
	if p.reasons == nil {
		return nil
	}
	told, err := p.reasons.Events()
	if err != nil {
		return err
	}
	if lost, err := p.reasons.Lost(); err != nil || lost > 0 {
		p.missing(recording.OfEvents, fmt.Sprintf("%d events were lost", lost))
		if err != nil {
			return err
		}
	}
	p.recording.Events = recorded.Events(told)
	return nil
}

// look notes the state of all nodes after a step that may change it, which is where the next
// one begins.
func (p *player) look(ctx context.Context, step script.Step, i int) (err error) {
	if _, listens := step.Do.(script.Listen); listens || step.Background {
		return nil
	}
	began := time.Now()
	p.recording.Steps[i].After, err = p.states(ctx)
	p.looked = time.Since(began)
	return err
}

// judgeCause adds to the findings of a step what its expectations say of causes.
func (p *player) judgeCause(ctx context.Context, step script.Step, i int) error {
	asked := slices.ContainsFunc(step.Expect, func(e script.Expectation) bool { return e.Cause != "" })
	if !asked {
		return nil
	}
	of := i
	if a, ok := step.Do.(script.Await); ok {
		of = p.running[a.Step].index
	}
	within, stop := context.WithTimeout(ctx, settles)
	defer stop()
	var f found
	err := observe.Await(within, "what programs say of a connection", func() (met bool, err error) {
		if f, err = p.ofCauses(step, of); err != nil {
			return false, err
		}
		// A program writes its line when it has done with a connection, after the client has.
		met = !slices.ContainsFunc(f, func(one recording.Finding) bool { return !one.Met })
		return met || len(p.scenario.Programs) == 0, nil
	})
	if err != nil && (within.Err() == nil || ctx.Err() != nil) {
		return err
	}
	p.recording.Steps[i].Findings = append(p.recording.Steps[i].Findings, f...)
	return nil
}

// ofCauses compares what a step expects of causes with those of the attempts of a step.
func (p *player) ofCauses(step script.Step, of int) (f found, err error) {
	if err := p.gather(); err != nil {
		return nil, err
	}
	if err := p.programs(); err != nil {
		return nil, err
	}
	p.recording.Took = time.Since(p.began)
	all := shorts(diagnose.Of(&p.recording, of), p.recording.Steps[of].Result.Load)
	for _, e := range step.Expect {
		applies, _, err := p.applies(e.When)
		if err != nil {
			return nil, err
		}
		if applies && e.Cause != "" {
			f = append(f, ofCause(e, all))
		}
	}
	return f, nil
}

// short is the cause of attempts in a few words.
type short struct {
	cause, words string
	proved       bool
}

// shorts are the causes of the attempts of a step, one after the other, or of a load.
func shorts(all []diagnose.Diagnosis, l *recording.Load) (some []short) {
	for _, d := range all {
		some = append(some, short{d.Cause(), d.Short(), d.Status == diagnose.Proved})
	}
	if l == nil {
		return some
	}
	if l.AtOnce > 0 {
		some = append(some, short{"none", "none", false})
	}
	for _, c := range l.Causes {
		some = append(some, short{c.Cause, c.Short(), c.Status == string(diagnose.Proved)})
	}
	return some
}

// ofCause compares a cause with those of all attempts of a step.
func ofCause(e script.Expectation, all []short) recording.Finding {
	f := recording.Finding{What: "cause", Wanted: strings.TrimSpace(e.Cause + " " + e.Proof), Met: true}
	seen := map[string]bool{}
	for _, s := range all {
		if s.cause == "none" && e.Cause != "none" {
			continue // of several attempts, one that is fine has no cause
		}
		seen[s.words] = true
		f.Met = f.Met && s.cause == e.Cause && (e.Proof == "" || s.proved)
	}
	f.Seen = cmp.Or(strings.Join(slices.Sorted(maps.Keys(seen)), ", "), "none")
	f.Met = f.Met && len(seen) > 0
	return f
}
