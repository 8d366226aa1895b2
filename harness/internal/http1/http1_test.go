package http1_test

import (
	"strings"
	"testing"

	"twlab/harness/internal/http1"
)

// feed gives a text to a reader in pieces of so many bytes, and returns how much
// of it was used.
func feed(text string, pieces int, read func([]byte) (int, error), done func() bool) (used int, err error) {
	for used < len(text) && !done() {
		n, err := read([]byte(text[used:min(used+pieces, len(text))]))
		used += n
		if err != nil {
			return used, err
		}
	}
	return used, nil
}

// sizes are the pieces that every message is read in: each cut is tried.
func sizes(text string) []int { return []int{1, 2, 3, 7, len(text)} }

func TestResponse(t *testing.T) {
	const after = "HTTP"
	for _, c := range []struct {
		name, text string
		status     int
		length     int64
		bytes      int64
		close      bool
	}{
		{"a length", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, 5, 5, false},
		{"no body", "HTTP/1.1 503 Service Unavailable\r\ncontent-length:0\r\nConnection: Close\r\n\r\n", 503, 0, 0, true},
		{"no reason", "HTTP/1.1 200 \r\nContent-Length: 1\r\n\r\nx", 200, 1, 1, false},
		{"204", "HTTP/1.1 204 No Content\r\n\r\n", 204, -1, 0, false},
		{"chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0A;x=y\r\n0123456789\r\n0\r\n\r\n", 200, -1, 13, false},
		{"a trailer", "HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n1\r\na\r\n0\r\nX: y\r\n\r\n", 200, -1, 1, false},
		{"an interim response", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, 2, 2, false},
		{"HTTP/1.0", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, 2, 2, true},
		{"HTTP/1.0, kept", "HTTP/1.0 200 OK\r\nConnection: foo, Keep-Alive\r\nContent-Length: 2\r\n\r\nok", 200, 2, 2, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, n := range sizes(c.text) {
				var r http1.Response
				used, err := feed(c.text+after, n, r.Feed, r.Done)
				if err != nil || used != len(c.text) || !r.Done() || !r.End() {
					t.Fatalf("by %d: used %d of %d, done %v, %v", n, used, len(c.text), r.Done(), err)
				}
				if r.Status != c.status || r.Length != c.length || r.Bytes() != c.bytes || r.Close != c.close {
					t.Errorf("by %d: %d with %d bytes of %d, close %v", n, r.Status, r.Bytes(), r.Length, r.Close)
				}
			}
			for cut := range len(c.text) {
				var r http1.Response
				if _, err := feed(c.text[:cut], len(c.text), r.Feed, r.Done); err != nil || r.Done() || r.End() {
					t.Errorf("%q alone: done %v, whole at the end %v, %v", c.text[:cut], r.Done(), r.End(), err)
				}
			}
		})
	}
}

func TestResponseThatEndsWithItsConnection(t *testing.T) {
	var r http1.Response
	if r.Begun() || r.End() {
		t.Error("has begun before anything came")
	}
	const text = "HTTP/1.1 200 OK\r\n\r\nas long as it goes"
	used, err := feed(text, 5, r.Feed, r.Done)
	if err != nil || used != len(text) || r.Done() || !r.End() || !r.Close || r.Bytes() != 18 || r.Length != -1 {
		t.Errorf("used %d, %+v, %v", used, r, err)
	}
}

func TestResponseSaysWhatCame(t *testing.T) {
	for text, want := range map[string]string{
		"SSH-2.0-x":                                     "not an HTTP/1 response: \"S",
		"HTTP/2.0 200 OK\r\n\r\n":                       "HTTP/2",
		"HTTP/1.1 2x0 OK\r\n\r\n":                       "2x0",
		"HTTP/1.1 200 OK\r\nnonsense\r\n\r\n":           "nonsense",
		"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n": "-1",
		"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n":          "Content-Length: 2",
		"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n":            "9999",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n":                         "gzip",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n": "both",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n":               "xyz",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n":           "b",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\na":                  "without CR",
		"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("y", 100_000):                      "begins",
	} {
		for _, n := range sizes(text) {
			var r http1.Response
			if _, err := feed(text, n, r.Feed, r.Done); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%.60q by %d: %v, want an error that shows %q", text, n, err, want)
			}
		}
	}
}

func TestRequest(t *testing.T) {
	for _, c := range []struct {
		text             string
		close, head, old bool
	}{
		{string(http1.AppendGet(nil, "h", "/p", "")), false, false, false},
		{string(http1.AppendGet(nil, "h", "/p", "close")), true, false, false},
		{string(http1.AppendPost(nil, "h", "/p", "close", 3)) + "abc", true, false, false},
		{"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n", false, true, false},
		{"OPTIONS * HTTP/1.0\r\n\r\n", true, false, true},
		{"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", false, false, false},
		{"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", false, false, false},
	} {
		for _, n := range sizes(c.text) {
			var r http1.Request
			used, err := feed(c.text+"GET", n, r.Feed, r.Done)
			if err != nil || used != len(c.text) || !r.Done() || r.Close != c.close || r.Head != c.head || r.Old != c.old {
				t.Errorf("%q by %d: used %d, %+v, %v", c.text, n, used, r, err)
			}
		}
	}
	for _, text := range []string{"\x16\x03\x01\r\n\r\n", "GET /\r\n\r\n", "GET / HTTP/3.0\r\n\r\n", " / HTTP/1.1\r\n\r\n"} {
		var r http1.Request
		if _, err := feed(text, len(text), r.Feed, r.Done); err == nil {
			t.Errorf("%q is a request: %+v", text, r)
		}
	}
}

// What is written is read as meant.
func TestResponseHead(t *testing.T) {
	for _, framing := range []http1.Framing{http1.ByLength, http1.Chunked, http1.ToTheEnd} {
		for _, size := range []int{0, 1, 100} {
			before, after := http1.ResponseHead(200, size, framing, "close")
			text := string(before) + strings.Repeat("x", size) + string(after)
			var r http1.Response
			used, err := feed(text, 3, r.Feed, r.Done)
			if err != nil || used != len(text) || !r.End() || !r.Close || r.Bytes() != int64(size) {
				t.Errorf("%d bytes %q: used %d of %d, %+v, %v", size, framing, used, len(text), r, err)
			}
		}
	}
}

// A response means the same whatever pieces it comes in.
func FuzzResponse(f *testing.F) {
	f.Add("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", 1)
	f.Add("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 4)
	f.Fuzz(func(t *testing.T, text string, pieces int) {
		var whole, split http1.Response
		used, err := feed(text, len(text)+1, whole.Feed, whole.Done)
		usedSplit, errSplit := feed(text, max(1, pieces%100), split.Feed, split.Done)
		if (err == nil) != (errSplit == nil) || err == nil && used != usedSplit ||
			whole.Status != split.Status || whole.Done() != split.Done() || err == nil && whole.Bytes() != split.Bytes() {
			t.Errorf("at once: used %d, %+v, %v\nin pieces: used %d, %+v, %v", used, whole, err, usedSplit, split, errSplit)
		}
	})
}
