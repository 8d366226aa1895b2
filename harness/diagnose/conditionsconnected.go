package diagnose

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"twlab/harness/recording"
)

// failedBy says that the kernel ended the connection by one of these errors.
func failedBy(errnos ...string) Condition {
	return func(c *Case) Fact {
		return c.is(recording.OfErrno, slices.Contains(errnos, c.errno), "the kernel's error at %s is %s", orNone(c.here()), orNone(c.errno))
	}
}

// onItsOwn says that the RST was no answer to a segment: it has the ACK bit, which a RST that
// answers a segment with an ACK has not (RFC 9293, section 3.10.7.1).
func onItsOwn(c *Case) Fact {
	l, ok := c.reset()
	if !ok {
		return c.is(recording.OfPackets, false, "no RST reached %s", orNone(c.here()))
	}
	return c.is(recording.OfPackets, strings.Contains(l.First().Flags, "."), "the RST of %s has the flags %s: with an ACK it was sent unasked, without one it answers a segment", l.First().Point, l.First().Flags)
}

// isAnswer says that the RST answered a segment.
func isAnswer(c *Case) Fact {
	f := not(onItsOwn)(c)
	if _, ok := c.reset(); !ok && f.Is == True {
		f.Is = False
	}
	return f
}

// finFirst says that the other end had sent a FIN before the RST, or no RST.
func finFirst(c *Case) Fact {
	there := c.there()
	for _, l := range c.lives {
		switch first := l.First(); {
		case first.Point == there && strings.Contains(first.Flags, "R"):
			return c.is(recording.OfPackets, false, "%s sent no FIN before its RST", there)
		case first.Point == there && strings.Contains(first.Flags, "F"):
			return c.is(recording.OfPackets, true, "%s sent a FIN", there)
		}
	}
	return c.is(recording.OfPackets, false, "%s sent no FIN", orNone(there))
}

// quiet says that none of these counters of the node that sent the RST moved.
func quiet(counters ...string) Condition {
	return func(c *Case) Fact {
		node, ok := c.resetFrom()
		moved := slices.DeleteFunc(slices.Clone(counters), func(name string) bool { return c.rose(node, name) == 0 })
		f := c.is(recording.OfCounters, len(moved) == 0, "%s, which sent the RST, did not count it as %s", orNone(node), strings.Join(counters, " or "))
		if len(moved) > 0 {
			f.Says = fmt.Sprintf("%s, which sent the RST, counted %s", node, strings.Join(moved, " and "))
		}
		if !ok {
			f.Is = Unknown
		}
		return f
	}
}

// peer is the socket of the other end; its zero value where there is none.
func (c *Case) peer(states map[string]recording.State) (node string, s recording.Socket) {
	node, at, ok := c.server()
	if c.on != nil && c.on.AtServer {
		node, at = c.attempt.Node, ends{c.attempt.Local, c.attempt.Remote}
	} else if !ok {
		return "", s
	}
	for _, s := range states[node].Sockets {
		if s.Local == at.src && s.Remote == at.dst {
			return node, s
		}
	}
	return node, s
}

// peerHad says that the other end had its socket when the connection had been made. Nobody has
// looked then if the same step used it.
func peerHad(c *Case) Fact {
	node, s := c.peer(c.before)
	f := c.is(recording.OfSockets, s.State == "ESTABLISHED", "when the client was connected, the state of %s's end was: %s", orNone(node), orNone(s.State))
	if node == "" || !c.madeEarlier {
		f.Is = Unknown
	}
	return f
}

// peerHas says that the other end has its socket still.
func peerHas(c *Case) Fact {
	node, s := c.peer(c.after)
	f := c.is(recording.OfSockets, s.State != "" && s.State != "TIME_WAIT", "at the end the state of %s's end was: %s", orNone(node), orNone(s.State))
	if node == "" {
		f.Is = Unknown
	}
	return f
}

// resetByPeer says that the RST came from the other end.
func resetByPeer(c *Case) Fact {
	node, ok := c.resetFrom()
	return c.is(recording.OfPackets, ok && node == c.there(), "the RST came from %s, the other end is %s", orNone(node), orNone(c.there()))
}

// waitedToBeAccepted says that the listener at the server had connections that were not
// accepted, and has less of them now.
func waitedToBeAccepted(c *Case) Fact {
	node, at, ok := c.server()
	waiting := func(states map[string]recording.State) (n uint32) {
		for _, s := range states[node].Sockets {
			if s.State == "LISTEN" && s.Local.Port() == at.src.Port() {
				n += s.RecvQueue
			}
		}
		return n
	}
	before, after := waiting(c.before), waiting(c.after)
	f := c.is(recording.OfSockets, before > 0 && after < before, "connections that waited to be accepted on port %d of %s: %d before, %d after", at.src.Port(), orNone(node), before, after)
	if !ok {
		f.Is = Unknown
	}
	return f
}

// unread says that the process at the other end has not read what its kernel has.
func unread(c *Case) Fact {
	node, s := c.peer(c.after)
	f := c.is(recording.OfSockets, s.RecvQueue > 0, "bytes that the process of %s had not read at the end: %d", orNone(node), s.RecvQueue)
	if node == "" {
		f.Is = Unknown
	}
	return f
}

// peerIdle says that the other end has its socket, and that its process has read all.
func peerIdle(c *Case) Fact {
	node, s := c.peer(c.after)
	f := c.is(recording.OfSockets, s.State == "ESTABLISHED" && s.RecvQueue == 0 && s.SendQueue == 0, "at the end the state of %s's end was %s, with %d bytes unread and %d unacknowledged", orNone(node), orNone(s.State), s.RecvQueue, s.SendQueue)
	if node == "" {
		f.Is = Unknown
	}
	return f
}

// allAcknowledged says that all data that was sent was acknowledged.
func allAcknowledged(c *Case) Fact {
	left := 0
	for _, l := range c.lives {
		if c.ownData(l) && !c.arrived(l) {
			left++
		}
	}
	return c.is(recording.OfPackets, left == 0 && c.accepted(), "segments with data of %s that were not acknowledged: %d", orNone(c.here()), left)
}

// acknowledged says that the other end acknowledged data.
func acknowledged(c *Case) Fact {
	n := c.lastACK() - c.firstData()
	return c.is(recording.OfPackets, c.sentData() && int32(n) > 0, "%s acknowledged %d bytes", orNone(c.there()), int32(n)) //nolint:gosec // numbers wrap round
}

// sentData reports whether data left the node with the symptom.
func (c *Case) sentData() bool { return slices.ContainsFunc(c.lives, c.ownData) }

func (c *Case) ownData(l Life) bool { return l.First().Point == c.here() && l.First().Payload > 0 }

// firstData is the number of the first byte of data that left the node with the symptom.
func (c *Case) firstData() uint32 {
	i := slices.IndexFunc(c.lives, c.ownData)
	if i < 0 {
		return 0
	}
	return c.lives[i].First().Seq
}

// lastACK is the highest acknowledgement that came there.
func (c *Case) lastACK() uint32 {
	highest := c.firstData()
	for _, l := range c.lives {
		first := l.First()
		if l.End == Delivered && l.Node == c.here() && strings.Contains(first.Flags, ".") && int32(first.Ack-highest) > 0 { //nolint:gosec // numbers wrap round
			highest = first.Ack
		}
	}
	return highest
}

// repeated is how often the first byte that was not acknowledged was sent, and where the last
// of these segments ended.
func (c *Case) repeated() (n int, last Life) {
	next := c.lastACK()
	for _, l := range c.lives {
		if first := l.First(); c.ownData(l) && first.Seq == next {
			n, last = n+1, l
		}
	}
	return n, last
}

// neverAcknowledged says that data was sent again, and never acknowledged.
func neverAcknowledged(c *Case) Fact {
	n, last := c.repeated()
	where := ""
	if n > 0 {
		where = fmt.Sprintf("; the last one was seen last at %s (%s)", last.Node, last.End)
	}
	return c.is(recording.OfPackets, n > 1, "%s sent the same segment %d times and got no acknowledgement%s", orNone(c.here()), n, where)
}

// repeats says that the kernel counted as much.
func repeats(c *Case) Fact {
	n, _ := c.repeated()
	rose := c.rose(c.here(), "Tcp.RetransSegs")
	return c.is(recording.OfCounters, rose > 0 && rose+1 >= uint64(n), "Tcp.RetransSegs of %s rose by %d", orNone(c.here()), rose) //nolint:gosec // a number of packets
}

// probed says that the kernel sent keep-alive probes.
func probed(c *Case) Fact {
	rose := c.rose(c.here(), "TcpExt.TCPKeepAlive")
	return c.is(recording.OfCounters, rose > 0, "TcpExt.TCPKeepAlive of %s rose by %d", orNone(c.here()), rose)
}

// onlyProbes says that the last that was sent were probes, and that nothing came after them. A
// probe has no data, and the number before the next one (RFC 9293, section 3.8.4).
func onlyProbes(c *Case) Fact {
	n, here, next := 0, c.here(), c.nextNumber()
	for _, l := range slices.Backward(c.lives) {
		first := l.First()
		if first.Point != here || first.Payload > 0 && c.ownData(l) && first.Seq == c.lastACK() {
			break
		}
		if first.Flags == "." && first.Payload == 0 && first.Seq+1 == next {
			n++
		}
	}
	return c.is(recording.OfPackets, n > 0, "probes that %s sent last, without an answer: %d", orNone(here), n)
}

// nextNumber is the number behind all that the node with the symptom has sent before a FIN.
func (c *Case) nextNumber() (next uint32) {
	seen := false
	for _, l := range c.lives {
		first := l.First()
		if first.Point != c.here() || first.Is('R') || first.Is('F') {
			continue
		}
		end := first.Seq + uint32(first.Payload) //nolint:gosec // at most 64 KiB
		if isSYN(l) {
			end++
		}
		if !seen || int32(end-next) > 0 { //nolint:gosec // numbers wrap round
			next, seen = end, true
		}
	}
	return next
}

// forgotten says that a node had a conntrack entry of the connection when it was made, and has
// none now, or another one.
func forgotten(c *Case) Fact {
	find := func(states map[string]recording.State, name string) (recording.Flow, bool) {
		for _, f := range states[name].Flows {
			if f.From == c.attempt.Local && f.To == c.attempt.Remote {
				return f, true
			}
		}
		return recording.Flow{}, false
	}
	for _, name := range slices.Sorted(maps.Keys(c.before)) {
		old, had := find(c.before, name)
		if !had || !old.SeenReply {
			continue
		}
		switch now, has := find(c.after, name); {
		case !has:
			return c.is(recording.OfFlows, true, "%s has forgotten its entry %v > %v, as %v at %v", name, old.From, old.To, old.As, old.At)
		case now.As != old.As || now.At != old.At:
			return c.is(recording.OfFlows, true, "%s has another entry for %v > %v: as %v at %v instead of as %v at %v", name, old.From, old.To, now.As, now.At, old.As, old.At)
		}
	}
	return c.is(recording.OfFlows, false, "no node has forgotten the connection")
}

// elsewhere says that data of one side ended at another place, or with other addresses, than
// the handshake of that side.
func elsewhere(ofClient bool) Condition {
	return func(c *Case) Fact {
		who, flags := c.attempt.Node, "S"
		if !ofClient {
			who, _, _ = c.server()
			flags = "S."
		}
		i := slices.IndexFunc(c.lives, func(l Life) bool { return l.First().Flags == flags && l.End == Delivered })
		if i < 0 {
			return c.is(recording.OfPackets, false, "no handshake was seen")
		}
		for _, l := range slices.Backward(c.lives) {
			first, last := l.First(), l.Last()
			if first.Point != who || first.Payload == 0 || l.End == OnTheWay || c.arrived(l) {
				continue
			}
			before := c.lives[i].Last()
			moved := l.Node != c.lives[i].Node || last.Src != before.Src || last.Dst != before.Dst
			return c.is(recording.OfPackets, moved, "the last data of %s ended at %s, as %v > %v; its handshake at %s, as %v > %v", who, l.Node, last.Src, last.Dst, c.lives[i].Node, before.Src, before.Dst)
		}
		return c.is(recording.OfPackets, false, "%s sent no data that was not acknowledged", orNone(who))
	}
}

// arrived reports whether data was acknowledged.
func (c *Case) arrived(data Life) bool {
	first := data.First()
	end := first.Seq + uint32(first.Payload) //nolint:gosec // at most 64 KiB
	return slices.ContainsFunc(c.lives, func(l Life) bool {
		return l.Last().Point == first.Point && !l.Last().Out && strings.Contains(l.First().Flags, ".") && int32(l.First().Ack-end) >= 0 //nolint:gosec // numbers wrap round
	})
}
