package scriptfile

import (
	"go.yaml.in/yaml/v3"

	"twlab/harness/script"
)

// expectations reads one expectation, or a list of them.
func (r *reader) expectations(n *yaml.Node, to *[]script.Expectation) {
	if n == nil {
		r.expectation(nil)
		return
	}
	r.items(n, "expect", true, func(one *yaml.Node) bool {
		e, applies := r.expectation(one)
		if applies {
			*to = append(*to, e)
		}
		return applies
	})
}

func (r *reader) expectation(n *yaml.Node) (e script.Expectation, applies bool) {
	applies = true
	r.mapping(n, "\"expect\"", r.expectationFields(&e, &applies))
	return e, applies
}

// expectationNodes writes expectations: one, or a list of them.
func (r *reader) expectationNodes(all []script.Expectation) *yaml.Node {
	applies := true
	return oneOrList(all, func(e script.Expectation) *yaml.Node { return mappingNode(r.expectationFields(&e, &applies)) })
}

func (r *reader) expectationFields(e *script.Expectation, applies *bool) []field {
	return append([]field{
		{"when", "Where it applies.", r.when(&e.When, applies)},
		{"within", "How long what it asks of the network may take.", duration(&e.Within)},
		{"never", "How long what it asks of the network must not come about.", duration(&e.Never)},
		{"outcome", "The outcome: Connected, Refused, Reset, TimedOut, NoPort, PortInUse, NoAddress, Denied, Unreachable; Listening. A listener that is not opened, and whose outcome nobody expects, ends the run.", text(&e.Outcome)},
		{"outcomes", "The numbers of several attempts by outcome.", numbersOf(&e.Outcomes)},
		{"errno", "The kernel's error: ECONNRESET, or none.", text(&e.Errno)},
		{"syns", "How many SYNs were sent.", bound(&e.SYNs)},
		{"late", "How many attempts of a load connected after repeating their SYN.", bound(&e.Late)},
		{"took", "The time to the outcome.", times(&e.Took)},
		{"local", "Where the attempt came from.", endpoint(&e.Local)},
		{"timestamps", "Whether the connection has TCP timestamps.", truthOrNil(&e.Timestamps)},
		{"same-clock", "The earlier step whose connection has its timestamps from the same clock.", text(&e.SameClock)},
		{"other-clock", "The earlier step whose connection has its timestamps from a clock that has nothing in common.", text(&e.OtherClock)},
		{"answers", "What reached the client after each SYN: SYN-ACK, ACK, RST or none.", texts(&e.Answers)},
		{"disposition", "What became of the last request: whole, unanswered, truncated, broken, malformed, unsent.", text(&e.Disposition)},
		{"dispositions", "The numbers of several exchanges by disposition.", numbersOf(&e.Dispositions)},
		{"status", "The status code of the last response.", bound(&e.Status)},
		{"connection", "What the last response says of the connection: close, or none.", text(&e.Connection)},
		{"sent", "How many bytes the kernel took.", bound(&e.Sent)},
		{"received", "How many bytes were read.", bound(&e.Received)},
		{"closed-first", "The node that sent the first FIN or RST.", text(&e.ClosedFirst)},
		{"cause", "Why attempts failed, came late, broke or stalled (twlab explain lists the causes), or none.", text(&e.Cause)},
		{"proof", "How sure the cause must be: proved.", text(&e.Proof)},
		{"forgotten", "How many conntrack entries were deleted.", bound(&e.Forgotten)},
		{"dropped", "How many packets a drop has lost.", bound(&e.Dropped)},
		{"holder", "The socket that has the port which is in use.", value{"mapping", mapping, func(r *reader, n *yaml.Node) {
			e.Holder = &script.SocketCount{Count: script.AtLeast(1)}
			r.mapping(n, "\"holder\"", socketFields(e.Holder, false))
		}, func() *yaml.Node {
			if e.Holder == nil {
				return nil
			}
			return mappingNode(socketFields(e.Holder, false))
		}}},
	}, r.networkFields(e)...)
}

// numbersOf takes the bounds of names.
func numbersOf(to *map[string]script.Bound) value {
	return value{"mapping of names to numbers", namesOf(boundForm), func(r *reader, n *yaml.Node) {
		if n == nil {
			return
		}
		*to = map[string]script.Bound{}
		r.entries(n, "this", func(key, val *yaml.Node) { (*to)[key.Value] = r.bound(val) })
	}, func() *yaml.Node {
		return unlessEmpty(namesNode(*to, func(b script.Bound) *yaml.Node { return scalarNode(b.String()) }))
	}}
}

// bound reads the bound of a name.
func (r *reader) bound(n *yaml.Node) (b script.Bound) {
	boundOf(&b).read(r, n)
	return b
}

// socketFields are those of sockets; timer is whether their timers are known.
func socketFields(s *script.SocketCount, timer bool) []field {
	all := []field{
		{"node", "The node.", text(&s.Node)},
		{"state", "The state: TIME_WAIT.", text(&s.State)},
		{"local", "Its local end.", endpoint(&s.Local)},
		{"remote", "Its remote end.", endpoint(&s.Remote)},
		{"count", "How many.", boundOf(&s.Count)},
	}
	if timer {
		all = append(all, field{"expires", "When its timer fires, from now on.", times(&s.Expires)})
	}
	return all
}

func flowCountFields(f *script.FlowCount) []field {
	return append([]field{
		{"node", "The node.", text(&f.Node)}, {"count", "How many.", boundOf(&f.Count)},
	}, flowFields(&f.Flow)...)
}

// networkFields are what is expected of the network.
func (r *reader) networkFields(e *script.Expectation) []field {
	byNode := func(to *map[string]map[string]script.Bound, what string, text func(script.Bound) string) value {
		return value{"mapping of nodes to mappings of names to numbers", namesOf(namesOf(boundForm)), func(r *reader, n *yaml.Node) {
			if n == nil {
				return
			}
			*to = map[string]map[string]script.Bound{}
			r.entries(n, what, func(node, names *yaml.Node) {
				(*to)[node.Value] = map[string]script.Bound{}
				r.entries(names, what+" of "+node.Value, func(key, val *yaml.Node) { (*to)[node.Value][key.Value] = r.bound(val) })
			})
		}, func() *yaml.Node {
			return unlessEmpty(namesNode(*to, func(all map[string]script.Bound) *yaml.Node {
				return namesNode(all, func(b script.Bound) *yaml.Node { return scalarNode(text(b)) })
			}))
		}}
	}
	return []field{
		{"counters", "How much counters have risen since the step began.", byNode(&e.Counters, "counters", change)},
		{"rules", "How many packets rules have matched, by the ids of their steps.", byNode(&e.Rules, "rules", script.Bound.String)},
		{"flows", "Conntrack entries: one mapping, or a list of them.", value{"mapping, or list of mappings", oneOrListOf(mapping), func(r *reader, n *yaml.Node) {
			read := func(one *yaml.Node) bool {
				f := script.FlowCount{Count: script.AtLeast(1)}
				r.mapping(one, "\"flows\"", flowCountFields(&f))
				e.Flows = append(e.Flows, f)
				return true
			}
			if n == nil {
				read(nil)
				return
			}
			r.items(n, "flows", true, read)
		}, func() *yaml.Node {
			return oneOrList(e.Flows, func(f script.FlowCount) *yaml.Node { return mappingNode(flowCountFields(&f)) })
		}}},
		{"sockets", "Sockets: one mapping, or a list of them.", value{"mapping, or list of mappings", oneOrListOf(mapping), func(r *reader, n *yaml.Node) {
			read := func(one *yaml.Node) bool {
				s := script.SocketCount{Count: script.AtLeast(1)}
				r.mapping(one, "\"sockets\"", socketFields(&s, true))
				e.Sockets = append(e.Sockets, s)
				return true
			}
			if n == nil {
				read(nil)
				return
			}
			r.items(n, "sockets", true, read)
		}, func() *yaml.Node {
			return oneOrList(e.Sockets, func(s script.SocketCount) *yaml.Node { return mappingNode(socketFields(&s, true)) })
		}}},
	}
}
