package nat

import (
	"net/netip"
	"slices"
	"strings"

	"twlab/harness/kernel"
	"twlab/harness/lab"
	"twlab/harness/observe"
	"twlab/harness/tcp"
	"twlab/scenarios/claim"
	"twlab/scenarios/situation"
)

// portReuseSeen is what was seen of the new connection.
type portReuseSeen struct {
	outcome tcp.Result
	syns    observe.SYNAccount
	// sockets are the balancer's sockets of the earlier connections just before the new
	// one; flows are the gateway's entries when the new one had its outcome.
	sockets observe.Sockets
	flows   []observe.Flow
	moved   map[lab.Role]kernel.Counters
}

// as is the source address and port of the first SYN that left the gateway; the zero value
// if none did.
func (s portReuseSeen) as() netip.AddrPort {
	for _, syn := range s.syns.SYNs {
		if syn.LeftGateway {
			return syn.As
		}
	}
	return netip.AddrPort{}
}

// Which port the gateway has given.
const (
	portSame = "same" // that of an earlier connection
	portOwn  = "own"  // the client's own, which no earlier connection had
	portNew  = "new"  // another one
	portNone = "none" // no SYN has left the gateway
)

func (g *portReuse) portGiven(as netip.AddrPort) string {
	switch {
	case !as.IsValid():
		return portNone
	case slices.Contains(g.outs, as):
		return portSame
	case as.Port() == g.from:
		return portOwn
	default:
		return portNew
	}
}

// observations notes what was seen under the names that rules use.
func (g *portReuse) observations(seen portReuseSeen) claim.Seen {
	s := claim.Seen{Moved: seen.moved}
	as := seen.as()
	s.Note("outcome", string(seen.outcome.Outcome))
	s.Note("port", g.portGiven(as))
	s.Note("met", seen.met(as))
	var answers []string
	for _, syn := range seen.syns.SYNs {
		answer := string(syn.Answer)
		if answer == "" {
			answer = "nothing"
		}
		answers = append(answers, answer)
	}
	s.Note("first answer", answers[0])
	s.Note("answers", strings.Join(answers, ", "))
	s.Count("syns", int64(seen.syns.Sent))
	s.Count("syns past the gateway", int64(seen.syns.LeftGateway))
	s.Count("syns at the balancer", int64(seen.syns.Reached))
	s.Count("paws rejects", kernel.PAWSRejects(seen.moved[lab.Balancer]))
	s.Note("owner", g.owner(seen))
	s.Note("way", seen.syns.String())
	return s
}

// met is the state that the balancer had for the five-tuple of the SYN.
func (s portReuseSeen) met(as netip.AddrPort) string {
	if !as.IsValid() {
		return "nobody"
	}
	for _, earlier := range s.sockets.Between(netip.AddrPort{}, as) {
		return string(earlier.State)
	}
	return "nothing"
}

// owner tells which connection's entry at the gateway has the port that the new
// connection got. If it got none, it is about the port of the first earlier connection.
func (g *portReuse) owner(seen portReuseSeen) string {
	port := seen.as()
	if !port.IsValid() {
		port = g.outs[0]
	}
	for _, f := range seen.flows {
		switch {
		case f.Reply.Dst != port:
		case f.Original.Src == seen.outcome.Local:
			return "the new connection"
		default:
			return "an earlier connection"
		}
	}
	return "nobody"
}

// portReuseEvidence is what [portReuse.observations] notes of the new connection.
func portReuseEvidence() []claim.Evidence {
	return []claim.Evidence{
		situation.OutcomeEvidence,
		{Name: "port", Unit: "same, own, new or none", Means: "which port the gateway gave: that of an earlier connection, the client's own, another one, or none"},
		{Name: "met", Unit: "a state, nothing or nobody", Means: "the state that the balancer had for that five-tuple; nobody if no SYN left the gateway"},
		{Name: "first answer", Unit: "a segment", Means: "how the balancer answered the first SYN"},
		situation.AnswersEvidence, situation.SYNsEvidence,
		{Name: "syns past the gateway", Unit: situation.SYNs, Means: "how many SYNs left the gateway"},
		{Name: "syns at the balancer", Unit: situation.SYNs, Means: "how many SYNs arrived at the balancer", Aside: true},
		situation.PAWSRejectsEvidence,
		{Name: "owner", Unit: "whose", Means: "whose entry at the gateway has the port afterwards: that of the new connection, of an earlier one, or nobody's"},
		{Name: "way", Unit: "text", Means: "every SYN of the attempt, how far it got, and how it was answered", Aside: true},
	}
}
