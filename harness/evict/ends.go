//go:build linux

package evict

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// endsOf reads the ends of a TCP packet over IPv4 or IPv6; for any other packet they are
// invalid.
func endsOf(packet []byte) ends {
	if len(packet) == 0 {
		return ends{}
	}
	switch packet[0] >> 4 {
	case 4:
		return endsOfIPv4(packet)
	case 6:
		return endsOfIPv6(packet)
	default:
		return ends{}
	}
}

func endsOfIPv4(packet []byte) ends {
	const least, protocol, source, destination = 20, 9, 12, 16 // of an IPv4 header
	if len(packet) < least || packet[protocol] != unix.IPPROTO_TCP {
		return ends{}
	}
	header := int(packet[0]&0xf) * 4
	if header < least || len(packet) < header {
		return ends{}
	}
	return withPorts(netip.AddrFrom4([4]byte(packet[source:])), netip.AddrFrom4([4]byte(packet[destination:])), packet[header:])
}

// endsOfIPv6 passes over the extension headers that may stand before TCP (RFC 8200, section
// 4.1). Fragments do not come here: connection tracking reassembles them first
// (nf_ct_frag6_gather).
func endsOfIPv6(packet []byte) ends {
	const size, nextHeader, source, destination = 40, 6, 8, 24 // of an IPv6 header
	if len(packet) < size {
		return ends{}
	}
	next, rest := packet[nextHeader], packet[size:]
	for next != unix.IPPROTO_TCP {
		switch next {
		case unix.IPPROTO_HOPOPTS, unix.IPPROTO_ROUTING, unix.IPPROTO_DSTOPTS:
		default:
			return ends{}
		}
		if len(rest) < 2 || len(rest) < 8+int(rest[1])*8 {
			return ends{}
		}
		next, rest = rest[0], rest[8+int(rest[1])*8:]
	}
	return withPorts(netip.AddrFrom16([16]byte(packet[source:])), netip.AddrFrom16([16]byte(packet[destination:])), rest)
}

// withPorts reads the ports at the beginning of a TCP header.
func withPorts(source, destination netip.Addr, tcp []byte) ends {
	if len(tcp) < 4 {
		return ends{}
	}
	return ends{
		netip.AddrPortFrom(source, binary.BigEndian.Uint16(tcp)),
		netip.AddrPortFrom(destination, binary.BigEndian.Uint16(tcp[2:])),
	}
}
