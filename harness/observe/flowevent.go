//go:build linux

package observe

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// FlowChange says what happened to a conntrack entry.
type FlowChange string

// The changes.
const (
	FlowNew       FlowChange = "NEW"     // its first packet left the namespace or was delivered (__nf_conntrack_confirm)
	FlowUpdated   FlowChange = "UPDATE"  // its state, status, mark or another field changed
	FlowDestroyed FlowChange = "DESTROY" // it is no longer in the table
)

// FlowEvent is one event of connection tracking about a TCP connection
// (ctnetlink_conntrack_event).
type FlowEvent struct {
	// Time is the kernel's own time of the event where Stamped is true: since Linux 6.14,
	// for entries that began while net.netfilter.nf_conntrack_timestamp was 1
	// (CTA_TIMESTAMP_EVENT). Else it is the time at which the event was read, which is
	// later.
	Time    time.Time  `json:"time"`
	Stamped bool       `json:"stamped,omitempty"`
	Change  FlowChange `json:"change"`
	// Flow is the entry as the event describes it. State is empty where the event does not
	// say it: in updates that did not change it, and before Linux 5.7 in DESTROY. Expires
	// in DESTROY, since Linux 5.7 (commit 86d21fc74745), is what was left of the timeout: 0
	// when it had run out, more when the entry was removed before that.
	Flow Flow `json:"flow"`
	// Requester is the netlink port of whoever asked for the change by ctnetlink, which is
	// the process id for the first netlink socket of a process; 0 when nobody did.
	//
	// An event has no reason. A DESTROY with a Requester was asked for (conntrack -D,
	// DeleteFlows). One without is a timeout, or an entry that the kernel removed for
	// another purpose: for a new connection between the same ends, for room in a full table
	// (early_drop), for a port (nf_nat_used_tuple_harder), or because its interface went
	// down (masq_device_event). The event does not say which of these.
	Requester uint32 `json:"requester,omitempty"`
}

// String describes the event in one line:
// "12:00:00.000000 DESTROY TIME_WAIT 10.0.0.2:40001 > 10.20.0.3:80 as 10.20.0.1:40001 1m59s, requested by 1234".
func (e FlowEvent) String() string {
	text := fmt.Sprintf("%s %s %s", e.Time.Format("15:04:05.000000"), e.Change, e.Flow)
	if e.Requester != 0 {
		text += fmt.Sprintf(", requested by %d", e.Requester)
	}
	return text
}

// attributeTimestampEvent is CTA_TIMESTAMP_EVENT of
// include/uapi/linux/netfilter/nfnetlink_conntrack.h.
const attributeTimestampEvent = 27

// parseFlowEvents reads the messages of one datagram. Events of other protocols are left
// out; received is the time of those without the kernel's own.
func parseFlowEvents(datagram []byte, received time.Time) ([]FlowEvent, error) {
	var events []FlowEvent
	for len(datagram) >= unix.SizeofNlMsghdr {
		size := int(binary.NativeEndian.Uint32(datagram))
		if size < unix.SizeofNlMsghdr || size > len(datagram) {
			return events, fmt.Errorf("conntrack event of %d bytes in %d", size, len(datagram))
		}
		one, isTCP, err := parseFlowEvent(datagram[:size], received)
		if err != nil {
			return events, err
		}
		if isTCP {
			events = append(events, one)
		}
		datagram = datagram[min(len(datagram), (size+unix.NLMSG_ALIGNTO-1)&^(unix.NLMSG_ALIGNTO-1)):]
	}
	return events, nil
}

func parseFlowEvent(message []byte, received time.Time) (event FlowEvent, isTCP bool, err error) {
	kind, flags := binary.NativeEndian.Uint16(message[4:]), binary.NativeEndian.Uint16(message[6:])
	e, isTCP, err := parseEntry(message[unix.SizeofNlMsghdr:])
	if err != nil || !isTCP {
		return event, false, err
	}
	event = FlowEvent{
		Time: received, Change: FlowUpdated, Flow: e.flow,
		Requester: binary.NativeEndian.Uint32(message[12:]),
	}
	switch {
	case kind == unix.NFNL_SUBSYS_CTNETLINK<<8|nl.IPCTNL_MSG_CT_DELETE:
		event.Change = FlowDestroyed
	case kind != unix.NFNL_SUBSYS_CTNETLINK<<8|nl.IPCTNL_MSG_CT_NEW:
		return event, false, fmt.Errorf("conntrack event of type %#x", kind)
	case flags&unix.NLM_F_CREATE != 0:
		event.Change = FlowNew
	}
	if !e.stamp.IsZero() {
		event.Time, event.Stamped = e.stamp, true
	}
	return event, true, nil
}
