package script

import (
	"slices"
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
	if l.At != (Endpoint{}) && !c.everywhere(l.At) {
		c.endpoint("at", l.At, false)
	}
	if l.At.Port != 0 {
		c.wrong("at", "%q: an address without a port, which \"port\" says", l.At)
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
	c.counts("fast-open", l.FastOpen, 0, mostBacklog)
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
	c.counts("http.cut", l.Web.Cut, 0, max(0, l.Web.Body-1))
	c.lasts("http.idle", l.Web.Idle, false)
}

func (x Connect) check(c *checker) {
	c.bothEnds(x.From, x.To)
	c.counts("count", x.Count, 0, mostAttempts)
	if x.From.Port != 0 && x.Count > 1 && !x.InTurn {
		c.wrong("from", "%d attempts from one port: leave the port to the kernel", x.Count)
	}
	if x.InTurn && x.Count < 2 {
		c.wrong("in-turn", "one attempt has no turn: give \"count\"")
	}
	c.lasts("give-up", x.GiveUp, false)
	x.Then.check(c)
	x.Options.check(c)
}

// bothEnds checks the two ends of a new connection.
func (c *checker) bothEnds(from, to Endpoint) {
	c.endpoint("from", from, true)
	if from.Six {
		c.wrong("from", "%q: \"to\" decides the version of IP", from)
	}
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
	c.ports(o.Ports)
	c.counts("fast-open", o.FastOpen, 0, 1000) // what fits into a SYN
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

// ports checks a range of ports.
func (c *checker) ports(p topo.PortRange) {
	if p != (topo.PortRange{}) && (p.First == 0 || p.First > p.Last) {
		c.wrong("ports", "%v: want the first port, then the last, from 1 on", p)
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
		c.conns("conn", Conn{Step: x.Conn}, x.Then.endedBy())
		if x.Options != (Options{}) {
			c.wrong("conn", "the connection is there: options belong to the step that makes it")
		}
	}
	c.counts("count", x.Count, 0, mostAttempts)
	if x.Count > 1 && (x.Conn != "" || x.From.Port != 0) {
		c.wrong("count", "%d exchanges need connections of their own, from ports of the kernel's choice", x.Count)
	}
	if x.InTurn && x.Count < 2 {
		c.wrong("in-turn", "one attempt has no turn: give \"count\"")
	}
	c.lasts("give-up", x.GiveUp, false)
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

func (x Close) check(c *checker) {
	m := c.made[x.Conn.Step]
	switch {
	case m.what != "listener" || x.Conn.Server:
		c.conn("", x.Conn, "close")
	case m.ended != "":
		c.wrong("", "the listener of %q was closed by an earlier step", x.Conn.Step)
	default:
		m.ended = "close"
		c.made[x.Conn.Step] = m
	}
}

func (x HalfClose) check(c *checker) { c.conn("", x.Conn, "") }
func (x Reset) check(c *checker)     { c.conn("", x.Conn, "reset") }
func (x Vanish) check(c *checker)    { c.conn("", x.Conn, "vanish") }

func (x Clock) check(c *checker) {
	c.conn("conn", x.Conn, "")
	switch {
	case x.Back != 0 && (x.Advance != 0 || x.Beyond != "" || x.Behind != ""):
		c.wrong("back", "either \"back\" or \"advance\"")
	case x.Back != 0:
		c.ticks("back", x.Back)
	default:
		c.ticks("advance", x.Advance)
	}
	for key, other := range map[string]string{"beyond": x.Beyond, "behind": x.Behind} {
		if other == "" {
			continue
		}
		if m := c.made[other]; m.what != "connection" || m.several {
			c.wrong(key, "no step %q that makes a connection: %s", other, c.known("connection"))
		}
		if x.Conn.Server || !c.holds {
			c.wrong("conn", "the client's end of a connection whose server's end steps can name, by \"serve: hold\"")
		}
	}
	if x.Beyond != "" && x.Behind != "" {
		c.wrong("behind", "either \"beyond\" or \"behind\"")
	}
}

// ticks checks a time by which a clock is set.
func (c *checker) ticks(key string, d time.Duration) {
	switch {
	case d <= 0 || d%(2*time.Millisecond) != 0:
		c.wrong(key, "%v: want a time, in steps of 2ms", d)
	case d > longest:
		c.wrong(key, "%v: longer than a day", d)
	}
}
