package script

import (
	"regexp"
	"slices"
	"strings"

	"twlab/harness/topo"
)

func (x AddRule) check(c *checker) {
	c.node("node", x.Node)
	rule := topo.Rule{Node: x.Node, Table: x.Table, Chain: x.Chain, Spec: x.Spec, IP: x.IP}
	if err := rule.Validate(c.scenario.Network.IP, map[string]topo.Role{x.Node: ""}); err != nil && x.Node != "" {
		for _, e := range unjoin(err) {
			c.wrong("rule", "%s", e)
		}
	}
}

func (x RemoveRule) check(c *checker) {
	m, found := c.made[x.Step]
	switch {
	case !found:
		c.wrong("", "no step %q: %s", x.Step, c.known("rule"))
	case m.what != "rule":
		c.wrong("", "%q adds no rule: %s", x.Step, c.known("rule"))
	case m.ended != "":
		c.wrong("", "the rule of %q is gone already", x.Step)
	default:
		m.ended = "remove-rule"
		c.made[x.Step] = m
	}
}

// flags are the names of TCP flags that iptables knows.
var flags = []string{"SYN", "ACK", "FIN", "RST", "URG", "PSH"} //nolint:gochecknoglobals // a constant list

func (x Drop) check(c *checker) {
	c.node("node", x.Node)
	switch {
	case (x.In == "") == (x.Out == ""):
		c.wrong("", "want either \"in\", the neighbour that packets come from, or \"out\", the one that they are for")
	case x.In != "":
		c.neighbour("in", x.Node, x.In)
	default:
		c.neighbour("out", x.Node, x.Out)
	}
	for _, f := range strings.FieldsFunc(x.Flags, func(r rune) bool { return r == ',' }) {
		if !slices.Contains(flags, f) {
			c.wrong("flags", "%q: want some of %s, such as SYN,ACK", f, list(flags, "and"))
		}
	}
	for key, e := range map[string]Endpoint{"from": x.From, "to": x.To} {
		if e != (Endpoint{}) {
			c.endpoint(key, e, false)
		}
	}
	c.counts("first", x.First, 0, mostAttempts)
	c.lasts("for", x.For, false)
}

func (x SetLink) check(c *checker) {
	c.node("between.0", x.A)
	c.neighbour("between.1", x.A, x.B)
	if x.Up && x.For > 0 {
		c.wrong("for", "a link is taken down for a time: leave out \"up\"")
	}
	c.lasts("for", x.For, false)
}

func (x ForgetFlows) check(c *checker) {
	c.node("node", x.Node)
	x.Flow.check(c)
}

func (f Flow) check(c *checker) {
	for _, end := range []struct {
		key string
		e   Endpoint
	}{{"from", f.From}, {"to", f.To}, {"as", f.As}, {"at", f.At}} {
		if end.e != (Endpoint{}) {
			c.endpoint(end.key, end.e, false)
		}
	}
}

// sysctlName is that of a sysctl of a node.
var sysctlName = regexp.MustCompile(`^net\.[a-zA-Z0-9_./-]+$`)

func (x Set) check(c *checker) {
	c.node("node", x.Node)
	if len(x.Sysctls) == 0 {
		c.wrong("sysctls", "which? Give them as name: value")
	}
	for _, s := range x.Sysctls {
		c.sysctl("sysctls."+s.Name, s.Name)
	}
}

// sysctl checks the name of a sysctl of a node.
func (c *checker) sysctl(key, name string) {
	if !sysctlName.MatchString(name) {
		c.wrong(key, "only sysctls below net. belong to a node")
	}
}

// program checks that a balancer's program runs at the node.
func (c *checker) program(node string) {
	c.node("node", node)
	_, found := c.plan.Node(node)
	if _, runs := c.scenario.Programs[node]; found && !runs {
		c.wrong("node", "%s has no program that balances", node)
	}
}

func (x Stop) check(c *checker)  { c.process(x.Node) }
func (x Start) check(c *checker) { c.process(x.Node) }

// process checks that what balances at the node is a process, which can be stopped.
func (c *checker) process(node string) {
	c.program(node)
	if c.scenario.Programs[node].Kind == IPVS {
		c.wrong("node", "what balances at %s is its kernel, which is not stopped: take its servers away (reload, without)", node)
	}
}

// mostWeight is the largest weight: the kernel's is an int (struct ip_vs_dest).
const mostWeight = 1<<31 - 1

func (x Reload) check(c *checker) {
	c.program(x.Node)
	p := c.scenario.Programs[x.Node]
	if (len(x.Weights) > 0 || len(x.Without) > 0) && p.Kind != IPVS {
		c.wrong("", "only ipvs has weights, and servers that can be left out")
		return
	}
	for _, w := range x.Weights {
		c.serverOf(p, "weights", w.Server)
		c.counts("weights", w.Weight, 0, mostWeight)
	}
	for _, s := range x.Without {
		c.serverOf(p, "without", s)
	}
}

// serverOf checks that a program has this server.
func (c *checker) serverOf(p Program, key string, s Endpoint) {
	if !slices.Contains(p.Servers, s) {
		c.wrong(key, "%v is none of the servers", s)
	}
}

func (x Await) check(c *checker) {
	m, found := c.made[x.Step]
	switch {
	case !found && x.Step == c.own && x.Step != "":
		c.wrong("", "%q is this step itself: it would wait for ever", x.Step)
	case !found:
		c.wrong("", "no step %q so far", x.Step)
	case !m.background:
		c.wrong("", "%q does not run in the background, so it is over", x.Step)
	case m.awaited:
		c.wrong("", "%q was awaited before", x.Step)
	default:
		m.awaited = true
		c.made[x.Step] = m
	}
}

func (x Sleep) check(c *checker) { c.lasts("", x.For, true) }
