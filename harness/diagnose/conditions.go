package diagnose

import (
	"fmt"
	"slices"

	"twlab/harness/recording"
)

// is makes a fact that evidence of a kind gives, or unknown without that evidence.
func (c *Case) is(by recording.Evidence, yes bool, format string, args ...any) Fact { //nolint:forbidigo // as Sprintf has them
	f := Fact{Is: truth(yes), By: by, Says: fmt.Sprintf(format, args...)}
	if c.unknown(by) {
		f.Is = Unknown
	}
	return f
}

// outcome is that of connect(2) or bind(2).
func outcome(want ...string) Condition {
	return func(c *Case) Fact {
		return c.is(recording.OfErrno, slices.Contains(want, c.attempt.Outcome), "the client's outcome is %s (%s)", orNone(c.attempt.Outcome), orNone(c.attempt.Errno))
	}
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// number writes how many there are of something: "1 SYN", "3 SYNs".
func number[N int | uint64](n N, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// every is all of some number of SYNs: "the only SYN", "all 3 SYNs".
func every(n int) string {
	if n == 1 {
		return "the only SYN"
	}
	return "all " + number(n, "SYN")
}

// not turns a condition round.
func not(of Condition) Condition {
	return func(c *Case) Fact {
		f := of(c)
		switch f.Is {
		case True:
			f.Is = False
		case False:
			f.Is = True
		case Unknown:
		}
		return f
	}
}

// misled says that an old conntrack entry led the SYNs to the wrong place, so that what ended
// them there is not the cause.
func misled(c *Case) Fact {
	return either(all(staleEntry, ruleUnasked), all(staleBackend, backendUnnamed))(c)
}

// all is true when all conditions are, and false when one is not. Its evidence is that of the
// first.
func all(of ...Condition) Condition {
	return func(c *Case) Fact {
		f := of[0](c)
		for _, condition := range of[1:] {
			next := condition(c)
			f.Says += "; " + next.Says
			switch {
			case f.Is == False || next.Is == False:
				f.Is = False
			case next.Is == Unknown:
				f.Is = Unknown
			}
		}
		return f
	}
}

// either is the first condition that is true; without one, the first that is unknown.
func either(of ...Condition) Condition {
	return func(c *Case) Fact {
		best := of[0](c)
		for _, condition := range of[1:] {
			if next := condition(c); best.Is != True && (next.Is == True || best.Is == False) {
				best = next
			}
		}
		return best
	}
}
