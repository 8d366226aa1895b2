package http1

import (
	"bytes"
	"fmt"
)

// Response is a response to a GET that is being read. The zero value is one of which
// nothing has come. Interim responses (100 to 199) are skipped.
type Response struct {
	// Status is the status code; 0 until the whole head has come.
	Status int
	// Length is the length of the body that the head announces; -1 when it announces none:
	// the body comes in chunks, or ends with the connection.
	Length int64
	// Close says that the sender will close the connection after it:
	// `Connection: close`, or HTTP/1.0 without keep-alive (RFC 9112, 9.3).
	Close bool

	head head
	body body
}

// Feed reads the next piece. It takes from p the bytes that belong to the response and
// returns how many these are. An error describes bytes that are no response; nothing can be
// fed after it.
func (r *Response) Feed(p []byte) (used int, err error) {
	for r.Status == 0 {
		text, n, err := r.head.take(p[used:])
		used += n
		if err != nil {
			return used, fmt.Errorf("response: %w", err)
		}
		if text == nil {
			return used, r.early()
		}
		if err := r.parse(text); err != nil {
			return used, fmt.Errorf("response: %w", err)
		}
		r.head = head{}
	}
	if r.Done() {
		return used, nil
	}
	n, err := r.body.take(p[used:])
	if err != nil {
		err = fmt.Errorf("response: %w", err)
	}
	return used + n, err
}

// early reports, from the first bytes, what can never become the head of a response, so
// that no reader waits for its end.
func (r *Response) early() error {
	first := []byte("HTTP/1.")
	n := min(len(first), len(r.head.came))
	if !bytes.Equal(r.head.came[:n], first[:n]) {
		return fmt.Errorf("not an HTTP/1 response: %s", quote(r.head.came))
	}
	return nil
}

// Begun reports whether anything has come.
func (r *Response) Begun() bool { return r.Status != 0 || len(r.head.came) > 0 }

// Done reports whether the whole response has come. A response whose body ends with the
// connection is never done; see [Response.End].
func (r *Response) Done() bool { return r.Status != 0 && r.body.done() }

// Bytes returns how many bytes of the body have come, without its framing.
func (r *Response) Bytes() int64 { return r.body.bytes }

// End reports whether the whole response has come, given that the sender has ended the
// connection.
func (r *Response) End() bool { return r.Status != 0 && (r.body.done() || r.body.framing == byEnd) }

// parse reads a head. The head of an interim response is dropped.
func (r *Response) parse(text []byte) error {
	line, lines, _ := bytes.Cut(text, crlf)
	protocol, rest, _ := bytes.Cut(line, space)
	code, _, _ := bytes.Cut(rest, space)
	minor, okVersion := version(protocol)
	status, okStatus := number(code, 10)
	if !okVersion || !okStatus || len(code) != 3 || status < 100 {
		return fmt.Errorf("not a status line: %s", quote(line))
	}
	f, err := parseFields(lines)
	if err != nil {
		return err
	}
	if status < 200 {
		return nil
	}
	r.Status, r.Length, r.Close = int(status), f.length, !f.persists(minor)
	switch {
	case status == 204 || status == 304: // never have a body
	case f.chunked:
		r.body.framing = byChunks
	case f.length >= 0:
		r.body.left = f.length
	default:
		r.body.framing, r.Close = byEnd, true
	}
	return nil
}
