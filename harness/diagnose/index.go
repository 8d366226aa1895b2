package diagnose

import (
	"maps"
	"slices"
	"time"

	"twlab/harness/recording"
)

// index finds the packets of attempts of a load.
type index struct {
	r        *recording.Recording
	attempts []Attempted
	lives    map[ends][]int // by ends at any link, ordered; numbers of all
	all      []Life
	events   map[ends][]recording.Event
	drops    map[uint32][]recording.Event // of SYNs, by their numbers: ports may be translated, or not yet
	turns    map[ends][]int               // the attempts of each five-tuple, one after the other
}

func newIndex(r *recording.Recording, over []Attempted) index {
	x := index{r: r, attempts: over, all: Lives(r), lives: map[ends][]int{}, events: map[ends][]recording.Event{}, drops: map[uint32][]recording.Event{}, turns: map[ends][]int{}}
	for i, l := range x.all {
		for _, e := range endsOf(l) {
			x.lives[e] = append(x.lives[e], i)
		}
	}
	for _, e := range r.Events {
		if e.Kind == "drop" && e.Flags == "S" {
			x.drops[e.Seq] = append(x.drops[e.Seq], e)
			continue
		}
		key := ends{e.Src, e.Dst}.ordered()
		x.events[key] = append(x.events[key], e)
	}
	for i, a := range over {
		key := ends{a.Local, a.Remote}.ordered()
		x.turns[key] = append(x.turns[key], i)
	}
	for _, turns := range x.turns {
		slices.SortStableFunc(turns, func(a, b int) int { return over[a].Began.Compare(over[b].Began) })
	}
	return x
}

// endsOf are the ends that a packet had, ordered, each once.
func endsOf(l Life) (all []ends) {
	for _, p := range l.Seen {
		if e := (ends{p.Src, p.Dst}).ordered(); !slices.Contains(all, e) {
			all = append(all, e)
		}
	}
	return all
}

// ordered are the same ends for both directions.
func (e ends) ordered() ends {
	if e.src.Compare(e.dst) > 0 {
		return e.turned()
	}
	return e
}

// apart is by how much the clock of packets may be ahead of that of system calls, or behind it.
const apart = 50 * time.Millisecond

// window is the time of an attempt, without that of others with the same five-tuple.
func (x index) window(i int) (from, until time.Time) {
	a := x.attempts[i]
	from, until = a.Began.Add(-apart), a.Decided.Add(apart)
	turns := x.turns[ends{a.Local, a.Remote}.ordered()]
	k := slices.Index(turns, i)
	if k > 0 && from.Before(x.attempts[turns[k-1]].Decided) {
		from = x.attempts[turns[k-1]].Decided
	}
	if k+1 < len(turns) && until.After(x.attempts[turns[k+1]].Began) {
		until = x.attempts[turns[k+1]].Began
	}
	return from, until
}

// caseOf is the i-th attempt with its packets, on both sides of each translation.
func (x index) caseOf(i int) *Case {
	a := x.attempts[i]
	own := ends{a.Local, a.Remote}.ordered()
	c := &Case{
		r: x.r, attempt: a.Attempt, errno: a.Errno, symptom: symptom(a.Attempt), ofLoad: true,
		tuples: map[ends]bool{own: true},
	}
	from, until := x.window(i)
	mine := x.within(x.lives[own], from, until)
	for _, k := range mine {
		for _, e := range endsOf(x.all[k]) {
			c.tuples[e] = true
		}
	}
	// Packets behind a translation, which did not come as far as the client.
	for e := range c.tuples {
		for _, k := range x.within(x.lives[e], from, until) {
			foreign := slices.ContainsFunc(endsOf(x.all[k]), func(e ends) bool { return !c.tuples[e] })
			if !foreign && !slices.Contains(mine, k) {
				mine = append(mine, k)
			}
		}
	}
	slices.Sort(mine) // by time
	syns := 0
	for _, k := range mine {
		l := x.all[k]
		if isSYN(l) {
			syns++
		}
		if syns > max(a.SYNs, 1) {
			break // of the next attempt, which is not over
		}
		if syns > 0 { // what came before is of a connection before
			c.lives = append(c.lives, l)
		}
	}
	c.findSYNs()
	c.events = x.eventsOf(c, from, until)
	return c
}

// eventsOf are the events of an attempt between two times.
func (x index) eventsOf(c *Case, from, until time.Time) (some []recording.Event) {
	var all []recording.Event
	for _, e := range slices.SortedFunc(maps.Keys(c.tuples), ends.compare) {
		all = append(all, x.events[e]...)
	}
	if i := slices.IndexFunc(c.lives, isSYN); i >= 0 {
		all = append(all, x.drops[c.lives[i].First().Seq]...)
	}
	for _, e := range all {
		if !e.Time.Before(from) && !e.Time.After(until) {
			some = append(some, e)
		}
	}
	slices.SortStableFunc(some, func(a, b recording.Event) int { return a.Time.Compare(b.Time) })
	return some
}

// within are the packets of these that were sent between two times.
func (x index) within(numbers []int, from, until time.Time) (some []int) {
	for _, k := range numbers {
		if first := x.all[k].First().Time; !first.Before(from) && !first.After(until) {
			some = append(some, k)
		}
	}
	return some
}
