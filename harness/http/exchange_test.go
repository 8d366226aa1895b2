//go:build linux

package http_test

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"twlab/harness/http"
	"twlab/harness/internal/http1"
	"twlab/harness/observe"
	"twlab/harness/tcp"
)

// exchange makes exchanges with all at once, and fails the test on an error.
func exchange(t *testing.T, host *host, exchanges ...http.Exchange) []http.Exchanged {
	t.Helper()
	done, err := host.web.Exchange(t.Context(), exchanges, 0)
	if err != nil {
		t.Fatal(err)
	}
	return done
}

func served(t *testing.T, host *host, listener tcp.Handle) http.Served {
	t.Helper()
	s, err := host.web.Served(listener)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func await(t *testing.T, event string, seen func() bool) {
	t.Helper()
	must(t, observe.Await(t.Context(), event, func() (bool, error) { return seen(), nil }))
}

func sockets(t *testing.T, inside func(func() error) error) (all observe.Sockets) {
	t.Helper()
	must(t, inside(func() (err error) {
		all, err = observe.ReadSockets()
		return err
	}))
	return all
}

// Who closes first keeps the TIME_WAIT.
func TestExchangeLeavesTheTimeWaitWhereToldTo(t *testing.T) {
	closing, staying := []http.Request{{Connection: "close"}}, []http.Request{{}}
	for _, c := range []struct {
		name     string
		server   http.ListenSpec
		ending   tcp.Ending
		requests []http.Request
		first    tcp.Side
		says     bool // the response says that it is the last
		waits    string
	}{
		{"client first, on an open connection", http.ListenSpec{HTTP: &http.Responder{}}, tcp.CloseFirst, staying, tcp.Here, false, "client"},
		{"client first, the server overhears close", http.ListenSpec{HTTP: &http.Responder{IgnoreClose: true}}, tcp.CloseFirst, closing, tcp.Here, false, "client"},
		{"server first, as the client says", http.ListenSpec{HTTP: &http.Responder{}}, tcp.CloseAfterPeer, closing, tcp.Peer, true, "server"},
		{"server first, and says so", http.ListenSpec{HTTP: &http.Responder{Last: 1}}, tcp.CloseAfterPeer, staying, tcp.Peer, true, "server"},
		{"server first, and waits", http.ListenSpec{HTTP: &http.Responder{Last: 1}, ListenSpec: tcp.ListenSpec{Ending: tcp.CloseFirst}}, tcp.CloseAfterPeer, staying, tcp.Peer, true, "server"},
		{"server first, without a word", http.ListenSpec{HTTP: &http.Responder{Last: 1, Silent: true}}, tcp.CloseAfterPeer, staying, tcp.Peer, false, "server"},
		{"client resets", http.ListenSpec{HTTP: &http.Responder{}}, tcp.Abort, staying, tcp.Here, false, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			host, inside := newHostIn(t)
			listener, at := serve(t, host, c.server)
			got := exchange(t, host, http.Exchange{Attempt: tcp.Attempt{To: at, Ending: c.ending}, Requests: c.requests})[0]
			t.Logf("%+v", got)
			if got.Outcome != tcp.Connected || !got.Conn.IsZero() || got.End != (tcp.End{First: c.first}) {
				t.Errorf("%v, %+v, want it Connected and closed, first by %s", got.Result, got.End, c.first)
			}
			if r := got.Replies[0]; r.Disposition != http.Whole || r.Status != 200 || r.Close != c.says || r.FirstByte <= 0 || r.Took < r.FirstByte {
				t.Errorf("%+v, want a whole response, Close %v", r, c.says)
			}
			await(t, "the end of the connection", func() bool { return served(t, host, listener).Open == 0 })
			t.Logf("%+v", served(t, host, listener))
			sockets := sockets(t, inside).In(observe.TimeWait)
			client, server := sockets.Between(got.Local, at), sockets.Between(at, got.Local)
			if len(client) != 0 != (c.waits == "client") || len(server) != 0 != (c.waits == "server") {
				t.Errorf("want TIME_WAIT at %q: %v", c.waits, sockets)
			}
		})
	}
}

func TestExchangeTellsWhatBecameOfAResponse(t *testing.T) {
	const size, cut = 300_000, 200_000
	for _, c := range []struct {
		name   string
		server http.ListenSpec
		want   http.Reply
		end    tcp.End
		fewer  bool // fewer bytes may come than were sent
	}{
		{
			name: "whole", server: http.ListenSpec{HTTP: &http.Responder{Body: size}},
			want: http.Reply{Disposition: http.Whole, Status: 200, Length: size, Bytes: size, Close: true}, end: tcp.End{First: tcp.Peer},
		},
		{
			name: "whole, in chunks", server: http.ListenSpec{HTTP: &http.Responder{Body: size, Framing: http.Chunked}},
			want: http.Reply{Disposition: http.Whole, Status: 200, Length: -1, Bytes: size, Close: true}, end: tcp.End{First: tcp.Peer},
		},
		{
			name: "whole, to the end", server: http.ListenSpec{HTTP: &http.Responder{Body: size, Framing: http.ToTheEnd}},
			want: http.Reply{Disposition: http.Whole, Status: 200, Length: -1, Bytes: size, Close: true}, end: tcp.End{First: tcp.Peer},
		},
		{
			name: "an error", server: http.ListenSpec{HTTP: &http.Responder{Status: 503}},
			want: http.Reply{Disposition: http.Whole, Status: 503, Close: true}, end: tcp.End{First: tcp.Peer},
		},
		{
			name: "truncated", server: http.ListenSpec{HTTP: &http.Responder{Body: size, Cut: cut}},
			want: http.Reply{Disposition: http.Truncated, Status: 200, Length: size, Bytes: cut, Close: true}, end: tcp.End{First: tcp.Peer},
		},
		{
			name: "truncated in a chunk", server: http.ListenSpec{HTTP: &http.Responder{Body: size, Cut: cut, Framing: http.Chunked}},
			want: http.Reply{Disposition: http.Truncated, Status: 200, Length: -1, Bytes: cut, Close: true}, end: tcp.End{First: tcp.Peer},
		},
		{
			name: "reset", server: http.ListenSpec{HTTP: &http.Responder{Body: size, Cut: cut}, ListenSpec: tcp.ListenSpec{Ending: tcp.Abort}}, fewer: true,
			want: http.Reply{Disposition: http.Broken, Errno: unix.ECONNRESET, Status: 200, Length: size, Bytes: cut, Close: true}, end: tcp.End{First: tcp.Peer, Errno: unix.ECONNRESET},
		},
		{
			name: "lost with its server", server: http.ListenSpec{HTTP: &http.Responder{Body: size, Cut: 1}, ListenSpec: tcp.ListenSpec{Ending: tcp.Vanish}},
			want: http.Reply{Disposition: http.Pending, Status: 200, Length: size, Bytes: 1, Close: true}, end: tcp.End{First: tcp.Here},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			host := newHost(t)
			listener, at := serve(t, host, c.server)
			try := tcp.Attempt{To: at, Ending: tcp.CloseAfterPeer}
			if c.want.Disposition == http.Pending {
				try.Budget = 200 * time.Millisecond
			}
			got := exchange(t, host, http.Exchange{Attempt: try, Requests: []http.Request{{Connection: "close"}, {}}})[0]
			r := got.Replies[0]
			if r.FirstByte <= 0 && r.Status != 0 || r.Took < r.FirstByte {
				t.Errorf("first byte after %v of %v", r.FirstByte, r.Took)
			}
			r.FirstByte, r.Took = 0, 0
			if c.fewer && r.Bytes <= c.want.Bytes {
				// What the peer had not acknowledged is lost: the head may be.
				c.want.Bytes, c.want.Status, c.want.Length, c.want.Close = r.Bytes, r.Status, r.Length, r.Close
			}
			if r != c.want || got.End != c.end {
				t.Errorf("%+v, %+v, want %+v, %+v", r, got.End, c.want, c.end)
			}
			if got.Replies[1].Disposition != http.Unsent {
				t.Errorf("after the last: %+v, want it unsent", got.Replies[1])
			}
			await(t, "the end of the connection", func() bool { return served(t, host, listener).Open == 0 })
			if s := served(t, host, listener); s.Connections != 1 || s.Requests != 1 || (s.Responses == 1) != (c.want.Disposition == http.Whole) {
				t.Errorf("%+v", s)
			}
		})
	}
}

func TestExchangeKeepsAlive(t *testing.T) {
	host := newHost(t)
	listener, at := serve(t, host, http.ListenSpec{HTTP: &http.Responder{Body: 10}})
	got := exchange(t, host, http.Exchange{Attempt: tcp.Attempt{To: at}, Requests: make([]http.Request, 20)})[0]
	again := exchange(t, host, http.Exchange{Conn: got.Conn, Attempt: tcp.Attempt{Ending: tcp.CloseFirst}, Requests: make([]http.Request, 5)})[0]
	for i, r := range append(got.Replies, again.Replies...) {
		if r.Disposition != http.Whole || r.Bytes != 10 || r.Close {
			t.Errorf("response %d: %+v", i, r)
		}
	}
	if got.End != (tcp.End{}) || got.Conn.IsZero() || again.End != (tcp.End{First: tcp.Here}) || !again.Conn.IsZero() || again.Local != got.Local {
		t.Errorf("%+v and then %+v", got, again)
	}
	if s := served(t, host, listener); s.Connections != 1 || s.Requests != 25 || s.Bytes != 250 || s.Peers[got.Local] != 1 || len(s.Peers) != 1 {
		t.Errorf("%+v, want 25 requests from one port", s)
	}
	if err := host.End(t.Context(), got.Conn, tcp.CloseNow); !errors.Is(err, tcp.ErrNoHandle) {
		t.Errorf("End after the end = %v, want ErrNoHandle", err)
	}
}

// A server that ends after some responses ends all the requests behind them: they
// are not sent when it says so, and lost when it does not.
func TestExchangeLosesRequestsToASilentServer(t *testing.T) {
	for silent, want := range map[bool][]http.Disposition{
		false: {http.Whole, http.Whole, http.Unsent, http.Unsent},
		true:  {http.Whole, http.Whole, http.Unanswered, http.Unsent},
	} {
		host := newHost(t)
		listener, at := serve(t, host, http.ListenSpec{HTTP: &http.Responder{Last: 2, Silent: silent}, ListenSpec: tcp.ListenSpec{Ending: tcp.CloseFirst}})
		got := exchange(t, host, http.Exchange{Attempt: tcp.Attempt{To: at, Ending: tcp.CloseAfterPeer}, Requests: make([]http.Request, 4)})[0]
		var dispositions []http.Disposition
		for _, r := range got.Replies {
			dispositions = append(dispositions, r.Disposition)
		}
		if !slices.Equal(dispositions, want) || got.End.First != tcp.Peer {
			t.Errorf("silent %v: %v, %+v, want %v", silent, dispositions, got.End, want)
		}
		await(t, "the end of the connection", func() bool { return served(t, host, listener).Open == 0 })
		if s := served(t, host, listener); s.Responses != 2 || s.ClosedFirst != 1 {
			t.Errorf("silent %v: %+v", silent, s)
		}
	}
}

func TestExchangeOnAConnectionThatIsOver(t *testing.T) {
	host := newHost(t)
	listener, at := serve(t, host, http.ListenSpec{HTTP: &http.Responder{Idle: 50 * time.Millisecond}})
	kept := exchange(t, host, http.Exchange{Attempt: tcp.Attempt{To: at}, Requests: make([]http.Request, 1)})[0]
	await(t, "the idle time to end", func() bool { return served(t, host, listener).Open == 0 })
	got := exchange(t, host, http.Exchange{Conn: kept.Conn, Attempt: tcp.Attempt{Ending: tcp.CloseNow}, Requests: make([]http.Request, 1)})[0]
	if got.Replies[0].Disposition != http.Unanswered || got.End.First != tcp.Peer {
		t.Errorf("%+v, want the request unanswered", got)
	}
	if s := served(t, host, listener); s.Idled != 1 || s.ClosedFirst != 1 || s.Requests != 1 {
		t.Errorf("%+v, want the connection idled out", s)
	}
}

func TestExchangeNeedsAnAnswer(t *testing.T) {
	host, inside := newHostIn(t)
	_, mute := listen(t, host)
	for ending, first := range map[tcp.Ending]tcp.Side{tcp.CloseAfterPeer: tcp.Here, tcp.CloseFirst: tcp.Here, tcp.KeepOpen: tcp.Nobody} {
		got := exchange(t, host, http.Exchange{
			Attempt:  tcp.Attempt{To: mute, Ending: ending, Budget: 50 * time.Millisecond},
			Requests: make([]http.Request, 2),
		})[0]
		if got.Outcome != tcp.Connected || got.Replies[0].Disposition != http.Pending || got.Replies[1].Disposition != http.Unsent || got.End.First != first {
			t.Errorf("%s: %+v, want it pending", ending, got)
		}
		if open := sockets(t, inside).In(observe.Established).Between(got.Local, mute); len(open) != 0 != (ending == tcp.KeepOpen) {
			t.Errorf("%s: %v", ending, open)
		}
	}
	// A peer that answers and stays: it is our own budget that ends.
	_, stays := serve(t, host, http.ListenSpec{HTTP: &http.Responder{}})
	got := exchange(t, host, http.Exchange{
		Attempt:  tcp.Attempt{To: stays, Ending: tcp.CloseAfterPeer, Budget: 50 * time.Millisecond},
		Requests: make([]http.Request, 1),
	})[0]
	if got.Replies[0].Disposition != http.Whole || got.End != (tcp.End{First: tcp.Here, Undecided: true}) {
		t.Errorf("%+v, want a whole response and an undecided end", got)
	}
}

func TestExchangeWithoutAConnection(t *testing.T) {
	host := newHost(t)
	nobody := netip.AddrPortFrom(loopback, 9)
	got := exchange(t, host, http.Exchange{Attempt: tcp.Attempt{To: nobody}, Requests: make([]http.Request, 1)})[0]
	if got.Outcome != tcp.Refused || got.Errno != unix.ECONNREFUSED || got.Replies[0].Disposition != http.Unsent || got.End != (tcp.End{}) {
		t.Errorf("%+v, want Refused", got)
	}
}

// speak is a server that answers the first bytes of its one connection with a
// text, and closes when the client has.
func speak(t *testing.T, inside func(func() error) error, text string) netip.AddrPort {
	t.Helper()
	var fd int
	var at netip.AddrPort
	must(t, inside(func() (err error) {
		if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		err = errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Addr: loopback.As4()}), unix.Listen(fd, 1))
		if err != nil {
			return err
		}
		sa, err := unix.Getsockname(fd)
		if in, ok := sa.(*unix.SockaddrInet4); ok {
			at = netip.AddrPortFrom(loopback, uint16(in.Port))
		}
		return err
	}))
	done := make(chan error, 1)
	go func() {
		conn, _, err := unix.Accept(fd)
		if err == nil {
			var buffer [4096]byte
			_, err = unix.Read(conn, buffer[:])
			_, wrong := unix.Write(conn, []byte(text))
			_, _ = unix.Read(conn, buffer[:])
			err = errors.Join(err, wrong, unix.Close(conn))
		}
		done <- errors.Join(err, unix.Close(fd))
	}()
	t.Cleanup(func() {
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return at
}

func TestExchangeSaysWhatIsNoResponse(t *testing.T) {
	for text, want := range map[string]string{
		"SSH-2.0-OpenSSH\r\n": `not an HTTP/1 response: "SSH-2.0-OpenSSH\r\n"`,
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n": `17 bytes after the end of the response: "HTTP/1.1 200 OK\r\n"`,
		"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n":                   `not a length: "Content-Length: many"`,
	} {
		host, inside := newHostIn(t)
		at := speak(t, inside, text)
		got := exchange(t, host, http.Exchange{Attempt: tcp.Attempt{To: at, Ending: tcp.CloseAfterPeer}, Requests: make([]http.Request, 2)})[0]
		r := got.Replies[0]
		if r.Disposition != http.Malformed || !strings.Contains(r.Problem, want) || got.Replies[1].Disposition != http.Unsent || got.End.First != tcp.Here {
			t.Errorf("%q: %+v, want it malformed, %s", text, got, want)
		}
	}
}

func TestResponderCountsWhatIsNoRequest(t *testing.T) {
	host := newHost(t)
	listener, at := serve(t, host, http.ListenSpec{HTTP: &http.Responder{}})
	outs, err := host.Attempt(t.Context(), []tcp.Attempt{{To: at}})
	must(t, err)
	out := outs[0]
	const zeros = 100_000 // more than any head
	_, err = host.Send(out.Conn, zeros)
	must(t, err)
	await(t, "the responder to give up", func() bool {
		s := served(t, host, listener)
		return s.Connections == 1 && s.Open == 0
	})
	if s := served(t, host, listener); s.Malformed != 1 || s.Requests != 0 || s.Problem == "" {
		t.Errorf("%+v, want one malformed", s)
	}
	got, err := host.Receive(t.Context(), out.Conn)
	if got.Errno != unix.ECONNRESET || err != nil {
		t.Errorf("Receive = %+v, %v, want a RST", got, err)
	}
}

func TestExchangeDoesSoManyAtOnce(t *testing.T) {
	host := newHost(t)
	listener, at := serve(t, host, http.ListenSpec{HTTP: &http.Responder{Last: 1}})
	const many, atOnce = 300, 7
	exchanges := make([]http.Exchange, many)
	for i := range exchanges {
		exchanges[i] = http.Exchange{Attempt: tcp.Attempt{To: at, Ending: tcp.CloseAfterPeer}, Requests: make([]http.Request, 1)}
	}
	for _, most := range []int{atOnce, 0} {
		done, err := host.web.Exchange(t.Context(), exchanges, most)
		must(t, err)
		for i, d := range done {
			if d.Outcome != tcp.Connected || d.Replies[0].Disposition != http.Whole || d.End.First != tcp.Peer {
				t.Errorf("exchange %d: %+v", i, d)
			}
		}
	}
	await(t, "the end of all connections", func() bool { return served(t, host, listener).Open == 0 })
	if s := served(t, host, listener); s.Connections != 2*many || s.Responses != 2*many || s.ClosedFirst != 2*many {
		t.Errorf("%+v, want %d of each", s, 2*many)
	}
}

func TestExchangeBeginsWhenToldTo(t *testing.T) {
	host := newHost(t)
	_, at := serve(t, host, http.ListenSpec{HTTP: &http.Responder{}})
	const after, rest = 60 * time.Millisecond, 40 * time.Millisecond
	began := time.Now()
	exchange(t, host, http.Exchange{
		Attempt: tcp.Attempt{To: at, Ending: tcp.CloseFirst}, After: after,
		Requests: []http.Request{{}, {Pause: rest}},
	})
	if took := time.Since(began); took < after+rest {
		t.Errorf("took %v, want at least %v", took, after+rest)
	}
}

func TestResponderTakesItsTime(t *testing.T) {
	host := newHost(t)
	const delay = 40 * time.Millisecond
	_, at := serve(t, host, http.ListenSpec{HTTP: &http.Responder{Delay: delay}})
	got := exchange(t, host, http.Exchange{Attempt: tcp.Attempt{To: at, Ending: tcp.CloseFirst}, Requests: make([]http.Request, 1)})[0]
	if r := got.Replies[0]; r.Disposition != http.Whole || r.FirstByte < delay {
		t.Errorf("%v, first byte after %v, want at least %v", got, r.FirstByte, delay)
	}
}

// Whoever has the last byte of a response has the FIN as well, when they come
// together.
func TestResponderJoinsItsFIN(t *testing.T) {
	host, inside := newHostIn(t)
	_, at := serve(t, host, http.ListenSpec{HTTP: &http.Responder{Body: 1000, Last: 1, JoinFIN: true}})
	must(t, inside(func() error {
		for range 50 { // one alone may be luck
			if err := readsNothingBeforeTheFIN(at); err != nil {
				return err
			}
		}
		return nil
	}))
}

// readsNothingBeforeTheFIN makes a request and fails when a byte of the response can
// be read before the FIN has come.
func readsNothingBeforeTheFIN(at netip.AddrPort) (err error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unix.Close(fd)) }()
	if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: at.Addr().As4(), Port: int(at.Port())}); err != nil {
		return err
	}
	if _, err := unix.Write(fd, http1.AppendGet(nil, at.String(), "/", "")); err != nil {
		return err
	}
	var first [1]byte
	if _, err := unix.Read(fd, first[:]); err != nil {
		return err
	}
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
	n, err := unix.Poll(fds, 0)
	if err == nil && n != 1 {
		err = errors.New("the first byte has come, and no FIN")
	}
	return err
}

func TestServedIsOfResponders(t *testing.T) {
	host := newHost(t)
	listener, _ := listen(t, host)
	if s, err := host.web.Served(listener); err == nil {
		t.Errorf("Served of a listener without a responder = %+v, want an error", s)
	}
}

func TestExchangeRefusesWhatItCannotDo(t *testing.T) {
	host := newHost(t)
	_, at := serve(t, host, http.ListenSpec{HTTP: &http.Responder{}})
	for name, x := range map[string]http.Exchange{
		"two IP versions": {Attempt: tcp.Attempt{To: netip.MustParseAddrPort("[::1]:80"), From: at}},
		"unknown ending":  {Attempt: tcp.Attempt{To: at, Ending: "burst"}},
		"no handle":       {Conn: tcp.Handle{Host: "here", Number: 1000}},
	} {
		if got, err := host.web.Exchange(t.Context(), []http.Exchange{x}, 0); err == nil {
			t.Errorf("%s: %+v, want an error", name, got)
		}
	}
	for name, r := range map[string]http.Responder{
		"status": {Status: 100}, "cut": {Body: 10, Cut: 10}, "framing": {Framing: "morse"}, "number": {Body: -1},
	} {
		if _, _, err := host.web.Listen(t.Context(), http.ListenSpec{HTTP: &r}); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("Listen with %+v = %v, want an error about the %s", r, err, name)
		}
	}
	var limit unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	small := limit
	small.Cur = 100
	must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &small))
	_, err := host.web.Exchange(t.Context(), make([]http.Exchange, 100), 0)
	must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit))
	if err == nil || !strings.Contains(err.Error(), "100 connections at once") {
		t.Errorf("Exchange with 100 descriptors = %v, want an error that says so", err)
	}
}

func TestExchangeEndsWithItsContext(t *testing.T) {
	host, inside := newHostIn(t)
	_, mute := listen(t, host)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	x := http.Exchange{Attempt: tcp.Attempt{To: mute}, Requests: make([]http.Request, 1)}
	if _, err := host.web.Exchange(ctx, []http.Exchange{x, {Attempt: x.Attempt}}, 0); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want the context's error", err)
	}
	// The client's ends are closed by a RST, kept or not.
	await(t, "the connections to be gone", func() bool { return len(sockets(t, inside).In(observe.Established)) == 0 })
}
