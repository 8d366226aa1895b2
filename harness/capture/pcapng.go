package capture

import (
	"encoding/binary"
	"io"
	"time"
)

const (
	ngMagic    = "\x0a\x0d\x0d\x0a"
	ngLittle   = 0x1a2b3c4d
	ngSection  = 0x0a0d0d0a
	ngDescribe = 1
	ngPacket   = 2 // obsolete
	ngSimple   = 3
	ngStats    = 5
	ngEnhanced = 6

	// mostBlock is the longest block that is read: a frame with its options. Longer ones of
	// other kinds are left out.
	mostBlock = mostFrame + 64<<10
	// mostInterfaces is how many a section may have.
	mostInterfaces = 4096
)

// pcapng reads files of Wireshark (draft-ietf-opsawg-pcapng).
type pcapng struct {
	*reader
	order      binary.ByteOrder // nil before the first section
	interfaces []ngInterface    // of this section
	before     int              // interfaces of the sections before
}

// ngInterface is what is needed of an interface's description.
type ngInterface struct {
	link   LinkType
	snap   int
	units  uint64 // of its timestamps in a second
	offset int64  // seconds
}

func (p *pcapng) next() (frame, error) {
	for {
		kind, length, err := p.block()
		if err != nil {
			return frame{}, err
		}
		known := kind == ngDescribe || kind == ngPacket || kind == ngSimple || kind == ngStats || kind == ngEnhanced
		if !known {
			if err := p.skip(int64(length)); err != nil {
				return frame{}, err
			}
			continue
		}
		if length > mostBlock {
			return frame{}, p.damaged("a block of %d bytes, want at most %d", length, mostBlock)
		}
		body, err := p.read(int(length))
		if err != nil {
			return frame{}, whole(err)
		}
		f, is, err := p.known(kind, body[:length-4]) // without the length at its end
		if err != nil || is {
			return f, err
		}
	}
}

// whole turns an end in the middle of a block into one.
func whole(err error) error {
	if err == io.EOF { //nolint:errorlint // io.ReadFull's own
		return io.ErrUnexpectedEOF
	}
	return err
}

// block reads the beginning of a block, and returns how many bytes follow.
func (p *pcapng) block() (kind, length uint32, err error) {
	head, err := p.read(8)
	if err != nil {
		return 0, 0, err
	}
	if string(head[:4]) == ngMagic {
		return ngSection, 0, p.section([4]byte(head[4:8]))
	}
	if p.order == nil {
		return 0, 0, p.damaged("it begins with a block of kind %d", binary.LittleEndian.Uint32(head))
	}
	kind, length = p.order.Uint32(head), p.order.Uint32(head[4:])
	if length < 12 || length%4 != 0 {
		return 0, 0, p.damaged("a block of %d bytes", length)
	}
	return kind, length - 8, nil
}

// section reads a section header, which says in which order bytes are from now on.
func (p *pcapng) section(size [4]byte) error {
	magic, err := p.read(4)
	if err != nil {
		return whole(err)
	}
	switch {
	case binary.LittleEndian.Uint32(magic) == ngLittle:
		p.order = binary.LittleEndian
	case binary.BigEndian.Uint32(magic) == ngLittle:
		p.order = binary.BigEndian
	default:
		return p.damaged("a section whose order of bytes is % x", magic)
	}
	length := p.order.Uint32(size[:])
	if length < 28 || length%4 != 0 {
		return p.damaged("a section header of %d bytes", length)
	}
	p.before += len(p.interfaces)
	p.interfaces = nil
	return p.skip(int64(length) - 12)
}

// known reads a block that matters.
func (p *pcapng) known(kind uint32, body []byte) (f frame, is bool, err error) {
	switch kind {
	case ngDescribe:
		return f, false, p.describe(body)
	case ngStats:
		p.statistics(body)
		return f, false, nil
	case ngSimple:
		f, err = p.simple(body)
	case ngPacket, ngEnhanced:
		f, err = p.enhanced(kind, body)
	}
	return f, true, err
}

func (p *pcapng) describe(body []byte) error {
	if len(body) < 8 {
		return p.damaged("an interface of %d bytes", len(body))
	}
	if p.before+len(p.interfaces) >= mostInterfaces {
		return p.damaged("more than %d interfaces", mostInterfaces)
	}
	i := ngInterface{link: LinkType(p.order.Uint16(body)), snap: clamp(p.order.Uint32(body[4:])), units: 1_000_000}
	p.sum.SnapLength = max(p.sum.SnapLength, i.snap)
	const resolution, offset = 9, 14
	for code, value := range p.options(body[8:]) {
		switch {
		case code == resolution && len(value) == 1:
			i.units = units(value[0])
		case code == offset && len(value) == 8:
			i.offset = int64(p.order.Uint64(value)) //nolint:gosec // a signed number, by the format
		}
	}
	if i.units == 0 {
		return p.damaged("an interface whose times no program can hold")
	}
	p.interfaces = append(p.interfaces, i)
	return nil
}

// units are how many units of time are in a second: a power of ten or, with the highest bit, of
// two; 0 if that is no number.
func units(value byte) uint64 {
	power := uint(value &^ 0x80)
	if value&0x80 != 0 {
		if power > 63 {
			return 0
		}
		return 1 << power
	}
	if power > 19 {
		return 0
	}
	n := uint64(1)
	for range power {
		n *= 10
	}
	return n
}

// time is when a packet was seen.
func (i ngInterface) time(high, low uint32) time.Time {
	ticks := uint64(high)<<32 | uint64(low)
	seconds, rest := ticks/i.units, ticks%i.units
	nanoseconds := uint64(float64(rest) / float64(i.units) * 1e9)
	if i.units <= 1e9 && 1e9%i.units == 0 {
		nanoseconds = rest * (1e9 / i.units)
	}
	return time.Unix(int64(seconds)+i.offset, int64(nanoseconds)).UTC() //nolint:gosec // a wrong time is one that the file says
}

// options goes through options; those after one that is cut off are left out.
func (p *pcapng) options(text []byte) func(func(uint16, []byte) bool) {
	return func(yield func(uint16, []byte) bool) {
		for len(text) >= 4 {
			code, length := p.order.Uint16(text), int(p.order.Uint16(text[2:]))
			padded := (length + 3) &^ 3
			if code == 0 || 4+padded > len(text) || !yield(code, text[4:4+length]) {
				return
			}
			text = text[4+padded:]
		}
	}
}

func (p *pcapng) statistics(body []byte) {
	const dropped, header = 5, 12
	if len(body) < header {
		return
	}
	for code, value := range p.options(body[header:]) {
		if code == dropped && len(value) == 8 {
			p.sum.Dropped += p.order.Uint64(value)
		}
	}
}

// simple reads a packet without a time. It is the first interface's.
func (p *pcapng) simple(body []byte) (frame, error) {
	if len(p.interfaces) == 0 || len(body) < 4 {
		return frame{}, p.damaged("a packet of no interface")
	}
	i := p.interfaces[0]
	f := frame{number: p.before, link: i.link, length: clamp(p.order.Uint32(body))}
	kept := min(f.length, len(body)-4)
	if i.snap > 0 {
		kept = min(kept, i.snap)
	}
	f.data = body[4 : 4+kept]
	return f, nil
}

// enhanced reads a packet with its interface and time.
func (p *pcapng) enhanced(kind uint32, body []byte) (frame, error) {
	const header = 20
	if len(body) < header {
		return frame{}, p.damaged("a packet of %d bytes", len(body))
	}
	number, lost := int(p.order.Uint32(body)), uint16(0)
	if kind == ngPacket {
		number, lost = int(p.order.Uint16(body)), p.order.Uint16(body[2:])
	}
	if number >= len(p.interfaces) {
		return frame{}, p.damaged("a packet of interface %d of %d", number, len(p.interfaces))
	}
	kept := p.order.Uint32(body[12:])
	if uint64(kept) > uint64(len(body)-header) {
		return frame{}, p.damaged("a packet of %d bytes in a block of %d", kept, len(body))
	}
	i := p.interfaces[number]
	f := frame{
		number: p.before + number, link: i.link, at: i.time(p.order.Uint32(body[4:]), p.order.Uint32(body[8:])),
		data: body[header : header+kept], length: clamp(p.order.Uint32(body[16:])),
	}
	const unknown = 0xffff
	if lost != unknown {
		p.sum.Dropped += uint64(lost)
	}
	const flags, drops = 2, 4
	for code, value := range p.options(body[min(len(body), header+(int(kept)+3)&^3):]) {
		switch {
		case code == flags && len(value) == 4:
			f.direction = Direction(p.order.Uint32(value) & 3)
		case code == drops && len(value) == 8:
			p.sum.Dropped += p.order.Uint64(value)
		}
	}
	return f, nil
}
