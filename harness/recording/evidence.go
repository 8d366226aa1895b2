package recording

import (
	"net/netip"
	"strings"
	"time"
)

// Evidence is a kind of evidence.
type Evidence string

// The kinds.
const (
	OfErrno    Evidence = "errno" // outcomes and errors of system calls
	OfPackets  Evidence = "packets"
	OfCounters Evidence = "counters"
	OfSockets  Evidence = "sockets"
	OfFlows    Evidence = "flows" // conntrack entries
	OfRules    Evidence = "rules" // iptables rules and what they have matched
	OfEvents   Evidence = "events"
	OfLogs     Evidence = "log" // of a program that balances
)

// Event is a packet that a node's kernel dropped, or a RST that it sent.
type Event struct {
	Time   time.Time `json:"time"`
	Kind   string    `json:"kind"` // "drop" or "reset"
	Node   string    `json:"node"`
	Reason string    `json:"reason,omitempty"` // the kernel's name: "NETFILTER_DROP"
	Place  string    `json:"place,omitempty"`  // the kernel's function that dropped
	// Unasked marks a RST that a socket sent on its own; Src is then its local end.
	Unasked bool           `json:"unasked,omitempty"`
	Src     netip.AddrPort `json:"src"`
	Dst     netip.AddrPort `json:"dst"`
	Flags   string         `json:"flags,omitempty"`
	Seq     uint32         `json:"seq,omitempty"`
	Ack     uint32         `json:"ack,omitempty"`
	Payload int            `json:"payload,omitempty"`
}

// Packet is one TCP segment as recorded at one interface. A segment that crosses three
// machines gives up to six of them.
type Packet struct {
	Point     string    `json:"point"` // the node
	Interface string    `json:"interface"`
	Time      time.Time `json:"time"` // UTC, stamped by the kernel
	// Out says that it left the node there, instead of coming in.
	Out bool           `json:"out,omitempty"`
	Src netip.AddrPort `json:"src"`
	Dst netip.AddrPort `json:"dst"`
	// ID is the identification of IPv4, FlowLabel the flow label of IPv6.
	ID        uint16 `json:"id,omitempty"`
	FlowLabel uint32 `json:"flowLabel,omitempty"`
	Seq       uint32 `json:"seq"`
	Ack       uint32 `json:"ack,omitempty"`
	// Flags are the control bits as tcpdump writes them: "S", "S.", ".", "R", "F.", "P.".
	Flags string `json:"flags"`
	// Timestamp is the TCP timestamp option (RFC 7323), if it has one.
	Timestamp *Timestamp `json:"timestamp,omitempty"`
	// Payload is the octets of data after the TCP header; of a Fragment, of the first one.
	Payload  int    `json:"payload,omitempty"`
	Fragment bool   `json:"fragment,omitempty"`
	Raw      []byte `json:"raw,omitempty"` // the frame from its Ethernet header on, cut at 190 octets
}

// Is reports whether the packet has the control bit, by tcpdump's letter: 'S', 'F', 'R', '.'.
func (p Packet) Is(bit byte) bool { return strings.IndexByte(p.Flags, bit) >= 0 }

// Timestamp is the TCP timestamp option: TSval and TSecr.
type Timestamp struct {
	Value uint32 `json:"value"`
	Echo  uint32 `json:"echo"`
}

// Socket is one row of a node's TCP socket table.
type Socket struct {
	State  string         `json:"state"`
	Local  netip.AddrPort `json:"local"`
	Remote netip.AddrPort `json:"remote"`
	// Timer is what it waits for ("timewait", "retransmit"), empty for nothing; Expires is
	// when that is over.
	Timer   string        `json:"timer,omitempty"`
	Expires time.Duration `json:"expires,omitempty"`
	// RecvQueue and SendQueue are bytes that were not read or not acknowledged; of a listener,
	// connections that were not accepted, and how many may wait.
	RecvQueue uint32 `json:"recvQueue,omitempty"`
	SendQueue uint32 `json:"sendQueue,omitempty"`
	V6        bool   `json:"v6,omitempty"`
	V6Only    bool   `json:"v6Only,omitempty"`
}

// Flow is an entry of a node's conntrack table.
type Flow struct {
	// From and To are the ends of its first packet. As and At are those ends on the other
	// side of the translation: what the peer sees, and where the packet went.
	From netip.AddrPort `json:"from"`
	To   netip.AddrPort `json:"to"`
	As   netip.AddrPort `json:"as"`
	At   netip.AddrPort `json:"at"`
	// State is conntrack's own: "SYN_SENT", "TIME_WAIT".
	State     string        `json:"state"`
	Expires   time.Duration `json:"expires"`
	SeenReply bool          `json:"seenReply,omitempty"`
	Assured   bool          `json:"assured,omitempty"`
}

// Rule is an iptables rule, and what it has matched.
type Rule struct {
	IPVersion int    `json:"ipVersion"`
	Table     string `json:"table"`
	Chain     string `json:"chain"`
	Rule      string `json:"rule"` // as iptables-save writes it
	Packets   uint64 `json:"packets"`
	Bytes     uint64 `json:"bytes"`
}
