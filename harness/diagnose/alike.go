package diagnose

import (
	"slices"
	"time"

	"twlab/harness/recording"
)

// place is how a SYN ended: where, why in the kernel's own word, and what came for it.
type place struct {
	node   string
	end    End
	reason string // empty where the kernel has told none
	answer string // the flags of a packet; empty for none
}

// part are SYNs of one attempt that ended alike.
type part struct {
	place place
	syns  int
	// lives are those SYNs, and what followed each of them until the next.
	lives, unanswered []Life
	events            []recording.Event
}

// alone is an attempt with some of its packets, and without those of all other attempts.
func alone(c *Case, lives []Life) *Case {
	a := *c
	a.lives = lives
	a.r = &recording.Recording{Version: c.r.Version, Nodes: c.r.Nodes, Missing: c.r.Missing, Began: c.r.Began, Took: c.r.Took}
	return &a
}

// diagnose holds a part of an attempt against the catalogue, with the counters of all SYNs that
// ended so.
func (p part) diagnose(of *Case, syns int, before, after map[string]recording.State) Diagnosis {
	c := alone(of, p.lives)
	c.syns, c.events = p.unanswered, p.events
	c.before, c.after, c.during = before, after, []map[string]recording.State{before, after}
	c.total = syns
	d := Diagnosis{Attempt: c.attempt, Symptom: c.symptom}
	d.take(c)
	d.judge(c)
	return d
}

// partsOfAttempt takes an attempt apart by the ends of its SYNs. What followed a SYN that was
// answered belongs to all of them. There is always one part.
func partsOfAttempt(c *Case) (parts []part) {
	var starts []int
	for i, l := range c.lives {
		if isSYN(l) {
			starts = append(starts, i)
		}
	}
	var common []Life
	for k, i := range starts {
		next := len(c.lives)
		var until time.Time
		if k+1 < len(starts) {
			next = starts[k+1]
			until = c.lives[next].First().Time
		}
		followed := c.lives[i:next]
		if answered(followed) {
			common = append(common, followed...)
			continue
		}
		told := c.eventsBetween(followed[0].First().Time, until)
		at := c.placeOf(followed, told)
		n := slices.IndexFunc(parts, func(p part) bool { return p.place == at })
		if n < 0 {
			n = len(parts)
			parts = append(parts, part{place: at})
		}
		p := &parts[n]
		p.syns++
		p.lives, p.unanswered, p.events = append(p.lives, followed...), append(p.unanswered, followed[0]), append(p.events, told...)
	}
	if unseen := c.attempt.SYNs - len(starts); unseen > 0 && len(starts) > 0 {
		parts = append(parts, part{place: place{node: c.attempt.Node}, syns: unseen})
	}
	if len(parts) == 0 { // no SYN was seen, or each was answered
		return []part{c.wholePart()}
	}
	for i := range parts {
		parts[i].lives = append(parts[i].lives, common...)
		slices.SortStableFunc(parts[i].lives, func(a, b Life) int { return a.First().Time.Compare(b.First().Time) })
	}
	return parts
}

// wholePart is an attempt without a SYN that was seen and not answered.
func (c *Case) wholePart() part {
	p := part{place: place{node: c.attempt.Node}, lives: c.lives, events: c.events}
	if !slices.ContainsFunc(c.lives, isSYN) {
		p.syns = max(c.attempt.SYNs, 1)
		return p
	}
	for _, l := range c.lives {
		if l.First().Flags == "S." {
			p.place = place{node: l.Node, end: l.End, answer: "S."}
		}
	}
	return p
}

// placeOf is how the first of these packets ended, a SYN, by what followed it until the next.
func (c *Case) placeOf(followed []Life, told []recording.Event) place {
	at := place{node: followed[0].Node, end: followed[0].End}
	for _, l := range followed[1:] {
		if l.First().Point != c.attempt.Node {
			at.answer = l.First().Flags
			break
		}
	}
	for _, e := range told {
		if e.Kind == "drop" && e.Node == at.node && e.Flags == "S" {
			at.reason = e.Reason
		}
	}
	return at
}

// eventsBetween are the events of the attempt between two times; the zero time is no limit.
func (c *Case) eventsBetween(from, until time.Time) (some []recording.Event) {
	for _, e := range c.events {
		if !e.Time.Before(from) && (until.IsZero() || e.Time.Before(until)) {
			some = append(some, e)
		}
	}
	return some
}
