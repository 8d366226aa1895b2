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

// Expectation is one line of what a rule expects: the texts that are right, or the bounds of
// a number.
type Expectation struct {
	// What is the name of the evidence that the driver noted ("outcome"), or of a counter
	// of a role ("balancer TcpExt.PAWSTimewait").
	What string `json:"what"`
	// OneOf are the texts that are right. If there are none, the evidence must be a
	// number from Least to Most.
	OneOf       []string `json:"oneOf,omitempty"`
	Least, Most int64
}

// Is expects one of the texts.
func Is(what string, texts ...string) Expectation { return Expectation{What: what, OneOf: texts} }

// AtLeast expects a number of at least n.
func AtLeast(what string, n int64) Expectation {
	return Expectation{What: what, Least: n, Most: math.MaxInt64}
}

// AtMost expects a number of at most n.
func AtMost(what string, n int64) Expectation { return Expectation{What: what, Most: n} }

// Between expects a number from least to most.
func Between(what string, least, most int64) Expectation {
	return Expectation{What: what, Least: least, Most: most}
}

// Exactly expects the number n.
func Exactly(what string, n int64) Expectation { return Expectation{What: what, Least: n, Most: n} }

// Rises expects that a counter of the role rises, by any number.
func Rises(role topo.Role, counter string) Expectation { return AtLeast(string(role)+" "+counter, 1) }

// Stays expects that a counter of the role does not change.
func Stays(role topo.Role, counter string) Expectation { return Exactly(string(role)+" "+counter, 0) }

// With joins expectations of a rule, in this order: the first two are its headline. It does
// not change its arguments, which several rules may share.
func With(first []Expectation, more ...Expectation) []Expectation {
	return slices.Concat(first, more)
}

// Wanted is the right side of the expectation as a text: "connected", "at least 1".
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

// contradicts tells whether no value can be right for both.
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
	// Moved says for each role by how much its counters rose during the part of the cell
	// that matters. Counters that did not change are zero; counters that the kernel does
	// not have are absent.
	Moved map[topo.Role]kernel.Counters `json:"moved"`
	// Series is the course of a load, with a line of JSON for each interval; it is empty
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

// YesNo is the text of a yes or no in evidence.
func YesNo(yes bool) string {
	if yes {
		return "yes"
	}
	return "no"
}

// Get is the value of an observation or of a counter.
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
	// Missing says that the driver noted no such evidence. That is wrong whatever is
	// expected, and says nothing about the kernel.
	Missing bool `json:"missing,omitempty"`
}

// Compare puts each expectation beside what was seen.
func Compare(want []Expectation, seen Seen) []Line {
	lines := make([]Line, len(want))
	for i, e := range want {
		got, found := seen.Get(e.What)
		if !found {
			got = "nothing: not noted in this cell"
		}
		lines[i] = Line{What: e.What, Wanted: e.Wanted(), Got: got, Right: found && e.accepts(got), Missing: !found}
	}
	return lines
}

// Agree tells whether all lines are right.
func Agree(lines []Line) bool {
	return !slices.ContainsFunc(lines, func(l Line) bool { return !l.Right })
}
