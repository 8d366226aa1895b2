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
	fields := []field{
		{"id", "The name by which later steps refer to it.", text(&s.ID)},
		{"after", "The time since the step before it ended.", duration(&s.After)},
		{"background", "Whether the next step begins at once; a later \"await\" waits for the end.", truth(&s.Background)},
		{"when", "Where the step applies.", r.when(&s.When, &applies)},
		{"expect", "What is expected: one mapping, or a list of them.", value{"mapping, or list of mappings", func(r *reader, n *yaml.Node) { r.expectations(n, &s.Expect) }}},
	}
	for _, v := range r.verbs(&s.Do) {
		verbs = append(verbs, v.key)
		fields = append(fields, v)
	}
	there := r.mapping(n, "a step", fields)
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

// when reads a condition: parameters decide at once, kernels later.
func (r *reader) when(to *script.Condition, applies *bool) value {
	return value{"mapping", func(r *reader, n *yaml.Node) {
		fields := []field{
			{"at", "The node whose kernel decides; it may be left out if all have the same kernel.", text(&to.At)},
			{"since", "The first release of the kernel to which it applies: 5.14.", text(&to.Since)},
			{"before", "The first release to which it does not apply.", text(&to.Before)},
			{"feature", "A feature that the kernel must have; \"twlab doctor\" lists them.", text(&to.Feature)},
			{"without", "A feature that the kernel must lack.", text(&to.Without)},
		}
		for name, is := range r.values {
			fields = append(fields, field{name, "", value{"value of a parameter", func(r *reader, n *yaml.Node) {
				r.used[name] = true
				if n.Kind != yaml.ScalarNode {
					r.wrong(n, "want a value of the parameter %s", name)
				} else if n.Value != is {
					*applies = false
				}
			}}})
		}
		r.mapping(n, "\"when\"", fields)
	}}
}

// verb makes the field of a verb with several keys.
func verb[A script.Action](to *script.Action, key, means string, a *A, fields []field) field {
	return field{key, means, value{"mapping", func(r *reader, n *yaml.Node) {
		r.mapping(n, strconv.Quote(key), fields)
		*to = *a
	}}}
}

// scalarVerb makes the field of a verb with one value.
func scalarVerb[A script.Action](to *script.Action, key, means string, a *A, of value) field {
	return field{key, means, value{of.takes, func(r *reader, n *yaml.Node) {
		of.read(r, n)
		*to = *a
	}}}
}

// verbs are the fields of all verbs.
func (r *reader) verbs(to *script.Action) []field {
	return slices.Concat(r.socketVerbs(to), r.faultVerbs(to), programVerbs(to))
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
		{"ports", "IP_LOCAL_PORT_RANGE: the range of source ports.", ports(&o.Ports.First, &o.Ports.Last)},
		{"no-delay", "TCP_NODELAY: each write is a segment of its own.", truth(&o.NoDelay)},
		{"user-timeout", "TCP_USER_TIMEOUT.", duration(&o.UserTimeout)},
		{"keep-idle", "SO_KEEPALIVE, and its idle time.", duration(&o.KeepIdle)},
		{"keep-interval", "The time between keep-alive probes.", duration(&o.KeepInterval)},
		{"keep-count", "How many probes without an answer end the connection.", number(&o.KeepCount)},
	}
}

func (r *reader) socketVerbs(to *script.Action) []field {
	var (
		l    script.Listen
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
		verb(to, "listen", "Opens a listening socket.", &l, []field{
			{"node", "The node.", text(&l.Node)},
			{"port", "The port.", port(&l.Port)},
			{"at", "The name of the address; without it, all.", text(&l.At)},
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
			})},
			{"no-reuse-addr", "Leaves out SO_REUSEADDR, which servers usually set.", truth(&l.NoReuseAddr)},
			{"reuse-port", "SO_REUSEPORT.", truth(&l.ReusePort)},
			{"only-v6", "IPV6_V6ONLY.", truth(&l.OnlyV6)},
		}),
		verb(to, "connect", "Makes a connection.", &c, append([]field{
			{"from", "The client, with a port if it matters.", endpoint(&c.From)},
			{"to", "The address and port to connect to.", endpoint(&c.To)},
			{"count", "How many attempts each client makes at once.", number(&c.Count)},
			{"then", "What becomes of the connection; without it, close.", named(&c.Then, endingWords, endings)},
			{"isn", "The initial sequence number.", number32(&c.ISN)},
		}, optionFields(&c.Options)...)),
		verb(to, "exchange", "Makes HTTP requests.", &x, append([]field{
			{"from", "The client of a new connection.", endpoint(&x.From)},
			{"to", "The address and port of a new connection.", endpoint(&x.To)},
			{"conn", "The step whose connection is used instead.", text(&x.Conn)},
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
		scalarVerb(to, "close", "Closes a connection: a FIN, or a RST if data was not read.", &cl, conn(&cl.Conn)),
		scalarVerb(to, "half-close", "Sends a FIN and goes on reading.", &half, conn(&half.Conn)),
		scalarVerb(to, "reset", "Ends a connection with a RST.", &rst, conn(&rst.Conn)),
		scalarVerb(to, "vanish", "Drops a connection without a packet, as a machine that loses power.", &gone, conn(&gone.Conn)),
		verb(to, "clock", "Advances the timestamp clock of a connection.", &tick, []field{
			{"conn", "The connection.", conn(&tick.Conn)},
			{"advance", "By how much.", duration(&tick.Advance)},
		}),
	}
}

func (r *reader) faultVerbs(to *script.Action) []field {
	var (
		add    script.AddRule
		remove script.RemoveRule
		drop   script.Drop
		link   script.SetLink
		forget script.ForgetFlows
		set    script.Set
	)
	return []field{
		verb(to, "add-rule", "Adds an iptables rule.", &add, []field{
			{"node", "The node.", text(&add.Node)},
			{"rule", "Table, chain and rule: nat PREROUTING -d {vip} -j DNAT --to-destination {web}:80.", value{"text", func(r *reader, n *yaml.Node) {
				if n == nil {
					return
				}
				if t, ok := r.scalar(n, "text"); ok {
					add.Table, add.Chain, add.Spec = r.rule(n, t)
				}
			}}},
		}),
		scalarVerb(to, "remove-rule", "Removes the rule, or ends the drop, of the step of this id.", &remove, text(&remove.Step)),
		verb(to, "drop", "Loses packets at a node.", &drop, []field{
			{"node", "The node.", text(&drop.Node)},
			{"in", "The neighbour that the packets come from.", text(&drop.In)},
			{"out", "The neighbour that they are for.", text(&drop.Out)},
			{"flags", "TCP flags that they have: SYN,ACK.", text(&drop.Flags)},
			{"from", "Their source.", endpoint(&drop.From)},
			{"to", "Their destination.", endpoint(&drop.To)},
			{"first", "After how many packets it ends.", number(&drop.First)},
			{"for", "After which time it ends.", duration(&drop.For)},
		}),
		verb(to, "link", "Takes a link down, or up again.", &link, []field{
			{"between", "Its nodes: client -- gateway.", scalarOf("A -- B", func(t string) string {
				a, b, found := strings.Cut(t, "--")
				link.A, link.B = strings.TrimSpace(a), strings.TrimSpace(b)
				if !found || link.A == "" || link.B == "" {
					return strconv.Quote(t) + ": want two nodes, such as client -- gateway"
				}
				return ""
			})},
			{"up", "true or false.", truth(&link.Up)},
			{"for", "After which time it is as before.", duration(&link.For)},
		}),
		verb(to, "forget-flows", "Deletes conntrack entries.", &forget, append([]field{
			{"node", "The node.", text(&forget.Node)},
		}, flowFields(&forget.Flow)...)),
		verb(to, "set", "Sets sysctls.", &set, []field{
			{"node", "The node.", text(&set.Node)},
			{"sysctls", "net.some.name: value.", value{"mapping of names to values", func(r *reader, n *yaml.Node) {
				if n == nil {
					return
				}
				r.entries(n, "sysctls", func(key, val *yaml.Node) {
					if t, ok := r.scalar(val, "a value"); ok {
						set.Sysctls = append(set.Sysctls, script.Sysctl{Name: key.Value, Value: t})
					}
				})
			}}},
		}),
	}
}

func flowFields(f *script.Flow) []field {
	return []field{
		{"from", "The source of the first packet.", endpoint(&f.From)},
		{"to", "Its destination.", endpoint(&f.To)},
		{"as", "The source after translation.", endpoint(&f.As)},
		{"at", "The destination after translation.", endpoint(&f.At)},
		{"state", "The state of conntrack: SYN_SENT.", text(&f.State)},
	}
}

func programVerbs(to *script.Action) []field {
	var (
		stop   script.Stop
		start  script.Start
		reload script.Reload
		await  script.Await
		sleep  script.Sleep
	)
	return []field{
		verb(to, "stop", "Stops the program that balances at a node.", &stop, []field{
			{"node", "The node.", text(&stop.Node)},
			{"how", "soft serves the connections that there are; hard, without it, does not.", named(&stop.Soft, []string{"soft", "hard"}, []bool{true, false})},
		}),
		verb(to, "start", "Starts it again.", &start, []field{{"node", "The node.", text(&start.Node)}}),
		verb(to, "reload", "Makes it read its configuration again.", &reload, []field{
			{"node", "The node.", text(&reload.Node)},
			{"weights", "For ipvs, how many of the new connections servers get from now on: {\"web:80\": 0}; 1 for one that is not named.", weights(&reload.Weights)},
			{"without", "For ipvs, servers that get no more packets.", endpoints(&reload.Without)},
		}),
		scalarVerb(to, "await", "Waits for the end of a step in the background.", &await, text(&await.Step)),
		scalarVerb(to, "sleep", "Does nothing for a time.", &sleep, duration(&sleep.For)),
	}
}
