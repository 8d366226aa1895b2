package diagnose

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"twlab/harness/recording"
)

// ruled says that rules of the node where the SYNs ended, whose text has all the words, have
// matched as many packets as there are SYNs.
func ruled(words ...string) Condition {
	return func(c *Case) Fact {
		node, _, ok := c.stop()
		hits, rule := c.hits(node, words...)
		n := uint64(c.sent())
		f := c.is(recording.OfRules, hits == n, "rules with %s of %s matched %s%s, SYNs: %d", strings.Join(words, " "), orNone(node), number(hits, "packet"), quoted(rule), n)
		if !ok || hits > n {
			f.Is = Unknown
		}
		return f
	}
}

func quoted(rule string) string {
	if rule == "" {
		return ""
	}
	return " (" + rule + ")"
}

// hits is how many packets the rules with all these words have matched during the attempt,
// and one of those rules.
func (c *Case) hits(node string, words ...string) (n uint64, rule string) {
	for _, r := range c.after[node].Rules {
		if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(r.Rule, w) }) {
			moved := r.Packets
			if i := slices.IndexFunc(c.before[node].Rules, func(b recording.Rule) bool {
				return b.IPVersion == r.IPVersion && b.Table == r.Table && b.Chain == r.Chain && b.Rule == r.Rule
			}); i >= 0 {
				moved -= c.before[node].Rules[i].Packets
			}
			if moved > 0 {
				rule = fmt.Sprintf("%s -A %s %s", r.Table, r.Chain, strings.TrimPrefix(r.Rule, "-A "+r.Chain+" "))
			}
			n += moved
		}
	}
	return n, rule
}

// unruled says that no rule with these words matched anything at the node where the SYNs ended.
func unruled(words ...string) Condition {
	return func(c *Case) Fact {
		node, _, ok := c.stop()
		hits, rule := c.hits(node, words...)
		f := c.is(recording.OfRules, hits == 0, "rules with %s of %s matched %s%s", strings.Join(words, " "), orNone(node), number(hits, "packet"), quoted(rule))
		if !ok {
			f.Is = Unknown
		}
		return f
	}
}

// had says that the server had a socket for the five-tuple before the first SYN came.
func had(states ...string) Condition {
	return func(c *Case) Fact {
		node, at, ok := c.server()
		state := ""
		for _, s := range c.before[node].Sockets {
			if s.Local == at.src && s.Remote == at.dst {
				state = s.State
			}
		}
		f := c.is(recording.OfSockets, slices.Contains(states, state), "before the SYN, %s had for %v and %v: %s", orNone(node), at.src, at.dst, orNone(state))
		if c.ofLoad {
			return c.hadInLoad(f, states)
		}
		if !ok {
			f.Is = Unknown
		}
		return f
	}
}

// hadInLoad is had, of an attempt among many: the tables were read before all of them, and not
// before this SYN. The kernel's own reason tells, where there is one.
func (c *Case) hadInLoad(f Fact, states []string) Fact {
	const older = "TCP_RFC7323_TW_PAWS" // tcp_timewait_state_process
	for _, e := range c.events {
		if e.Kind == "drop" && e.Flags == "S" && e.Reason == older {
			return c.is(recording.OfEvents, slices.Contains(states, "TIME_WAIT"), "%s dropped the SYN: %s in %s", e.Node, e.Reason, e.Place)
		}
	}
	f.Is = Unknown
	return f
}

// peerHadClosed says that the node that sent the RST had closed its socket before: a rule may
// have dropped its FIN before any tap saw it.
func peerHadClosed(c *Case) Fact {
	node, ok := c.resetFrom()
	state := ""
	for _, at := range c.during[:max(0, len(c.during)-1)] {
		for _, s := range at[node].Sockets {
			if c.tuples[ends{s.Remote, s.Local}] {
				state = s.State
			}
		}
	}
	closed := []string{"FIN_WAIT1", "FIN_WAIT2", "CLOSING", "TIME_WAIT"}
	f := c.is(recording.OfSockets, slices.Contains(closed, state), "before the request, %s had for this connection: %s", orNone(node), orNone(state))
	if !ok {
		f.Is = Unknown
	}
	return f
}

// unassassinated says that the server had a TIME_WAIT for the five-tuple before the first SYN,
// and still has it after an attempt that failed.
func unassassinated(c *Case) Fact {
	f := had("TIME_WAIT")(c)
	node, at, _ := c.server()
	still := slices.ContainsFunc(c.after[node].Sockets, func(s recording.Socket) bool {
		return s.State == "TIME_WAIT" && s.Local == at.src && s.Remote == at.dst
	})
	f.Says += fmt.Sprintf("; after the attempt it was still there: %v", still)
	if f.Is == True && (!still || c.symptom != Failed) {
		f.Is = False
	}
	return f
}

// listens says that somebody listens on the port at the server.
func listens(c *Case) Fact {
	node, at, ok := c.server()
	yes := slices.ContainsFunc(c.after[node].Sockets, func(s recording.Socket) bool {
		return s.State == "LISTEN" && s.Local.Port() == at.src.Port() && takes(s, at.src.Addr())
	})
	f := c.is(recording.OfSockets, yes, "somebody listens on port %d of %s", at.src.Port(), orNone(node))
	if !yes {
		f.Says = fmt.Sprintf("nobody listens on port %d of %s", at.src.Port(), orNone(node))
	}
	if !ok {
		f.Is = Unknown
	}
	return f
}

// takes reports whether a listener takes connections to an address.
func takes(s recording.Socket, to netip.Addr) bool {
	at := s.Local.Addr()
	switch {
	case !at.IsUnspecified():
		return at == to
	case to.Is4():
		return at.Is4() || !s.V6Only
	default:
		return at.Is6()
	}
}

// rangeHeld says that sockets of the client hold its whole range of ports. Those to this
// destination count, or all of them if bind(2) was to choose a port, which knows no destination.
func rangeHeld(c *Case) Fact {
	all, err := portsOf(c.r.Nodes[c.attempt.Node])
	sockets, to := c.after[c.attempt.Node].Sockets, "to "+c.attempt.Remote.String()
	held := heldPorts(sockets, all)[c.attempt.Remote]
	if c.attempt.Outcome == "PortInUse" {
		held, to = takenPorts(sockets, all), "to any destination"
	}
	asked := len(c.holders) > 0 // for the port that the program had named
	f := c.is(recording.OfSockets, held == all.size() && !asked, "sockets of %s %s hold %d of its %d ports", c.attempt.Node, to, held, all.size())
	if asked {
		f.Says = fmt.Sprintf("the program asked for port %d, and not for any", c.holders[0].Local.Port())
	}
	if err != nil {
		f.Is = Unknown
	}
	return f
}

// held says that a socket has the port.
func held(c *Case) Fact {
	says := "no socket was found that has the port"
	if len(c.holders) > 0 {
		says = fmt.Sprintf("%v is held by a socket in %s", c.holders[0].Local, c.holders[0].State)
	}
	return c.is(recording.OfSockets, len(c.holders) > 0, "%s", says)
}

// stale is a conntrack entry of the five-tuple that no answer has confirmed and that leaves the
// destination as it is.
func (c *Case) stale() (node string, f recording.Flow, found bool) {
	for _, states := range slices.Backward(c.during) {
		for _, name := range slices.Sorted(maps.Keys(states)) {
			for _, f := range states[name].Flows {
				if f.From == c.attempt.Local && f.To == c.attempt.Remote && f.At == f.To && !f.SeenReply {
					return name, f, true
				}
			}
		}
	}
	return "", f, false
}

// staleEntry says that there is such an entry.
func staleEntry(c *Case) Fact {
	node, f, found := c.stale()
	if !found {
		return c.is(recording.OfFlows, false, "no node has an entry of the five-tuple without a reply and without translation")
	}
	return c.is(recording.OfFlows, true, "%s has the entry %v > %v in %s, without a reply and without translation", node, f.From, f.To, orNone(f.State))
}

// ruleUnasked says that the node with that entry has a DNAT rule for the destination, which
// matched no packet.
func ruleUnasked(c *Case) Fact {
	node, f, found := c.stale()
	if !found {
		return c.noEntry()
	}
	hits, rules := uint64(0), 0
	for _, r := range c.after[node].Rules {
		if strings.Contains(r.Rule, "DNAT") && strings.Contains(r.Rule, f.To.Addr().String()) {
			rules++
		}
	}
	if rules > 0 {
		hits, _ = c.hits(node, "DNAT", f.To.Addr().String())
	}
	late := uint64(0) // the SYN that connected, after the entry had expired
	if c.accepted() {
		late = 1
	}
	return c.is(recording.OfRules, rules > 0 && hits <= late, "DNAT rules of %s for %v: %d, which matched %s", node, f.To.Addr(), rules, number(hits, "packet"))
}

// noEntry says that there is no entry whose rules could be looked at, which is unknown without
// entries.
func (c *Case) noEntry() Fact {
	f := c.is(recording.OfRules, false, "no node has such an entry, whose rules could be looked at")
	if c.unknown(recording.OfFlows) {
		f.Is = Unknown
	}
	return f
}

// invalid says that rules which drop what conntrack calls INVALID matched packets at some node,
// and which.
func invalid(c *Case) Fact {
	for _, name := range slices.Sorted(maps.Keys(c.after)) {
		if hits, rule := c.hits(name, "INVALID", "-j DROP"); hits > 0 {
			return c.is(recording.OfRules, true, "packets that were INVALID at %s: %d%s", name, hits, quoted(rule))
		}
	}
	return c.nobody(recording.OfRules, "no rule that drops INVALID packets matched any")
}

// rejectedThere says that a rule of the node that sent the RST rejects by RSTs, and matched.
func rejectedThere(c *Case) Fact {
	node, ok := c.resetFrom()
	hits, rule := c.hits(node, "-j REJECT", "tcp-reset")
	f := c.is(recording.OfRules, hits > 0, "rules with -j REJECT of %s, which sent the RST, matched %s%s", orNone(node), number(hits, "packet"), quoted(rule))
	if !ok {
		f.Is = Unknown
	}
	return f
}

// ruledAnywhere says that a rule of any node dropped or rejected packets.
func ruledAnywhere(c *Case) Fact {
	for _, name := range slices.Sorted(maps.Keys(c.after)) {
		for _, target := range []string{"-j DROP", "-j REJECT"} {
			if hits, rule := c.hits(name, target); hits > 0 {
				return c.is(recording.OfRules, true, "rules with %s of %s matched %s%s", target, name, number(hits, "packet"), quoted(rule))
			}
		}
	}
	return c.nobody(recording.OfRules, "no rule dropped or rejected a packet")
}

// acksRuled says that rules of the node where all bare ACKs of the server ended dropped as many
// packets.
func acksRuled(c *Case) Fact {
	ended := c.endedACKs()
	sent, _ := c.challenged()
	where := ""
	for _, l := range ended {
		if where != "" && where != l.Node {
			return c.is(recording.OfRules, false, "the server's bare ACKs ended at several nodes")
		}
		where = l.Node
	}
	hits, rule := c.hits(where, "-j DROP")
	n := uint64(len(ended))
	return c.is(recording.OfRules, n > 0 && len(ended) == sent && hits == n, "rules of %s dropped %d packets%s; of the server's %d bare ACKs %d ended there", orNone(where), hits, quoted(rule), sent, n)
}

// lastRuled says that rules which drop packets matched some at the node where the segment that
// was repeated ended.
func lastRuled(c *Case) Fact {
	n, last := c.repeated()
	hits, rule := c.hits(last.Node, "-j DROP")
	if hits == 0 {
		hits, rule = c.hits(last.Node, "-j REJECT")
	}
	return c.is(recording.OfRules, n > 0 && hits > 0, "rules of %s dropped %s%s", orNone(last.Node), number(hits, "packet"), quoted(rule))
}

// entry is the conntrack entry of the five-tuple that leads to another destination, made before
// the attempt and without an answer or of a connection that has ended.
func (c *Case) entry() (node string, f recording.Flow, found bool) {
	for _, name := range slices.Sorted(maps.Keys(c.before)) {
		for _, f := range c.before[name].Flows {
			if f.From == c.attempt.Local && f.To == c.attempt.Remote && f.At != f.To {
				return name, f, true
			}
		}
	}
	return "", f, false
}

// staleBackend says that there was such an entry before the first SYN.
func staleBackend(c *Case) Fact {
	node, f, found := c.entry()
	if !found {
		return c.is(recording.OfFlows, false, "before the SYN no node had an entry of the five-tuple that leads elsewhere")
	}
	return c.is(recording.OfFlows, true, "before the SYN %s had the entry %v > %v in %s, which leads to %v", node, f.From, f.To, orNone(f.State), f.At)
}

// backendUnnamed says that the node's DNAT rules for the destination do not name the server of
// that entry, and matched nothing.
func backendUnnamed(c *Case) Fact {
	node, f, found := c.entry()
	if !found {
		return c.noEntry()
	}
	rules, named := 0, false
	for _, r := range c.after[node].Rules {
		if strings.Contains(r.Rule, "DNAT") && strings.Contains(r.Rule, f.To.Addr().String()) {
			rules++
			named = named || strings.Contains(r.Rule, f.At.Addr().String())
		}
	}
	hits := uint64(0)
	if rules > 0 {
		hits, _ = c.hits(node, "DNAT", f.To.Addr().String())
	}
	return c.is(recording.OfRules, rules > 0 && !named && hits == 0, "DNAT rules of %s for %v: %d, which matched %s; one of them names %v: %v", node, f.To.Addr(), rules, number(hits, "packet"), f.At.Addr(), named)
}

// ownSource says that a node has an entry that leads back to the client, with the client's own
// address as its source.
func ownSource(c *Case) Fact {
	from := c.attempt.Local
	for _, states := range slices.Backward(c.during) {
		for _, name := range slices.Sorted(maps.Keys(states)) {
			for _, f := range states[name].Flows {
				if f.From == from && f.To == c.attempt.Remote && f.As.Addr() == from.Addr() && f.At.Addr() == from.Addr() {
					return c.is(recording.OfFlows, true, "%s leads %v > %v back to %v, with its own address as the source", name, f.From, f.To, f.At)
				}
			}
		}
	}
	return c.is(recording.OfFlows, false, "no node has an entry that leads the connection back to its client")
}
