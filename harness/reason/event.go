//go:build linux

package reason

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"twlab/harness/observe"
)

// Kind says what an event is.
type Kind string

// The kinds.
const (
	Drop  Kind = "drop"  // a packet was freed without being delivered (kfree_skb)
	Reset Kind = "reset" // a RST was sent (tcp_v4_send_reset, tcp_send_active_reset)
)

// Event is a TCP packet that a node dropped, or a reset that it sent. A drop is not always a
// loss: a FIN whose socket has taken it is freed in the same way (NOT_SPECIFIED in
// tcp_v4_rcv, QUEUE_PURGE), and so are segments that repeat what has come.
type Event struct {
	At   time.Time
	Kind Kind
	Node string
	// Reason is the kernel's name, without its prefix: NETFILTER_DROP, NO_SOCKET,
	// TCP_ABORT_ON_CLOSE. Empty for a reset on a kernel that gives none (before 6.10).
	Reason string
	// Place is the kernel's function that dropped the packet; empty for a reset.
	Place string
	// Unasked marks a reset that a socket sent on its own and not as the answer to a
	// segment.
	Unasked bool
	// Src and Dst are those of the dropped packet as it was then, after any translation; of the
	// segment that a reset answers; of the socket, local end first, of an unasked one.
	Src, Dst netip.AddrPort
	// Flags, Seq, Ack and Payload are those of that packet, and zero for an unasked reset.
	Flags    observe.Flags
	Seq, Ack uint32
	Payload  int // in bytes
}

// String returns one line.
func (e Event) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s %s", e.Node, e.Kind, e.Reason)
	if e.Place != "" {
		fmt.Fprintf(&b, " in %s", e.Place)
	}
	if e.Unasked {
		fmt.Fprintf(&b, ", unasked, by %v > %v", e.Src, e.Dst)
		return b.String()
	}
	if e.Kind == Reset {
		b.WriteString(" for")
	}
	fmt.Fprintf(&b, " %v > %v [%v] seq %d ack %d, %d bytes", e.Src, e.Dst, e.Flags, e.Seq, e.Ack, e.Payload)
	return b.String()
}
