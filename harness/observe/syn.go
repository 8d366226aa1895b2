//go:build linux

package observe

import (
	"cmp"
	"net/netip"
	"time"

	"twlab/harness/kernel"
)

// Path names the machines between a client and the server that it connects to, by the
// points of their taps ([OpenTap]). On a named machine, every interface on the way must
// have a tap.
type Path struct {
	Client string `json:"client"`
	// Gateways are the nodes on the way that forward packets, whether they translate or
	// not, in the order from the client to the server, each of them once. Leave out those
	// without taps.
	Gateways []string `json:"gateways,omitempty"`
	Server   string   `json:"server"`
	// Client or Server is empty when that machine has no tap. The link to it then counts as
	// the machine: a packet that enters the first gateway counts as sent, and a packet that
	// leaves the last one toward the server counts as received.
}

// NearestToServer returns the server, or when that has no tap the last gateway, or else the
// client.
func (p Path) NearestToServer() string {
	if n := len(p.Gateways); p.Server == "" && n > 0 {
		return p.Gateways[n-1]
	}
	return cmp.Or(p.Server, p.Client)
}

// NearestToClient returns the client, or when that has no tap the first gateway, or else the
// server.
func (p Path) NearestToClient() string {
	if p.Client == "" && len(p.Gateways) > 0 {
		return p.Gateways[0]
	}
	return cmp.Or(p.Client, p.Server)
}

// Ended says in a few words where a packet on this path was last recorded: "reached
// balancer", "dropped by gateway1", "lost between gateway1 and gateway2".
func (p Path) Ended(w Way) string {
	server := cmp.Or(p.Server, "the server")
	if w.Reached {
		return "reached " + server
	}
	before := cmp.Or(p.Client, "the client")
	for _, h := range w.Hops {
		if !h.Entered {
			return "lost between " + before + " and " + h.Gateway
		}
		if !h.Left {
			return "dropped by " + h.Gateway
		}
		before = h.Gateway
	}
	return "lost between " + before + " and " + server
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

// Hop says whether a packet passed one gateway of its path.
type Hop struct {
	Gateway string `json:"gateway"`
	Entered bool   `json:"entered"` // before PREROUTING
	Left    bool   `json:"left"`    // toward the server, after POSTROUTING
	// As and To are the source and the destination with which the packet left, as the next
	// machine sees them; not valid when it did not leave.
	As netip.AddrPort `json:"as"`
	To netip.AddrPort `json:"to"`
}

// Way says how far a packet came from the client to the server.
type Way struct {
	EnteredGateway bool `json:"enteredGateway"` // the first one
	LeftGateway    bool `json:"leftGateway"`    // the last one, toward the server
	Reached        bool `json:"reached"`        // the server, before its firewall
	// As is the source of the packet where it was last recorded, To its destination there.
	// Behind gateways that translate, these are the ends as the server sees them.
	As netip.AddrPort `json:"as"`
	To netip.AddrPort `json:"to"`
	// Hops are the gateways of the path, in its order; nil without any.
	Hops []Hop `json:"hops,omitempty"`
}

// SYN says what became of one SYN, the first or a retransmission.
type SYN struct {
	Sent      time.Time       `json:"sent"`
	Sequence  uint32          `json:"sequence"` // the ISN, the same in every retransmission
	Timestamp TimestampOption `json:"timestamp"`
	Way

	// Answer is the first answer, AnsweredBy the machine of the path that sent it: the
	// server, or a gateway that answers with the address to which the SYN was sent.
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
// Neither routing nor address translation changes sequence numbers, the IPv4 identification
// and the IPv6 flow label, so a SYN is recognised behind any number of NATs although its
// source or its destination differs (SNAT, DNAT). A flow label of 0, as with
// net.ipv6.auto_flowlabels=0, tells nothing: another client's SYN with the same sequence
// number at the same time can then be taken for this one.
func AccountSYNs(packets []Packet, path Path, client, server netip.AddrPort) SYNAccount {
	w := walk{packets: inTimeOrder(packets), path: path, client: client, server: server}
	syns := w.follow(w.forward(), func(p *Packet) bool { return p.kind() == FlagSYN && p.Dst == server })
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
