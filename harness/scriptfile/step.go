package scriptfile

import (
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"twlab/harness/script"
)

// items reads the entries of a list under the paths that script.Check gives them: it numbers
// those that are kept, and a single one has no number.
func (r *reader) items(n *yaml.Node, what string, single bool, read func(one *yaml.Node) (kept bool)) {
	kept, base := 0, r.path
	r.list(n, what, single, func(_ int, one *yaml.Node) {
		r.path = base
		r.below(strconv.Itoa(kept), place{one, one}, func() {
			if read(one) {
				kept++
			}
		})
	})
	r.path = base
	if kept != 1 {
		return
	}
	prefix := strings.Join(base, ".") + "."
	for path, at := range r.at {
		if after, numbered := strings.CutPrefix(path, prefix+"0."); numbered {
			r.at[prefix+after] = at
		}
	}
}

// steps reads the list of steps.
func (r *reader) steps(n *yaml.Node, to *[]script.Step) {
	if n == nil {
		r.step(nil)
		return
	}
	if len(n.Content) > mostSteps {
		r.wrong(n, "%d steps: a scenario has at most %d", len(n.Content), mostSteps)
		return
	}
	r.items(n, "steps", false, func(one *yaml.Node) bool {
		s, applies := r.step(one)
		if applies {
			*to = append(*to, s)
		}
		return applies
	})
}

// step reads a step. It does not apply if the values of parameters leave it out.
func (r *reader) step(n *yaml.Node) (s script.Step, applies bool) {
	applies = true
	var verbs []string
	verbFields := r.verbs(&s.Do)
	for _, v := range verbFields {
		verbs = append(verbs, v.key)
	}
	there := r.mapping(n, "a step", append(r.stepFields(&s, &applies), verbFields...))
	if r.keys != nil {
		return s, true
	}
	var said []string
	for _, v := range verbs {
		if there[v] != nil {
			said = append(said, v)
		}
	}
	switch {
	case n.Kind != yaml.MappingNode:
	case len(said) == 0:
		r.complete = false
		r.wrong(n, "a step without a verb: want one of %s", strings.Join(verbs, ", "))
	case len(said) > 1:
		r.wrong(there[said[1]], "two verbs in one step, %s and %s: make them two steps", said[0], said[1])
	}
	return s, applies
}

// stepFields are the fields of a step beside its verb.
func (r *reader) stepFields(s *script.Step, applies *bool) []field {
	return []field{
		{"id", "The name by which later steps refer to it.", text(&s.ID)},
		{"after", "The time since the step before it ended.", duration(&s.After)},
		{"background", "Whether the next step begins at once; a later \"await\" waits for the end.", truth(&s.Background)},
		{"when", "Where the step applies.", r.when(&s.When, applies)},
		{"expect", "What is expected: one mapping, or a list of them.", value{"mapping, or list of mappings", oneOrListOf(mapping),
			func(r *reader, n *yaml.Node) { r.expectations(n, &s.Expect) }, func() *yaml.Node { return r.expectationNodes(s.Expect) }}},
	}
}

// kernelFields are those of a condition of kernels.
func kernelFields(to *script.Condition) []field {
	return []field{
		{"at", "The node whose kernel decides; it may be left out if all have the same kernel.", text(&to.At)},
		{"since", "The first release of the kernel to which it applies: 5.14.", text(&to.Since)},
		{"before", "The first release to which it does not apply.", text(&to.Before)},
		{"feature", "A feature that the kernel must have; \"twlab doctor\" lists them.", text(&to.Feature)},
		{"without", "A feature that the kernel must lack.", text(&to.Without)},
	}
}

// kernels reads a condition of kernels alone.
func kernels(to *script.Condition) value { return group("\"when\"", kernelFields(to)) }

// when reads a condition: parameters decide at once, kernels later.
func (r *reader) when(to *script.Condition, applies *bool) value {
	known := kernelFields(to)
	return value{"mapping", mapping, func(r *reader, n *yaml.Node) {
		fields := slices.Clone(known)
		for name, is := range r.values {
			fields = append(fields, field{name, "", value{"value of a parameter", anyText, func(r *reader, n *yaml.Node) {
				r.used[name] = true
				if n.Kind != yaml.ScalarNode {
					r.wrong(n, "want a value of the parameter %s", name)
				} else if n.Value != is {
					*applies = false
				}
			}, nil}})
		}
		r.mapping(n, "\"when\"", fields)
	}, func() *yaml.Node { return unlessEmpty(mappingNode(known)) }}
}

var (
	endingWords = []string{"close", "keep", "reset", "vanish", "close-first", "close-after-server"}
	endings     = []script.Ending{
		script.ThenClose, script.ThenKeep, script.ThenReset, script.ThenVanish, script.ThenCloseFirst, script.ThenCloseAfter,
	}
)

func optionFields(o *script.Options) []field {
	return []field{
		{"reuse-addr", "SO_REUSEADDR of the client's socket.", truth(&o.ReuseAddr)},
		{"reuse-port", "SO_REUSEPORT of the client's socket.", truth(&o.ReusePort)},
		{"late-port", "IP_BIND_ADDRESS_NO_PORT: connect chooses the port, not bind.", truth(&o.LatePort)},
		{"early-port", "bind chooses the port, before the destination is known.", truth(&o.EarlyPort)},
		{"ports", "IP_LOCAL_PORT_RANGE: the range of source ports.", ports(&o.Ports.First, &o.Ports.Last)},
		{"no-delay", "TCP_NODELAY: each write is a segment of its own.", truth(&o.NoDelay)},
		{"fast-open", "How many bytes to send by TCP Fast Open.", number(&o.FastOpen)},
		{"mptcp", "Whether the socket is one of Multipath TCP.", truth(&o.MPTCP)},
		{"user-timeout", "TCP_USER_TIMEOUT.", duration(&o.UserTimeout)},
		{"keep-idle", "SO_KEEPALIVE, and its idle time.", duration(&o.KeepIdle)},
		{"keep-interval", "The time between keep-alive probes.", duration(&o.KeepInterval)},
		{"keep-count", "How many probes without an answer end the connection.", number(&o.KeepCount)},
	}
}

func (r *reader) socketVerbs(to *script.Action) []field {
	var (
		c    script.Connect
		x    script.Exchange
		s    script.Send
		v    script.Receive
		cl   script.Close
		half script.HalfClose
		rst  script.Reset
		gone script.Vanish
		tick script.Clock
	)
	return []field{
		listenVerb(to),
		verb(to, "connect", "Makes a connection.", &c, append([]field{
			{"from", "The client, with a port if it matters.", endpoint(&c.From)},
			{"to", "The address and port to connect to; loopback is the client itself.", endpoint(&c.To)},
			{"count", "How many attempts each client makes; at once, without in-turn.", number(&c.Count)},
			{"in-turn", "Whether it makes them one after the other.", truth(&c.InTurn)},
			{"then", "What becomes of the connection; without it, close.", named(&c.Then, endingWords, endings)},
			{"isn", "The initial sequence number.", number32(&c.ISN)},
			{"give-up", "How long the client waits before it closes the socket.", duration(&c.GiveUp)},
		}, optionFields(&c.Options)...)),
		loadVerb(to),
		verb(to, "exchange", "Makes HTTP requests.", &x, append([]field{
			{"from", "The client of a new connection.", endpoint(&x.From)},
			{"to", "The address and port of a new connection.", endpoint(&x.To)},
			{"conn", "The step whose connection, or connections, are used instead.", text(&x.Conn)},
			{"count", "How many such exchanges; at once, without in-turn.", number(&x.Count)},
			{"in-turn", "Whether they are made one after the other.", truth(&x.InTurn)},
			{"give-up", "How long the client waits for each answer before it resets the connection.", duration(&x.GiveUp)},
			{"requests", "How many, one after the other; without it, one.", number(&x.Requests)},
			{"body", "The size of the body of each request in bytes.", number(&x.Body)},
			{"connection", "The value of the Connection field.", text(&x.Connection)},
			{"then", "What becomes of the connection; without it, close.", named(&x.Then, endingWords, endings)},
		}, optionFields(&x.Options)...)),
		verb(to, "send", "Writes bytes.", &s, []field{
			{"conn", "The connection.", conn(&s.Conn)},
			{"bytes", "How many.", number(&s.Bytes)},
		}),
		verb(to, "receive", "Reads bytes, or until the end of the connection.", &v, []field{
			{"conn", "The connection.", conn(&v.Conn)},
			{"bytes", "How many; without it, until the end.", number(&v.Bytes)},
			{"within", "How long to wait.", duration(&v.Within)},
		}),
		scalarVerb(to, "close", "Closes a connection: a FIN, or a RST if data was not read. Of a listener, also connections that wait get a RST.", &cl, conn(&cl.Conn)),
		scalarVerb(to, "half-close", "Sends a FIN and goes on reading.", &half, conn(&half.Conn)),
		scalarVerb(to, "reset", "Ends a connection with a RST.", &rst, conn(&rst.Conn)),
		scalarVerb(to, "vanish", "Drops a connection without a packet, as a machine that loses power.", &gone, conn(&gone.Conn)),
		verb(to, "clock", "Advances the timestamp clock of a connection.", &tick, []field{
			{"conn", "The connection.", conn(&tick.Conn)},
			{"advance", "By how much.", duration(&tick.Advance)},
			{"back", "By how much it is set back, instead; the peer learns of it by the next segment.", duration(&tick.Back)},
			{"beyond", "The step whose connection has the clock that it is to be that much beyond; the server sends bytes for that.", text(&tick.Beyond)},
			{"behind", "The step whose connection has the clock that it is to be that much behind.", text(&tick.Behind)},
		}),
	}
}

// loadVerb is the field of a load.
func loadVerb(to *script.Action) field {
	var ld script.Load
	return verb(to, "load", "Makes many connections, at a rate that does not wait for outcomes.", &ld, []field{
		{"from", "The client, or a group of clients.", endpoint(&ld.From)},
		{"to", "The address and port to connect to.", endpoint(&ld.To)},
		{"each", "How many attempts each client makes.", number(&ld.Each)},
		{"rate", "How many attempts all clients begin in a second; without it, as fast as they can.", number(&ld.Rate)},
		{"for", "How long attempts begin, without \"each\".", duration(&ld.For)},
		{"in-flight", "How many are under way at once; 1000 without it.", number(&ld.InFlight)},
		{"then", "What becomes of each connection; without it, close.", named(&ld.Then, endingWords, endings)},
		{"ports", "IP_LOCAL_PORT_RANGE: the range of source ports.", ports(&ld.Ports.First, &ld.Ports.Last)},
	})
}

// listenVerb is the field of a listener.
func listenVerb(to *script.Action) field {
	var l script.Listen
	return verb(to, "listen", "Opens a listening socket.", &l, []field{
		{"node", "The node.", text(&l.Node)},
		{"port", "The port.", port(&l.Port)},
		{"at", "The name of the address, loopback, or all: all of IPv4, and all.ipv6 of IPv6; without it, all of both versions.", endpoint(&l.At)},
		{"backlog", "The argument of listen(2); without it, as large as net.core.somaxconn.", numberOrNil(&l.Backlog)},
		{"accept-after", "When the program begins to accept.", duration(&l.AcceptAfter)},
		{"accept", "How many connections it accepts, or never; without it, all.", accepted(&l.Accept)},
		{"serve", "What it does with a connection; without it, it reads until the client's end and closes.",
			words(&l.Serve, string(script.Hold), string(script.CloseFirst), string(script.ResetAll), string(script.ServeHTTP))},
		{"http", "The responses of \"serve: http\".", group("http", []field{
			{"status", "The status code; 200 without it.", number(&l.Web.Status)},
			{"body", "The size of the body in bytes.", number(&l.Web.Body)},
			{"reads", "How many bytes of a request are read before the answer; without it, all.", number(&l.Web.Reads)},
			{"last", "After how many responses the connection is closed.", number(&l.Web.Last)},
			{"delay", "The time between a request and its response.", duration(&l.Web.Delay)},
			{"framing", "What marks the end of a body: chunked or close; without it, its length.", words(&l.Web.Framing, "chunked", "close")},
			{"cut", "After how many bytes of its body the last response stops.", number(&l.Web.Cut)},
			{"end", "How the server ends a connection: reset, close-after-client; without it, by a FIN.", words(&l.Web.End, "reset", "close-after-client")},
			{"join-fin", "Whether that FIN is in the segment of the last byte.", truth(&l.Web.JoinFIN)},
			{"idle", "How long a connection may wait for a request.", duration(&l.Web.Idle)},
		})},
		{"no-reuse-addr", "Leaves out SO_REUSEADDR, which servers usually set.", truth(&l.NoReuseAddr)},
		{"reuse-port", "SO_REUSEPORT.", truth(&l.ReusePort)},
		{"only-v6", "IPV6_V6ONLY.", truth(&l.OnlyV6)},
		{"fast-open", "TCP_FASTOPEN: how many connections that began so may wait for their handshake.", number(&l.FastOpen)},
		{"mptcp", "Whether the socket is one of Multipath TCP.", truth(&l.MPTCP)},
	})
}
