package script

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"twlab/harness/topo"
)

// Problem is one thing that is wrong with a scenario.
type Problem struct {
	// Path leads to it, by the keys that files have: "steps", "2", "connect", "from".
	Path []string
	Text string
}

// String returns the path and the text.
func (p Problem) String() string { return strings.Join(p.Path, ".") + ": " + p.Text }

// Check returns everything that is wrong with the scenario, in the order of its parts. It
// needs no privilege. What only a kernel can say, such as a sysctl that it lacks, is found
// when the scenario runs.
func (s Scenario) Check() []Problem {
	c := &checker{scenario: s, made: map[string]made{}}
	if strings.TrimSpace(s.Name) == "" {
		c.wrong("name", "a scenario needs a name")
	}
	plan, err := s.Network.Plan()
	if err != nil {
		for _, e := range unjoin(err) {
			c.wrong("topology", "%s", e)
		}
		return c.problems // names mean nothing without nodes
	}
	c.plan = plan
	c.below("when", func() { c.condition(s.When) })
	c.names()
	c.programs()
	for i, step := range s.Steps {
		c.path = []string{"steps", strconv.Itoa(i)}
		c.step(step)
	}
	c.path = nil
	c.ends()
	return c.problems
}

// unjoin returns the parts of an error that was joined, without what only wraps them.
func unjoin(err error) []error {
	for e := err; e != nil; e = errors.Unwrap(e) {
		if joined, ok := e.(interface{ Unwrap() []error }); ok {
			return joined.Unwrap()
		}
	}
	return []error{err}
}

// made is what a step makes and later steps may name.
type made struct {
	what       string // "connection", "listener", "rule", "load"; empty for nothing
	background bool
	awaited    bool
	ended      string // the step or verb that ended it, if one did
	several    bool   // it is more than one
}

// checker checks a scenario.
type checker struct {
	scenario Scenario
	plan     topo.Plan
	path     []string // where it is
	problems []Problem
	made     map[string]made // by the ID of the step
	ids      []string        // in order
	asked    int             // how many expectations there are
	holds    bool            // whether a listener leaves connections to later steps
	own      string          // the ID of the step that is checked
}

// wrong notes a problem at a key below where the checker is.
func (c *checker) wrong(key, format string, args ...any) { //nolint:forbidigo // as Printf has them
	path := slices.Clone(c.path)
	if key != "" {
		path = append(path, strings.Split(key, ".")...)
	}
	c.problems = append(c.problems, Problem{path, fmt.Sprintf(format, args...)})
}

// below runs a check one key further down.
func (c *checker) below(key string, check func()) {
	before := c.path
	c.path = append(slices.Clone(before), strings.Split(key, ".")...)
	check()
	c.path = before
}

// names checks the names of groups and addresses.
func (c *checker) names() {
	for name, addr := range sorted(c.scenario.Addresses) {
		key := "topology.addresses." + name
		if _, twice := c.plan.Node(name); twice {
			c.wrong(key, "%q is a node already", name)
		}
		if !addr.IsValid() {
			c.wrong(key, "%q has no address", name)
		}
	}
	for name, nodes := range sorted(c.scenario.Groups) {
		if len(nodes) == 0 {
			c.wrong("topology.nodes."+name, "a group without nodes")
		}
	}
}

// ends checks what must have happened when the last step is over.
func (c *checker) ends() {
	for i, step := range c.scenario.Steps {
		if m := c.made[step.ID]; step.Background && step.ID != "" && !m.awaited {
			c.wrong(fmt.Sprintf("steps.%d", i), "%q runs in the background, and no step awaits it", step.ID)
		}
	}
	if c.asked == 0 && len(c.problems) == 0 {
		c.wrong("steps", "nothing is expected of any step, so the scenario cannot fail: give one of them \"expect\"")
	}
}

// step checks a step, and notes what it makes.
func (c *checker) step(s Step) {
	if s.Do == nil {
		c.wrong("", "a step without a verb: want one of %s", list(Verbs(), "or"))
		return
	}
	c.id(s)
	c.lasts("after", s.After, false)
	c.below("when", func() { c.condition(s.When) })
	c.own = s.ID
	c.below(s.Do.Verb(), func() { s.Do.check(c) })
	if s.ID != "" {
		m := c.makes(s.Do)
		m.background = s.Background
		c.made[s.ID] = m
		c.ids = append(c.ids, s.ID)
	}
	for i, e := range s.Expect {
		c.below(item("expect", len(s.Expect), i), func() { c.expectation(e, s) })
	}
}

// item is the key of the i-th of n entries: files need no list for a single one.
func item(key string, n, i int) string {
	if n == 1 {
		return key
	}
	return key + "." + strconv.Itoa(i)
}

// makes is what an action makes.
func (c *checker) makes(a Action) made {
	switch a := a.(type) {
	case Listen:
		return made{what: "listener"}
	case Load:
		return made{what: "load"}
	case Connect:
		return made{what: "connection", several: c.several(a.From, a.Count), ended: a.Then.ended()}
	case Exchange:
		return made{what: "connection", several: a.Count > 1, ended: a.Then.ended()}
	case AddRule:
		return made{what: "rule"}
	case Drop:
		return made{what: "rule"}
	default:
		return made{}
	}
}

// several reports whether attempts are more than one.
func (c *checker) several(from Endpoint, count int) bool {
	return count > 1 || len(c.scenario.Groups[from.Name]) > 1
}

// ended says how an ending ends a connection at once; empty when it stays.
func (e Ending) ended() string {
	if e == ThenKeep {
		return ""
	}
	return "its \"then\", which is \"close\" where it is left out: say \"then: keep\""
}

// Addr returns the address of a node, of an entry of Addresses, or of a name that every node has;
// not valid without one.
func (s Scenario) Addr(plan topo.Plan, e Endpoint) netip.Addr {
	n, found := plan.Node(e.Name)
	switch {
	case found && e.Six:
		return n.Addr6
	case found:
		return n.Addr
	}
	if own, given := s.Addresses[e.Name]; given {
		if e.Six {
			own = s.Addresses6[e.Name]
		}
		return own
	}
	six := e.Six || s.Network.IP == topo.IPv6
	switch {
	case e.Name == Loopback && six:
		return netip.IPv6Loopback()
	case e.Name == Loopback:
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	case e.Name == Everywhere && six:
		return netip.IPv6Unspecified()
	case e.Name == Everywhere:
		return netip.IPv4Unspecified()
	default:
		return netip.Addr{}
	}
}
