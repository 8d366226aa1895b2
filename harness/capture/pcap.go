package capture

import (
	"encoding/binary"
	"fmt"
	"io"
	"time"
)

// pcap reads files of tcpdump (draft-ietf-opsawg-pcap).
type pcap struct {
	*reader
	order binary.ByteOrder
	unit  time.Duration // of the fraction of a second
	link  LinkType
}

// openPcap reads the file header.
func (r *reader) openPcap() (*pcap, error) {
	const size = 24
	head, err := r.in.Peek(size)
	p := &pcap{reader: r, unit: time.Microsecond}
	const micro, nano = 0xa1b2c3d4, 0xa1b23c4d
	for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
		switch order.Uint32(head) {
		case nano:
			p.unit = time.Nanosecond
			p.order = order
		case micro:
			p.order = order
		}
	}
	if p.order == nil {
		return nil, fmt.Errorf("%w: it begins with % x", ErrForeign, head[:4])
	}
	if err != nil {
		return nil, fmt.Errorf("%w: it ends in its header", ErrForeign)
	}
	if head, err = r.read(size); err != nil {
		return nil, err
	}
	if major := p.order.Uint16(head[4:]); major != 2 {
		return nil, r.damaged("version %d of pcap, want 2", major)
	}
	r.sum.Format, r.sum.SnapLength = "pcap", int(p.order.Uint32(head[16:]))
	const reserved = 0x03ffffff // the upper bits say how long a checksum is
	p.link = LinkType(p.order.Uint32(head[20:]) & reserved & 0xffff)
	return p, nil
}

func (p *pcap) next() (frame, error) {
	head, err := p.read(16)
	if err != nil {
		return frame{}, err // the end, or in the middle
	}
	seconds, fraction := p.order.Uint32(head), p.order.Uint32(head[4:])
	kept, length := p.order.Uint32(head[8:]), p.order.Uint32(head[12:])
	if kept > mostFrame {
		return frame{}, p.damaged("a packet of %d bytes, want at most %d", kept, mostFrame)
	}
	f := frame{at: time.Unix(int64(seconds), 0).Add(time.Duration(fraction) * p.unit).UTC(), link: p.link, length: clamp(length)}
	if f.data, err = p.read(int(kept)); err == io.EOF { //nolint:errorlint // io.ReadFull's own
		err = io.ErrUnexpectedEOF
	}
	return f, err
}

// clamp makes a length that a file claims an int.
func clamp(n uint32) int { return int(min(n, 1<<30)) }
