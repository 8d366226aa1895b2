package scenarios

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"twlab/harness/recording"
	"twlab/harness/script"
	"twlab/scenarios/claim"
)

// Against puts what the rule predicts beside what was seen: the result of the last step, or what
// happened in the network if the step has none. Of everything else for which recordings have
// evidence, also of the steps that bring the situation about, it has only what is wrong.
func (c Claimed) Against(seen recording.Recording) (lines []claim.Line) {
	if len(c.told.Steps) == 0 || len(seen.Steps) == 0 {
		return nil
	}
	e := c.told.Steps[len(c.told.Steps)-1].Expect[0]
	lines = slices.Concat(ofResult(e, seen.Steps[len(seen.Steps)-1].Result), ofClocks(e, seen))
	others := c.ofNetwork(e, seen)
	if len(lines) == 0 {
		lines, others = others, nil
	}
	if len(seen.Steps) == len(c.told.Steps) {
		for i, step := range c.told.Steps[:len(c.told.Steps)-1] {
			for _, e := range step.Expect {
				others = append(others, ofResult(e, seen.Steps[i].Result)...)
			}
		}
	}
	lines = append(lines, slices.DeleteFunc(others, func(l claim.Line) bool { return l.Right })...)
	slices.SortStableFunc(lines, func(a, b claim.Line) int { return strings.Compare(a.What, b.What) })
	return lines
}

// compared is what was compared so far.
type compared []claim.Line

func (c *compared) is(what, wanted, got string) {
	*c = append(*c, claim.Line{What: what, Wanted: wanted, Got: got, Right: wanted == got})
}

func (c *compared) within(what string, b script.Bound, n int64) {
	*c = append(*c, claim.Line{What: what, Wanted: b.String(), Got: fmt.Sprint(n), Right: b.Holds(n, 0)})
}

// ofResult compares the result of a step.
func ofResult(e script.Expectation, r recording.Result) []claim.Line {
	var c compared
	if e.Outcome != "" {
		c.is("outcome", e.Outcome, r.Outcomes())
	}
	outcomes, dispositions := map[string]int64{}, map[string]int64{}
	if r.Load != nil {
		for name, n := range r.Load.Outcomes {
			outcomes[name] = int64(n)
		}
	}
	for _, a := range r.Attempts {
		if outcomes[a.Outcome]++; len(a.Replies) > 0 {
			dispositions[a.Replies[len(a.Replies)-1].Disposition]++
		}
	}
	for name, b := range e.Outcomes {
		c.within("outcome "+name, b, outcomes[name])
	}
	for name, b := range e.Dispositions {
		c.within("disposition "+name, b, dispositions[name])
	}
	if e.Received != nil {
		c.within("received", *e.Received, r.Received)
	}
	if len(r.Attempts) == 1 {
		c.ofAttempt(e, r.Attempts[0])
	}
	return c
}

// ofAttempt compares the only attempt of a step.
func (c *compared) ofAttempt(e script.Expectation, a recording.Attempt) {
	if e.SYNs != nil {
		c.within("syns", *e.SYNs, int64(a.SYNs))
	}
	if e.Answers != nil {
		c.is("answers", strings.Join(e.Answers, ", "), answersOf(a))
	}
	if e.Timestamps != nil {
		c.is("timestamps", claim.YesNo(*e.Timestamps), claim.YesNo(a.Timestamps))
	}
	if e.Status != nil {
		status := 0
		if n := len(a.Replies); n > 0 {
			status = a.Replies[n-1].Status
		}
		c.within("status", *e.Status, int64(status))
	}
}

// answersOf are the answers to the SYNs of an attempt, in words.
func answersOf(a recording.Attempt) string {
	var words []string
	for _, answer := range a.Answers {
		words = append(words, cmp.Or(answer, "none"))
	}
	return strings.Join(words, ", ")
}

// ofClocks compares the clock of the last connection with that of an earlier one, by their SYNs.
func ofClocks(e script.Expectation, seen recording.Recording) []claim.Line {
	wanted, other := "the same", e.SameClock
	if e.OtherClock != "" {
		wanted, other = "another", e.OtherClock
	}
	if other == "" {
		return nil
	}
	at := slices.IndexFunc(seen.Steps, func(s recording.Step) bool { return s.ID == other })
	first, second := synOf(seen, at), synOf(seen, len(seen.Steps)-1)
	var all compared
	if first.Timestamp == nil || second.Timestamp == nil {
		all.is("clock", wanted, "none")
		return all
	}
	const slack = 1000 // ticks, as where the steps compare them
	got := "another"
	ahead := int64(int32(second.Timestamp.Value - first.Timestamp.Value)) //nolint:gosec // in the arithmetic of timestamps
	if between := second.Time.Sub(first.Time).Milliseconds(); ahead >= -slack && ahead <= between+slack {
		got = "the same"
	}
	all.is("clock", wanted, got)
	return all
}

// synOf is the last SYN of the only attempt of a step; its zero value if there is none.
func synOf(seen recording.Recording, step int) (syn recording.Packet) {
	if step < 0 || len(seen.Steps[step].Result.Attempts) != 1 {
		return syn
	}
	a, ended := seen.Steps[step].Result.Attempts[0], seen.Began.Add(seen.Steps[step].Ended)
	for _, p := range seen.Packets {
		if p.Src == a.Local && p.Dst == a.Remote && p.Is('S') && !p.Time.After(ended) {
			syn = p
		}
	}
	return syn
}
