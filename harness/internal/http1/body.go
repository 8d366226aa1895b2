package http1

import (
	"bytes"
	"fmt"
)

// body counts the content of a message.
type body struct {
	framing framing
	left    int64 // bytes to come of the content, or of the chunk
	bytes   int64 // content so far

	part part
	line []byte // of a chunk's size or a trailer, so far
}

// framing is how a body ends (RFC 9112, 6.3).
type framing int

const (
	byLength framing = iota
	byChunks
	byEnd // with the connection
)

// part is the position in a chunked body (RFC 9112, 7.1).
type part int

const (
	chunkSize part = iota
	chunkData
	chunkEnd
	trailer
	complete
)

func (b *body) done() bool {
	switch b.framing {
	case byLength:
		return b.left == 0
	case byChunks:
		return b.part == complete
	default:
		return false
	}
}

// take counts the bytes of p that belong to the body and returns how many these are.
func (b *body) take(p []byte) (used int, err error) {
	switch b.framing {
	case byEnd:
		b.bytes += int64(len(p))
		return len(p), nil
	case byLength:
		return b.content(p), nil
	default:
		for used < len(p) && b.part != complete {
			n, err := b.takePart(p[used:])
			used += n
			if err != nil {
				return used, err
			}
		}
		return used, nil
	}
}

func (b *body) content(p []byte) (used int) {
	used = int(min(int64(len(p)), b.left))
	b.left -= int64(used)
	b.bytes += int64(used)
	return used
}

func (b *body) takePart(p []byte) (used int, err error) {
	if b.part == chunkData {
		used = b.content(p)
		if b.left == 0 {
			b.part = chunkEnd
		}
		return used, nil
	}
	line, used, err := b.takeLine(p)
	if line == nil || err != nil {
		return used, err
	}
	switch b.part {
	case chunkSize:
		digits, _, _ := bytes.Cut(line, []byte(";")) // extensions are ignored
		size, ok := number(bytes.TrimRight(digits, " \t"), 16)
		if !ok {
			return used, fmt.Errorf("not a chunk size: %s", quote(line))
		}
		b.left, b.part = size, chunkData
		if size == 0 {
			b.part = trailer
		}
	case chunkEnd:
		if len(line) > 0 {
			return used, fmt.Errorf("data after the end of a chunk: %s", quote(line))
		}
		b.part = chunkSize
	default: // a trailer; the empty line ends the message
		if len(line) == 0 {
			b.part = complete
		}
	}
	return used, nil
}

// takeLine returns a line without its end, once the whole line has come.
func (b *body) takeLine(p []byte) (line []byte, used int, err error) {
	end := bytes.IndexByte(p, '\n')
	if end < 0 {
		b.line = append(b.line, p...)
		if len(b.line) > maxHead {
			return nil, len(p), fmt.Errorf("line of more than %d bytes, which begins with %s", maxHead, quote(b.line))
		}
		return nil, len(p), nil
	}
	line = p[:end]
	if len(b.line) > 0 {
		line = append(b.line, line...)
		b.line = nil
	}
	line, found := bytes.CutSuffix(line, []byte("\r"))
	if !found {
		return nil, end + 1, fmt.Errorf("line that ends without CR: %s", quote(line))
	}
	return line, end + 1, nil
}
