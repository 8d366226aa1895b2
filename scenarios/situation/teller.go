package situation

import (
	"strings"

	"twlab/harness/kernel"
	"twlab/harness/script"
	"twlab/harness/tcp"
	"twlab/harness/topo"
	"twlab/scenarios/claim"
)

// SetCounter expects a change of a counter.
func SetCounter(e *script.Expectation, node, counter string, b script.Bound) {
	if e.Counters == nil {
		e.Counters = map[string]map[string]script.Bound{}
	}
	if e.Counters[node] == nil {
		e.Counters[node] = map[string]script.Bound{}
	}
	e.Counters[node][counter] = b
}

// answered are the answers to the SYNs as they reach the client: none where the balancer gave
// none.
func answered(text string) (all []string) {
	for answer := range strings.SplitSeq(text, ", ") {
		switch answer {
		case "SYN-ACK", "ACK", "RST":
		default:
			answer = "none"
		}
		all = append(all, answer)
	}
	return all
}

// tellPAWS expects rejects of older timestamps by the counter that the balancer's kernel has for
// them (kernel.PAWSReject).
func tellPAWS(at string, b script.Bound, to *[]script.Expectation) {
	since := kernel.PAWSTimeWait.In.From.String()
	for _, one := range []struct {
		when    script.Condition
		counter kernel.Counter
	}{
		{script.Condition{At: at, Since: since}, kernel.PAWSTimeWait},
		{script.Condition{At: at, Before: since}, kernel.PAWSEstablished},
	} {
		e := script.Expectation{When: one.when}
		SetCounter(&e, at, one.counter.Name, b)
		*to = append(*to, e)
	}
}

// TellPAWS is the teller of rejects of older timestamps at the balancer.
func TellPAWS(e claim.Expectation, to *[]script.Expectation) bool {
	bound, said := BoundOf(e)
	if said {
		tellPAWS(string(topo.Balancer), bound, to)
	}
	return said
}

// TellOutcomes is the teller of a number of attempts with an outcome.
func TellOutcomes(outcome tcp.Outcome) Teller {
	return func(e claim.Expectation, to *[]script.Expectation) bool {
		bound, said := BoundOf(e)
		if (*to)[0].Outcomes == nil {
			(*to)[0].Outcomes = map[string]script.Bound{}
		}
		(*to)[0].Outcomes[string(outcome)] = bound
		return said
	}
}

// LoadTellers are those of [LoadEvidence]. What is calculated from several counters has none.
func LoadTellers() map[string]Teller {
	return map[string]Teller{
		"connected": TellOutcomes(tcp.Connected), "timed out": TellOutcomes(tcp.TimedOut),
		"late": func(e claim.Expectation, to *[]script.Expectation) bool {
			bound, said := BoundOf(e)
			(*to)[0].Late = &bound
			return said
		},
		RefusedBy(ByClient):   TellOutcomes(tcp.NoPort),
		RefusedBy(ByEndpoint): TellOutcomes(tcp.Refused),
		RefusedBy(ByGateway):  AsCounter(string(topo.Gateway), kernel.NATClashes.Name),
		RefusedBy(ByQueue):    AsCounter(string(topo.Balancer), kernel.ListenOverflows.Name),
		RefusedBy(ByClock):    TellPAWS,
	}
}

// Gone expects that a node has no socket with these ends, in any state.
func Gone(node string, local, remote script.Endpoint) []script.Expectation {
	return []script.Expectation{{Sockets: []script.SocketCount{{Node: node, Local: local, Remote: remote, Count: script.Exactly(0)}}}}
}

// Has expects that a node has one socket in a state with these ends.
func Has(node, state string, local, remote script.Endpoint) []script.Expectation {
	return []script.Expectation{{Sockets: []script.SocketCount{{Node: node, State: state, Local: local, Remote: remote, Count: script.Exactly(1)}}}}
}

// Connects expects that the attempt of a step connects.
func Connects() []script.Expectation { return []script.Expectation{{Outcome: "Connected"}} }

// Unsaid is the teller of what files have no word for.
func Unsaid(claim.Expectation, *[]script.Expectation) bool { return false }

// ByTheSteps is the teller of what the steps expect before the last one.
func ByTheSteps(claim.Expectation, *[]script.Expectation) bool { return true }

// TellTimestamps is the teller of whether a connection has timestamps.
func TellTimestamps(e claim.Expectation, to *[]script.Expectation) bool {
	if len(e.OneOf) != 1 {
		return false
	}
	has := e.OneOf[0] == claim.YesNo(true)
	(*to)[0].Timestamps = &has
	return true
}

// AsSockets is the teller of a number of sockets.
func AsSockets(of script.SocketCount) Teller {
	return func(e claim.Expectation, to *[]script.Expectation) (said bool) {
		one := of
		if one.Count, said = BoundOf(e); said {
			(*to)[0].Sockets = append((*to)[0].Sockets, one)
		}
		return said
	}
}

// AsCounter is the teller of a number that a counter of a node has.
func AsCounter(node, counter string) Teller {
	return func(e claim.Expectation, to *[]script.Expectation) bool {
		bound, said := BoundOf(e)
		if said {
			SetCounter(&(*to)[0], node, counter, bound)
		}
		return said
	}
}
