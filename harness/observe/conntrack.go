//go:build linux

package observe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Tuple is one direction of a tracked connection.
type Tuple struct {
	Src netip.AddrPort `json:"src"`
	Dst netip.AddrPort `json:"dst"`
}

// Flow is one TCP entry of connection tracking.
type Flow struct {
	// Original is the direction of the first packet, before translation.
	Original Tuple `json:"original"`
	// Reply is the direction of an answer, before it is translated back. With source NAT,
	// Reply.Dst is the source that the server sees.
	Reply Tuple `json:"reply"`
	// State is conntrack's own state, which is not the state of any socket: "SYN_SENT",
	// "SYN_RECV", "ESTABLISHED", "FIN_WAIT", "CLOSE_WAIT", "LAST_ACK", "TIME_WAIT",
	// "CLOSE", "SYN_SENT2" or "NONE" (tcp_conntrack_names in
	// net/netfilter/nf_conntrack_proto_tcp.c).
	State string `json:"state"`
	// Expires is the time until the entry expires, in whole seconds.
	Expires time.Duration `json:"expires"`
	// SeenReply and Assured are IPS_SEEN_REPLY and IPS_ASSURED: a packet in the reply
	// direction has passed; the entry is not dropped early when the table is full.
	SeenReply bool `json:"seenReply"`
	Assured   bool `json:"assured"`
}

// String describes the flow in one line:
// "TIME_WAIT 10.0.0.2:40001 > 10.20.0.3:80 as 10.20.0.1:40001 119s".
func (f Flow) String() string {
	text := fmt.Sprintf("%s %s > %s", f.State, f.Original.Src, f.Original.Dst)
	if f.Reply.Dst != f.Original.Src {
		text += fmt.Sprintf(" as %s", f.Reply.Dst)
	}
	if f.Reply.Src != f.Original.Dst {
		text += fmt.Sprintf(" at %s", f.Reply.Src)
	}
	return text + " " + f.Expires.String()
}

// FlowMatch selects flows. In each of its four ends, the unspecified or an invalid address
// matches any address and port 0 any port; the zero value selects every TCP flow.
type FlowMatch struct {
	Original Tuple `json:"original"`
	Reply    Tuple `json:"reply"`
}

// Matches reports whether the flow is selected.
func (m FlowMatch) Matches(f Flow) bool {
	return covers(m.Original.Src, f.Original.Src) && covers(m.Original.Dst, f.Original.Dst) &&
		covers(m.Reply.Src, f.Reply.Src) && covers(m.Reply.Dst, f.Reply.Dst)
}

// ReadFlows lists the tracked TCP connections over IPv4 of the calling thread's network
// namespace. A namespace without a rule that needs connection tracking has none. On a
// kernel without ctnetlink the error is EPROTONOSUPPORT or EINVAL.
func ReadFlows() ([]Flow, error) {
	entries, err := dumpConntrack()
	if err != nil {
		return nil, err
	}
	flows := make([]Flow, len(entries))
	for i, e := range entries {
		flows[i] = e.flow
	}
	return flows, nil
}

// DeleteFlows deletes the conntrack entries of TCP connections over IPv4 that match, in the
// calling thread's network namespace, and returns how many. Once the entry is deleted, the
// NAT can use the same address and port again while the server still has them in TIME_WAIT.
//
// A match with a complete Original or a complete Reply is looked up. For any other match
// the kernel walks the table of all namespaces, which takes about 10 ms.
func DeleteFlows(match FlowMatch) (int, error) {
	entries, err := selectConntrack(match)
	if err != nil {
		return 0, err
	}
	deleted := 0
	for _, e := range entries {
		if !match.Matches(e.flow) {
			continue
		}
		request := conntrackRequest(nl.IPCTNL_MSG_CT_DELETE, unix.NLM_F_ACK)
		for _, a := range e.identity {
			request.AddData(nl.NewRtAttr(int(a.kind), a.value))
		}
		_, err := request.Execute(unix.NETLINK_NETFILTER, 0)
		if errors.Is(err, unix.ENOENT) {
			continue // it expired since the dump
		}
		if err != nil {
			return deleted, fmt.Errorf("delete conntrack entry %s: %w", e.flow, err)
		}
		deleted++
	}
	return deleted, nil
}

// entry is a flow with the attributes by which the kernel finds it again: original tuple,
// zone, and the id, which distinguishes it from a newer flow between the same ends.
type entry struct {
	flow     Flow
	identity []attribute
}

// selectConntrack finds the entries that may match: the entry of a tuple that is complete,
// or all.
func selectConntrack(match FlowMatch) ([]entry, error) {
	for _, direction := range []struct {
		kind  int
		tuple Tuple
	}{{nl.CTA_TUPLE_ORIG, match.Original}, {nl.CTA_TUPLE_REPLY, match.Reply}} {
		if complete(direction.tuple.Src) && complete(direction.tuple.Dst) {
			return lookUpConntrack(direction.kind, direction.tuple)
		}
	}
	return dumpConntrack()
}

func complete(end netip.AddrPort) bool {
	return end.Addr().Is4() && !end.Addr().IsUnspecified() && end.Port() != 0
}

// TupleAttribute encodes one direction of a TCP connection over IPv4 for ctnetlink: kind is
// nl.CTA_TUPLE_ORIG or nl.CTA_TUPLE_REPLY.
func TupleAttribute(kind int, tuple Tuple) *nl.RtAttr {
	attribute := nl.NewRtAttr(kind|unix.NLA_F_NESTED, nil)
	ip := attribute.AddRtAttr(nl.CTA_TUPLE_IP|unix.NLA_F_NESTED, nil)
	ip.AddRtAttr(nl.CTA_IP_V4_SRC, tuple.Src.Addr().AsSlice())
	ip.AddRtAttr(nl.CTA_IP_V4_DST, tuple.Dst.Addr().AsSlice())
	transport := attribute.AddRtAttr(nl.CTA_TUPLE_PROTO|unix.NLA_F_NESTED, nil)
	transport.AddRtAttr(nl.CTA_PROTO_NUM, []byte{unix.IPPROTO_TCP})
	transport.AddRtAttr(nl.CTA_PROTO_SRC_PORT, binary.BigEndian.AppendUint16(nil, tuple.Src.Port()))
	transport.AddRtAttr(nl.CTA_PROTO_DST_PORT, binary.BigEndian.AppendUint16(nil, tuple.Dst.Port()))
	return attribute
}

func lookUpConntrack(kind int, tuple Tuple) ([]entry, error) {
	request := conntrackRequest(nl.IPCTNL_MSG_CT_GET, unix.NLM_F_ACK)
	request.AddData(TupleAttribute(kind, tuple))
	messages, err := request.Execute(unix.NETLINK_NETFILTER, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look up conntrack entry %s > %s: %w", tuple.Src, tuple.Dst, err)
	}
	return parseEntries(messages)
}

// dumpConntrack is not netlink.ConntrackTableList, because that omits the status bits and
// misreads an entry with a zone.
func dumpConntrack() ([]entry, error) {
	messages, err := dump(func() ([][]byte, error) {
		return conntrackRequest(nl.IPCTNL_MSG_CT_GET, unix.NLM_F_DUMP).Execute(unix.NETLINK_NETFILTER, 0)
	})
	if err != nil {
		return nil, fmt.Errorf("dump conntrack entries: %w", err)
	}
	return parseEntries(messages)
}

func parseEntries(messages [][]byte) ([]entry, error) {
	entries := make([]entry, 0, len(messages))
	for _, message := range messages {
		e, ok, err := parseEntry(message)
		if err != nil {
			return nil, fmt.Errorf("parse conntrack entry: %w", err)
		}
		if ok {
			entries = append(entries, e)
		}
	}
	return entries, nil
}

func conntrackRequest(operation, flags int) *nl.NetlinkRequest {
	request := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_CTNETLINK<<8|operation, flags)
	request.AddData(&nl.Nfgenmsg{NfgenFamily: unix.AF_INET, Version: nl.NFNETLINK_V0})
	return request
}

// parseEntry returns false for a protocol other than TCP. The attributes are
// enum ctattr_type of include/uapi/linux/netfilter/nfnetlink_conntrack.h.
func parseEntry(message []byte) (entry, bool, error) {
	attributes, err := parseAttributes(message, nl.SizeofNfgenmsg)
	if err != nil {
		return entry{}, false, err
	}
	var (
		e        entry
		protocol uint8
	)
	for _, a := range attributes {
		var err error
		switch a.kind {
		case nl.CTA_TUPLE_ORIG:
			e.identity = append(e.identity, a)
			e.flow.Original, protocol, err = parseTuple(a.value)
		case nl.CTA_ZONE, nl.CTA_ID:
			e.identity = append(e.identity, a)
		case nl.CTA_TUPLE_REPLY:
			e.flow.Reply, _, err = parseTuple(a.value)
		case nl.CTA_STATUS:
			const seenReply, assured = 1 << 1, 1 << 2 // enum ip_conntrack_status
			var status uint64
			status, err = number(a, 4)
			e.flow.SeenReply, e.flow.Assured = status&seenReply != 0, status&assured != 0
		case nl.CTA_TIMEOUT:
			var seconds uint64
			seconds, err = number(a, 4)
			e.flow.Expires = time.Duration(seconds) * time.Second
		case nl.CTA_PROTOINFO:
			e.flow.State, err = parseState(a.value)
		}
		if err != nil {
			return entry{}, false, fmt.Errorf("attribute %d: %w", a.kind, err)
		}
	}
	return e, protocol == unix.IPPROTO_TCP, nil
}

func parseTuple(value []byte) (tuple Tuple, protocol uint8, err error) {
	parts, err := parseAttributes(value, 0)
	if err != nil {
		return Tuple{}, 0, err
	}
	var address [2]netip.Addr
	var port [2]uint16
	for _, part := range parts {
		if part.kind != nl.CTA_TUPLE_IP && part.kind != nl.CTA_TUPLE_PROTO {
			continue // a zone
		}
		fields, err := parseAttributes(part.value, 0)
		if err != nil {
			return Tuple{}, 0, err
		}
		for _, field := range fields {
			switch {
			case part.kind == nl.CTA_TUPLE_IP && (field.kind == nl.CTA_IP_V4_SRC || field.kind == nl.CTA_IP_V4_DST):
				address[field.kind-nl.CTA_IP_V4_SRC], _ = netip.AddrFromSlice(field.value)
			case part.kind == nl.CTA_TUPLE_PROTO && field.kind == nl.CTA_PROTO_NUM:
				n, err := number(field, 1)
				if err != nil {
					return Tuple{}, 0, err
				}
				protocol = uint8(n)
			case part.kind == nl.CTA_TUPLE_PROTO && (field.kind == nl.CTA_PROTO_SRC_PORT || field.kind == nl.CTA_PROTO_DST_PORT):
				n, err := number(field, 2)
				if err != nil {
					return Tuple{}, 0, err
				}
				port[field.kind-nl.CTA_PROTO_SRC_PORT] = uint16(n)
			}
		}
	}
	return Tuple{
		Src: netip.AddrPortFrom(address[0], port[0]),
		Dst: netip.AddrPortFrom(address[1], port[1]),
	}, protocol, nil
}

func parseState(value []byte) (string, error) {
	protocols, err := parseAttributes(value, 0)
	if err != nil {
		return "", err
	}
	for _, protocol := range protocols {
		if protocol.kind != nl.CTA_PROTOINFO_TCP {
			continue
		}
		fields, err := parseAttributes(protocol.value, 0)
		if err != nil {
			return "", err
		}
		for _, field := range fields {
			if field.kind == nl.CTA_PROTOINFO_TCP_STATE {
				n, err := number(field, 1)
				return flowState(n), err
			}
		}
	}
	return "", nil
}

func flowState(number uint64) string {
	names := [...]string{
		"NONE", "SYN_SENT", "SYN_RECV", "ESTABLISHED", "FIN_WAIT",
		"CLOSE_WAIT", "LAST_ACK", "TIME_WAIT", "CLOSE", "SYN_SENT2",
	}
	if number >= uint64(len(names)) {
		return "state " + strconv.FormatUint(number, 10)
	}
	return names[number]
}

// number reads an attribute of exactly size bytes in network order.
func number(a attribute, size int) (uint64, error) {
	if len(a.value) != size {
		return 0, fmt.Errorf("attribute %d has %d bytes, want %d", a.kind, len(a.value), size)
	}
	var wide [8]byte
	copy(wide[8-size:], a.value)
	return binary.BigEndian.Uint64(wide[:]), nil
}
