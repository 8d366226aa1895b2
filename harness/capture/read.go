// Package capture reads the TCP segments of captures that others have taken: pcap and pcapng,
// of any byte order, resolution and snap length.
//
// A capture is not trusted. It is read as a stream in bounded memory, whatever lengths stand in
// it, and what a frame claims is held against what is there.
package capture

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"time"
)

// What is wrong with a file. Errors of [Read] wrap one of them, or are the reader's.
var (
	// ErrForeign: it is no capture, or one of another format.
	ErrForeign = errors.New("this is no capture (pcap or pcapng)")
	// ErrDamaged: a capture does not look like that.
	ErrDamaged = errors.New("the capture is damaged")
)

// Summary is what a capture has, besides its segments.
type Summary struct {
	Format string // "pcap" or "pcapng"
	Bytes  int64  // that were read
	// Frames are all packets, Segments those with a TCP header, Short those whose TCP header
	// was cut off by the snap length.
	Frames, Segments, Short int
	// Dropped are those that the capturing program says it has lost.
	Dropped uint64
	// Unknown are link layers that cannot be read, with their number of frames.
	Unknown map[LinkType]int
	// First and Last are the times of the earliest and the latest frame.
	First, Last time.Time
	// Cut says that the file ends within a packet: what came after it is not there.
	Cut bool
	// SnapLength is how much of a frame was kept at most; 0 for no limit.
	SnapLength int
}

// frame is one packet of a file. Its data is valid until the next one is read.
type frame struct {
	at        time.Time
	number    int // of its interface
	link      LinkType
	data      []byte
	length    int // on the wire
	direction Direction
}

// mostFrame is the longest frame that is read; libpcap's limit is the same.
const mostFrame = 256 << 10

// Read reads a capture from its beginning, and gives each TCP segment in it to each. It stops
// where each returns an error.
func Read(from io.Reader, each func(Segment) error) (Summary, error) {
	r := reader{in: bufio.NewReaderSize(from, 64<<10)}
	r.sum.Unknown = map[LinkType]int{}
	next, err := r.open()
	if err != nil {
		return r.sum, err
	}
	for {
		f, err := next()
		r.sum.Bytes = r.offset
		switch {
		case errors.Is(err, io.EOF):
			return r.sum, nil
		case errors.Is(err, io.ErrUnexpectedEOF):
			r.sum.Cut = true
			return r.sum, nil
		case err != nil:
			return r.sum, err
		}
		if err := r.frame(f, each); err != nil {
			return r.sum, err
		}
	}
}

// reader reads one file.
type reader struct {
	in     *bufio.Reader
	offset int64
	sum    Summary
	buffer []byte
}

// frame counts a frame, and gives away its segment.
func (r *reader) frame(f frame, each func(Segment) error) error {
	r.sum.Frames++
	if r.sum.First.IsZero() || f.at.Before(r.sum.First) {
		r.sum.First = f.at
	}
	if f.at.After(r.sum.Last) {
		r.sum.Last = f.at
	}
	s, err := decode(f)
	switch {
	case errors.Is(err, errLink):
		if _, known := r.sum.Unknown[f.link]; known || len(r.sum.Unknown) < mostLinks {
			r.sum.Unknown[f.link]++
		}
		return nil
	case errors.Is(err, errShort):
		r.sum.Short++
		return nil
	case err != nil: // something else than TCP
		return nil //nolint:nilerr // most of a capture may be something else
	}
	r.sum.Segments++
	return each(s)
}

// mostLinks is how many unknown link layers are counted.
const mostLinks = 16

// open looks what kind of file it is, and returns the function that reads its next frame.
func (r *reader) open() (func() (frame, error), error) {
	magic, err := r.in.Peek(4)
	if err != nil && len(magic) == 0 {
		if errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("%w: it is empty", ErrForeign)
		}
		return nil, err
	}
	if len(magic) < 4 {
		return nil, fmt.Errorf("%w: it has %d bytes", ErrForeign, len(magic))
	}
	for _, k := range foreign {
		if bytes.HasPrefix(magic, []byte(k.magic)) {
			return nil, fmt.Errorf("%w: it is %s", ErrForeign, k.says)
		}
	}
	if string(magic) == ngMagic {
		r.sum.Format = "pcapng"
		p := pcapng{reader: r}
		return p.next, nil
	}
	p, err := r.openPcap()
	if err != nil {
		return nil, err
	}
	return p.next, nil
}

// foreign are files that people mistake for captures.
var foreign = []struct{ magic, says string }{
	{"\x1f\x8b", "compressed (gzip): gunzip it first"},
	{"\x28\xb5\x2f\xfd", "compressed (zstd): unzstd it first"},
	{"\xfd7zX", "compressed (xz): unxz it first"},
	{"BZh", "compressed (bzip2): bunzip2 it first"},
	{"PK\x03\x04", "a zip archive: unzip it first"},
	{"\x34\xcd\xb2\xa1", "a modified pcap (Kuznetzov): editcap -F pcap IN OUT rewrites it"},
	{"\xa1\xb2\xcd\x34", "a modified pcap (Kuznetzov): editcap -F pcap IN OUT rewrites it"},
	{"snoo", "a capture of snoop: editcap -F pcap IN OUT rewrites it"},
	{"{", "JSON: want the capture that it was made of"},
}

// read reads so many bytes; they are valid until the next call.
func (r *reader) read(n int) ([]byte, error) {
	if cap(r.buffer) < n {
		r.buffer = make([]byte, n)
	}
	got, err := io.ReadFull(r.in, r.buffer[:n])
	r.offset += int64(got)
	return r.buffer[:n], err
}

// skip leaves out so many bytes.
func (r *reader) skip(n int64) error {
	got, err := io.CopyN(io.Discard, r.in, n)
	r.offset += got
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// damaged is an error at the place that was read last.
func (r *reader) damaged(format string, args ...any) error { //nolint:forbidigo // as Sprintf has them
	return fmt.Errorf("%w: byte %d: %s", ErrDamaged, r.offset, fmt.Sprintf(format, args...))
}
