//go:build linux

package http_test

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"twlab/harness/http"
	"twlab/harness/tcp"
)

// A server that answers after 512 bytes and closes: what has not been read decides whether
// the client sees a FIN or a RST, and its answer is readable all the same.
func TestAnswerBeforeTheBodyIsRead(t *testing.T) {
	const most = 512
	for _, c := range []struct {
		name   string
		body   int
		ending tcp.Ending // of the server
		whole  bool       // the body is written in full
		early  int
		end    tcp.End
	}{
		{"a small request is read in full", 300, "", true, 0, tcp.End{First: tcp.Peer}},
		{"11 kB are written before the RST", 11_000, "", true, 1, tcp.End{First: tcp.Peer, Errno: unix.ECONNRESET}},
		{"28 MB are not", 28_000_000, "", false, 1, tcp.End{First: tcp.Peer, Errno: unix.ECONNRESET}},
		{"the server reads on until the FIN", 28_000_000, tcp.CloseFirst, true, 1, tcp.End{First: tcp.Peer}},
	} {
		t.Run(c.name, func(t *testing.T) {
			host := newHost(t)
			listener, at := serve(t, host, http.ListenSpec{
				HTTP: &http.Responder{ReadAtMost: most, Last: 1, Body: 100}, ListenSpec: tcp.ListenSpec{Ending: c.ending},
			})
			got := exchange(t, host, http.Exchange{Attempt: tcp.Attempt{To: at, Ending: tcp.CloseAfterPeer}, Requests: []http.Request{{Body: c.body}}})[0]
			t.Log(got)
			r := got.Replies[0]
			if r.Disposition != http.Whole || r.Status != 200 || r.Bytes != 100 {
				t.Errorf("%v, want a whole answer", r)
			}
			if c.whole != (r.Written == c.body && r.WriteErrno == 0) || !c.whole && (r.Written >= c.body || r.WriteErrno != unix.ECONNRESET) {
				t.Errorf("%d bytes written and %v, want all: %v", r.Written, r.WriteErrno, c.whole)
			}
			if got.End != c.end {
				t.Errorf("it ended %+v, want %+v", got.End, c.end)
			}
			await(t, "the end of the connection", func() bool { return served(t, host, listener).Open == 0 })
			if s := served(t, host, listener); s.Early != c.early || s.Requests != 1-c.early || s.Responses != 1 {
				t.Errorf("%+v, want %d early", s, c.early)
			}
		})
	}
}

// A client that stops at the answer does not wait for a server that reads no more.
func TestStopAtAnswer(t *testing.T) {
	const body = 28_000_000
	host := newHost(t)
	_, at := serve(t, host, http.ListenSpec{HTTP: &http.Responder{Body: 10}})
	_, stuck, err := host.Serve(t.Context(), tcp.ListenSpec{At: netip.AddrPortFrom(loopback, 0)}, func(ctx context.Context, st *tcp.Stream) error {
		_, err := st.ReadAtMost(ctx, 512)
		if err == nil {
			err = st.Write(ctx, []byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
		}
		<-ctx.Done() // and reads no more
		return errors.Join(err, st.Reset())
	})
	must(t, err)
	kept := exchange(t, host, http.Exchange{Attempt: tcp.Attempt{To: at}, Requests: []http.Request{{Body: 1000}, {Body: body, Pause: 20 * time.Millisecond}}})[0]
	again := exchange(t, host, http.Exchange{Conn: kept.Conn, Attempt: tcp.Attempt{Ending: tcp.CloseFirst}, Requests: []http.Request{{Pause: 20 * time.Millisecond}, {Body: 1, StopAtAnswer: true}}})[0]
	for i, r := range append(kept.Replies, again.Replies...) {
		if want := []int{1000, body, 0, 1}[i]; r.Disposition != http.Whole || r.Written != want || r.WriteErrno != 0 {
			t.Errorf("reply %d: %v, want %d bytes written", i, r, want)
		}
	}
	began := time.Now()
	got := exchange(t, host, http.Exchange{Attempt: tcp.Attempt{To: stuck, Ending: tcp.Abort}, Requests: []http.Request{{Body: body, StopAtAnswer: true}, {}}})[0]
	if took := time.Since(began); took > tcp.DefaultBudget/2 {
		t.Errorf("it took %v: it has not stopped", took)
	}
	if r := got.Replies[0]; r.Disposition != http.Whole || r.WriteErrno != 0 || r.Written >= body || got.Replies[1].Disposition != http.Unsent {
		t.Errorf("%v, want the answer and no error", got)
	}
	if _, err := host.web.Exchange(t.Context(), []http.Exchange{{Attempt: tcp.Attempt{To: at}, Requests: []http.Request{{Body: -1}}}}, 0); err == nil {
		t.Error("a body of -1 bytes is no error")
	}
}
