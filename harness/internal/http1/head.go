package http1

import (
	"bytes"
	"errors"
	"fmt"
	"math"
)

// maxHead is the maximum length of the head of a message in bytes.
const maxHead = 64 << 10

// quoted is the maximum number of bytes that an error quotes.
const quoted = 80

// quote quotes the beginning of what came.
func quote(came []byte) string {
	if len(came) > quoted {
		return fmt.Sprintf("%q and %d bytes more", came[:quoted], len(came)-quoted)
	}
	return fmt.Sprintf("%q", came)
}

var endOfHead = []byte("\r\n\r\n")

// head collects the head of a message.
type head struct {
	came []byte // what came before the last piece
}

// take returns the whole head once it is there, without the empty line at its
// end, and how many bytes of p belong to it. The head may be a part of p.
func (h *head) take(p []byte) (whole []byte, used int, err error) {
	if len(h.came) == 0 && len(p) <= maxHead {
		if end := bytes.Index(p, endOfHead); end >= 0 {
			return p[:end], end + len(endOfHead), nil
		}
	}
	before := len(h.came)
	h.came = append(h.came, p...)
	// The empty line may have begun in an earlier piece.
	from := max(0, before-len(endOfHead)+1)
	if end := bytes.Index(h.came[from:], endOfHead); end >= 0 {
		end += from
		return h.came[:end], end + len(endOfHead) - before, nil
	}
	if len(h.came) > maxHead {
		return nil, 0, fmt.Errorf("head of more than %d bytes, which begins with %s", maxHead, quote(h.came))
	}
	return nil, len(p), nil
}

// fields holds what the fields of a head say about the end of the message, and about who
// closes the connection.
type fields struct {
	length           int64 // Content-Length; -1 without
	chunked          bool
	close, keepAlive bool
}

// persists reports whether the sender of the message keeps the connection open (RFC 9112,
// 9.3).
func (f fields) persists(minor int) bool {
	if minor == 0 {
		return f.keepAlive && !f.close
	}
	return !f.close
}

// parseFields reads the lines of a head after the first. Names are compared as RFC 9110,
// 5.1 requires.
func parseFields(lines []byte) (f fields, err error) {
	f.length = -1
	for len(lines) > 0 {
		line, rest, _ := bytes.Cut(lines, crlf)
		lines = rest
		name, value, found := bytes.Cut(line, colon)
		if !found || len(name) == 0 || name[0] == ' ' || name[0] == '\t' {
			return f, fmt.Errorf("not a field: %s", quote(line))
		}
		value = bytes.Trim(value, " \t")
		switch {
		case bytes.EqualFold(name, contentLength):
			length, ok := number(value, 10)
			if !ok || f.length >= 0 && f.length != length {
				return f, fmt.Errorf("not a length: %s", quote(line))
			}
			f.length = length
		case bytes.EqualFold(name, transferEncoding):
			if !bytes.EqualFold(value, chunked) {
				return f, fmt.Errorf("unknown transfer encoding: %s", quote(line))
			}
			f.chunked = true
		case bytes.EqualFold(name, connection):
			for token := range bytes.SplitSeq(value, comma) {
				token = bytes.Trim(token, " \t")
				f.close = f.close || bytes.EqualFold(token, closeToken)
				f.keepAlive = f.keepAlive || bytes.EqualFold(token, keepAliveToken)
			}
		}
	}
	if f.chunked && f.length >= 0 {
		return f, errors.New("both Content-Length and chunks") // RFC 9112, 6.3: an attack, or a defect
	}
	return f, nil
}

var (
	crlf             = []byte("\r\n")
	colon            = []byte(":")
	comma            = []byte(",")
	space            = []byte(" ")
	contentLength    = []byte("Content-Length")
	transferEncoding = []byte("Transfer-Encoding")
	connection       = []byte("Connection")
	chunked          = []byte("chunked")
	closeToken       = []byte("close")
	keepAliveToken   = []byte("keep-alive")
)

// number reads digits and nothing else.
func number(text []byte, base int64) (n int64, ok bool) {
	for _, c := range text {
		digit := digit(c)
		if digit >= base || n > (math.MaxInt64-digit)/base {
			return 0, false
		}
		n = n*base + digit
	}
	return n, len(text) > 0
}

// digit is the value of a hexadecimal digit, or a large number when c is none.
func digit(c byte) int64 {
	switch {
	case '0' <= c && c <= '9':
		return int64(c - '0')
	case 'a' <= c && c <= 'f':
		return int64(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int64(c-'A') + 10
	default:
		return math.MaxInt64
	}
}

// version reads "HTTP/1.0" or "HTTP/1.1".
func version(text []byte) (minor int, ok bool) {
	switch string(text) {
	case "HTTP/1.0":
		return 0, true
	case "HTTP/1.1":
		return 1, true
	default:
		return 0, false
	}
}
