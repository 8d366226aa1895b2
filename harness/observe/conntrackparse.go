//go:build linux

package observe

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strconv"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

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
		case attributeTimestampEvent:
			var nanoseconds uint64
			nanoseconds, err = number(a, 8)
			e.stamp = time.Unix(0, int64(nanoseconds)).UTC()
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
			case part.kind == nl.CTA_TUPLE_IP && (field.kind == nl.CTA_IP_V4_SRC || field.kind == nl.CTA_IP_V6_SRC):
				address[0], _ = netip.AddrFromSlice(field.value)
			case part.kind == nl.CTA_TUPLE_IP && (field.kind == nl.CTA_IP_V4_DST || field.kind == nl.CTA_IP_V6_DST):
				address[1], _ = netip.AddrFromSlice(field.value)
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
