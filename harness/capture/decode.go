package capture

import (
	"encoding/binary"
	"errors"
	"hash/fnv"
	"net/netip"
	"time"
)

// LinkType is the kind of link that frames are of (LINKTYPE_ of tcpdump.org).
type LinkType uint16

// The link types that are read.
const (
	null     LinkType = 0 // BSD loopback
	ethernet LinkType = 1
	rawBSD   LinkType = 12
	rawOpen  LinkType = 14
	raw      LinkType = 101
	loop     LinkType = 108
	cooked   LinkType = 113 // Linux, tcpdump -i any
	ipv4     LinkType = 228
	ipv6     LinkType = 229
	cooked2  LinkType = 276
)

// Direction says whether a frame came in or went out where it was captured, if the capture
// says that.
type Direction int

// The directions.
const (
	Unsaid Direction = iota
	In
	Out
)

// Segment is one TCP segment as it was captured.
type Segment struct {
	Time time.Time
	// Interface is the number of its interface in the file.
	Interface int
	Direction Direction
	// Everywhere says that it was captured on all interfaces of the machine at once.
	Everywhere bool
	Src, Dst   netip.AddrPort
	// ID is the identification of IPv4.
	ID        uint16
	Seq, Ack  uint32
	Flags     Flags
	Stamped   bool // has a timestamp option
	Stamp     uint32
	Echo      uint32
	Payload   int    // octets of data, as the IP header has it
	MSS       uint16 // of a SYN; 0 for none
	Head      uint64 // hash of the first 16 octets of data; 0 for none, or where they are cut off
	Fragment  bool
	Offloaded bool // longer than a packet can be on any link: the machine splits it later
}

// Flags are the control bits of a TCP header.
type Flags uint8

// String writes them as tcpdump does: "S", "S.", ".", "F.", "P.".
func (f Flags) String() string {
	const letters = "FSRP.UEW"
	text := make([]byte, 0, len(letters))
	for _, i := range []int{0, 1, 2, 3, 4, 5, 6, 7} {
		if f&(1<<i) != 0 {
			text = append(text, letters[i])
		}
	}
	if len(text) == 0 {
		return "none"
	}
	return string(text)
}

// Why a frame has no segment.
var (
	errLink  = errors.New("a link type that is not known")
	errShort = errors.New("the TCP header is cut off")
	errOther = errors.New("not TCP")
)

const (
	typeIPv4 = 0x0800
	typeIPv6 = 0x86dd
)

func decode(f frame) (s Segment, err error) {
	s = Segment{Time: f.at, Interface: f.number, Direction: f.direction}
	kind, packet, err := s.network(f)
	if err != nil {
		return s, err
	}
	above := f.length - (len(f.data) - len(packet)) // the length of the packet on the wire
	switch kind {
	case typeIPv4:
		return s, s.ipv4(packet, above)
	case typeIPv6:
		return s, s.ipv6(packet)
	}
	return s, errOther
}

// network finds the packet in a frame, and says which protocol it is of.
func (s *Segment) network(f frame) (kind uint16, packet []byte, err error) {
	data := f.data
	need := func(n int) bool { return len(data) >= n }
	switch f.link {
	case ethernet:
		return tagged(data, 12)
	case cooked:
		if !need(16) {
			return 0, nil, errShort
		}
		s.Everywhere = true
		s.cooked(binary.BigEndian.Uint16(data))
		return tagged(data, 14)
	case cooked2:
		if !need(20) {
			return 0, nil, errShort
		}
		s.Everywhere, s.Interface = true, int(binary.BigEndian.Uint32(data[4:])&0xffff)
		s.cooked(uint16(data[10]))
		return binary.BigEndian.Uint16(data), data[20:], nil
	case null, loop:
		if !need(4) {
			return 0, nil, errShort
		}
		data = data[4:]
	case raw, rawBSD, rawOpen, ipv4, ipv6:
	default:
		return 0, nil, errLink
	}
	if len(data) == 0 {
		return 0, nil, errShort
	}
	if data[0]>>4 == 6 {
		return typeIPv6, data, nil
	}
	return typeIPv4, data, nil
}

// cooked takes the direction out of a packet type of Linux.
func (s *Segment) cooked(kind uint16) {
	const outgoing = 4
	if s.Direction = In; kind == outgoing {
		s.Direction = Out
	}
}

// tagged reads the protocol at an offset, behind tags of VLANs.
func tagged(data []byte, at int) (kind uint16, packet []byte, err error) {
	const vlan, service = 0x8100, 0x88a8
	for range 4 {
		if len(data) < at+2 {
			return 0, nil, errShort
		}
		kind = binary.BigEndian.Uint16(data[at:])
		if kind != vlan && kind != service {
			return kind, data[at+2:], nil
		}
		at += 4
	}
	return 0, nil, errOther
}

const (
	protocolTCP = 6
	headerTCP   = 20
)

func (s *Segment) ipv4(ip []byte, above int) error {
	const header = 20
	if len(ip) < header {
		return errShort
	}
	size, total := int(ip[0]&0xf)*4, int(binary.BigEndian.Uint16(ip[2:]))
	if ip[0]>>4 != 4 || size < header {
		return errOther
	}
	const more, offset = 0x2000, 0x1fff
	fragment := binary.BigEndian.Uint16(ip[6:])
	if ip[9] != protocolTCP || fragment&offset != 0 {
		return errOther
	}
	if len(ip) < size {
		return errShort
	}
	if total == 0 { // longer than the field can say
		total, s.Offloaded = above, true
	}
	s.ID, s.Fragment = binary.BigEndian.Uint16(ip[4:]), fragment&more != 0
	return s.tcp(ip[size:], total-size, netip.AddrFrom4([4]byte(ip[12:])), netip.AddrFrom4([4]byte(ip[16:])))
}

func (s *Segment) ipv6(ip []byte) error {
	const header = 40
	if len(ip) < header {
		return errShort
	}
	if ip[0]>>4 != 6 {
		return errOther
	}
	src, dst := netip.AddrFrom16([16]byte(ip[8:])), netip.AddrFrom16([16]byte(ip[24:]))
	next, left, rest := ip[6], int(binary.BigEndian.Uint16(ip[4:])), ip[header:]
	const hops, routing, fragment, destination = 0, 43, 44, 60
	for range 8 {
		if next == protocolTCP {
			return s.tcp(rest, left, src, dst)
		}
		if next != hops && next != routing && next != fragment && next != destination {
			return errOther
		}
		const least = 8
		if len(rest) < least {
			return errShort
		}
		size := least
		if next == fragment {
			const more, offset = 1, 0xfff8
			bits := binary.BigEndian.Uint16(rest[2:])
			if bits&offset != 0 {
				return errOther
			}
			s.Fragment = bits&more != 0
		} else {
			size += int(rest[1]) * 8
		}
		if len(rest) < size {
			return errShort
		}
		next, left, rest = rest[0], left-size, rest[size:]
	}
	return errOther
}

// tcp reads a TCP header. Size is the number of octets of the header and the data.
func (s *Segment) tcp(tcp []byte, size int, src, dst netip.Addr) error {
	if len(tcp) < headerTCP {
		return errShort
	}
	header := int(tcp[12]>>4) * 4
	if header < headerTCP || size < header {
		return errOther // a header that says nonsense
	}
	s.Src = netip.AddrPortFrom(src, binary.BigEndian.Uint16(tcp))
	s.Dst = netip.AddrPortFrom(dst, binary.BigEndian.Uint16(tcp[2:]))
	s.Seq, s.Ack = binary.BigEndian.Uint32(tcp[4:]), binary.BigEndian.Uint32(tcp[8:])
	s.Flags, s.Payload = Flags(tcp[13]), size-header
	s.options(tcp[headerTCP:min(header, len(tcp))])
	if len(tcp) > header && s.Payload > 0 {
		const most = 16
		data := tcp[header:min(len(tcp), header+s.Payload)] // without the padding of a short frame
		if len(data) >= min(most, s.Payload) {
			h := fnv.New64a()
			h.Write(data[:min(most, len(data))])
			s.Head = h.Sum64()
		}
	}
	return nil
}

// options reads the options that matter. Those after a malformed one are not read, as the
// kernel does not read them.
func (s *Segment) options(options []byte) {
	const end, nothing, mss, timestamps = 0, 1, 2, 8
	for len(options) > 0 && options[0] != end {
		if options[0] == nothing {
			options = options[1:]
			continue
		}
		if len(options) < 2 || options[1] < 2 || int(options[1]) > len(options) {
			return
		}
		kind, value := options[0], options[2:options[1]]
		switch {
		case kind == timestamps && len(value) == 8:
			s.Stamped, s.Stamp, s.Echo = true, binary.BigEndian.Uint32(value), binary.BigEndian.Uint32(value[4:])
		case kind == mss && len(value) == 2:
			s.MSS = binary.BigEndian.Uint16(value)
		}
		options = options[options[1]:]
	}
}
