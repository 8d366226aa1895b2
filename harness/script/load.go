package script

import (
	"time"

	"twlab/harness/topo"
)

// Load makes many attempts at a rate, which does not wait for their outcomes (package load).
type Load struct {
	// From are the clients, To is what they connect to.
	From, To Endpoint
	// Each is the number of attempts of each client. Rate is the number of attempts per
	// second of all clients together; without Each, For is how long it goes on.
	Each, Rate int
	For        time.Duration
	// InFlight is the most attempts that are under way at once; 0 means 1000.
	InFlight int
	// Then is what becomes of each connection.
	Then Ending
	// Ports is the range of source ports (IP_LOCAL_PORT_RANGE, Linux 6.3).
	Ports topo.PortRange
}

// Verb is "load".
func (Load) Verb() string { return "load" }

// attempts is how many attempts the load makes.
func (x Load) attempts(clients int) int {
	if x.Each > 0 {
		return x.Each * clients
	}
	return int(float64(x.Rate) * x.For.Seconds())
}

func (x Load) check(c *checker) {
	c.bothEnds(x.From, x.To)
	if x.From.Port != 0 {
		c.wrong("from", "a load has no port of its own: leave the port to the kernel")
	}
	switch {
	case x.Each > 0 && x.For > 0:
		c.wrong("for", "either \"each\", a number of attempts, or \"for\", a time")
	case x.Each == 0 && (x.For == 0 || x.Rate == 0):
		c.wrong("", "no end: give \"each\", or \"rate\" and \"for\"")
	default:
		if n := x.attempts(max(1, len(c.scenario.Groups[x.From.Name]))); n < 1 || n > mostAttempts {
			c.wrong("", "%d attempts: want 1 to %d", n, mostAttempts)
		}
	}
	c.counts("each", x.Each, 0, mostAttempts)
	c.counts("rate", x.Rate, 0, mostAttempts)
	c.lasts("for", x.For, false)
	c.counts("in-flight", x.InFlight, 0, mostAttempts)
	x.Then.check(c)
	c.ports(x.Ports)
}
