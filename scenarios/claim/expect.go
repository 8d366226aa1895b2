package claim

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"twlab/harness/kernel"
	"twlab/harness/topo"
)

// Expectation is one line of what a rule wants: a text that is observed, or
// the bounds of its number.
type Expectation struct {
	// What names the evidence: one that the driver noted ("outcome"), or a
	// counter of a role ("balancer TcpExt.PAWSTimewait").
	What string `json:"what"`
	// OneOf are the texts that are right. When there are none, the number must
	// be in Least to Most.
	OneOf       []string `json:"oneOf,omitempty"`
	Least, Most int64
}

// Is wants the evidence to give one of the texts.
func Is(what string, texts ...string) Expectation { return Expectation{What: what, OneOf: texts} }

// AtLeast wants a number of n and more.
func AtLeast(what string, n int64) Expectation {
	return Expectation{What: what, Least: n, Most: math.MaxInt64}
}

// AtMost wants a number of up to n.
func AtMost(what string, n int64) Expectation { return Expectation{What: what, Most: n} }

// Between wants a number from least to most.
func Between(what string, least, most int64) Expectation {
	return Expectation{What: what, Least: least, Most: most}
}

// Exactly wants the number n.
func Exactly(what string, n int64) Expectation { return Expectation{What: what, Least: n, Most: n} }

// Rises wants a counter of the role to go up. Counters count packets: how far up
// is not said.
func Rises(role topo.Role, counter string) Expectation { return AtLeast(string(role)+" "+counter, 1) }

// Stays wants a counter of the role to be exactly as before.
func Stays(role topo.Role, counter string) Expectation { return Exactly(string(role)+" "+counter, 0) }

// With joins what a rule wants, in this order: the first two are its headline. What
// several rules want is left as it is.
func With(first []Expectation, more ...Expectation) []Expectation {
	return slices.Concat(first, more)
}

// Wanted is the expectation's right side for people: "connected", "at least 1".
func (e Expectation) Wanted() string {
	switch {
	case len(e.OneOf) > 0:
		return strings.Join(e.OneOf, " or ")
	case e.Least == e.Most:
		return strconv.FormatInt(e.Least, 10)
	case e.Most == math.MaxInt64:
		return fmt.Sprintf("at least %d", e.Least)
	case e.Least == 0:
		return fmt.Sprintf("at most %d", e.Most)
	default:
		return fmt.Sprintf("%d to %d", e.Least, e.Most)
	}
}

// String is "outcome: connected".
func (e Expectation) String() string { return e.What + ": " + e.Wanted() }

// accepts tells whether what was observed is right.
func (e Expectation) accepts(got string) bool {
	if len(e.OneOf) > 0 {
		return slices.Contains(e.OneOf, got)
	}
	n, err := strconv.ParseInt(got, 10, 64)
	return err == nil && e.Least <= n && n <= e.Most
}

// contradicts tells whether nothing can be right for both.
func (e Expectation) contradicts(other Expectation) bool {
	switch {
	case e.What != other.What:
		return false
	case len(e.OneOf) > 0:
		return !slices.ContainsFunc(e.OneOf, other.accepts)
	case len(other.OneOf) > 0:
		return !slices.ContainsFunc(other.OneOf, e.accepts)
	default:
		return e.Most < other.Least || other.Most < e.Least
	}
}

// Seen is what was seen in a cell.
type Seen struct {
	// Observations are what the driver noted, in order.
	Observations []Observation `json:"observations"`
	// Moved says for each role how its counters moved during the part of the
	// time that the cell is about. Counters that stood still are zero,
	// those that the kernel does not have are absent.
	Moved map[topo.Role]kernel.Counters `json:"moved"`
	// Series is what a load did over time, a line of JSON for each interval; nothing
	// in other cells.
	Series []byte `json:"-"`
}

// Observation is one thing seen: "outcome", "connected".
type Observation struct {
	What string `json:"what"`
	Got  string `json:"got"`
}

// Note adds an observation.
func (s *Seen) Note(what, got string) {
	s.Observations = append(s.Observations, Observation{what, got})
}

// Count adds an observation that is a number.
func (s *Seen) Count(what string, n int64) { s.Note(what, strconv.FormatInt(n, 10)) }

// YesNo is how evidence of a yes or no is noted.
func YesNo(yes bool) string {
	if yes {
		return "yes"
	}
	return "no"
}

// Get is what an observation or a counter gave.
func (s Seen) Get(what string) (got string, found bool) {
	for _, w := range s.Observations {
		if w.What == what {
			return w.Got, true
		}
	}
	role, counter, _ := strings.Cut(what, " ")
	by, found := s.Moved[topo.Role(role)][counter]
	return strconv.FormatUint(by, 10), found
}

// Line is one expectation beside what was seen.
type Line struct {
	What   string `json:"what"`
	Wanted string `json:"wanted"`
	Got    string `json:"got"`
	Right  bool   `json:"right"`
	// Missing says that nobody noted anything of the kind, which is wrong, whatever is
	// wanted, and says nothing about the kernel.
	Missing bool `json:"missing,omitempty"`
}

// Compare puts each expectation beside what was seen.
func Compare(want []Expectation, seen Seen) []Line {
	lines := make([]Line, len(want))
	for i, e := range want {
		got, found := seen.Get(e.What)
		if !found {
			got = "nothing: no such evidence here"
		}
		lines[i] = Line{What: e.What, Wanted: e.Wanted(), Got: got, Right: found && e.accepts(got), Missing: !found}
	}
	return lines
}

// Agree tells whether all lines are right.
func Agree(lines []Line) bool {
	return !slices.ContainsFunc(lines, func(l Line) bool { return !l.Right })
}
