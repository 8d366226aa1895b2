package script

import (
	"slices"
	"strings"
	"time"

	"twlab/harness/topo"
)

// lasts checks a duration, which must not be 0 if it is needed.
func (c *checker) lasts(key string, d time.Duration, needed bool) {
	switch {
	case d < 0 || needed && d == 0:
		c.wrong(key, "%v: want a time of more than 0, such as 400ms", d)
	case d > longest:
		c.wrong(key, "%v: longer than a day", d)
	}
}

// counts checks a number, which must be at least low.
func (c *checker) counts(key string, n, low, high int) {
	if n < low || n > high {
		c.wrong(key, "%d: want %d to %d", n, low, high)
	}
}

// most limits the numbers of a scenario: attempts, requests, bytes.
const (
	mostAttempts = 100_000
	mostBytes    = 1 << 30
	mostBacklog  = 1 << 20
)

func (l Listen) check(c *checker) {
	c.node("node", l.Node)
	if l.Port == 0 {
		c.wrong("port", "which port? Give one from 1 to 65535")
	}
	if l.At != "" {
		c.endpoint("at", Endpoint{Name: l.At}, false)
	}
	if l.Backlog != nil {
		c.counts("backlog", *l.Backlog, 0, mostBacklog)
	}
	if l.Accept != nil {
		c.counts("accept", *l.Accept, 0, mostAttempts)
		if *l.Accept == 0 && (l.AcceptAfter != 0 || l.Serve != Drain) {
			c.wrong("accept", "never, so \"accept-after\" and \"serve\" do nothing: leave them out")
		}
	}
	c.lasts("accept-after", l.AcceptAfter, false)
	switch l.Serve {
	case Drain, CloseFirst, ResetAll, ServeHTTP:
	case Hold:
		c.holds = true
	default:
		c.wrong("serve", "%q: want %s", l.Serve, list([]string{string(Hold), string(CloseFirst), string(ResetAll), string(ServeHTTP)}, "or"))
	}
	if l.Serve != ServeHTTP && l.Web != (Web{}) {
		c.wrong("http", "only \"serve: http\" has responses")
	}
	if w := l.Web; w.Status != 0 {
		c.counts("http.status", w.Status, 200, 999)
	}
	c.counts("http.body", l.Web.Body, 0, mostBytes)
	c.counts("http.last", l.Web.Last, 0, mostAttempts)
	c.lasts("http.delay", l.Web.Delay, false)
	c.counts("http.reads", l.Web.Reads, 0, mostBytes)
}

func (x Connect) check(c *checker) {
	c.bothEnds(x.From, x.To)
	c.counts("count", x.Count, 0, mostAttempts)
	if x.From.Port != 0 && c.several(x.From, x.Count) && x.Count > 1 {
		c.wrong("from", "%d attempts from one port: leave the port to the kernel", x.Count)
	}
	x.Then.check(c)
	x.Options.check(c)
}

// bothEnds checks the two ends of a new connection.
func (c *checker) bothEnds(from, to Endpoint) {
	c.endpoint("from", from, true)
	c.endpoint("to", to, false)
	if to.Port == 0 && to.Name != "" {
		c.wrong("to", "which port of %s? Say %s:80", to.Name, to.Name)
	}
}

func (e Ending) check(c *checker) {
	switch e {
	case ThenClose, ThenKeep, ThenReset, ThenVanish, ThenCloseFirst, ThenCloseAfter:
	default:
		c.wrong("then", "%q: want %s", e, list([]string{"close", string(ThenKeep), string(ThenReset), string(ThenVanish),
			string(ThenCloseFirst), string(ThenCloseAfter)}, "or"))
	}
}

func (o Options) check(c *checker) {
	if p := o.Ports; p != (topo.PortRange{}) && (p.First == 0 || p.First > p.Last) {
		c.wrong("ports", "%v: want the first port, then the last, from 1 on", p)
	}
	c.lasts("user-timeout", o.UserTimeout, false)
	c.lasts("keep-idle", o.KeepIdle, false)
	c.lasts("keep-interval", o.KeepInterval, false)
	c.counts("keep-count", o.KeepCount, 0, 127) // MAX_TCP_KEEPCNT
	for key, d := range map[string]time.Duration{"keep-idle": o.KeepIdle, "keep-interval": o.KeepInterval} {
		if d%time.Second != 0 {
			c.wrong(key, "%v: the kernel takes whole seconds", d)
		}
	}
}

func (x Exchange) check(c *checker) {
	switch {
	case x.Conn == "":
		c.bothEnds(x.From, x.To)
		if c.several(x.From, 0) {
			c.wrong("from", "%q is several nodes: an exchange is made by one", x.From.Name)
		}
	case x.From != Endpoint{} || x.To != Endpoint{}:
		c.wrong("conn", "either \"conn\" or \"from\" and \"to\"")
	default:
		c.conn("conn", Conn{Step: x.Conn}, x.Then.endedBy())
		if x.Options != (Options{}) {
			c.wrong("conn", "the connection is there: options belong to the step that makes it")
		}
	}
	c.counts("requests", x.Requests, 0, mostAttempts)
	c.counts("body", x.Body, 0, mostBytes)
	if !slices.Contains([]string{"", "close", "keep-alive"}, x.Connection) {
		c.wrong("connection", "%q: want close or keep-alive", x.Connection)
	}
	x.Then.check(c)
	x.Options.check(c)
}

// endedBy says what has ended a connection after a step with this ending.
func (e Ending) endedBy() string {
	if e == ThenKeep {
		return ""
	}
	return "an exchange without \"then: keep\""
}

func (x Send) check(c *checker) {
	c.conn("conn", x.Conn, "")
	c.counts("bytes", x.Bytes, 1, mostBytes)
}

func (x Receive) check(c *checker) {
	c.conn("conn", x.Conn, "")
	c.counts("bytes", x.Bytes, 0, mostBytes)
	c.lasts("within", x.Within, false)
}

func (x Close) check(c *checker)     { c.conn("", x.Conn, "close") }
func (x HalfClose) check(c *checker) { c.conn("", x.Conn, "") }
func (x Reset) check(c *checker)     { c.conn("", x.Conn, "reset") }
func (x Vanish) check(c *checker)    { c.conn("", x.Conn, "vanish") }

func (x Clock) check(c *checker) {
	c.conn("conn", x.Conn, "")
	if x.Advance == 0 || x.Advance%(2*time.Millisecond) != 0 {
		c.wrong("advance", "%v: want a time, in steps of 2ms", x.Advance)
	}
}

func (x AddRule) check(c *checker) {
	c.node("node", x.Node)
	rule := topo.Rule{Node: x.Node, Table: x.Table, Chain: x.Chain, Spec: x.Spec}
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
		c.wrong("", "no step %q: %s", x.Step, c.known("a rule"))
	case m.what != "a rule":
		c.wrong("", "%q adds no rule: %s", x.Step, c.known("a rule"))
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

func (x Set) check(c *checker) {
	c.node("node", x.Node)
	if len(x.Sysctls) == 0 {
		c.wrong("sysctls", "which? Give them as name: value")
	}
	for _, s := range x.Sysctls {
		if !strings.HasPrefix(s.Name, "net.") {
			c.wrong("sysctls."+s.Name, "only sysctls below net. belong to a node")
		}
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
