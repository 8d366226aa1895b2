package diagnose

import (
	"fmt"
	"slices"
	"strings"

	"twlab/harness/recording"
)

// isEnd reports whether a packet ends its side of a connection.
func isEnd(l Life) bool { return strings.ContainsAny(l.First().Flags, "FR") }

// firstEnd is the first FIN or RST of the connection.
func (c *Case) firstEnd() (Life, bool) {
	i := slices.IndexFunc(c.lives, isEnd)
	if i < 0 {
		return Life{}, false
	}
	return c.lives[i], true
}

// gaveUp says that the client's process stopped waiting for an answer: nothing else ended the
// request.
func gaveUp(c *Case) Fact {
	last := ""
	if n := len(c.attempt.Replies); n > 0 {
		last = c.attempt.Replies[n-1].Disposition
	}
	return c.is(recording.OfErrno, last == "pending", "the last request, when the client stopped waiting for its answer: %s", orNone(last))
}

// endedByClient says that the first FIN or RST was the client's.
func endedByClient(c *Case) Fact {
	from := c.endedFirst()
	return c.is(recording.OfPackets, from == c.attempt.Node, "the first FIN or RST was sent by %s", orNone(from))
}

// behindEnds counts the connections of the balancer to others that were in use since the client
// was connected. Those that only acknowledge something are over.
type behindEnds struct {
	used     int // all of them
	before   int // those that were used before the client's connection began to end
	byOthers int // those that others ended first
	early    int // those that others had ended before the client's connection began to end
}

func (c *Case) behindEnds() (n behindEnds) {
	first, ended := c.firstEnd()
	if !ended {
		return n
	}
	began, until, node := c.lives[0].First().Time, first.First().Time, c.balancer()
	over, used := map[ends]bool{}, map[ends]bool{}
	for _, l := range c.behind() {
		at, from := l.First().Time, l.First().Point != node
		way := ends{l.First().Src, l.First().Dst}
		if !from {
			way = way.turned()
		}
		if at.Before(began) || over[way] {
			continue
		}
		use := l.First().Payload > 0 || l.First().Flags == "S." || from && isEnd(l)
		if use && !used[way] {
			used[way] = true
			n.used++
			if !at.After(until) {
				n.before++
			}
		}
		if over[way] = isEnd(l); over[way] && from {
			n.byOthers++
			if !at.After(until) {
				n.early++
			}
		}
	}
	return n
}

// endedByServer says that the server ended the connection by a FIN: the one to the client or,
// where a balancer is between, all those that the balancer had meanwhile.
func endedByServer(c *Case) Fact {
	from := c.endedFirst()
	mine := from != "" && from == c.there()
	n := c.behindEnds()
	if n.used == 0 {
		_, balances := c.r.Programs[from]
		return c.is(recording.OfPackets, mine && !balances, "the first FIN or RST was sent by %s, which has no connection behind it; it balances: %v", orNone(from), balances)
	}
	says := fmt.Sprintf("of %d connections of %s to its servers, the servers ended %d first, and %d before it ended the client's", n.used, orNone(c.balancer()), n.byOthers, n.early)
	f := c.atBalancer(recording.OfPackets, mine && n.early > 0 && n.byOthers == n.used, says)
	if mine && n.early > 0 && n.byOthers < n.used {
		f.Is = Unknown // which of them was the client's
	}
	return f
}

// endedByBalancer says that the balancer ended the client's connection while its own ones to
// servers were whole.
func endedByBalancer(c *Case) Fact {
	from := c.endedFirst()
	mine := from != "" && from == c.there()
	n := c.behindEnds()
	says := fmt.Sprintf("when %s ended the client's connection, it had used %d connections to its servers, of which the servers had ended %d", orNone(c.balancer()), n.before, n.early)
	f := c.atBalancer(recording.OfPackets, mine && n.before > 0 && n.early == 0, says)
	// Which of several connections was the client's is not known, nor whether it had one.
	if others := n.early > 0 && n.byOthers < n.used; mine && (others || !ofServer(c.attempt) && n.before < len(c.beside)) {
		f.Is = Unknown
	}
	return f
}

// endedFirst is the node that sent the first FIN or RST of the connection.
func (c *Case) endedFirst() string {
	first, ended := c.firstEnd()
	if !ended {
		return ""
	}
	return first.First().Point
}

// servers are the nodes to which the balancer had connections meanwhile.
func (c *Case) servers() (names []string) {
	node := c.balancer()
	for _, l := range c.behind() {
		for _, p := range []recording.Packet{l.First(), l.Last()} {
			if p.Point != node && p.Point != c.attempt.Node && !slices.Contains(names, p.Point) {
				names = append(names, p.Point)
			}
		}
	}
	slices.Sort(names)
	return names
}

// serversSentNoReset says that no kernel behind the balancer counted a RST that it sent.
func serversSentNoReset(c *Case) Fact {
	names, sent := c.servers(), uint64(0)
	for _, name := range names {
		sent += c.rose(name, "Tcp.OutRsts")
	}
	if len(names) == 0 {
		return c.is(recording.OfCounters, true, "there is no server behind %s that could have sent a RST", orNone(c.there()))
	}
	return c.is(recording.OfCounters, sent == 0, "Tcp.OutRsts of %s rose by %d", strings.Join(names, " and "), sent)
}

// serversClosedNothing says that no server has closed a connection before the other end did: it
// would have a socket that waits for the other's FIN, or in TIME_WAIT.
func serversClosedNothing(c *Case) Fact {
	names, closed := c.servers(), 0
	for _, name := range names {
		for _, s := range c.after[name].Sockets {
			if slices.Contains([]string{"FIN_WAIT1", "FIN_WAIT2", "CLOSING", "TIME_WAIT"}, s.State) {
				closed++
			}
		}
	}
	f := c.is(recording.OfSockets, closed == 0, "sockets that %s had closed first: %d", strings.Join(names, " and "), closed)
	if len(names) == 0 {
		f.Is = Unknown
	}
	return f
}

// answeredByNoReset says that the other end has answered no data of the client by a RST: all RSTs
// that its kernel counted were seen, and none of them was such an answer, which has no ACK. The
// counter is read a little after the attempt, and RSTs of that time may be in it.
func answeredByNoReset(c *Case) Fact {
	there, answers := c.there(), 0
	resets := func(lives []Life) (n uint64) {
		for _, l := range lives {
			first := l.First()
			if first.Point != there || !first.Out || !first.Is('R') {
				continue
			}
			n++
			if first.Flags == "R" && (c.tuples[ends{first.Src, first.Dst}] || c.tuples[ends{first.Dst, first.Src}]) {
				answers++
			}
		}
		return n
	}
	seen := resets(c.lives) + resets(c.others)
	later := resets(c.later)
	counted := c.rose(there, "Tcp.OutRsts")
	all := seen <= counted && counted <= seen+later
	f := c.is(recording.OfCounters, all && answers == 0, "Tcp.OutRsts of %s rose by %d, RSTs that were seen: %d, of which %d answered the client's data", orNone(there), counted, seen+later, answers)
	if !all && answers == 0 {
		f.Is = Unknown
	}
	return f
}
