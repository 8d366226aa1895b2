package diagnose

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"twlab/harness/recording"
)

// noAnswer says that the request got an end instead of an answer, or the balancer's own word
// that it has none.
func noAnswer(c *Case) Fact {
	if len(c.attempt.Replies) == 0 {
		return c.is(recording.OfErrno, false, "no request was made")
	}
	last := c.attempt.Replies[len(c.attempt.Replies)-1]
	says := "the last request: " + last.Disposition
	if last.Status != 0 {
		says += fmt.Sprintf(", with the status %d", last.Status)
	}
	ended := (last.Disposition == "unanswered" || last.Disposition == "truncated") && last.Errno == "" && last.WriteErrno == ""
	return c.is(recording.OfErrno, ended || ofBalancer(last), "%s", says)
}

// atBalancer is a fact about the balancer, unknown where no packet shows which node that is.
func (c *Case) atBalancer(by recording.Evidence, yes bool, says string) Fact {
	f := c.is(by, yes, "%s", says)
	if c.balancer() == "" {
		f.Is = Unknown
	}
	return f
}

// balancer is the node that answered the SYN and has connections of its own to others.
func (c *Case) balancer() string {
	node, _, _ := c.server()
	return node
}

// behind are the packets between the balancer and others while the client was connected, without
// those of other clients that called the same address.
func (c *Case) behind() (some []Life) {
	node, at, _ := c.server()
	for _, l := range c.others {
		if l.First().Src == at.src || l.First().Dst == at.src {
			continue
		}
		if l.First().Point == node || l.Node == node && l.End == Delivered {
			some = append(some, l)
		}
	}
	return some
}

// resetBehind says that a RST came to the balancer from behind, of a connection that was there.
func resetBehind(c *Case) Fact {
	node := c.balancer()
	connected := false
	for _, l := range c.behind() {
		switch first := l.First(); {
		case first.Flags == "S." && l.End == Delivered && l.Node == node:
			connected = true
		case strings.Contains(first.Flags, "R") && l.End == Delivered && l.Node == node:
			return c.atBalancer(recording.OfPackets, connected, fmt.Sprintf("%s got a RST from %s, to which it was connected: %v", node, first.Point, connected))
		}
	}
	return c.atBalancer(recording.OfPackets, false, fmt.Sprintf("no RST came to %s from behind", orNone(node)))
}

// connectionBehind is a connection of the balancer to a server.
type connectionBehind struct {
	ends     ends // as the balancer has them
	asked    bool // it sent data
	answered bool // the server sent data after that
	closed   bool // the server sent a FIN
	reset    bool // the server sent a RST
}

// connectionsBehind are those that the balancer made while the client was connected.
func (c *Case) connectionsBehind() (all []connectionBehind) {
	node := c.balancer()
	for _, l := range c.behind() {
		first, last := l.First(), l.Last()
		if isSYN(l) && first.Point == node {
			all = append(all, connectionBehind{ends: ends{first.Src, first.Dst}})
			continue
		}
		i := slices.IndexFunc(all, func(k connectionBehind) bool {
			return k.ends == (ends{first.Src, first.Dst}) || k.ends == (ends{last.Dst, last.Src})
		})
		switch {
		case i < 0:
		case first.Point == node && first.Payload > 0:
			all[i].asked, all[i].answered = true, false
		case l.Node == node && l.End == Delivered:
			all[i].answered = all[i].answered || first.Payload > 0
			all[i].closed = all[i].closed || first.Is('F')
			all[i].reset = all[i].reset || first.Is('R')
		}
	}
	return all
}

// leftBehind is the connection of the balancer that its server closed by a FIN alone, without an
// answer.
func (c *Case) leftBehind() (k connectionBehind, found bool) {
	for _, k := range slices.Backward(c.connectionsBehind()) {
		if k.closed && !k.answered && !k.reset {
			return k, true
		}
	}
	return k, false
}

// closedBehind says that there is one.
func closedBehind(c *Case) Fact {
	k, found := c.leftBehind()
	if !found {
		return c.atBalancer(recording.OfPackets, false, fmt.Sprintf("no server closed its connection to %s without an answer", orNone(c.balancer())))
	}
	return c.atBalancer(recording.OfPackets, true, fmt.Sprintf("%v sent a FIN to %v, and no answer before it; a request had been sent: %v", k.ends.dst, k.ends.src, k.asked))
}

// logged says that the balancer's log has the client's connection as ended by the server (HAProxy's
// termination state begins with S), on the connection that the server left, if it left one.
func logged(c *Case) Fact {
	node, at, _ := c.server()
	lines := strings.Split(c.r.Programs[node].Log, "\n")
	k, left := c.leftBehind()
	for _, line := range slices.Backward(lines) {
		fields := map[string]string{}
		for _, word := range strings.Fields(line) {
			if key, value, found := strings.Cut(word, "="); found && fields[key] == "" {
				fields[key] = value
			}
		}
		if fields["client"] != inLog(at.dst) {
			continue
		}
		same := !left || fields["from"] == inLog(k.ends.src) && fields["to"] == inLog(k.ends.dst)
		return c.is(recording.OfLogs, strings.HasPrefix(fields["end"], "S") && same, "the log of %s has for %s: to the server from=%s to=%s, end=%s", node, fields["client"], fields["from"], fields["to"], fields["end"])
	}
	f := c.is(recording.OfLogs, false, "the log of %s has no line for %v", orNone(node), at.dst)
	f.Is = Unknown
	return f
}

// inLog is an end as HAProxy writes it: without brackets around an IPv6 address.
func inLog(a netip.AddrPort) string { return fmt.Sprintf("%v:%d", a.Addr(), a.Port()) }

// behindCounted says that a counter of the balancer rose.
func behindCounted(counter string) Condition {
	return func(c *Case) Fact {
		node := c.balancer()
		rose := c.rose(node, counter)
		return c.atBalancer(recording.OfCounters, rose > 0, fmt.Sprintf("%s of %s rose by %d", counter, orNone(node), rose))
	}
}

// calledInVain says that the balancer sent SYNs, and that none was answered by a SYN-ACK.
func calledInVain(c *Case) Fact {
	node := c.balancer()
	syns, answers, resets, to := 0, 0, 0, ""
	for _, l := range c.behind() {
		switch first := l.First(); {
		case isSYN(l) && first.Point == node:
			syns++
			to = first.Dst.String()
		case first.Flags == "S." && l.Node == node:
			answers++
		case strings.Contains(first.Flags, "R") && l.Node == node:
			resets++
		}
	}
	return c.atBalancer(recording.OfPackets, syns > 0 && answers == 0, fmt.Sprintf("%s sent %s to %s, and got %s and %s", orNone(node), number(syns, "SYN"), orNone(to), number(answers, "SYN-ACK"), number(resets, "RST")))
}

// calledNobody says that the balancer sent no SYN, or only those for other attempts of the same
// step: each of them has an answer of a server, and this one has none.
func calledNobody(c *Case) Fact {
	node := c.balancer()
	called := map[ends]bool{}
	for _, l := range c.behind() {
		if isSYN(l) && l.First().Point == node {
			called[ends{l.First().Src, l.First().Dst}] = true
		}
	}
	served := 0
	for _, a := range c.beside {
		if ofServer(a) {
			served++
		}
	}
	if n := len(called); n > 0 && n == served && !ofServer(c.attempt) {
		return c.atBalancer(recording.OfPackets, true, fmt.Sprintf("%s sent %s of its own, and servers answered %s", orNone(node), number(n, "SYN"), number(served, "other attempt")))
	}
	return c.atBalancer(recording.OfPackets, len(called) == 0, fmt.Sprintf("%s sent %s of its own", orNone(node), number(len(called), "SYN")))
}

// ofServer reports whether an answer to the attempt, or a part of one, came from a server.
func ofServer(a recording.Attempt) bool {
	return slices.ContainsFunc(a.Replies, func(r recording.Reply) bool { return !ofBalancer(r) && (r.Status != 0 || r.Bytes > 0) })
}

// balancerFull says that connections of the balancer to one destination hold its whole range
// of ports: its kernel's, or the one that its program is told to use.
func balancerFull(c *Case) Fact {
	node := c.balancer()
	all, err := c.balancerPorts()
	var to netip.AddrPort
	most := 0
	for dst, n := range heldPorts(c.after[node].Sockets, all) {
		if n > most {
			most, to = n, dst
		}
	}
	f := c.atBalancer(recording.OfSockets, most == all.size() && most > 0, fmt.Sprintf("sockets of %s to %v hold %d of its %d ports", orNone(node), to, most, all.size()))
	if err != nil {
		f.Is = Unknown
	}
	return f
}

// balancerPorts are the ports from which the balancer connects.
func (c *Case) balancerPorts() (ports, error) {
	if own, told := sourcePorts(c.r.Programs[c.balancer()].Configuration); told {
		return own, nil
	}
	return portsOf(c.r.Nodes[c.balancer()])
}

// balancerWasFull says that when the client's connection began to end, packets had shown so many
// connections of the balancer to one destination, that none of its ports was left.
func balancerWasFull(c *Case) Fact {
	all, err := c.balancerPorts()
	ended, _ := c.firstEnd()
	open := map[netip.AddrPort]map[uint16]bool{}
	for _, l := range c.behind() {
		first := l.First()
		if first.Point != c.balancer() || len(ended.Seen) == 0 || first.Time.After(ended.First().Time) || !all.has(first.Src.Port()) {
			continue
		}
		if open[first.Dst] == nil {
			open[first.Dst] = map[uint16]bool{}
		}
		if open[first.Dst][first.Src.Port()] = true; isEnd(l) {
			delete(open[first.Dst], first.Src.Port())
		}
	}
	most := 0
	for _, some := range open {
		most = max(most, len(some))
	}
	f := c.atBalancer(recording.OfPackets, most == all.size() && most > 0, fmt.Sprintf("when %s ended the client's connection, it had %d open to one destination, and has %d ports", orNone(c.balancer()), most, all.size()))
	if err != nil {
		f.Is = Unknown
	}
	return f
}

// failedBehind says that what went wrong did so between the balancer and its servers, whatever
// the balancer made of it for the client.
func failedBehind(c *Case) Fact {
	return either(all(calledNobody, either(balancerFull, balancerWasFull)), calledInVain, resetBehind)(c)
}

// ownEnd says that the client got an ordinary end: a FIN, or a status of the balancer's own, after
// which the client may be the first to close.
func ownEnd(c *Case) Fact {
	if n := len(c.attempt.Replies); n > 0 && ofBalancer(c.attempt.Replies[n-1]) {
		return c.is(recording.OfErrno, true, "%s answered by the status %d, which is its own", orNone(c.there()), c.attempt.Replies[n-1].Status)
	}
	fin := slices.ContainsFunc(c.lives, func(l Life) bool {
		return strings.Contains(l.First().Flags, "F") && l.First().Point == c.there() && l.End == Delivered
	})
	return c.is(recording.OfPackets, fin, "the FIN of %s reached %s: %v", orNone(c.there()), orNone(c.here()), fin)
}
