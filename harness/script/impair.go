package script

import "twlab/harness/topo"

// Impair sets what becomes of the packets of a link from now on (sch_netem).
type Impair struct {
	// A and B are the nodes of the link.
	A, B string
	// From is the node whose packets are meant; empty means both.
	From string
	// Sends is what becomes of them; its zero value is nothing, as before.
	Sends topo.Impairment
}

// Verb is "impair".
func (Impair) Verb() string { return "impair" }

func (x Impair) check(c *checker) {
	c.node("between.0", x.A)
	c.neighbour("between.1", x.A, x.B)
	if x.From != "" && x.From != x.A && x.From != x.B {
		c.wrong("from", "%q is at neither end of the link: want %s or %s", x.From, x.A, x.B)
	}
	if err := x.Sends.Validate(); err != nil {
		for _, e := range unjoin(err) {
			c.wrong("", "%s", e)
		}
	}
}
