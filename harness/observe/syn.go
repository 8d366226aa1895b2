//go:build linux

package observe

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"twlab/harness/kernel"
)

// Path names the machines between a client and the server that it connects to, by the
// points of their taps ([OpenTap]). On a named machine, every interface on the way must
// have a tap. Leave Gateway empty when there is none. Leave Client or Server empty when
// that machine has no tap. The link to it then counts as the machine: a packet that enters
// the gateway counts as sent, and a packet that leaves the gateway toward the server counts
// as received.
type Path struct {
	Client  string `json:"client"`
	Gateway string `json:"gateway"`
	Server  string `json:"server"`
}

// Answer says how a SYN was answered.
type Answer string

// The answers. AnswerACK is an ACK of something else than the SYN. A socket in TIME_WAIT
// sends it for a SYN that it does not accept (tcp_timewait_state_process), and a socket
// that is still connected sends it for any SYN (RFC 5961, section 4).
const (
	NoAnswer     Answer = ""
	AnswerSYNACK Answer = "SYN-ACK"
	AnswerACK    Answer = "ACK"
	AnswerRST    Answer = "RST"
	// AnswerLimited is a missing answer: the server suppressed its ACK for the SYN, because
	// it had sent another ACK of this kind less than net.ipv4.tcp_invalid_ratelimit (500
	// ms) before (tcp_oow_rate_limited, Linux 4.0). Only the server's counters show this:
	// see [SYNAccount.Explain].
	AnswerLimited Answer = "left out (rate limit)"
)

// ACKsLeftOut returns how many ACKs a host has suppressed because of the rate limit:
// challenge ACKs, and answers to segments outside of the window or with an old timestamp.
func ACKsLeftOut(c kernel.Counters) uint64 {
	sum := uint64(0)
	for _, what := range []string{"SynRecv", "PAWS", "Seq", "FinWait2", "TimeWait", "Challenge"} {
		sum += c["TcpExt.TCPACKSkipped"+what]
	}
	return sum
}

// Way says how far a packet came from the client to the server.
type Way struct {
	EnteredGateway bool `json:"enteredGateway"` // before PREROUTING
	LeftGateway    bool `json:"leftGateway"`    // toward the server, after POSTROUTING
	Reached        bool `json:"reached"`        // the server, before its firewall
	// As is the source of the packet where it was last recorded. Behind a gateway that
	// translates, that is the source which the server sees.
	As netip.AddrPort `json:"as"`
}

// SYN says what became of one SYN, the first or a retransmission.
type SYN struct {
	Sent      time.Time       `json:"sent"`
	Sequence  uint32          `json:"sequence"` // the ISN, the same in every retransmission
	Timestamp TimestampOption `json:"timestamp"`
	Way

	// Answer is the first answer, AnsweredBy the machine of the path that sent it: the
	// server, or a gateway that answers with the server's address.
	Answer              Answer `json:"answer"`
	AnsweredBy          string `json:"answeredBy"`
	AnswerReachedClient bool   `json:"answerReachedClient"`

	// ResetSent reports whether the client replied to AnswerACK with a RST, as it does in
	// SYN_SENT to an ACK of something that it never sent (tcp_rcv_synsent_state_process).
	// The RST removes a socket in TIME_WAIT if it arrives there with the right source:
	// Reset says how far it came.
	ResetSent bool `json:"resetSent"`
	Reset     Way  `json:"reset"`
}

// SYNAccount says what became of the SYNs of one attempt.
type SYNAccount struct {
	Path Path  `json:"path"`
	SYNs []SYN `json:"syns"` // in the order in which they were sent

	// The number of SYNs sent, and the numbers of those for which a field of Way is true.
	Sent           int `json:"sent"`
	EnteredGateway int `json:"enteredGateway"`
	LeftGateway    int `json:"leftGateway"`
	Reached        int `json:"reached"`
	// The numbers of SYNs with each kind of answer.
	SYNACKs int `json:"synAcks"`
	ACKs    int `json:"acks"`
	RSTs    int `json:"rsts"`
	// Resets is the number of times that the client replied to an ACK with a RST.
	Resets int `json:"resets"`
}

// AccountSYNs follows the SYNs from client to server along the path; both ends are given as
// the client sees them. The packets are those of all taps since the attempt began, in any
// order; packets of an earlier attempt between the same ends would be counted for this one.
// All taps must share one clock, and their Lost must be zero: a packet that was not
// recorded counts as dropped.
//
// Neither routing nor address translation changes sequence numbers and the IP
// identification, so a SYN is recognised behind a NAT although its source differs.
func AccountSYNs(packets []Packet, path Path, client, server netip.AddrPort) SYNAccount {
	w := walk{packets: inTimeOrder(packets), path: path, client: client, server: server}
	syns := w.follow(w.forward(), func(p *Packet) bool { return p.kind() == FlagSYN })
	account := SYNAccount{Path: path, SYNs: make([]SYN, len(syns))}
	for i, syn := range syns {
		first := syn.seen[0]
		account.SYNs[i] = SYN{Sent: first.Time, Sequence: first.Seq, Timestamp: first.Timestamp, Way: w.way(syn)}
	}
	answers := w.answer(account.SYNs, syns)
	w.reset(account.SYNs, answers)
	for _, syn := range account.SYNs {
		account.Sent++
		account.EnteredGateway += one(syn.EnteredGateway)
		account.LeftGateway += one(syn.LeftGateway)
		account.Reached += one(syn.Reached)
		account.SYNACKs += one(syn.Answer == AnswerSYNACK)
		account.ACKs += one(syn.Answer == AnswerACK)
		account.RSTs += one(syn.Answer == AnswerRST)
		account.Resets += one(syn.ResetSent)
	}
	return account
}

// Explain changes NoAnswer to AnswerLimited where the server's counters show that; server
// says how much they rose while the SYNs were sent. The counters say how many ACKs were
// suppressed, but not which. So Explain does it only when they account for exactly the SYNs
// that reached the server and had no answer.
func (a *SYNAccount) Explain(server kernel.Counters) {
	silent := func(s SYN) bool { return s.Reached && s.Answer == NoAnswer }
	count := uint64(0)
	for _, syn := range a.SYNs {
		count += uint64(one(silent(syn)))
	}
	if count != ACKsLeftOut(server) {
		return
	}
	for i := range a.SYNs {
		if silent(a.SYNs[i]) {
			a.SYNs[i].Answer, a.SYNs[i].AnsweredBy = AnswerLimited, a.Path.Server
		}
	}
}

func one(yes bool) int {
	if yes {
		return 1
	}
	return 0
}

// walk follows packets between one client and one server.
type walk struct {
	packets        []Packet // in time order
	path           Path
	client, server netip.AddrPort
}

// station is a place where a packet is recorded on its way. On the near side of the gateway
// the client has its own address; on the far side it may have another one.
type station struct {
	point     string
	direction Direction
	near      bool
	toServer  bool // the direction of the packet; false on the way back
}

func (w walk) forward() []station {
	return tapped(
		station{w.path.Client, Out, true, true}, station{w.path.Gateway, In, true, true},
		station{w.path.Gateway, Out, false, true}, station{w.path.Server, In, false, true})
}

func (w walk) back() []station {
	return tapped(
		station{w.path.Server, Out, false, false}, station{w.path.Gateway, In, false, false},
		station{w.path.Gateway, Out, true, false}, station{w.path.Client, In, true, false})
}

func tapped(stations ...station) []station {
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

// at returns the packet as a machine recorded it in this direction, or nil.
func (t trail) at(point string, direction Direction) *Packet {
	for i, s := range t.stations {
		if s.point == point && s.direction == direction {
			return t.seen[i]
		}
	}
	return nil
}

func (w walk) way(t trail) Way {
	return Way{
		EnteredGateway: t.at(w.path.Gateway, In) != nil,
		LeftGateway:    t.at(w.path.Gateway, Out) != nil,
		Reached:        t.complete(),
		As:             t.last().Src,
	}
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

// passes reports whether the packet may be one between the client and the server that
// passes the station.
func (w walk) passes(p *Packet, s station) bool {
	far, near := p.Src, p.Dst
	if s.toServer {
		far, near = p.Dst, p.Src
	}
	return p.Point == s.point && p.Direction == s.direction && far == w.server && (!s.near || near == w.client)
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

	// The server answers the latest SYN that reached it under that source.
	fromServer := w.follow(w.back(), func(p *Packet) bool {
		return slices.ContainsFunc(syns, func(s SYN) bool { return s.Reached && s.As == p.Dst && answerTo(s, p) != NoAnswer })
	})
	forwarded := map[*Packet]bool{}
	for _, t := range fromServer {
		for _, p := range t.seen {
			forwarded[p] = true
		}
		give(latest(len(syns), func(i int) bool {
			return syns[i].Reached && syns[i].As == t.seen[0].Dst && !ways[i].last().Time.After(t.seen[0].Time)
		}), t, w.path.Server)
	}

	// A packet that leaves the gateway with the server's address, but did not come from the
	// server, was made by the gateway itself.
	if w.path.Gateway == "" {
		return answers
	}
	back := w.back()
	fromGateway := slices.IndexFunc(back, func(s station) bool { return s.point == w.path.Gateway && s.direction == Out })
	for _, t := range w.follow(back[fromGateway:], func(p *Packet) bool {
		return !forwarded[p] && slices.ContainsFunc(syns, func(s SYN) bool { return answerTo(s, p) != NoAnswer })
	}) {
		give(latest(len(syns), func(i int) bool {
			entered := ways[i].at(w.path.Gateway, In)
			return entered != nil && !entered.Time.After(t.seen[0].Time)
		}), t, w.path.Gateway)
	}
	return answers
}

// reset finds the RST with which the client replied to an ACK: its sequence number is the
// acknowledgement number of the ACK (tcp_v4_send_reset).
func (w walk) reset(syns []SYN, answers []*Packet) {
	for _, t := range w.follow(w.forward(), func(p *Packet) bool { return p.kind() == FlagRST }) {
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

// String describes the account in one line: "3 sent, 3 entered and 3 left gateway as
// 10.20.0.1:40001, 3 reached balancer: 1 answered by ACK, 2 by SYN-ACK; 1 RST sent, 1
// entered and 1 left gateway as 10.20.0.1:40001, 1 reached balancer".
func (a SYNAccount) String() string {
	if a.Sent == 0 {
		return "0 sent"
	}
	var syns, resets []Way
	for _, syn := range a.SYNs {
		syns = append(syns, syn.Way)
		if syn.ResetSent {
			resets = append(resets, syn.Reset)
		}
	}
	text := a.Path.count("sent", syns) + ": " + a.answers()
	if len(resets) > 0 {
		text += "; " + a.Path.count("RST sent", resets)
	}
	return text
}

// count describes how many packets came how far.
func (p Path) count(what string, ways []Way) string {
	var entered, left, reached int
	var sources []string
	for _, way := range ways {
		entered += one(way.EnteredGateway)
		left += one(way.LeftGateway)
		reached += one(way.Reached)
		if source := way.As.String(); way.LeftGateway && !slices.Contains(sources, source) {
			sources = append(sources, source)
		}
	}
	text := fmt.Sprintf("%d %s", len(ways), what)
	if p.Gateway != "" {
		text += fmt.Sprintf(", %d entered and %d left %s", entered, left, p.Gateway)
		if len(sources) > 0 {
			text += " as " + strings.Join(sources, " and ")
		}
	}
	if p.Server != "" {
		text += fmt.Sprintf(", %d reached %s", reached, p.Server)
	}
	return text
}

// answers counts the kinds of answer, in the order of their first appearance.
func (a SYNAccount) answers() string {
	type kind struct {
		answer Answer
		by     string
	}
	var kinds []kind
	given, arrived := map[kind]int{}, map[kind]int{}
	for _, syn := range a.SYNs {
		k := kind{syn.Answer, syn.AnsweredBy}
		if !slices.Contains(kinds, k) {
			kinds = append(kinds, k)
		}
		given[k]++
		arrived[k] += one(syn.AnswerReachedClient)
	}
	var parts []string
	verb := "answered by"
	for _, k := range kinds {
		if k.answer == NoAnswer || k.answer == AnswerLimited {
			part := fmt.Sprintf("%d not answered", given[k])
			if k.answer == AnswerLimited {
				part += " because of the rate limit"
			}
			parts = append(parts, part)
			continue
		}
		part := fmt.Sprintf("%d %s %s", given[k], verb, k.answer)
		if k.by != a.Path.Server {
			part += " from " + k.by
		}
		if arrived[k] < given[k] {
			part += fmt.Sprintf(" (%d reached the client)", arrived[k])
		}
		parts = append(parts, part)
		verb = "by"
	}
	return strings.Join(parts, ", ")
}
