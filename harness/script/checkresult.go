package script

import (
	"slices"
)

// ofResult reports whether anything is asked of the result of the step.
func (e Expectation) ofResult() bool {
	return e.Outcome != "" || len(e.Outcomes) > 0 || e.Errno != "" || e.SYNs != nil || e.Late != nil || e.Took != nil ||
		e.Local != (Endpoint{}) || e.Answers != nil || e.Disposition != "" || len(e.Dispositions) > 0 || e.Status != nil || e.Connection != "" ||
		e.Sent != nil || e.Received != nil || e.ClosedFirst != "" || e.Cause != "" || e.Forgotten != nil || e.Dropped != nil || e.Holder != nil ||
		e.Timestamps != nil || e.SameClock != "" || e.OtherClock != ""
}

// results are the keys of what the result of each kind of step has.
func results(a Action) []string {
	connect := []string{"outcome", "outcomes", "errno", "syns", "took", "local", "answers", "holder", "closed-first", "cause"}
	switch a.(type) {
	case Connect:
		return append(connect, "timestamps", "same-clock", "other-clock")
	case Exchange:
		return append(connect, "disposition", "dispositions", "status", "connection", "sent", "received")
	case Load:
		return []string{"outcome", "outcomes", "syns", "late"}
	case Listen:
		return []string{"outcome", "errno", "holder"}
	case Send:
		return []string{"errno", "sent", "cause"}
	case Receive:
		return []string{"errno", "received", "cause"}
	case ForgetFlows:
		return []string{"forgotten"}
	case RemoveRule:
		return []string{"dropped"}
	default:
		return nil
	}
}

// asks lists the keys of what is asked of the result.
func (e Expectation) asks() (keys []string) {
	for key, asked := range map[string]bool{
		"outcome": e.Outcome != "", "outcomes": len(e.Outcomes) > 0, "errno": e.Errno != "", "syns": e.SYNs != nil, "late": e.Late != nil,
		"took": e.Took != nil, "local": e.Local != Endpoint{}, "answers": e.Answers != nil,
		"disposition": e.Disposition != "", "dispositions": len(e.Dispositions) > 0, "status": e.Status != nil, "connection": e.Connection != "", "sent": e.Sent != nil,
		"received": e.Received != nil, "closed-first": e.ClosedFirst != "", "cause": e.Cause != "", "forgotten": e.Forgotten != nil,
		"dropped": e.Dropped != nil, "holder": e.Holder != nil,
		"timestamps": e.Timestamps != nil, "same-clock": e.SameClock != "", "other-clock": e.OtherClock != "",
	} {
		if asked {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

// ofStep checks that the step has the results that are asked for.
func (c *checker) ofStep(e Expectation, of Step) {
	what := c.begun(of.Do)
	have := results(what)
	if c.manyAttempts(what) {
		have = []string{"outcome", "outcomes", "cause"} // of all of them; no other result is one
		if _, exchanges := what.(Exchange); exchanges {
			have = append(have, "dispositions")
		}
	}
	for _, key := range e.asks() {
		switch {
		case of.Background:
			c.wrong(key, "the step has no result before its end: expect this where %q is awaited", of.ID)
		case !slices.Contains(have, key):
			c.wrong(key, "%q has no %s%s", what.Verb(), key, hasInstead(have))
		}
	}
}

// ofMany checks that numbers of several attempts can be others than those that are expected.
func (c *checker) ofMany(e Expectation, of Step) {
	most := c.attempts(c.begun(of.Do))
	for _, one := range []struct {
		key string
		all map[string]Bound
	}{{"outcomes", e.Outcomes}, {"dispositions", e.Dispositions}} {
		for name, b := range sorted(one.all) {
			if most > 0 && b.SYNsOf == "" && !b.Open && b.Low <= 0 && b.High >= most {
				c.wrong(one.key+"."+name, "%v of %d: this cannot fail", b, most)
			}
		}
	}
}

// attempts is how many attempts a step makes; 0 if it is not known.
func (c *checker) attempts(a Action) int64 {
	clients := func(e Endpoint) int { return max(1, len(c.scenario.Groups[e.Name])) }
	switch a := a.(type) {
	case Connect:
		return int64(clients(a.From) * max(1, a.Count))
	case Load:
		return int64(a.attempts(clients(a.From)))
	case Exchange:
		if a.Conn == "" {
			return int64(max(1, a.Count))
		}
	}
	return 0
}

// begun is what a step does, or what the step does whose end it awaits.
func (c *checker) begun(what Action) Action {
	if a, ok := what.(Await); ok {
		for _, s := range c.scenario.Steps {
			if s.ID == a.Step && s.Do != nil {
				return s.Do
			}
		}
	}
	return what
}

// manyAttempts reports whether a step makes several attempts.
func (c *checker) manyAttempts(a Action) bool {
	switch a := a.(type) {
	case Connect:
		return c.several(a.From, a.Count)
	case Exchange:
		return a.Count > 1 || c.made[a.Conn].several
	default:
		return false
	}
}

func hasInstead(have []string) string {
	if len(have) == 0 {
		return ": it has no result; counters, rules, flows and sockets can be asked"
	}
	return ": it has " + list(have, "and")
}
