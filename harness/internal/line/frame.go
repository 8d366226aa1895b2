package line

import (
	"bufio"
	"bytes"
	"compress/flate"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"sync"
)

// kind is the kind of a message.
type kind string

const (
	hello  kind = "hello"  // the server's first message: its fingerprint
	call   kind = "call"   // a request
	cancel kind = "cancel" // the caller's context ended
	reply  kind = "reply"  // the result of a call
	ping   kind = "ping"   // are you there?
	pong   kind = "pong"   // yes
)

// message is one message on the line.
type message struct {
	Kind    kind            `json:"kind"`
	ID      uint64          `json:"id,omitempty"` // of a call, and of the messages that belong to it
	Method  string          `json:"method,omitempty"`
	Body    json.RawMessage `json:"body,omitempty"`
	Failure *failure        `json:"failure,omitempty"`
}

// A frame is a header and a message as compressed JSON. It is compressed because a serial
// port needs one exit of the virtual processor for each byte, and a list of counters
// shrinks to a fifth.
//
//	4 bytes  magic
//	4 bytes  length of what follows the header, big endian
//	4 bytes  its CRC-32 (IEEE): a port whose buffer overflows leaves bytes out
const (
	headerSize = 12
	maxLength  = 64 << 20 // longer than every message: a length above it is garbled
)

var magic = [4]byte{'t', 'w', 'l', 1}

// frames writes and reads messages.
type frames struct {
	to   io.Writer
	from *bufio.Reader

	writing sync.Mutex
}

func newFrames(stream io.ReadWriter) *frames {
	return &frames{to: stream, from: bufio.NewReaderSize(stream, 64<<10)}
}

func (f *frames) write(m message) error {
	text, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode message: %w", err)
	}
	var frame bytes.Buffer
	frame.Write(make([]byte, headerSize))
	pack, err := flate.NewWriter(&frame, flate.BestSpeed)
	if err != nil {
		return fmt.Errorf("compress message: %w", err)
	}
	if _, err := pack.Write(text); err != nil {
		return fmt.Errorf("compress message: %w", err)
	}
	if err := pack.Close(); err != nil {
		return fmt.Errorf("compress message: %w", err)
	}
	raw := frame.Bytes()
	if len(raw)-headerSize > maxLength {
		return fmt.Errorf("message of %d bytes: more than %d", len(raw)-headerSize, maxLength)
	}
	copy(raw, magic[:])
	binary.BigEndian.PutUint32(raw[4:], uint32(len(raw)-headerSize))
	binary.BigEndian.PutUint32(raw[8:], crc32.ChecksumIEEE(raw[headerSize:]))
	f.writing.Lock()
	defer f.writing.Unlock()
	if _, err := f.to.Write(raw); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}

func (f *frames) read() (message, error) {
	var header [headerSize]byte
	if _, err := io.ReadFull(f.from, header[:]); err != nil {
		return message{}, fmt.Errorf("read: %w", err)
	}
	length := binary.BigEndian.Uint32(header[4:])
	if [4]byte(header[:4]) != magic || length > maxLength {
		return message{}, fmt.Errorf("garbled: %q where a message begins", header)
	}
	raw := make([]byte, length)
	if _, err := io.ReadFull(f.from, raw); err != nil {
		return message{}, fmt.Errorf("read: %w", err)
	}
	if crc32.ChecksumIEEE(raw) != binary.BigEndian.Uint32(header[8:]) {
		return message{}, errors.New("garbled: wrong checksum")
	}
	var m message
	if err := json.NewDecoder(flate.NewReader(bytes.NewReader(raw))).Decode(&m); err != nil {
		return message{}, fmt.Errorf("decode message: %w", err)
	}
	return m, nil
}
