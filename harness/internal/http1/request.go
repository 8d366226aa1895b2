package http1

import (
	"bytes"
	"fmt"
)

// Request is a request that is being read. The zero value is one of which nothing has come.
type Request struct {
	// Close says that the sender sends no further request on the connection: `Connection:
	// close`, or HTTP/1.0 without keep-alive (RFC 9112, 9.3).
	Close bool
	// Head says that the method is HEAD: the response has no body, whatever its
	// head says.
	Head bool
	// Old says that the request is HTTP/1.0: the response must not come in chunks.
	Old bool

	parsed bool
	head   head
	body   body
}

// Feed reads the next piece. It takes from p the bytes that belong to the request and
// returns how many these are. An error describes bytes that are no request; nothing can be
// fed after it.
func (r *Request) Feed(p []byte) (used int, err error) {
	if !r.parsed {
		text, n, err := r.head.take(p)
		used = n
		if text == nil && err == nil {
			return used, nil
		}
		if err == nil {
			err = r.parse(text)
		}
		if err != nil {
			return used, fmt.Errorf("request: %w", err)
		}
		r.head = head{}
	}
	n, err := r.body.take(p[used:])
	if err != nil {
		err = fmt.Errorf("request: %w", err)
	}
	return used + n, err
}

// Begun reports whether anything has come.
func (r *Request) Begun() bool { return r.parsed || len(r.head.came) > 0 }

// Done reports whether the whole request has come.
func (r *Request) Done() bool { return r.parsed && r.body.done() }

func (r *Request) parse(text []byte) error {
	line, lines, _ := bytes.Cut(text, crlf)
	method, rest, _ := bytes.Cut(line, space)
	target, protocol, _ := bytes.Cut(rest, space)
	minor, ok := version(protocol)
	if !ok || len(method) == 0 || len(target) == 0 {
		return fmt.Errorf("not a request line: %s", quote(line))
	}
	f, err := parseFields(lines)
	if err != nil {
		return err
	}
	r.parsed = true
	r.Close, r.Head, r.Old = !f.persists(minor), string(method) == "HEAD", minor == 0
	switch {
	case f.chunked:
		r.body.framing = byChunks
	case f.length > 0:
		r.body.left = f.length
	}
	return nil
}
