//go:build linux

package observe

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Direction says whether a packet came into the namespace through the tapped
// interface or left it there.
type Direction string

// The directions.
const (
	In  Direction = "In"
	Out Direction = "Out"
)

// Flags is the octet of control bits of a TCP header (RFC 9293, section 3.1).
type Flags uint8

// The control bits.
const (
	FlagFIN Flags = 1 << iota
	FlagSYN
	FlagRST
	FlagPSH
	FlagACK
	FlagURG
	FlagECE
	FlagCWR
)

// Has reports whether all of these bits are set.
func (f Flags) Has(bits Flags) bool { return f&bits == bits }

// String writes the bits as tcpdump does: "S" for SYN, "S." for SYN and ACK,
// "." for a bare ACK, "R", "F.", "P.", and "none".
func (f Flags) String() string {
	if f == 0 {
		return "none"
	}
	var text strings.Builder
	for _, bit := range []struct {
		flag   Flags
		letter byte
	}{
		{FlagFIN, 'F'}, {FlagSYN, 'S'}, {FlagRST, 'R'}, {FlagPSH, 'P'},
		{FlagACK, '.'}, {FlagURG, 'U'}, {FlagECE, 'E'}, {FlagCWR, 'W'},
	} {
		if f.Has(bit.flag) {
			text.WriteByte(bit.letter)
		}
	}
	return text.String()
}

// TimestampOption is the TCP timestamp option (RFC 7323, section 3). The zero value means
// that the segment had none.
type TimestampOption struct {
	Present bool   `json:"present,omitempty"`
	Value   uint32 `json:"value,omitempty"` // TSval, the sender's clock
	Echo    uint32 `json:"echo,omitempty"`  // TSecr
}

// Packet is one TCP segment over IPv4 or IPv6 as recorded at one interface. A segment that
// crosses three machines gives up to six of them.
type Packet struct {
	Point     string         `json:"point"`     // the machine, as named to OpenTap
	Interface string         `json:"interface"` // the interface there
	Time      time.Time      `json:"time"`      // UTC, stamped by the kernel
	Direction Direction      `json:"direction"`
	Src       netip.AddrPort `json:"src"`
	Dst       netip.AddrPort `json:"dst"`
	ID        uint16         `json:"id"` // IPv4 identification; 0 on answers that Linux sends without a full socket
	// FlowLabel is the flow label of IPv6 (RFC 6437). Linux makes it from the hash of the
	// socket (ip6_make_flowlabel, net.ipv6.auto_flowlabels), which it changes when it
	// retransmits (sk_rethink_txhash). Neither routing nor NAT changes it.
	FlowLabel uint32          `json:"flowLabel,omitempty"`
	Seq       uint32          `json:"seq"`
	Ack       uint32          `json:"ack"`
	Flags     Flags           `json:"flags"`
	Timestamp TimestampOption `json:"timestamp"`
	Payload   int             `json:"payload"` // octets of data after the TCP header
	// Fragment means that only the first fragment of the IP packet was recorded, of which
	// Payload is then the size; the others have no TCP header.
	Fragment bool   `json:"fragment,omitempty"`
	Raw      []byte `json:"raw"` // the frame from its Ethernet header on, cut at 190 octets; read only
}

// String writes the packet in one line in the manner of tcpdump:
//
//	12:00:00.000000 gateway/eth1 Out 10.0.0.2.40001 > 10.20.0.3.80: [S.], seq 1, ack 2, TS val 3 ecr 4, length 0
func (p Packet) String() string {
	var text strings.Builder
	fmt.Fprintf(&text, "%s %s %s %s.%d > %s.%d: [%s], seq %d", p.Time.Format("15:04:05.000000"), p.place(), p.Direction,
		p.Src.Addr(), p.Src.Port(), p.Dst.Addr(), p.Dst.Port(), p.Flags, p.Seq)
	if p.Flags.Has(FlagACK) {
		fmt.Fprintf(&text, ", ack %d", p.Ack)
	}
	if p.Timestamp.Present {
		fmt.Fprintf(&text, ", TS val %d ecr %d", p.Timestamp.Value, p.Timestamp.Echo)
	}
	fmt.Fprintf(&text, ", length %d", p.Payload)
	if p.Fragment {
		text.WriteString(", first fragment")
	}
	return text.String()
}

// place names the tap: "client0/eth0".
func (p Packet) place() string { return p.Point + "/" + p.Interface }

// inTimeOrder returns a sorted copy; packets of the same instant keep their order.
func inTimeOrder(packets []Packet) []Packet {
	sorted := slices.Clone(packets)
	slices.SortStableFunc(sorted, func(a, b Packet) int { return a.Time.Compare(b.Time) })
	return sorted
}
