//go:build linux

package play

import (
	"net/netip"
	"slices"

	"twlab/harness/lab"
	"twlab/harness/observe"
	"twlab/harness/recording"
)

// conversation is what the first tap on a connection's way has recorded of it: what the
// client sent, and what reached it.
type conversation struct {
	packets []observe.Packet // of all taps
	first   observe.Packet   // the first SYN, at the first tap
}

// conversation finds the packets of a connection.
func (p *player) conversation(local, to netip.AddrPort, since lab.Mark) (c conversation, found bool, err error) {
	if c.packets, err = p.lab.PacketsSince(since); err != nil {
		return c, false, err
	}
	i := slices.IndexFunc(c.packets, func(k observe.Packet) bool {
		return k.Src == local && k.Dst == to && k.Flags.Has(observe.FlagSYN) && !k.Flags.Has(observe.FlagACK)
	})
	if i < 0 {
		return c, false, nil
	}
	c.first = c.packets[i]
	return c, true, nil
}

// sent reports whether the client sent the packet, got whether it reached the client.
func (c conversation) sent(k observe.Packet) bool {
	return c.here(k) && k.Direction == c.first.Direction && k.Src == c.first.Src && k.Dst == c.first.Dst
}

func (c conversation) got(k observe.Packet) bool {
	return c.here(k) && k.Direction != c.first.Direction && k.Src == c.first.Dst && k.Dst == c.first.Src
}

func (c conversation) here(k observe.Packet) bool {
	return k.Point == c.first.Point && k.Interface == c.first.Interface
}

// answers lists what reached the client between each of its SYNs and the next: the first
// packet, or nothing.
func (c conversation) answers() (all []string) {
	waiting := false
	for _, k := range c.packets {
		switch {
		case c.sent(k) && k.Flags.Has(observe.FlagSYN):
			all, waiting = append(all, string(observe.NoAnswer)), true
		case waiting && c.got(k):
			all[len(all)-1], waiting = string(answer(k)), false
		}
	}
	return all
}

func answer(k observe.Packet) observe.Answer {
	switch {
	case k.Flags.Has(observe.FlagRST):
		return observe.AnswerRST
	case k.Flags.Has(observe.FlagSYN):
		return observe.AnswerSYNACK
	default:
		return observe.AnswerACK
	}
}

// closedFirst is the node that sent the first FIN or RST after the handshake; empty if none
// has.
func (c conversation) closedFirst(client string) string {
	const ends = observe.FlagFIN | observe.FlagRST
	connected := false
	for _, k := range c.packets {
		switch {
		case c.got(k) && k.Flags.Has(observe.FlagSYN|observe.FlagACK):
			connected = true
		case !connected || k.Flags&ends == 0:
		case c.sent(k):
			return client
		case c.got(k):
			return c.origin(k)
		}
	}
	return ""
}

// origin is where a packet was recorded first.
func (c conversation) origin(of observe.Packet) string {
	for _, k := range c.packets {
		if k.Seq == of.Seq && k.Flags == of.Flags && k.Ack == of.Ack && k.Direction == observe.Out {
			return k.Point
		}
	}
	return of.Point
}

// explain adds to an attempt what packets show of it. Where a tap has lost some, it shows
// nothing, and says so.
func (p *player) explain(a *recording.Attempt, since lab.Mark) {
	if !a.Local.IsValid() {
		return // it sent nothing
	}
	c, found, err := p.conversation(a.Local, a.Remote, since)
	switch {
	case err != nil:
		a.NoPackets = err.Error()
	case found:
		a.Answers, a.ClosedFirst = c.answers(), c.closedFirst(a.Node)
	}
}

// arrival is where the SYN of a connection arrived last: the node, the source that it had
// there, and the destination.
func (p *player) arrival(of *connection) (at string, peer, listens netip.AddrPort, err error) {
	c, found, err := p.conversation(of.local, of.to, of.since)
	if err != nil {
		return "", peer, listens, err
	}
	if self := of.node.Identity().Name; !found && (p.owner(of.to.Addr()) == self || of.to.Addr().IsLoopback()) {
		return self, of.local, of.to, nil // by lo, where nobody records
	}
	if !found {
		return "", peer, listens, errNoPacket
	}
	came := map[string]bool{} // a later connection may begin with the same sequence number
	for _, k := range c.packets {
		if k.Seq == c.first.Seq && k.Flags == c.first.Flags && k.Direction == observe.In && !came[k.Point] {
			at, peer, listens = k.Point, k.Src, k.Dst
			came[k.Point] = true
		}
	}
	if at == "" {
		return "", peer, listens, errNoPacket
	}
	return at, peer, listens, nil
}
