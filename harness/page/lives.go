package page

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"twlab/harness/diagnose"
	"twlab/harness/recording"
)

// life is a packet of the recording, with what the kernel said of it.
type life struct {
	diagnose.Life
	Number int // from 1 on
	// drop and reset are the event that ended it, and the event that says why it was sent.
	drop, reset *recording.Event
	// syn says that it is a SYN, unanswered that no SYN-ACK followed before it was sent again.
	syn, unanswered bool
	connection      int
}

// livesOf are all packets of a recording, each with the connection that it belongs to and the
// events that are about it.
func livesOf(r *recording.Recording) []*life {
	var all []*life
	for i, l := range diagnose.Sent(r, diagnose.Lives(r)) {
		all = append(all, &life{Life: l, Number: i + 1, syn: l.First().Flags == "S"})
	}
	connect(all)
	for i := range r.Events {
		e := &r.Events[i]
		// Of several that are alike, the event is about the last one that was sent before it.
		for _, l := range slices.Backward(all) {
			if !l.First().Time.After(e.Time) && l.is(e) {
				break
			}
		}
	}
	for i, l := range all {
		l.unanswered = l.syn && !answered(all[i:])
	}
	return all
}

// is takes an event that is about the packet.
func (l *life) is(e *recording.Event) bool {
	p := l.First()
	alike := e.Flags == p.Flags && e.Seq == p.Seq && e.Payload == p.Payload
	sameWay := slices.ContainsFunc(l.Seen, func(p recording.Packet) bool { return p.Src == e.Src && p.Dst == e.Dst })
	switch {
	case e.Kind == "drop" && alike && sameWay && l.drop == nil:
		if e.Reason == "QUEUE_PURGE" && e.Payload == 0 {
			return true // received, and freed with its socket
		}
		l.drop = e
	case e.Kind == "reset" && l.reset == nil && p.Is('R') && e.Node == p.Point &&
		(e.Unasked && e.Src == p.Src || !e.Unasked && e.Src == p.Dst && e.Dst == p.Src || sameWay):
		l.reset = e
	default:
		return false
	}
	return true
}

// answered reports whether the first packet, a SYN, has a SYN-ACK before it is sent again.
func answered(lives []*life) bool {
	for _, l := range lives[1:] {
		switch {
		case l.connection != lives[0].connection:
		case l.syn:
			return false
		case l.First().Flags == "S." && l.First().Ack == lives[0].First().Seq+1:
			return true
		}
	}
	return false
}

// connect numbers the connections: packets belong together when they have the same two ends,
// on any side of a translation.
func connect(all []*life) {
	number := map[[2]netip.AddrPort]int{}
	same := map[int]int{} // of numbers that turned out to be one connection
	root := func(n int) int {
		for same[n] != 0 {
			n = same[n]
		}
		return n
	}
	next := 0
	for _, l := range all {
		mine := 0
		for _, p := range l.Seen {
			n := root(number[ends(p)])
			switch {
			case n == 0 || n == mine:
			case mine == 0:
				mine = n
			default:
				same[max(n, mine)] = min(n, mine)
				mine = min(n, mine)
			}
		}
		if mine == 0 {
			next++
			mine = next
		}
		for _, p := range l.Seen {
			number[ends(p)] = mine
		}
		l.connection = mine
	}
	for _, l := range all {
		l.connection = root(l.connection)
	}
}

// ends are the two ends of a packet, whichever way it goes.
func ends(p recording.Packet) [2]netip.AddrPort {
	if p.Src.Compare(p.Dst) > 0 {
		return [2]netip.AddrPort{p.Dst, p.Src}
	}
	return [2]netip.AddrPort{p.Src, p.Dst}
}

// way are the nodes that the packet was seen at, in order.
func (l *life) way() (nodes []string) {
	for _, p := range l.Seen {
		if len(nodes) == 0 || nodes[len(nodes)-1] != p.Point {
			nodes = append(nodes, p.Point)
		}
	}
	return nodes
}

// lost reports whether the packet did not come to the node that it was for, or was dropped there.
func (l *life) lost() bool {
	return l.End == diagnose.Stopped || l.End == diagnose.OnTheWay || l.drop != nil
}

// translations are the nodes that gave it other ends, with these.
func (l *life) translations() (all []translation) {
	for i := 1; i < len(l.Seen); i++ {
		if p, was := l.Seen[i], l.Seen[i-1]; p.Src != was.Src || p.Dst != was.Dst {
			all = append(all, translation{p.Point, fmt.Sprintf("%v > %v", p.Src, p.Dst)})
		}
	}
	return all
}

// translation is a node, and what a packet was called after it.
type translation struct{ node, as string }

// what names a packet: "SYN", "SYN-ACK", "5 bytes".
func (l *life) what() string {
	p := l.First()
	var parts []string
	for _, c := range []struct {
		bit  byte
		name string
	}{{'S', "SYN"}, {'F', "FIN"}, {'R', "RST"}} {
		if p.Is(c.bit) {
			parts = append(parts, c.name)
		}
	}
	if p.Is('.') && p.Payload == 0 && !p.Is('R') {
		parts = append(parts, "ACK")
	}
	text := strings.Join(parts, "-")
	if p.Payload == 1 {
		text = strings.TrimSpace(text + " 1 byte")
	} else if p.Payload > 1 {
		text = strings.TrimSpace(fmt.Sprintf("%s %d bytes", text, p.Payload))
	}
	if text == "" {
		return "no flags"
	}
	return text
}

// kind is the row of the account that it belongs to.
func (l *life) kind() string {
	if l.First().Payload > 0 {
		return "data"
	}
	return l.what()
}

// ending says in words where the packet ended.
func (l *life) ending() string {
	text := ""
	switch l.End {
	case diagnose.Stopped:
		text = "ended at " + l.Node
	case diagnose.OnTheWay:
		text = "left " + l.Node + ", seen nowhere after"
	case diagnose.Delivered:
		text = "delivered to " + l.Node
	case diagnose.Unseen:
		text = "left " + l.Node + " for where nothing was recorded"
	}
	if l.drop != nil {
		text = "dropped by " + l.drop.Node + ": " + reason(*l.drop)
	}
	return text
}

// reason is the kernel's own name for a drop or a reset, and where it happened.
func reason(e recording.Event) string {
	text := e.Reason
	if text == "" {
		text = "no reason given"
	}
	if e.Place != "" {
		text += " in " + e.Place
	}
	return text
}
