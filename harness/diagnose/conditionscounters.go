package diagnose

import (
	"maps"
	"slices"
	"strings"

	"twlab/harness/recording"
)

// counted says that a counter of the node where the SYNs ended, or several together, rose by
// their number, or by that of all SYNs that ended there.
func counted(counters ...string) Condition {
	return func(c *Case) Fact {
		node, end, ok := c.stop()
		f := c.exact(node, ok, c.sent(), counters...)
		if others := c.endedBeside(node, end); ok && f.Is == Unknown && others > 0 {
			f = c.exact(node, ok, c.sent()+others, counters...)
		}
		return f
	}
}

// endedBeside is how many SYNs of other connections ended at a node without an answer.
func (c *Case) endedBeside(node string, end End) int {
	return count(c.others, func(l Life) bool {
		return isSYN(l) && l.Node == node && l.End == end && !slices.ContainsFunc(c.others, func(a Life) bool {
			return a.First().Flags == "S." && acknowledges(a.First(), l.First())
		})
	})
}

// exact says that counters of a node, together, rose by n. By more, others may have had a part
// in it, and by less, some of the packets had another end.
func (c *Case) exact(node string, known bool, n int, counters ...string) Fact {
	rose := uint64(0)
	for _, name := range counters {
		rose += c.rose(node, name)
	}
	f := c.is(recording.OfCounters, rose == uint64(n) && n > 0, "%s of %s rose by %d, packets to account for: %d", strings.Join(counters, " and "), orNone(node), rose, n) //nolint:gosec // a number of packets
	if !known || rose != 0 && rose != uint64(n) {                                                                                                                          //nolint:gosec // as above
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

// byVersion is the counter's name for the version of IP of the attempt.
func (c *Case) byVersion(four, six string) string {
	if c.attempt.Remote.Addr().Is4() {
		return four
	}
	return six
}

// countedByVersion is counted, of a counter that each version of IP has for itself.
func countedByVersion(four, six string) Condition {
	return func(c *Case) Fact { return counted(c.byVersion(four, six))(c) }
}

// stillByVersion is still, of a counter that each version of IP has for itself.
func stillByVersion(four, six string) Condition {
	return func(c *Case) Fact { return still(c.byVersion(four, six))(c) }
}

// resetForeign says that the client's kernel sent a RST for each answer from elsewhere.
func resetForeign(c *Case) Fact {
	return c.exact(c.attempt.Node, true, len(c.foreign()), "Tcp.OutRsts")
}

// tooBig says that the node where the largest segments stopped counted them as too large.
func tooBig(c *Case) Fact {
	node, n := c.largest()
	counter := c.byVersion("Ip.FragFails", "Ip6.InTooBigErrors")
	rose := c.rose(node, counter)
	f := c.is(recording.OfCounters, rose >= uint64(n) && n > 0, "%s of %s rose by %d, segments that stopped there: %d", counter, orNone(node), rose, n) //nolint:gosec // a number of packets
	if node == "" {
		f.Is = Unknown
	}
	return f
}

// mptcpDropped says that the client's kernel left the option of Multipath TCP out of a SYN,
// because others with it had got no answer.
func mptcpDropped(c *Case) Fact {
	rose := c.rose(c.attempt.Node, "MPTcpExt.MPCapableSYNTXDrop")
	return c.is(recording.OfCounters, rose > 0, "MPTcpExt.MPCapableSYNTXDrop of %s rose by %d", c.attempt.Node, rose)
}

// clientResetCounted says that the client's kernel counted a RST.
func clientResetCounted(c *Case) Fact {
	rose := c.rose(c.attempt.Node, "Tcp.OutRsts")
	return c.is(recording.OfCounters, rose > 0, "Tcp.OutRsts of %s rose by %d", c.attempt.Node, rose)
}

// quietResets says that the node that sent the RST did not count one: no socket sent it.
func quietResets(c *Case) Fact {
	node, ok := c.resetFrom()
	rose := c.rose(node, "Tcp.OutRsts")
	f := c.is(recording.OfCounters, rose == 0, "Tcp.OutRsts of %s, which sent the RST, rose by %d", orNone(node), rose)
	if !ok {
		f.Is = Unknown
	}
	return f
}

// tableDropped says that the table of connections of any node dropped packets.
func tableDropped(c *Case) Fact {
	for _, name := range slices.Sorted(maps.Keys(c.after)) {
		if rose := c.rose(name, "Conntrack.drop"); rose > 0 {
			return c.is(recording.OfCounters, true, "Conntrack.drop of %s rose by %d", name, rose)
		}
	}
	return c.nobody(recording.OfCounters, "no node's table of connections dropped a packet")
}

// trackedAsInvalid says that a node's connection tracking counted packets as invalid.
func trackedAsInvalid(c *Case) Fact {
	for _, name := range slices.Sorted(maps.Keys(c.after)) {
		if rose := c.rose(name, "Conntrack.invalid"); rose > 0 {
			return c.is(recording.OfCounters, true, "Conntrack.invalid of %s rose by %d", name, rose)
		}
	}
	return c.nobody(recording.OfCounters, "no node counted invalid packets")
}

// skipped says that the server left out challenge ACKs.
func skipped(c *Case) Fact {
	node, _, _ := c.stop()
	rose := c.rose(node, "TcpExt.TCPACKSkippedChallenge")
	return c.is(recording.OfCounters, rose > 0, "%s left out %d ACKs because of net.ipv4.tcp_invalid_ratelimit (TCPACKSkippedChallenge)", orNone(node), rose)
}

// anyTooBig says that any node counted packets as too large for the next link.
func anyTooBig(c *Case) Fact {
	counter := c.byVersion("Ip.FragFails", "Ip6.InTooBigErrors")
	for _, name := range slices.Sorted(maps.Keys(c.after)) {
		if rose := c.rose(name, counter); rose > 0 {
			return c.is(recording.OfCounters, true, "%s of %s rose by %d", counter, name, rose)
		}
	}
	return c.nobody(recording.OfCounters, counter+" stood still at all nodes")
}

// notTold says that the sender got no ICMP error about its segments.
func notTold(c *Case) Fact {
	counter := c.byVersion("Icmp.InDestUnreachs", "Icmp6.InPktTooBigs")
	rose := c.rose(c.attempt.Node, counter)
	return c.is(recording.OfCounters, rose == 0, "%s of %s rose by %d", counter, c.attempt.Node, rose)
}

// nobody says that no node has shown something. Of captures that is not known: others know
// the counters and rules of some nodes alone.
func (c *Case) nobody(by recording.Evidence, says string) Fact {
	f := c.is(by, false, "%s", says)
	if c.captured {
		f.Is = Unknown
	}
	return f
}

// sentOn says that the last node that counted the SYNs as forwarded, or as sent, sent all of them, and that their
// destination received nothing. A node without taps may be the last.
func sentOn(c *Case) Fact {
	from, n := c.attempt.Node, c.rose(c.attempt.Node, c.byVersion("Ip.OutRequests", "Ip6.OutRequests"))
	forwarded := c.byVersion("Ip.ForwDatagrams", "Ip6.OutForwDatagrams")
	for _, name := range slices.Sorted(maps.Keys(c.after)) {
		if rose := c.rose(name, forwarded); rose > 0 {
			from, n = name, rose
		}
	}
	to := ""
	for _, name := range slices.Sorted(maps.Keys(c.r.Nodes)) {
		if owns(c.r, name, c.attempt.Remote.Addr()) {
			to = name
		}
	}
	came := c.rose(to, c.byVersion("Ip.InReceives", "Ip6.InReceives"))
	f := c.is(recording.OfCounters, n == uint64(c.sent()) && came == 0, "%s sent %d packets on, of which %s received %d; SYNs: %d", from, n, orNone(to), came, c.sent()) //nolint:gosec // a number of packets
	if to == "" {
		f.Is = Unknown
	}
	return f
}

// tableDrops says that the table of connections of one node dropped as many packets as there
// are SYNs, and none of them for want of a port. A node without taps may be the one.
func tableDrops(c *Case) Fact {
	dropped := func(name string) Fact {
		n, ports := c.rose(name, "Conntrack.drop"), c.rose(name, noPort)
		exactly := ports == 0 && n == uint64(c.sent()) //nolint:gosec // a number of packets
		f := c.is(recording.OfCounters, n > 0 && exactly, "Conntrack.drop of %s rose by %d and insert_failed by %d, SYNs: %d", name, n, ports, c.sent())
		if n > ports && !exactly {
			f.Is = Unknown // others may have had a part in it
		}
		return f
	}
	if node, end, ok := c.stop(); ok && end == Stopped {
		return dropped(node)
	}
	for _, name := range slices.Sorted(maps.Keys(c.after)) {
		if c.rose(name, "Conntrack.drop") > c.rose(name, noPort) {
			return dropped(name)
		}
	}
	return c.nobody(recording.OfCounters, "no node's table of connections dropped a packet for want of room")
}

// timeExceeded says that one node told of as many packets whose TTL had run out as the client had
// sent SYNs.
func timeExceeded(c *Case) Fact {
	counter := c.byVersion("Icmp.OutTimeExcds", "Icmp6.OutTimeExcds")
	for _, name := range slices.Sorted(maps.Keys(c.after)) {
		if rose := c.rose(name, counter); rose > 0 {
			return c.exact(name, true, c.attempt.SYNs, counter)
		}
	}
	return c.nobody(recording.OfCounters, counter+" stood still at all nodes")
}
