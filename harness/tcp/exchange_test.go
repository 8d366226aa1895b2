package tcp_test

import (
	"testing"

	"twlab/harness/observe"
	"twlab/harness/tcp"
)

// exchange makes exchanges with all at once, and fails the test on an error.
func exchange(t *testing.T, host *tcp.Host, exchanges ...tcp.Exchange) []tcp.Exchanged {
	t.Helper()
	done, err := host.Exchange(t.Context(), exchanges, 0)
	if err != nil {
		t.Fatal(err)
	}
	return done
}

func served(t *testing.T, host *tcp.Host, door tcp.Handle) tcp.Served {
	t.Helper()
	s, err := host.Served(door)
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
	closing, staying := []tcp.Request{{Connection: "close"}}, []tcp.Request{{}}
	for _, c := range []struct {
		name     string
		server   tcp.ListenSpec
		ending   tcp.Ending
		requests []tcp.Request
		first    tcp.Side
		says     bool // the response says that it is the last
		waits    string
	}{
		{"client first, on an open connection", tcp.ListenSpec{HTTP: &tcp.Responder{}}, tcp.CloseFirst, staying, tcp.Here, false, "client"},
		{"client first, the server overhears close", tcp.ListenSpec{HTTP: &tcp.Responder{IgnoreClose: true}}, tcp.CloseFirst, closing, tcp.Here, false, "client"},
		{"server first, as the client says", tcp.ListenSpec{HTTP: &tcp.Responder{}}, tcp.CloseAfterPeer, closing, tcp.Peer, true, "server"},
		{"server first, and says so", tcp.ListenSpec{HTTP: &tcp.Responder{Last: 1}}, tcp.CloseAfterPeer, staying, tcp.Peer, true, "server"},
		{"server first, and waits", tcp.ListenSpec{HTTP: &tcp.Responder{Last: 1}, Ending: tcp.CloseFirst}, tcp.CloseAfterPeer, staying, tcp.Peer, true, "server"},
		{"server first, without a word", tcp.ListenSpec{HTTP: &tcp.Responder{Last: 1, Silent: true}}, tcp.CloseAfterPeer, staying, tcp.Peer, false, "server"},
		{"client resets", tcp.ListenSpec{HTTP: &tcp.Responder{}}, tcp.Abort, staying, tcp.Here, false, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			host, inside := newHostIn(t)
			door, at := listen(t, host, c.server)
			got := exchange(t, host, tcp.Exchange{Attempt: tcp.Attempt{To: at, Ending: c.ending}, Requests: c.requests})[0]
			t.Logf("%+v", got)
			if got.Verdict != tcp.Connected || got.Conn != 0 || got.End != (tcp.End{First: c.first}) {
				t.Errorf("%v, %+v, want it Connected and closed, first by %s", got.Outcome, got.End, c.first)
			}
			if r := got.Replies[0]; r.Fate != tcp.Whole || r.Status != 200 || r.Close != c.says || r.FirstByte <= 0 || r.Took < r.FirstByte {
				t.Errorf("%+v, want a whole response, Close %v", r, c.says)
			}
			await(t, "the end of the connection", func() bool { return served(t, host, door).Open == 0 })
			t.Logf("%+v", served(t, host, door))
			sockets := sockets(t, inside).In(observe.TimeWait)
			client, server := sockets.Between(got.Local, at), sockets.Between(at, got.Local)
			if len(client) != 0 != (c.waits == "client") || len(server) != 0 != (c.waits == "server") {
				t.Errorf("want TIME_WAIT at %q: %v", c.waits, sockets)
			}
		})
	}
}
