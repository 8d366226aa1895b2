//go:build linux

package observe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
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

// FlowMatch selects flows of either IP version. In each of its four ends, an unspecified or
// an invalid address matches any address and port 0 any port; the zero value selects every
// TCP flow.
type FlowMatch struct {
	Original Tuple `json:"original"`
	Reply    Tuple `json:"reply"`
}

// Matches reports whether the flow is selected.
func (m FlowMatch) Matches(f Flow) bool {
	return covers(m.Original.Src, f.Original.Src) && covers(m.Original.Dst, f.Original.Dst) &&
		covers(m.Reply.Src, f.Reply.Src) && covers(m.Reply.Dst, f.Reply.Dst)
}

// ReadFlows lists the tracked TCP connections over IPv4 and IPv6 of the calling thread's
// network namespace. A namespace without a rule that needs connection tracking has none; a
// rule of one version has the kernel track that version alone (nf_ct_netns_get). Before
// Linux 4.19 the tracking of IPv6 is a module of its own, nf_conntrack_ipv6; without it
// there are no IPv6 flows, and asking for them is no error. On a kernel without ctnetlink
// the error is EPROTONOSUPPORT or EINVAL.
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

// DeleteFlows deletes the conntrack entries of TCP connections that match, in the calling
// thread's network namespace, and returns how many. Once the entry is deleted, the
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
		request := conntrackRequest(nl.IPCTNL_MSG_CT_DELETE, unix.NLM_F_ACK, familyOf(e.flow.Original.Src.Addr()))
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
	stamp    time.Time // of the event that the message tells of; the zero value in other messages
}

// selectConntrack finds the entries that may match: the entry of a tuple that is complete,
// or all.
func selectConntrack(match FlowMatch) ([]entry, error) {
	for _, direction := range []struct {
		kind  int
		tuple Tuple
	}{{nl.CTA_TUPLE_ORIG, match.Original}, {nl.CTA_TUPLE_REPLY, match.Reply}} {
		src, dst := unmapped(direction.tuple.Src), unmapped(direction.tuple.Dst)
		if complete(src) && complete(dst) {
			if familyOf(src.Addr()) != familyOf(dst.Addr()) {
				return nil, nil // no flow has both
			}
			return lookUpConntrack(direction.kind, Tuple{Src: src, Dst: dst})
		}
	}
	return dumpConntrack()
}

// unmapped returns an end with the address that is in the packets.
func unmapped(end netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(end.Addr().Unmap(), end.Port())
}

func complete(end netip.AddrPort) bool {
	return end.Addr().IsValid() && !end.Addr().IsUnspecified() && end.Port() != 0
}

// familyOf returns the address family of a flow, by one of its addresses.
func familyOf(a netip.Addr) uint8 {
	if a.Is6() {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

// TupleAttribute encodes one direction of a TCP connection for ctnetlink: kind is
// nl.CTA_TUPLE_ORIG or nl.CTA_TUPLE_REPLY. Both addresses must be of one IP version, which
// the message must name too (struct nfgenmsg).
func TupleAttribute(kind int, tuple Tuple) *nl.RtAttr {
	attribute := nl.NewRtAttr(kind|unix.NLA_F_NESTED, nil)
	ip := attribute.AddRtAttr(nl.CTA_TUPLE_IP|unix.NLA_F_NESTED, nil)
	source, destination := nl.CTA_IP_V4_SRC, nl.CTA_IP_V4_DST
	if tuple.Src.Addr().Is6() {
		source, destination = nl.CTA_IP_V6_SRC, nl.CTA_IP_V6_DST
	}
	ip.AddRtAttr(source, tuple.Src.Addr().AsSlice())
	ip.AddRtAttr(destination, tuple.Dst.Addr().AsSlice())
	transport := attribute.AddRtAttr(nl.CTA_TUPLE_PROTO|unix.NLA_F_NESTED, nil)
	transport.AddRtAttr(nl.CTA_PROTO_NUM, []byte{unix.IPPROTO_TCP})
	transport.AddRtAttr(nl.CTA_PROTO_SRC_PORT, binary.BigEndian.AppendUint16(nil, tuple.Src.Port()))
	transport.AddRtAttr(nl.CTA_PROTO_DST_PORT, binary.BigEndian.AppendUint16(nil, tuple.Dst.Port()))
	return attribute
}

func lookUpConntrack(kind int, tuple Tuple) ([]entry, error) {
	request := conntrackRequest(nl.IPCTNL_MSG_CT_GET, unix.NLM_F_ACK, familyOf(tuple.Src.Addr()))
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

// dumpConntrack lists the entries of both IP versions, which is what the kernel does for
// AF_UNSPEC (ctnetlink_dump_table). It is not netlink.ConntrackTableList, because that omits the status bits and
// misreads an entry with a zone.
//
// A dump walks the table of all namespaces, which takes 10 ms where it has 262144 buckets; a
// namespace without entries is not worth that.
func dumpConntrack() ([]entry, error) {
	if n, err := countConntrack(); err == nil && n == 0 {
		return nil, nil
	}
	messages, err := dump(func() ([][]byte, error) {
		return conntrackRequest(nl.IPCTNL_MSG_CT_GET, unix.NLM_F_DUMP, unix.AF_UNSPEC).Execute(unix.NETLINK_NETFILTER, 0)
	})
	if err != nil {
		return nil, fmt.Errorf("dump conntrack entries: %w", err)
	}
	return parseEntries(messages)
}

// countConntrack is the number of entries of the namespace, those of other protocols and those
// that are not in the table yet included (ctnetlink_stat_ct, Linux 3.6).
func countConntrack() (uint32, error) {
	const getStats, entries = 5, 1 // IPCTNL_MSG_CT_GET_STATS, CTA_STATS_GLOBAL_ENTRIES
	// The answer is marked as one of several, of which the acknowledgement is the last.
	messages, err := conntrackRequest(getStats, unix.NLM_F_ACK, unix.AF_UNSPEC).Execute(unix.NETLINK_NETFILTER, 0)
	if err != nil {
		return 0, fmt.Errorf("count conntrack entries: %w", err)
	}
	for _, m := range messages {
		attributes, err := parseAttributes(m, nl.SizeofNfgenmsg)
		if err != nil {
			return 0, fmt.Errorf("count conntrack entries: %w", err)
		}
		for _, a := range attributes {
			if a.kind == entries && len(a.value) == 4 {
				return binary.BigEndian.Uint32(a.value), nil
			}
		}
	}
	return 0, errors.New("count conntrack entries: no count in the answer")
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

func conntrackRequest(operation, flags int, family uint8) *nl.NetlinkRequest {
	request := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_CTNETLINK<<8|operation, flags)
	request.AddData(&nl.Nfgenmsg{NfgenFamily: family, Version: nl.NFNETLINK_V0})
	return request
}
