package diagnose

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"twlab/harness/recording"
)

// is makes a fact that evidence of a kind gives, or unknown without that evidence.
func (c *Case) is(by recording.Evidence, yes bool, format string, args ...any) Fact { //nolint:forbidigo // as Sprintf has them
	f := Fact{Is: truth(yes), By: by, Says: fmt.Sprintf(format, args...)}
	if c.unknown(by) {
		f.Is = Unknown
	}
	return f
}

// outcome is that of connect(2) or bind(2).
func outcome(want ...string) Condition {
	return func(c *Case) Fact {
		return c.is(recording.OfErrno, slices.Contains(want, c.attempt.Outcome), "the client's outcome is %s (%s)", orNone(c.attempt.Outcome), orNone(c.attempt.Errno))
	}
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// nothingSent says that no SYN was sent.
func nothingSent(c *Case) Fact {
	return c.is(recording.OfPackets, !slices.ContainsFunc(c.lives, isSYN), "%d SYNs were seen on any link", count(c.lives, isSYN))
}

func count(lives []Life, is func(Life) bool) (n int) {
	for _, l := range lives {
		if is(l) {
			n++
		}
	}
	return n
}

// stopped says that all SYNs came into one node that does not own their destination, and did
// not leave it.
func stopped(c *Case) Fact {
	node, end, ok := c.stop()
	yes := ok && len(c.syns) > 0 && end == Stopped
	return c.is(recording.OfPackets, yes, "all %d SYNs came into %s and did not leave it", len(c.syns), orNone(node))
}

// reachedServer says that all SYNs came into the node that owns their destination.
func reachedServer(c *Case) Fact {
	node, end, ok := c.stop()
	return c.is(recording.OfPackets, ok && len(c.syns) > 0 && end == Delivered, "all %d SYNs came into %s, which owns their destination", len(c.syns), orNone(node))
}

// counted says that a counter of the node where the SYNs ended rose by their number.
func counted(counter string) Condition {
	return func(c *Case) Fact {
		node, _, ok := c.stop()
		return c.exact(node, counter, ok, c.sent())
	}
}

// exact says that a counter of a node rose by n. By more, others may have had a part in it,
// and by less, some of the packets had another end.
func (c *Case) exact(node, counter string, known bool, n int) Fact {
	rose := c.rose(node, counter)
	f := c.is(recording.OfCounters, rose == uint64(n) && n > 0, "%s of %s rose by %d, packets to account for: %d", counter, orNone(node), rose, n)
	if !known || rose != 0 && rose != uint64(n) {
		f.Is = Unknown
	}
	return f
}

// still says that a counter of the node where the SYNs ended did not move.
func still(counter string) Condition {
	return func(c *Case) Fact {
		node, _, ok := c.stop()
		rose := c.rose(node, counter)
		f := c.is(recording.OfCounters, rose == 0, "%s of %s rose by %d", counter, orNone(node), rose)
		if !ok {
			f.Is = Unknown
		}
		return f
	}
}

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

// dropped says that the kernel of the node where the SYNs ended has dropped each of them for a
// reason.
func dropped(reason string) Condition {
	return func(c *Case) Fact {
		node, _, ok := c.stop()
		n, last := 0, recording.Event{}
		for _, e := range c.events {
			if e.Kind == "drop" && e.Node == node && e.Flags == "S" {
				last = e
				if e.Reason == reason {
					n++
				}
			}
		}
		says := fmt.Sprintf("%s dropped no SYN that its kernel tells of", orNone(node))
		if last.Kind != "" {
			says = fmt.Sprintf("%s dropped the SYN: %s in %s", node, last.Reason, last.Place)
		}
		f := c.is(recording.OfEvents, n > 0 && n == c.sent(), "%s", says)
		if !ok {
			f.Is = Unknown
		}
		return f
	}
}

// resetByServer says that the last RST to the client came from the node where its SYNs arrived.
func resetByServer(c *Case) Fact {
	node, ok := c.resetFrom()
	return c.is(recording.OfPackets, ok && c.isServer(node), "the RST came from %s", orNone(node))
}

// resetFrom is the node that sent the last RST that reached the client.
func (c *Case) resetFrom() (string, bool) {
	for _, l := range slices.Backward(c.lives) {
		if strings.Contains(l.First().Flags, "R") && l.End == Delivered && l.Node == c.attempt.Node {
			return l.First().Point, true
		}
	}
	return "", false
}

// isServer reports whether a node is where SYNs of the attempt arrived.
func (c *Case) isServer(node string) bool {
	return slices.ContainsFunc(c.lives, func(l Life) bool { return isSYN(l) && l.End == Delivered && l.Node == node })
}

// server is the node where the SYNs arrived, with the ends that the connection has there.
func (c *Case) server() (node string, at ends, ok bool) {
	if c.toItsNode() {
		return c.attempt.Node, ends{c.attempt.Remote, c.attempt.Local}, true
	}
	for _, l := range c.lives {
		if isSYN(l) && l.End == Delivered && l.Node != c.attempt.Node {
			return l.Node, ends{l.Last().Dst, l.Last().Src}, true
		}
	}
	return "", ends{}, false
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

// not turns a condition round.
func not(of Condition) Condition {
	return func(c *Case) Fact {
		f := of(c)
		switch f.Is {
		case True:
			f.Is = False
		case False:
			f.Is = True
		case Unknown:
		}
		return f
	}
}

// challenged is how many bare ACKs the server sent for the SYNs, and how many of them came to
// the client.
func (c *Case) challenged() (sent, came int) {
	node, at, _ := c.server()
	for _, l := range c.lives {
		first := l.First()
		if first.Flags != "." || first.Point != node || first.Src != at.src || first.Dst != at.dst {
			continue
		}
		if slices.ContainsFunc(c.lives, func(s Life) bool { return isSYN(s) && s.First().Seq+1 == first.Ack }) && c.accepted() {
			continue // of the connection that came about
		}
		sent++
		if l.End == Delivered && l.Node == c.attempt.Node && l.Last().Src == c.attempt.Remote {
			came++
		}
	}
	return sent, came
}

// accepted reports whether a SYN-ACK reached the client.
func (c *Case) accepted() bool {
	return slices.ContainsFunc(c.lives, func(l Life) bool {
		return l.First().Flags == "S." && l.End == Delivered && l.Node == c.attempt.Node
	})
}

// bareACK says that the server answered SYNs by bare ACKs.
func bareACK(c *Case) Fact {
	node, _, _ := c.server()
	sent, came := c.challenged()
	return c.is(recording.OfPackets, sent > 0, "%s sent %d bare ACKs, of which %d came to the client", orNone(node), sent, came)
}

// noAnswerFor says that the server sent nothing for the SYNs that it did not take.
func noAnswerFor(c *Case) Fact {
	node, at, _ := c.server()
	n := count(c.lives, func(l Life) bool { return l.First().Point == node && l.First().Src == at.src })
	if c.accepted() {
		n = 0 // of the one that it took later
	}
	return c.is(recording.OfPackets, n == 0, "%s sent %d packets for the SYNs that it did not take", orNone(node), n)
}

// clientReset says that the client answered a bare ACK by a RST, as RFC 9293 wants it.
func clientReset(c *Case) Fact {
	n := count(c.lives, func(l Life) bool { return strings.Contains(l.First().Flags, "R") && l.First().Point == c.attempt.Node })
	return c.is(recording.OfPackets, n > 0, "the client sent %d RSTs", n)
}

// came says that bare ACKs of the server came to the client as answers to its SYNs, and not as
// packets of another connection.
func came(c *Case) Fact {
	sent, came := c.challenged()
	return c.is(recording.OfPackets, came > 0, "%d of the %d bare ACKs came to the client from the address that it had called", came, sent)
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

// endedAtOne says that all SYNs ended at one node: in it, or before they left it.
func endedAtOne(c *Case) Fact {
	node, end, ok := c.stop()
	where := "came into"
	if len(c.syns) == 0 {
		where = "did not leave"
	}
	return c.is(recording.OfPackets, ok && end != OnTheWay, "all SYNs %s %s, and got no further", where, orNone(node))
}

// older says that TIME_WAIT refused as many timestamps as there are SYNs. The counter has a
// name of its own since Linux 6.14; before, PAWS has one for TIME_WAIT and all else.
func older(c *Case) Fact {
	node, _, ok := c.stop()
	n, sent := c.rose(node, "TcpExt.PAWSTimewait")+c.rose(node, "TcpExt.PAWSEstab"), uint64(c.sent())
	f := c.is(recording.OfCounters, n == sent && n > 0, "PAWSTimewait and PAWSEstab of %s rose by %d, SYNs: %d", orNone(node), n, sent)
	if !ok || n != 0 && n != sent {
		f.Is = Unknown
	}
	return f
}

// rangeHeld says that sockets of the client to this destination hold its whole range of ports.
func rangeHeld(c *Case) Fact {
	var first, last uint16
	_, err := fmt.Sscan(c.r.Nodes[c.attempt.Node].Settings[recording.PortRange].Value, &first, &last)
	held := map[uint16]bool{}
	for _, s := range c.after[c.attempt.Node].Sockets {
		if s.Remote == c.attempt.Remote && s.Local.Port() >= first && s.Local.Port() <= last {
			held[s.Local.Port()] = true
		}
	}
	n := int(last) - int(first) + 1
	f := c.is(recording.OfSockets, len(held) == n, "sockets of %s to %v hold %d of its %d ports", c.attempt.Node, c.attempt.Remote, len(held), n)
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

// toItself says that both ends are one.
func toItself(c *Case) Fact {
	return c.is(recording.OfErrno, c.attempt.Local == c.attempt.Remote, "the connection is from %v to %v", c.attempt.Local, c.attempt.Remote)
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
	return c.is(recording.OfRules, found && rules > 0 && hits <= late, "DNAT rules of %s for %v: %d, which matched %d packets", orNone(node), f.To.Addr(), rules, hits)
}

// resetCounted says that a counter of the node that sent the RST rose.
func resetCounted(counter string) Condition {
	return func(c *Case) Fact {
		node, ok := c.resetFrom()
		rose := c.rose(node, counter)
		f := c.is(recording.OfCounters, rose > 0, "%s of %s, which sent the RST, rose by %d", counter, orNone(node), rose)
		if !ok {
			f.Is = Unknown
		}
		return f
	}
}

// wasReset says that a RST reached the client.
func wasReset(c *Case) Fact {
	node, ok := c.resetFrom()
	return c.is(recording.OfPackets, ok, "a RST of %s reached the client", orNone(node))
}

// finBeforeRequest says that the peer had sent its FIN before the client's last data.
func finBeforeRequest(c *Case) Fact {
	var fin, data time.Time
	for _, l := range c.lives {
		switch first := l.First(); {
		case strings.Contains(first.Flags, "F") && first.Point != c.attempt.Node && fin.IsZero():
			fin = first.Time
		case first.Payload > 0 && first.Point == c.attempt.Node:
			data = first.Time
		}
	}
	// A rule of its own node may have dropped the FIN before any tap saw it.
	for _, e := range c.events {
		if e.Kind == "drop" && strings.Contains(e.Flags, "F") && e.Node != c.attempt.Node && (fin.IsZero() || e.Time.Before(fin)) {
			fin = e.Time
		}
	}
	before := !fin.IsZero() && fin.Before(data)
	return c.is(recording.OfPackets, before, "the peer's FIN was sent before the client's last data: %v", before)
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

// oneWay says that packets of the connection stopped at a node that others of it passed.
func oneWay(c *Case) Fact {
	stoppedAt, passed := "", false
	for _, l := range c.lives {
		if l.End == Stopped {
			stoppedAt = l.Node
		}
	}
	for _, l := range c.lives {
		if l.End != Stopped && slices.ContainsFunc(l.Seen, func(p recording.Packet) bool { return p.Point == stoppedAt && p.Out }) {
			passed = true
		}
	}
	return c.is(recording.OfPackets, stoppedAt != "" && passed, "packets of one direction stopped at %s, those of the other passed it: %v", orNone(stoppedAt), passed)
}
