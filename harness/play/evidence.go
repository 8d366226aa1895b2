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
	"twlab/harness/reason"
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
	p.recording.Packets = packets(all)
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
	p.recording.Events = make([]recording.Event, 0, len(told))
	for _, e := range told {
		p.recording.Events = append(p.recording.Events, recording.Event{
			Time: e.At.UTC().Round(0), Kind: string(e.Kind), Node: e.Node, Reason: e.Reason, Place: e.Place, Unasked: e.Unasked,
			Src: e.Src, Dst: e.Dst, Flags: e.Flags.String(), Seq: e.Seq, Ack: e.Ack, Payload: e.Payload,
		})
	}
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
func (p *player) judgeCause(step script.Step, i int) error {
	asked := slices.ContainsFunc(step.Expect, func(e script.Expectation) bool { return e.Cause != "" })
	if !asked {
		return nil
	}
	if err := p.gather(); err != nil {
		return err
	}
	if err := p.programs(); err != nil {
		return err
	}
	p.recording.Took = time.Since(p.began)
	of := i
	if a, ok := step.Do.(script.Await); ok {
		of = p.running[a.Step].index
	}
	all := diagnose.Of(&p.recording, of)
	for _, e := range step.Expect {
		applies, _, err := p.applies(e.When)
		if err != nil {
			return err
		}
		if applies && e.Cause != "" {
			p.recording.Steps[i].Findings = append(p.recording.Steps[i].Findings, ofCause(e, all))
		}
	}
	return nil
}

// ofCause compares a cause with those of all attempts of a step.
func ofCause(e script.Expectation, all []diagnose.Diagnosis) recording.Finding {
	f := recording.Finding{What: "cause", Wanted: strings.TrimSpace(e.Cause + " " + e.Proof), Met: true}
	seen := map[string]bool{}
	for _, d := range all {
		if d.Symptom == diagnose.Fine && e.Cause != "none" {
			continue // of several attempts, one that is fine has no cause
		}
		seen[d.Short()] = true
		f.Met = f.Met && d.Cause() == e.Cause && (e.Proof == "" || d.Status == diagnose.Proved)
	}
	f.Seen = cmp.Or(strings.Join(slices.Sorted(maps.Keys(seen)), ", "), "none")
	f.Met = f.Met && len(seen) > 0
	return f
}
