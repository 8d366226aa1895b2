package diagnose

import (
	"slices"
	"strings"
	"time"

	"twlab/harness/recording"
)

// nothingSent says that no SYN was sent.
func nothingSent(c *Case) Fact {
	return c.is(recording.OfPackets, !slices.ContainsFunc(c.lives, isSYN), "SYNs that were seen on any link: %d", count(c.lives, isSYN))
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
	return c.is(recording.OfPackets, yes, "%s came into %s and did not leave it", every(len(c.syns)), orNone(node))
}

// reachedServer says that all SYNs came into the node that owns their destination.
func reachedServer(c *Case) Fact {
	node, end, ok := c.stop()
	return c.is(recording.OfPackets, ok && len(c.syns) > 0 && end == Delivered, "%s came into %s, which owns the destination", every(len(c.syns)), orNone(node))
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

// resetByServer says that the last RST to the client came from the node where its SYNs arrived.
func resetByServer(c *Case) Fact {
	node, ok := c.resetFrom()
	return c.is(recording.OfPackets, ok && c.isServer(node), "the RST came from %s", orNone(node))
}

// reset is the last RST that came to where the symptom was seen.
func (c *Case) reset() (Life, bool) {
	here := c.here()
	for _, l := range slices.Backward(c.lives) {
		if strings.Contains(l.First().Flags, "R") && l.End == Delivered && l.Node == here {
			return l, true
		}
	}
	return Life{}, false
}

// resetFrom is the node that sent it, where a tap saw it leave.
func (c *Case) resetFrom() (string, bool) {
	l, ok := c.reset()
	if !ok || !l.First().Out {
		return "", false
	}
	return l.First().Point, true
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
	return c.is(recording.OfPackets, sent > 0, "%s sent %s, of which %d came to the client", orNone(node), number(sent, "bare ACK"), came)
}

// noAnswerFor says that the server sent nothing for the SYNs that it did not take.
func noAnswerFor(c *Case) Fact {
	node, at, _ := c.server()
	n := count(c.lives, func(l Life) bool { return l.First().Point == node && l.First().Src == at.src })
	if c.accepted() {
		n = 0 // of the one that it took later
	}
	return c.is(recording.OfPackets, n == 0, "%s sent %s for the SYNs that it did not take", orNone(node), number(n, "packet"))
}

// clientReset says that the client answered a bare ACK by a RST, as RFC 9293 wants it.
func clientReset(c *Case) Fact {
	n := count(c.lives, func(l Life) bool { return strings.Contains(l.First().Flags, "R") && l.First().Point == c.attempt.Node })
	return c.is(recording.OfPackets, n > 0, "the client sent %s", number(n, "RST"))
}

// came says that bare ACKs of the server came to the client as answers to its SYNs, and not as
// packets of another connection.
func came(c *Case) Fact {
	sent, came := c.challenged()
	return c.is(recording.OfPackets, came > 0, "%d of %s came to the client from the address that it had called", came, number(sent, "bare ACK"))
}

// acksEnded says that bare ACKs of the server ended on the way: then nobody got them.
func acksEnded(c *Case) Fact {
	node, _, _ := c.server()
	n := len(c.endedACKs())
	return c.is(recording.OfPackets, n > 0, "bare ACKs of %s that ended on the way: %d", orNone(node), n)
}

// endedACKs are the bare ACKs of the server that ended on the way. A gateway that translates owns
// their destination, and has not got them either.
func (c *Case) endedACKs() (some []Life) {
	node, at, _ := c.server()
	for _, l := range c.lives {
		first := l.First()
		if first.Flags != "." || first.Point != node || first.Src != at.src || first.Dst != at.dst {
			continue
		}
		if l.End == Stopped || l.End == OnTheWay || slices.ContainsFunc(c.syns, func(s Life) bool { return passed(s, l.Node) && l.Node != c.attempt.Node }) {
			some = append(some, l)
		}
	}
	return some
}

// toItself says that both ends are one.
func toItself(c *Case) Fact {
	return c.is(recording.OfErrno, c.attempt.Local == c.attempt.Remote, "the connection is from %v to %v", c.attempt.Local, c.attempt.Remote)
}

// wasReset says that a RST came.
func wasReset(c *Case) Fact {
	node, ok := c.resetFrom()
	return c.is(recording.OfPackets, ok, "a RST of %s reached %s", orNone(node), orNone(c.here()))
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

// passedBefore says that a node at which packets stopped had let data of the same side pass.
func passedBefore(c *Case) Fact {
	type way struct{ from, through string }
	before := map[way]int{} // segments with data
	for _, l := range c.lives {
		first := &l.Seen[0] // a packet is too large to copy each
		if first.Payload == 0 {
			continue
		}
		if n := before[way{first.Point, l.Node}]; l.End == Stopped && n > 0 {
			return c.is(recording.OfPackets, true, "%s let %s with data of %s pass before it dropped others", l.Node, number(n, "segment"), first.Point)
		}
		left := map[string]bool{}
		for i := range l.Seen {
			if p := &l.Seen[i]; p.Out && !left[p.Point] {
				left[p.Point] = true
				before[way{first.Point, p.Point}]++
			}
		}
	}
	return c.is(recording.OfPackets, false, "no node let data pass before it dropped some of the same side")
}

// passed reports whether a packet left a node.
func passed(l Life, node string) bool {
	return slices.ContainsFunc(l.Seen, func(p recording.Packet) bool { return p.Point == node && p.Out })
}

// oneWay says that packets of the connection stopped at a node that others of it passed.
func oneWay(c *Case) Fact {
	stoppedAt, others := "", false
	for _, l := range c.lives {
		if l.End == Stopped {
			stoppedAt = l.Node
		}
	}
	for _, l := range c.lives {
		if l.End != Stopped && passed(l, stoppedAt) {
			others = true
		}
	}
	return c.is(recording.OfPackets, stoppedAt != "" && others, "packets of one direction stopped at %s, those of the other passed it: %v", orNone(stoppedAt), others)
}

// translated says that all SYNs reached another node than the one that the client called.
func translated(c *Case) Fact {
	n := count(c.lives, func(l Life) bool { return isSYN(l) && l.End == Delivered && l.Last().Dst != c.attempt.Remote })
	all := count(c.lives, isSYN)
	node, _, _ := c.server()
	return c.is(recording.OfPackets, n > 0 && n == all, "%d of %s reached %s at an address that the client had not called", n, number(all, "SYN"), orNone(node))
}

// untranslated says that the SYNs without an answer still had the destination that the client
// called where they were seen last, at a node that does not own it.
func untranslated(c *Case) Fact {
	n := count(c.syns, func(l Life) bool { return l.Last().Dst == c.attempt.Remote && l.End != Delivered })
	return c.is(recording.OfPackets, n > 0 && n == len(c.syns), "%d of %s without a SYN-ACK still had the destination %v at the end of the way", n, number(len(c.syns), "SYN"), c.attempt.Remote)
}

// wentThere says that the SYNs without an answer had the destination of the old entry.
func wentThere(c *Case) Fact {
	_, f, found := c.entry()
	if !found {
		fact := c.is(recording.OfPackets, false, "there is no old entry whose destination they could have had")
		if c.unknown(recording.OfFlows) {
			fact.Is = Unknown
		}
		return fact
	}
	n := count(c.syns, func(l Life) bool { return l.Last().Dst == f.At || l.End != Delivered })
	return c.is(recording.OfPackets, n > 0 && n == len(c.syns), "%d of %s without a SYN-ACK went to %v, or ended before", n, number(len(c.syns), "SYN"), f.At)
}

// lostOnLink says that no tap has seen a SYN come into another node than those that it left.
func lostOnLink(c *Case) Fact {
	n := count(c.syns, func(l Life) bool { return l.Last().Out }) // at the other end there may be no tap
	last := ""
	if len(c.syns) > 0 {
		last = c.syns[0].Node
	}
	return c.is(recording.OfPackets, n > 0 && n == len(c.syns), "%d of %s without a SYN-ACK left %s and came into no other node", n, number(len(c.syns), "SYN"), orNone(last))
}

// undelivered says that no SYN without a SYN-ACK came into the node that owns its destination.
func undelivered(c *Case) Fact {
	n := count(c.syns, func(l Life) bool { return l.End != Delivered })
	return c.is(recording.OfPackets, n > 0 && n == len(c.syns), "%d of %s without a SYN-ACK did not come into the node that owns the destination", n, number(len(c.syns), "SYN"))
}

// foreign are the SYN-ACKs that reached the client from an address that it had not called.
func (c *Case) foreign() (some []Life) {
	for _, l := range c.lives {
		if l.First().Flags == "S." && l.End == Delivered && l.Node == c.attempt.Node && l.Last().Src != c.attempt.Remote {
			some = append(some, l)
		}
	}
	return some
}

// foreignAnswers says that there are such.
func foreignAnswers(c *Case) Fact {
	some := c.foreign()
	if len(some) == 0 {
		return c.is(recording.OfPackets, false, "no SYN-ACK reached the client from an address that it had not called")
	}
	return c.is(recording.OfPackets, true, "%s reached the client from %v, which it had not called", number(len(some), "SYN-ACK"), some[0].Last().Src)
}

// cameHome says that the SYNs came into the node that had sent them.
func cameHome(c *Case) Fact {
	n := count(c.lives, func(l Life) bool {
		return isSYN(l) && len(l.Seen) > 1 && l.End == Delivered && l.Node == c.attempt.Node
	})
	all := count(c.lives, isSYN)
	return c.is(recording.OfPackets, n > 0 && n == all, "%d of %s came into %s, the sender", n, number(all, "SYN"), c.attempt.Node)
}

// largest is where segments of the client with data stopped that were larger than all that
// passed, and how many packets these were there.
func (c *Case) largest() (node string, n int) {
	passed := 0
	for _, l := range c.lives {
		if l.First().Point == c.attempt.Node && l.End == Delivered {
			passed = max(passed, l.First().Payload)
		}
	}
	seen := map[time.Time]bool{} // segments that were put together stopped as one
	for _, l := range c.lives {
		if l.First().Point == c.attempt.Node && l.First().Payload > passed && l.End == Stopped && (node == "" || node == l.Node) && !seen[l.Last().Time] {
			node = l.Node
			seen[l.Last().Time] = true
		}
	}
	return node, len(seen)
}

// largestStopped says that there are such, while smaller ones arrived.
func largestStopped(c *Case) Fact {
	node, n := c.largest()
	arrived := c.accepted()
	return c.is(recording.OfPackets, n > 0 && arrived, "%s, larger than all that arrived, came into %s and did not leave it", number(n, "segment"), orNone(node))
}

// cameAgain says that SYNs came into a node more often than the client had sent them.
func cameAgain(c *Case) Fact {
	type at struct{ node, name string }
	came := map[at]int{}
	var most at
	for _, l := range c.lives {
		for _, p := range l.Seen {
			if key := (at{p.Point, p.Interface}); p.Flags == "S" && !p.Out {
				if came[key]++; came[key] > came[most] {
					most = key
				}
			}
		}
	}
	f := c.is(recording.OfPackets, came[most] > max(c.attempt.SYNs, 1), "the client sent %s, and %s received %s at one interface", number(c.attempt.SYNs, "SYN"), orNone(most.node), number(came[most], "SYN"))
	if c.captured && f.Is == False {
		f.Is = Unknown // where nobody has captured
	}
	return f
}
