//go:build linux

package observe

import (
	"net/netip"
	"slices"
)

// walk follows packets between one client and one server.
type walk struct {
	packets        []Packet // in time order
	path           Path
	client, server netip.AddrPort
}

// station is a place where a packet is recorded on its way. On the near side of the first
// gateway both ends are as the client sees them; farther on they may be translated.
type station struct {
	point     string
	gateway   int // the index of that gateway, or atEnd
	direction Direction
	near      bool
	toServer  bool // the direction of the packet; false on the way back
}

// atEnd is the gateway of a station at the client or at the server.
const atEnd = -1

func (w walk) forward() []station {
	stations := []station{{w.path.Client, atEnd, Out, true, true}}
	for i, g := range w.path.Gateways {
		stations = append(stations, station{g, i, In, i == 0, true}, station{g, i, Out, false, true})
	}
	return tapped(append(stations, station{w.path.Server, atEnd, In, false, true}))
}

func (w walk) back() []station {
	stations := []station{{w.path.Server, atEnd, Out, false, false}}
	for i, g := range slices.Backward(w.path.Gateways) {
		stations = append(stations, station{g, i, In, false, false}, station{g, i, Out, i == 0, false})
	}
	return tapped(append(stations, station{w.path.Client, atEnd, In, true, false}))
}

func tapped(stations []station) []station {
	return slices.DeleteFunc(stations, func(s station) bool { return s.point == "" })
}

// trail is one packet on its way: what each station recorded of it. The first element of
// seen is never nil, and after a nil element all are nil.
type trail struct {
	stations []station
	seen     []*Packet
}

func (t trail) complete() bool { return t.seen[len(t.seen)-1] != nil }

// last returns the packet as it was last recorded.
func (t trail) last() *Packet {
	last := t.seen[0]
	for _, p := range t.seen {
		if p != nil {
			last = p
		}
	}
	return last
}

// at returns the packet as a gateway recorded it in this direction, or nil.
func (t trail) at(gateway int, direction Direction) *Packet {
	for i, s := range t.stations {
		if s.gateway == gateway && s.direction == direction {
			return t.seen[i]
		}
	}
	return nil
}

func (w walk) way(t trail) Way {
	last := t.last()
	way := Way{Reached: t.complete(), As: last.Src, To: last.Dst}
	for i, g := range w.path.Gateways {
		hop := Hop{Gateway: g, Entered: t.at(i, In) != nil}
		if left := t.at(i, Out); left != nil {
			hop.Left, hop.As, hop.To = true, left.Src, left.Dst
		}
		way.Hops = append(way.Hops, hop)
	}
	if n := len(way.Hops); n > 0 {
		way.EnteredGateway, way.LeftGateway = way.Hops[0].Entered, way.Hops[n-1].Left
	}
	return way
}

// follow finds the packets that start at the first station, and each of them
// again at the stations after it.
func (w walk) follow(stations []station, start func(*Packet) bool) []trail {
	var trails []trail
	for i, s := range stations {
		for j := range w.packets {
			p := &w.packets[j]
			if !w.passes(p, s) {
				continue
			}
			if i == 0 {
				if start(p) {
					seen := make([]*Packet, len(stations))
					seen[0] = p
					trails = append(trails, trail{stations, seen})
				}
				continue
			}
			if from := sender(trails, i-1, p); from >= 0 {
				trails[from].seen[i] = p
			}
		}
	}
	return trails
}

// passes reports whether the packet passes the station, and can be one between the client
// and the server there.
func (w walk) passes(p *Packet, s station) bool {
	if p.Point != s.point || p.Direction != s.direction {
		return false
	}
	far, near := p.Src, p.Dst
	if s.toServer {
		far, near = p.Dst, p.Src
	}
	return !s.near || far == w.server && near == w.client
}

// sender returns the index of the trail that the packet continues from a station, or -1.
// Retransmissions over IPv4 differ in the IP identification. Where that is zero, and over
// IPv6, sender takes the latest packet sent before this one: a link takes microseconds, and
// the next retransmission comes milliseconds later. A later packet never takes the place of
// an earlier one that was lost.
func sender(trails []trail, station int, p *Packet) int {
	found := -1
	for i, t := range trails {
		q := t.seen[station]
		if q == nil || q.ID != p.ID || q.FlowLabel != p.FlowLabel || q.Seq != p.Seq || q.Ack != p.Ack || q.Flags != p.Flags {
			continue
		}
		if !q.Time.After(p.Time) || found < 0 && p.ID != 0 {
			found = i
		}
	}
	return found
}

// answer finds the answer to each SYN. It returns the answers as they were last recorded on
// their way to the client, nil for a SYN without one.
func (w walk) answer(syns []SYN, ways []trail) []*Packet {
	answers := make([]*Packet, len(syns))
	give := func(i int, t trail, by string) {
		if i < 0 || syns[i].Answer != NoAnswer {
			return // a retransmitted answer, or a packet after an answer
		}
		syns[i].Answer, syns[i].AnsweredBy = answerTo(syns[i], t.seen[0]), by
		if syns[i].Answer != NoAnswer {
			syns[i].AnswerReachedClient = t.complete()
			answers[i] = t.last()
		}
	}

	// The server answers the latest SYN that reached it between the same ends.
	reached := func(s SYN, p *Packet) bool { return s.Reached && s.As == p.Dst && s.To == p.Src }
	fromServer := w.follow(w.back(), func(p *Packet) bool {
		return slices.ContainsFunc(syns, func(s SYN) bool { return reached(s, p) && answerTo(s, p) != NoAnswer })
	})
	forwarded := map[*Packet]bool{}
	for _, t := range fromServer {
		for _, p := range t.seen {
			forwarded[p] = true
		}
		give(latest(len(syns), func(i int) bool {
			return reached(syns[i], t.seen[0]) && !ways[i].last().Time.After(t.seen[0].Time)
		}), t, w.path.Server)
	}
	for i := range slices.Backward(w.path.Gateways) {
		w.answerOf(i, syns, ways, forwarded, give)
	}
	return answers
}

// answerOf finds the answers that a gateway made itself: they leave it toward the client
// with the ends with which the SYN entered it, but did not come from farther on. It adds
// them to those that have been forwarded.
func (w walk) answerOf(gateway int, syns []SYN, ways []trail, forwarded map[*Packet]bool, give func(int, trail, string)) {
	entered := func(i int, p *Packet) bool {
		q := ways[i].at(gateway, In)
		return q != nil && q.Src == p.Dst && q.Dst == p.Src && !q.Time.After(p.Time)
	}
	back := w.back()
	from := slices.IndexFunc(back, func(s station) bool { return s.gateway == gateway && s.direction == Out })
	trails := w.follow(back[from:], func(p *Packet) bool {
		answered := latest(len(syns), func(i int) bool { return entered(i, p) && answerTo(syns[i], p) != NoAnswer })
		return !forwarded[p] && answered >= 0
	})
	for _, t := range trails {
		for _, p := range t.seen {
			forwarded[p] = true
		}
		give(latest(len(syns), func(i int) bool { return entered(i, t.seen[0]) }), t, w.path.Gateways[gateway])
	}
}

// reset finds the RST with which the client replied to an ACK: its sequence number is the
// acknowledgement number of the ACK (tcp_v4_send_reset).
func (w walk) reset(syns []SYN, answers []*Packet) {
	for _, t := range w.follow(w.forward(), func(p *Packet) bool { return p.kind() == FlagRST && p.Dst == w.server }) {
		rst := t.seen[0]
		i := latest(len(syns), func(i int) bool {
			return syns[i].Answer == AnswerACK && syns[i].AnswerReachedClient &&
				answers[i].Ack == rst.Seq && !answers[i].Time.After(rst.Time)
		})
		if i >= 0 && !syns[i].ResetSent {
			syns[i].ResetSent, syns[i].Reset = true, w.way(t)
		}
	}
}

// latest returns the highest index below n that is wanted, or -1.
func latest(n int, wanted func(int) bool) int {
	for i := n - 1; i >= 0; i-- {
		if wanted(i) {
			return i
		}
	}
	return -1
}

// kind returns the control bits that determine the kind of a segment.
func (p *Packet) kind() Flags { return p.Flags & (FlagSYN | FlagACK | FlagRST | FlagFIN) }

// answerTo returns which answer to the SYN the packet is, if any. A SYN-ACK and a RST
// acknowledge the SYN that they answer (RFC 9293, section 3.10.7).
func answerTo(syn SYN, p *Packet) Answer {
	acknowledges := p.Ack == syn.Sequence+1
	switch kind := p.kind(); {
	case kind == FlagSYN|FlagACK && acknowledges:
		return AnswerSYNACK
	case kind == FlagRST|FlagACK && acknowledges:
		return AnswerRST
	case kind == FlagACK && p.Payload == 0:
		return AnswerACK
	default:
		return NoAnswer
	}
}
