//go:build linux

package observe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Sizes of headers without options.
const (
	ethernetHeader = 14
	ipv4Header     = 20
	ipv6Header     = 40
	tcpHeader      = 20
)

// errNoTCP means that a frame has no TCP header: it carries something else, or it is a later
// fragment.
var errNoTCP = errors.New("no TCP over IPv4 or IPv6 in it")

// decode fills in all that the frame itself contains.
func decode(frame []byte) (Packet, error) {
	p, err := decodeFrame(frame)
	if err != nil {
		return Packet{}, fmt.Errorf("decode frame of %d octets: %w", len(frame), err)
	}
	p.Raw = frame
	return p, nil
}

func decodeFrame(frame []byte) (Packet, error) {
	if len(frame) < ethernetHeader {
		return Packet{}, errors.New("it is cut within the Ethernet header")
	}
	packet := frame[ethernetHeader:]
	switch binary.BigEndian.Uint16(frame[12:]) {
	case unix.ETH_P_IP:
		return decodeIPv4(packet)
	case unix.ETH_P_IPV6:
		return decodeIPv6(packet)
	default:
		return Packet{}, errNoTCP
	}
}

// decodeIPv4 decodes a packet by RFC 791, section 3.1. The length of what follows the
// headers comes from the IP header, because the frame may be cut.
func decodeIPv4(ip []byte) (Packet, error) {
	if len(ip) < ipv4Header {
		return Packet{}, errors.New("it is cut within the IPv4 header")
	}
	header, total := int(ip[0]&0xf)*4, int(binary.BigEndian.Uint16(ip[2:]))
	if ip[0]>>4 != 4 || header < ipv4Header || len(ip) < header {
		return Packet{}, fmt.Errorf("its IPv4 header begins with %#x, and %d octets are left", ip[0], len(ip))
	}
	const moreFragments, offset = 0x2000, 0x1fff
	fragment := binary.BigEndian.Uint16(ip[6:])
	if ip[9] != unix.IPPROTO_TCP || fragment&offset != 0 {
		return Packet{}, errNoTCP
	}
	p := Packet{ID: binary.BigEndian.Uint16(ip[4:]), Fragment: fragment&moreFragments != 0}
	src, dst := netip.AddrFrom4([4]byte(ip[12:])), netip.AddrFrom4([4]byte(ip[16:]))
	return p, p.decodeTCP(ip[header:], total-header, src, dst)
}

// decodeIPv6 decodes a packet by RFC 8200, section 3, with the extension headers that may
// stand before TCP: hop-by-hop options, routing, destination options, fragment. A tap
// records packets with up to four of them.
func decodeIPv6(ip []byte) (Packet, error) {
	if len(ip) < ipv6Header {
		return Packet{}, errors.New("it is cut within the IPv6 header")
	}
	if ip[0]>>4 != 6 {
		return Packet{}, fmt.Errorf("its IPv6 header begins with %#x", ip[0])
	}
	var p Packet
	const labelBits = 0xfffff
	p.FlowLabel = binary.BigEndian.Uint32(ip) & labelBits
	src, dst := netip.AddrFrom16([16]byte(ip[8:])), netip.AddrFrom16([16]byte(ip[24:]))
	next, left, rest := ip[6], int(binary.BigEndian.Uint16(ip[4:])), ip[ipv6Header:]
	for next != unix.IPPROTO_TCP {
		const least = 8 // octets of an extension header
		size := least
		switch next {
		case unix.IPPROTO_HOPOPTS, unix.IPPROTO_ROUTING, unix.IPPROTO_DSTOPTS:
			if len(rest) > 1 {
				size += int(rest[1]) * 8
			}
		case unix.IPPROTO_FRAGMENT:
			const moreFragments, offset = 1, 0xfff8
			if len(rest) >= least {
				fragment := binary.BigEndian.Uint16(rest[2:])
				if fragment&offset != 0 {
					return Packet{}, errNoTCP
				}
				p.Fragment = fragment&moreFragments != 0
			}
		default:
			return Packet{}, errNoTCP
		}
		if len(rest) < size {
			return Packet{}, fmt.Errorf("it is cut within IPv6 extension header %d", next)
		}
		next, left, rest = rest[0], left-size, rest[size:]
	}
	return p, p.decodeTCP(rest, left, src, dst)
}

// decodeTCP decodes a TCP header (RFC 9293, section 3.1) with the options that the frame has
// of it. Size is the number of octets of the header and the data.
func (p *Packet) decodeTCP(tcp []byte, size int, src, dst netip.Addr) error {
	if len(tcp) < tcpHeader {
		return errors.New("it is cut within the TCP header")
	}
	header := int(tcp[12]>>4) * 4
	if header < tcpHeader || size < header || len(tcp) < header {
		return fmt.Errorf("a TCP header of %d octets, of which %d are there, in %d octets: "+
			"it is broken, or longer than an IP header can say (BIG TCP: gso_max_size of the link)", header, len(tcp), size)
	}
	p.Src = netip.AddrPortFrom(src, binary.BigEndian.Uint16(tcp))
	p.Dst = netip.AddrPortFrom(dst, binary.BigEndian.Uint16(tcp[2:]))
	p.Seq, p.Ack = binary.BigEndian.Uint32(tcp[4:]), binary.BigEndian.Uint32(tcp[8:])
	p.Flags = Flags(tcp[13])
	p.Payload = size - header
	p.Timestamp = timestampOf(tcp[tcpHeader:header])
	return nil
}

// timestampOf finds the timestamp option. Options after a malformed one are not read, as the
// kernel does not read them (tcp_parse_options).
func timestampOf(options []byte) (found TimestampOption) {
	const endOfList, noOperation, timestamps = 0, 1, 8
	for len(options) > 0 && options[0] != endOfList {
		if options[0] == noOperation {
			options = options[1:]
			continue
		}
		if len(options) < 2 || options[1] < 2 || int(options[1]) > len(options) {
			break
		}
		kind, value := options[0], options[2:options[1]]
		if kind == timestamps && len(value) == 8 {
			found = TimestampOption{
				Present: true, Value: binary.BigEndian.Uint32(value), Echo: binary.BigEndian.Uint32(value[4:]),
			}
		}
		options = options[options[1]:]
	}
	return found
}
