package results

import (
	"slices"
	"strconv"

	"twlab/scenarios/claim"
)

// Class says how a cell went for a user.
type Class byte

// The classes, from the best to the worst.
const (
	Measured Class = 'm' // the cell is about something else than getting in
	AtOnce   Class = 'g'
	Late     Class = 'l' // in the end, but not by the first SYN
	NotIn    Class = 'b' // not at all, or data got lost
)

// String says it in words.
func (c Class) String() string {
	switch c {
	case AtOnce:
		return "gets in at once"
	case Late:
		return "gets in late"
	case NotIn:
		return "does not get in"
	default:
		return "measured"
	}
}

// Symbol is seen without colour.
func (c Class) Symbol() string {
	switch c {
	case AtOnce:
		return "✓"
	case Late:
		return "◐"
	case NotIn:
		return "✕"
	default:
		return "·"
	}
}

// CSS is the class of its colour.
func (c Class) CSS() string {
	switch c {
	case AtOnce:
		return "good"
	case Late:
		return "warn"
	case NotIn:
		return "bad"
	default:
		return "plain"
	}
}

// rank orders classes by how bad they are.
func (c Class) rank() int { return slices.Index([]Class{Measured, AtOnce, Late, NotIn}, c) }

// What is counted in cells of several connections, when it is more than none.
var (
	lostBy = []string{"failed", "no port", "truncated", "broken", "unanswered", "bytes lost", "given up"}
	lateBy = []string{"late", "rejected", "refused"}
)

// ClassOf is the class of what was seen.
func ClassOf(seen claim.Seen) Class {
	if outcome, there := seen.Get("outcome"); there {
		if outcome != "Connected" {
			return NotIn
		}
		if n, there := numberOf(seen, "syns"); there && n > 1 {
			return Late
		}
		return AtOnce
	}
	class := Measured
	for _, c := range []struct {
		of    []string
		class Class
	}{{lostBy, NotIn}, {lateBy, Late}} {
		for _, what := range c.of {
			n, there := numberOf(seen, what)
			switch {
			case there && n > 0 && c.class.rank() > class.rank():
				class = c.class
			case there && class == Measured:
				class = AtOnce
			}
		}
	}
	return class
}

func numberOf(seen claim.Seen, what string) (int64, bool) {
	got, there := seen.Get(what)
	if !there {
		return 0, false
	}
	n, err := strconv.ParseInt(got, 10, 64)
	return n, err == nil
}

// ClassWanted is the class of what a rule expects of a cell of one connection. known is false where
// the rule does not say how it ends.
func ClassWanted(r claim.Rule) (c Class, known bool) {
	late := false
	for _, e := range r.Want {
		if len(e.OneOf) == 0 {
			late = late || e.What == "syns" && e.Least > 1
			continue
		}
		switch e.What {
		case "outcome":
			if c, known = AtOnce, len(e.OneOf) == 1; e.OneOf[0] != "Connected" {
				c = NotIn
			}
		case "answers", "first answer":
			late = late || e.OneOf[0] != "SYN-ACK"
		}
	}
	if late && c == AtOnce {
		c = Late
	}
	return c, known
}
