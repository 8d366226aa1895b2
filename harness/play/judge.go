//go:build linux

package play

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"twlab/harness/kernel"
	"twlab/harness/observe"
	"twlab/harness/recording"
	"twlab/harness/script"
)

// settles is how long an expectation of the network that names no time may take to come
// about: packets that were on their way when the step ended arrive, timers do not expire.
const settles = time.Second

// judge compares what is expected of a step with what was seen.
func (p *player) judge(ctx context.Context, all []script.Expectation, r Result, from moment) (findings []recording.Finding, err error) {
	for _, e := range all {
		applies, _, err := p.applies(e.When)
		if err != nil {
			return findings, err
		}
		if !applies {
			continue
		}
		findings = append(findings, p.ofResult(e, r)...)
		seen, err := p.awaitNetwork(ctx, e, from)
		findings = append(findings, seen...)
		if err != nil {
			return findings, err
		}
	}
	return findings, nil
}

// found is what was compared so far.
type found []recording.Finding

func (f *found) is(what, wanted, seen string) {
	*f = append(*f, recording.Finding{What: what, Wanted: wanted, Seen: seen, Met: wanted == seen})
}

// within notes whether a number is within its bound.
func (p *player) within(f *found, what string, b script.Bound, n int64) {
	*f = append(*f, recording.Finding{
		What: what, Wanted: b.String(), Seen: strconv.FormatInt(n, 10), Met: b.Holds(n, p.syns(b.SYNsOf)),
	})
}

// syns is the number of SYNs that a step has sent.
func (p *player) syns(id string) (n int64) {
	for _, s := range p.recording.Steps {
		if id == "" || s.ID != id {
			continue
		}
		for _, a := range s.Result.Attempts {
			n += int64(a.SYNs)
		}
		if l := s.Result.Load; l != nil {
			n += int64(l.SYNs)
		}
	}
	return n
}

// ofResult compares the result of the step.
func (p *player) ofResult(e script.Expectation, r Result) (f found) {
	p.ofAttempts(&f, e, r)
	if e.Errno != "" {
		f.is("errno", e.Errno, none(r.Errno))
	}
	for _, n := range []struct {
		what string
		b    *script.Bound
		got  int64
	}{
		{"sent", e.Sent, r.Sent}, {"received", e.Received, r.Received},
		{"forgotten", e.Forgotten, int64(r.Forgotten)}, {"dropped", e.Dropped, r.Dropped},
	} {
		if n.b != nil {
			p.within(&f, n.what, *n.b, n.got)
		}
	}
	if h := e.Holder; h != nil {
		var holders observe.Sockets
		for _, one := range r.Holders {
			holders = append(holders, observe.Socket{State: observe.State(one.State), Local: one.Local, Remote: one.Remote})
		}
		n := int64(len(p.matching(holders, *h)))
		p.within(&f, "holder "+socketText(*h), h.Count, n)
	}
	return f
}

// ofAttempts compares attempts; of several, each one.
func (p *player) ofAttempts(f *found, e script.Expectation, r Result) {
	if e.Outcome != "" {
		f.is("outcome", e.Outcome, r.Outcomes())
	}
	count := counts(r)
	for _, name := range slices.Sorted(maps.Keys(e.Outcomes)) {
		p.within(f, "outcome "+name, e.Outcomes[name], int64(count[name]))
	}
	ended := dispositions(r)
	for _, name := range slices.Sorted(maps.Keys(e.Dispositions)) {
		p.within(f, "disposition "+name, e.Dispositions[name], int64(ended[name]))
	}
	if l := r.Load; l != nil {
		p.ofLoad(f, e, *l)
	}
	if len(r.Attempts) != 1 {
		return
	}
	a := r.Attempts[0]
	if e.SYNs != nil {
		p.within(f, "syns", *e.SYNs, int64(a.SYNs))
	}
	if e.Took != nil {
		p.within(f, "took (ms)", *e.Took, a.Took.Milliseconds())
	}
	if e.Local != (script.Endpoint{}) {
		f.is("local", e.Local.String(), p.named(a.Local))
	}
	if e.Timestamps != nil {
		f.is("timestamps", strconv.FormatBool(*e.Timestamps), strconv.FormatBool(a.Timestamps))
	}
	if e.Answers != nil {
		f.is("answers", listed(e.Answers), cmp.Or(a.NoPackets, answers(a.Answers)))
	}
	if e.ClosedFirst != "" {
		f.is("closed-first", e.ClosedFirst, cmp.Or(a.NoPackets, none(a.ClosedFirst)))
	}
	p.ofReplies(f, e, a)
}

// ofReplies compares the last response.
func (p *player) ofReplies(f *found, e script.Expectation, a recording.Attempt) {
	if len(a.Replies) == 0 {
		if e.Disposition != "" || e.Status != nil || e.Connection != "" {
			f.is("response", "one", "no request was made")
		}
		return
	}
	last := a.Replies[len(a.Replies)-1]
	if e.Disposition != "" {
		f.is("disposition", e.Disposition, last.Disposition)
	}
	if e.Connection != "" {
		said := "none"
		if last.Close {
			said = "close"
		}
		f.is("connection", e.Connection, said)
	}
	if e.Status != nil {
		p.within(f, "status", *e.Status, int64(last.Status))
	}
}

func answers(all []string) string {
	var words []string
	for _, a := range all {
		words = append(words, none(a))
	}
	return listed(words)
}

func listed(words []string) string {
	if len(words) == 0 {
		return "no SYN"
	}
	return strings.Join(words, ", ")
}

func none(text string) string {
	if text == "" {
		return "none"
	}
	return text
}

// awaitNetwork compares what is expected of the network. It waits until all of it has come
// about; with Never it waits for the time in which it must not.
func (p *player) awaitNetwork(ctx context.Context, e script.Expectation, from moment) (f found, err error) {
	limit := settles
	if e.Within > 0 {
		limit = e.Within
	}
	if e.Never > 0 {
		limit = e.Never
	}
	within, stop := context.WithTimeout(ctx, limit)
	defer stop()
	err = observe.Await(within, "what is expected of the network", func() (bool, error) {
		var err error
		f, err = p.ofNetwork(ctx, e, from)
		met := !slices.ContainsFunc(f, func(one recording.Finding) bool { return !one.Met })
		return met, err
	})
	over := within.Err() != nil && ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded)
	switch {
	case err != nil && !over:
		return f, err
	case e.Never > 0:
		for i := range f {
			f[i].What, f[i].Met = fmt.Sprintf("%s, never within %v", f[i].What, e.Never), over
		}
	}
	return f, nil
}

// ofNetwork compares counters, rules, flows and sockets as they are now.
func (p *player) ofNetwork(ctx context.Context, e script.Expectation, from moment) (f found, err error) {
	for _, name := range slices.Sorted(maps.Keys(e.Counters)) {
		now, err := p.node(name).Counters(ctx)
		if err != nil {
			return f, err
		}
		rose := now.Sub(from.counters[name])
		for _, counter := range slices.Sorted(maps.Keys(e.Counters[name])) {
			if _, there := now[counter]; !there {
				return f, fmt.Errorf("%s has no counter %q: %w", name, counter, kernel.ErrSysctlUnknown)
			}
			p.within(&f, "counter "+name+" "+counter, e.Counters[name][counter], int64(rose[counter])) //nolint:gosec // it counts packets
		}
	}
	for _, name := range slices.Sorted(maps.Keys(e.Rules)) {
		for _, id := range slices.Sorted(maps.Keys(e.Rules[name])) {
			n, err := p.hits(ctx, name, id)
			if err != nil {
				return f, err
			}
			p.within(&f, "rule "+name+" "+id, e.Rules[name][id], n)
		}
	}
	for _, one := range e.Flows {
		flows, err := p.flows(ctx, one.Node, one.Flow)
		if err != nil {
			return f, err
		}
		p.within(&f, "flows "+one.Node+" "+flowText(one.Flow), one.Count, int64(len(flows)))
	}
	for _, one := range e.Sockets {
		sockets, err := p.node(one.Node).Sockets(ctx)
		if err != nil {
			return f, err
		}
		p.within(&f, "sockets "+one.Node+" "+socketText(one), one.Count, int64(len(p.matching(sockets, one))))
	}
	return f, nil
}

// matching are the sockets that an expectation counts.
func (p *player) matching(all observe.Sockets, want script.SocketCount) (some observe.Sockets) {
	for _, s := range all {
		if (want.State == "" || want.State == string(s.State)) && p.is(want.Local, s.Local) && p.is(want.Remote, s.Remote) && expires(want.Expires, s) {
			some = append(some, s)
		}
	}
	return some
}

// expires reports whether the timer of a socket fires when it should.
func expires(want *script.Bound, s observe.Socket) bool {
	return want == nil || s.Timer != observe.TimerNone && want.Holds(s.Expires.Milliseconds(), 0)
}

func socketText(s script.SocketCount) string {
	timer := ""
	if s.Expires != nil {
		timer = "expires (ms) " + s.Expires.String()
	}
	return joined(s.State, s.Local.String(), ">"+s.Remote.String(), timer)
}

func flowText(f script.Flow) string {
	return joined(f.State, f.From.String(), ">"+f.To.String(), "as "+f.As.String(), "at "+f.At.String())
}

// joined joins the words that say something.
func joined(words ...string) string {
	words = slices.DeleteFunc(words, func(w string) bool { return w == "" || w == ">" || w == "as " || w == "at " })
	return strings.Join(words, " ")
}
