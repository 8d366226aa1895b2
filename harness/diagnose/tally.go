package diagnose

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"twlab/harness/recording"
)

// Tally explains the attempts of a load, as they end. Counters are of all attempts together, so
// it counts the SYNs that ended alike. Of attempts whose SYNs ended alike it holds one against the
// catalogue, with what the counters say of all SYNs that ended so. It keeps the packets of these
// examples, and no others.
type Tally struct {
	fine  int
	sent  map[place]int // SYNs
	kinds []kind
	mixes map[string]*mix // by the numbers of their kinds
}

// Attempted is an attempt of a load that is over, and when that was.
type Attempted struct {
	recording.Attempt
	Began, Decided time.Time
}

// Ended is a connection whose attempt is over, as its packets have it at some link, and when the
// first and the last of them were seen. Behind a translation another attempt may have had the same
// ends before, or may have them since.
type Ended struct {
	Src, Dst    netip.AddrPort
	First, Last time.Time
}

// Share are the attempts of a load that have the same cause.
type Share struct {
	// Cause is the ID of a cause. Several are joined by "and" when SYNs of an attempt had
	// different causes, and by "or" where it is not known which of them it was. It is
	// "unexplained" where a SYN has none.
	Cause    string
	Status   Status
	Attempts int
	// Example is one of them, and Parts are why: one for each end that its SYNs had.
	Example Diagnosis
	Parts   []Diagnosis
}

// kind are SYNs that ended alike, of attempts with the same outcome.
type kind struct {
	symptom Symptom
	outcome string
	place   place
}

// mix are the attempts whose SYNs are of the same kinds. Parts are those of the first of them.
type mix struct {
	attempts int
	example  *Case
	parts    []part
}

// Add takes attempts that are over. The recording has the nodes, and the packets and events since
// the first of them began. What it returns are their connections: their packets are not needed
// any more.
func (t *Tally) Add(r *recording.Recording, over []Attempted) (ended []Ended) {
	if t.sent == nil {
		t.sent, t.mixes = map[place]int{}, map[string]*mix{}
	}
	x := newIndex(r, over)
	for i := range over {
		c := x.caseOf(i)
		for e := range c.tuples {
			first, last := seenWith(c.lives, e)
			ended = append(ended, Ended{e.src, e.dst, first, last})
		}
		if c.symptom == Fine {
			t.fine++
			continue
		}
		t.note(c)
	}
	return ended
}

// seenWith is when the first and the last packets with these ends were seen.
func seenWith(lives []Life, with ends) (first, last time.Time) {
	for _, l := range lives {
		for _, p := range l.Seen {
			if (ends{p.Src, p.Dst}).ordered() != with {
				continue
			}
			if first.IsZero() || p.Time.Before(first) {
				first = p.Time
			}
			if p.Time.After(last) {
				last = p.Time
			}
		}
	}
	return first, last
}

// note counts an attempt that was not fine, and its SYNs.
func (t *Tally) note(c *Case) {
	parts := partsOfAttempt(c)
	var numbers []int
	for _, p := range parts {
		t.sent[p.place] += p.syns
		numbers = append(numbers, t.number(kind{c.symptom, c.attempt.Outcome, p.place}))
	}
	slices.Sort(numbers)
	var key strings.Builder
	for _, i := range numbers {
		key.WriteRune(rune(i)) //nolint:gosec // a small number
	}
	m := t.mixes[key.String()]
	if m == nil {
		m = &mix{example: alone(c, c.lives), parts: parts}
		t.mixes[key.String()] = m
	}
	m.attempts++
}

// number is that of a kind.
func (t *Tally) number(k kind) int {
	i := slices.Index(t.kinds, k)
	if i < 0 {
		i, t.kinds = len(t.kinds), append(t.kinds, k)
	}
	return i
}

// sentTo is how many SYNs ended as at a place. One of whose drop the kernel told nothing counts with
// the others there, if these have one reason: single drops are not told under load, because a
// program that runs is not called once more on its processor (__bpf_trace_run).
func (t *Tally) sentTo(at place) (all int) {
	reasons := map[string]bool{}
	for p, n := range t.sent {
		if p.node != at.node || p.end != at.end || p.answer != at.answer {
			continue
		}
		all += n
		if p.reason != "" {
			reasons[p.reason] = true
		}
	}
	if len(reasons) > 1 {
		return t.sent[at]
	}
	return all
}

// Fine is how many attempts connected with their first SYN.
func (t *Tally) Fine() int { return t.fine }

// Shares are the causes of all other attempts, the largest share first. The sum of their Attempts
// is the number of those attempts. Before and after are the states of all nodes around the load.
func (t *Tally) Shares(before, after map[string]recording.State) (all []Share) {
	for _, key := range slices.Sorted(maps.Keys(t.mixes)) {
		m := t.mixes[key]
		s := Share{Attempts: m.attempts, Example: Diagnosis{Attempt: m.example.attempt, Symptom: m.example.symptom}}
		s.Example.take(m.example)
		for _, p := range m.parts {
			s.Parts = append(s.Parts, p.diagnose(m.example, t.sentTo(p.place), before, after))
		}
		s.name()
		if i := slices.IndexFunc(all, func(o Share) bool { return o.Cause == s.Cause && o.Status == s.Status }); i >= 0 {
			all[i].Attempts += s.Attempts
			continue
		}
		all = append(all, s)
	}
	slices.SortStableFunc(all, func(a, b Share) int { return cmp.Compare(b.Attempts, a.Attempts) })
	return all
}

// name says which cause the parts have together: as sure as the least sure of them.
func (s *Share) name() {
	order := []Status{Proved, Consistent, Undetermined, Unexplained}
	var causes []string
	s.Status = Proved
	for _, d := range s.Parts {
		var ids []string
		for _, f := range d.Findings {
			ids = append(ids, f.Cause.ID)
		}
		causes = append(causes, strings.Join(ids, " or "))
		s.Status = order[max(slices.Index(order, s.Status), slices.Index(order, d.Status))]
	}
	slices.Sort(causes)
	s.Cause = strings.Join(slices.Compact(causes), " and ")
	if s.Status == Unexplained {
		s.Cause = string(Unexplained)
	}
}
