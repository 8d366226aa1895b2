package script

import (
	"slices"
	"strings"

	"twlab/harness/diagnose"
	"twlab/harness/kernel"
	"twlab/harness/nearest"
)

// condition checks a condition.
func (c *checker) condition(w Condition) {
	if w.At != "" {
		c.node("at", w.At)
		if w == (Condition{At: w.At}) {
			c.wrong("", "the kernel of %s, and what of it? Give since, before, feature or without", w.At)
		}
	}
	for key, release := range map[string]string{"since": w.Since, "before": w.Before} {
		if release == "" {
			continue
		}
		if _, err := kernel.ParseRelease(release); err != nil {
			c.wrong(key, "%q: want a release such as 5.14", release)
		}
	}
	for key, name := range map[string]string{"feature": w.Feature, "without": w.Without} {
		if name != "" && !slices.ContainsFunc(kernel.Features(), func(f kernel.FeatureInfo) bool { return string(f.Feature) == name }) {
			c.wrong(key, "no feature %q: twlab doctor lists them", name)
		}
	}
}

// outcomes are those that can be expected (tcp.Outcome), which the kernel gives.
var outcomes = []string{ //nolint:gochecknoglobals // a constant list
	"Connected", "Refused", "Reset", "TimedOut", "NoPort", "PortInUse", "NoAddress", "Denied", "Unreachable", "Listening",
}

// expectation checks what is expected of a step.
func (c *checker) expectation(e Expectation, of Step) {
	c.asked++
	c.below("when", func() { c.condition(e.When) })
	c.lasts("within", e.Within, false)
	c.lasts("never", e.Never, false)
	if e.Within > 0 && e.Never > 0 {
		c.wrong("never", "either \"within\" or \"never\"")
	}
	if (e.Within > 0 || e.Never > 0) && !e.ofNetwork() {
		c.wrong("", "nothing to wait for: counters, rules, flows and sockets change, a result does not")
	}
	if !e.ofNetwork() && !e.ofResult() {
		c.wrong("", "nothing is expected")
	}
	c.outcome("outcome", e.Outcome)
	for name, b := range sorted(e.Outcomes) {
		c.outcome("outcomes."+name, name)
		c.bound("outcomes."+name, &b)
	}
	c.disposition("disposition", e.Disposition)
	for name, b := range sorted(e.Dispositions) {
		c.disposition("dispositions."+name, name)
		c.bound("dispositions."+name, &b)
	}
	for key, b := range map[string]*Bound{
		"syns": e.SYNs, "late": e.Late, "took": e.Took, "status": e.Status, "sent": e.Sent, "received": e.Received,
		"forgotten": e.Forgotten, "dropped": e.Dropped,
	} {
		c.bound(key, b)
	}
	c.cause(e)
	if e.ClosedFirst != "" {
		c.node("closed-first", e.ClosedFirst)
	}
	if e.Local != (Endpoint{}) {
		c.endpoint("local", e.Local, false)
	}
	if e.Connection != "" && e.Connection != "close" && e.Connection != "none" {
		c.wrong("connection", "%q: want close or none", e.Connection)
	}
	c.clocks(e, of)
	c.ofStep(e, of)
	c.ofMany(e, of)
	c.expectNetwork(e)
}

// dispositions are those of requests (http.Disposition).
var dispositions = []string{"whole", "unanswered", "truncated", "broken", "malformed", "unsent"} //nolint:gochecknoglobals // a constant list

func (c *checker) disposition(key, name string) {
	if name != "" && !slices.Contains(dispositions, name) {
		c.wrong(key, "no disposition %q: want %s", name, list(dispositions, "or"))
	}
}

func (c *checker) outcome(key, name string) {
	switch {
	case name == "":
	case name == "Undecided":
		c.wrong(key, "Undecided is the end of twlab's patience, not the kernel's answer: it cannot be expected")
	case !slices.Contains(outcomes, name):
		c.wrong(key, "no outcome %q: want %s", name, list(outcomes, "or"))
	}
}

// cause checks an expected cause.
func (c *checker) cause(e Expectation) {
	if _, found := diagnose.Find(e.Cause); !found && e.Cause != "" && e.Cause != "none" {
		c.wrong("cause", "no cause %q: near it are %s", e.Cause, list(nearest.To(e.Cause, diagnose.IDs()), "and"))
	}
	switch {
	case e.Proof == "":
	case e.Cause == "" || e.Cause == "none":
		c.wrong("proof", "what is to be proved? name the cause")
	case e.Proof != string(diagnose.Proved):
		c.wrong("proof", "%q: want %s, or nothing", e.Proof, diagnose.Proved)
	}
}

// clocks checks clocks that are compared: each is that of one connection which is kept, since it is
// read from its socket.
func (c *checker) clocks(e Expectation, of Step) {
	for key, other := range map[string]string{"same-clock": e.SameClock, "other-clock": e.OtherClock} {
		if other == "" {
			continue
		}
		m := c.made[other]
		if m.what != "connection" || m.several || other == c.connects(of) {
			c.wrong(key, "no step %q that makes a connection: %s", other, c.known("connection"))
		}
		if !c.keepsConnect(other) || !c.keepsConnect(c.connects(of)) {
			c.wrong(key, "the clock of a connection is read when it is there: both steps need \"connect\", an id and \"then: keep\"")
		}
	}
}

// keepsConnect reports whether a step of that ID connects and keeps the connection.
func (c *checker) keepsConnect(id string) bool {
	return id != "" && slices.ContainsFunc(c.scenario.Steps, func(s Step) bool {
		a, connects := s.Do.(Connect)
		return connects && s.ID == id && a.Then == ThenKeep
	})
}

// connects is the ID of the step whose connection an expectation of a step is about.
func (c *checker) connects(of Step) string {
	if a, ok := of.Do.(Await); ok {
		return a.Step
	}
	return of.ID
}

// bound checks a bound, which must be able to fail.
func (c *checker) bound(key string, b *Bound) {
	switch {
	case b == nil:
	case b.SYNsOf != "":
		if m := c.made[b.SYNsOf]; m.what != "connection" && m.what != "load" {
			c.wrong(key, "no step %q that makes a connection: %s", b.SYNsOf, c.known("connection"))
		}
	case b.Open && b.Low <= 0:
		c.wrong(key, "%v: this cannot fail", b)
	case !b.Open && b.Low > b.High:
		c.wrong(key, "%d..%d: no number is both", b.Low, b.High)
	}
}

// ofNetwork reports whether anything is asked of the network.
func (e Expectation) ofNetwork() bool {
	return len(e.Counters) > 0 || len(e.Rules) > 0 || len(e.Flows) > 0 || len(e.Sockets) > 0
}

// expectNetwork checks what is expected of the network.
func (c *checker) expectNetwork(e Expectation) {
	for node, all := range sorted(e.Counters) {
		c.node("counters."+node, node)
		for name, b := range sorted(all) {
			if !strings.Contains(name, ".") {
				c.wrong("counters."+node+"."+name, "a counter's name begins with its group: TcpExt.ListenDrops, Tcp.OutRsts, Ip.OutNoRoutes, conntrack.drop")
			}
			c.bound("counters."+node+"."+name, &b)
		}
	}
	for node, all := range sorted(e.Rules) {
		c.node("rules."+node, node)
		for id, b := range sorted(all) {
			if m, found := c.made[id]; !found || m.what != "rule" {
				c.wrong("rules."+node+"."+id, "no rule %q: %s", id, c.known("rule"))
			}
			c.bound("rules."+node+"."+id, &b)
		}
	}
	for i, f := range e.Flows {
		c.below(item("flows", len(e.Flows), i), func() {
			c.node("node", f.Node)
			f.check(c)
			c.bound("count", &f.Count)
		})
	}
	for i, s := range e.Sockets {
		c.below(item("sockets", len(e.Sockets), i), func() {
			c.node("node", s.Node)
			if s.State != "" && !slices.Contains(states, s.State) {
				c.wrong("state", "no state %q: want %s", s.State, list(states, "or"))
			}
			c.bound("expires", s.Expires)
			c.bound("count", &s.Count)
		})
	}
}

// states are those of sockets (observe.State).
var states = []string{ //nolint:gochecknoglobals // a constant list
	"CLOSE", "CLOSE_WAIT", "CLOSING", "ESTABLISHED", "FIN_WAIT1", "FIN_WAIT2", "LAST_ACK", "LISTEN", "SYN_RECV",
	"SYN_SENT", "TIME_WAIT",
}
