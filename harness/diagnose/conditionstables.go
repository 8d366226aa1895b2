package diagnose

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
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
		f := c.is(recording.OfRules, hits == n, "rules with %s of %s matched %d packets%s, SYNs: %d", strings.Join(words, " "), orNone(node), hits, quoted(rule), n)
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
		f := c.is(recording.OfRules, hits == 0, "rules with %s of %s matched %d packets%s", strings.Join(words, " "), orNone(node), hits, quoted(rule))
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
		if !ok {
			f.Is = Unknown
		}
		return f
	}
}

// listens says that somebody listens on the port at the server.
func listens(c *Case) Fact {
	node, at, ok := c.server()
	yes := slices.ContainsFunc(c.after[node].Sockets, func(s recording.Socket) bool {
		return s.State == "LISTEN" && s.Local.Port() == at.src.Port()
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

// rangeHeld says that sockets of the client to this destination hold its whole range of ports.
func rangeHeld(c *Case) Fact {
	ports, err := portsOf(c.r.Nodes[c.attempt.Node])
	held := heldPorts(c.after[c.attempt.Node].Sockets, ports)[c.attempt.Remote]
	f := c.is(recording.OfSockets, held == len(ports), "sockets of %s to %v hold %d of its %d ports", c.attempt.Node, c.attempt.Remote, held, len(ports))
	if err != nil {
		f.Is = Unknown
	}
	return f
}

// heldPorts is how many of some ports sockets hold, by destination.
func heldPorts(sockets []recording.Socket, ports map[uint16]bool) map[netip.AddrPort]int {
	seen := map[ends]bool{}
	held := map[netip.AddrPort]int{}
	for _, s := range sockets {
		if way := (ends{s.Local, s.Remote}); ports[s.Local.Port()] && s.State != "LISTEN" && !seen[way] {
			seen[way] = true
			held[s.Remote]++
		}
	}
	return held
}

// portsOf are the ports that the kernel of a node gives to its connections: its range without
// those that are reserved.
func portsOf(n recording.Node) (map[uint16]bool, error) {
	var first, last int
	if _, err := fmt.Sscan(n.Settings[recording.PortRange].Value, &first, &last); err != nil {
		return nil, fmt.Errorf("range of local ports: %w", err)
	}
	ports := map[uint16]bool{}
	for p := max(first, 0); p <= min(last, 65535); p++ {
		ports[uint16(p)] = true //nolint:gosec // within its limits
	}
	for _, part := range strings.FieldsFunc(n.Settings[recording.ReservedPorts].Value, func(r rune) bool { return r == ',' }) {
		from, to, several := strings.Cut(part, "-")
		if !several {
			to = from
		}
		a, errA := strconv.ParseUint(from, 10, 16)
		b, errB := strconv.ParseUint(to, 10, 16)
		if err := errors.Join(errA, errB); err != nil {
			return nil, fmt.Errorf("reserved ports: %w", err)
		}
		for p := a; p <= b; p++ {
			delete(ports, uint16(p)) //nolint:gosec // parsed as such
		}
	}
	return ports, nil
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
	return c.is(recording.OfFlows, found, "%s has the entry %v > %v in %s, without a reply and without translation", orNone(node), f.From, f.To, orNone(f.State))
}

// ruleUnasked says that the node with that entry has a DNAT rule for the destination, which
// matched no packet.
func ruleUnasked(c *Case) Fact {
	node, f, found := c.stale()
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
	fact := c.is(recording.OfRules, found && rules > 0 && hits <= late, "DNAT rules of %s for %v: %d, which matched %d packets", orNone(node), f.To.Addr(), rules, hits)
	if c.unknown(recording.OfFlows) {
		fact.Is = Unknown // for which destination is not known
	}
	return fact
}

// invalid says that rules which drop what conntrack calls INVALID matched packets at some node,
// and which.
func invalid(c *Case) Fact {
	for _, name := range slices.Sorted(maps.Keys(c.after)) {
		if hits, rule := c.hits(name, "INVALID", "-j DROP"); hits > 0 {
			return c.is(recording.OfRules, true, "at %s %d packets were INVALID%s", name, hits, quoted(rule))
		}
	}
	return c.is(recording.OfRules, false, "no rule that drops INVALID packets matched any")
}

// lastRuled says that rules which drop packets matched some at the node where the segment that
// was repeated ended.
func lastRuled(c *Case) Fact {
	n, last := c.repeated()
	hits, rule := c.hits(last.Node, "-j DROP")
	if hits == 0 {
		hits, rule = c.hits(last.Node, "-j REJECT")
	}
	return c.is(recording.OfRules, n > 0 && hits > 0, "rules of %s dropped %d packets%s", orNone(last.Node), hits, quoted(rule))
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
