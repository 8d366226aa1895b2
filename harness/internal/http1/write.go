package http1

import "strconv"

// AppendGet appends a GET request. An empty connection omits the Connection field.
func AppendGet(to []byte, host, path, connection string) []byte {
	return endHead(appendLines(to, "GET ", host, path), connection)
}

// AppendPost appends the head of a POST request with a body of this many bytes, as AppendGet
// does.
func AppendPost(to []byte, host, path, connection string, bytes int) []byte {
	to = append(appendLines(to, "POST ", host, path), "Content-Length: "...)
	to = append(strconv.AppendInt(to, int64(bytes), 10), "\r\n"...)
	return endHead(to, connection)
}

func appendLines(to []byte, method, host, path string) []byte {
	to = append(append(to, method...), path...)
	to = append(to, " HTTP/1.1\r\nHost: "...)
	return append(append(to, host...), "\r\n"...)
}

// Framing says how the end of a response is marked.
type Framing string

// The framings.
const (
	// ByLength is Content-Length.
	ByLength Framing = ""
	// Chunked is Transfer-Encoding: chunked, in a single chunk.
	Chunked Framing = "chunked"
	// ToTheEnd is neither: the body ends with the connection.
	ToTheEnd Framing = "to the end"
)

// ResponseHead returns what comes before and after a body of this many bytes: the head of
// the response, and the framing. An empty connection omits the Connection field.
func ResponseHead(status, bytes int, framing Framing, connection string) (before, after []byte) {
	before = append(before, "HTTP/1.1 "...)
	before = strconv.AppendInt(before, int64(status), 10)
	before = append(before, " \r\n"...) // the reason may be empty (RFC 9112, 4)
	switch framing {
	case Chunked:
		before = endHead(append(before, "Transfer-Encoding: chunked\r\n"...), connection)
		if bytes > 0 {
			before = append(strconv.AppendInt(before, int64(bytes), 16), "\r\n"...)
			after = append(after, "\r\n"...)
		}
		after = append(after, "0\r\n\r\n"...)
	case ToTheEnd:
		before = endHead(before, connection)
	default:
		before = append(before, "Content-Length: "...)
		before = append(strconv.AppendInt(before, int64(bytes), 10), "\r\n"...)
		before = endHead(before, connection)
	}
	return before, after
}

func endHead(to []byte, connection string) []byte {
	if connection != "" {
		to = append(to, "Connection: "...)
		to = append(to, connection...)
		to = append(to, "\r\n"...)
	}
	return append(to, "\r\n"...)
}
