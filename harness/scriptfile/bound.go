package scriptfile

import (
	"strconv"
	"strings"
	"time"

	"twlab/harness/script"
)

const boundKinds = `3, ">= 3", "<= 3", "1..3", still, rises or syns(ID)`

// parseBound parses a bound whose numbers parse reads.
func parseBound(t string, parse func(string) (int64, bool)) (b script.Bound, wrong string) {
	bad := strconv.Quote(t) + ": want " + boundKinds
	number := func(text string) (n int64) {
		n, ok := parse(strings.TrimSpace(text))
		if !ok {
			wrong = bad
		}
		return n
	}
	if found := symsOf.FindStringSubmatch(t); found != nil {
		return script.Bound{SYNsOf: found[1]}, ""
	}
	if found := between.FindStringSubmatch(t); found != nil {
		b = script.Between(number(found[1]), number(found[2]))
		return b, wrong
	}
	switch {
	case t == "still":
		b = script.Exactly(0)
	case t == "rises":
		b = script.AtLeast(1)
	case strings.HasPrefix(t, ">="):
		b = script.AtLeast(number(t[2:]))
	case strings.HasPrefix(t, "<="):
		b = script.AtMost(number(t[2:]))
	default:
		b = script.Exactly(number(t))
	}
	return b, wrong
}

func parseNumber(t string) (int64, bool) {
	n, err := strconv.ParseInt(t, 10, 64)
	return n, err == nil && digits.MatchString(t)
}

func bound(to **script.Bound) value {
	return scalarOf(boundKinds, boundForm, func(t string) string {
		b, wrong := parseBound(t, parseNumber)
		*to = &b
		return wrong
	}, func() string {
		if *to == nil {
			return ""
		}
		return (*to).String()
	})
}

// boundOf takes the bound of a count, which is 1 or more where the key is left out.
func boundOf(to *script.Bound) value {
	return scalarOf(boundKinds, boundForm, func(t string) (wrong string) {
		*to, wrong = parseBound(t, parseNumber)
		return wrong
	}, func() string {
		if *to == script.AtLeast(1) {
			return ""
		}
		return to.String()
	})
}

// change is the bound of how much a counter changes, in words where there are some.
func change(b script.Bound) string {
	switch b {
	case script.Exactly(0):
		return "still"
	case script.AtLeast(1):
		return "rises"
	default:
		return b.String()
	}
}

// times takes a bound of a duration, which it turns into milliseconds.
func times(to **script.Bound) value {
	return scalarOf(`"<= 1s", ">= 900ms" or "900ms..1100ms"`, timesForm, func(t string) string {
		b, wrong := parseBound(t, func(text string) (int64, bool) {
			d, bad := parseDuration(text)
			return d.Milliseconds(), bad == ""
		})
		if wrong != "" {
			return strconv.Quote(t) + `: want "<= 1s", ">= 900ms" or "900ms..1100ms"`
		}
		*to = &b
		return ""
	}, func() string {
		if *to == nil {
			return ""
		}
		return timesText(**to)
	})
}

// timesText writes a bound of milliseconds.
func timesText(b script.Bound) string {
	text := func(ms int64) string { return durationText(time.Duration(ms) * time.Millisecond) }
	switch {
	case b.Open:
		return ">= " + text(b.Low)
	case b.Low == b.High:
		return text(b.Low)
	case b.Low == 0:
		return "<= " + text(b.High)
	default:
		return text(b.Low) + ".." + text(b.High)
	}
}
