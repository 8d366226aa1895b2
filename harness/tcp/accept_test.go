//go:build linux

package tcp_test

import (
	"strings"
	"testing"
	"time"

	"twlab/harness/observe"
	"twlab/harness/tcp"
)

// A backlog of n has room for n+1 connections (sk_acceptq_is_full).
func TestBacklog(t *testing.T) {
	for _, backlog := range []int{0, 1, 2} {
		host := newHost(t)
		_, at := listen(t, host, tcp.ListenSpec{Backlog: new(backlog), NeverAccepts: true})
		many := make([]tcp.Attempt, 5)
		for i := range many {
			many[i] = tcp.Attempt{To: at, Budget: 100 * time.Millisecond}
		}
		connected := 0
		for _, a := range many {
			if attempt(t, host, a)[0].Outcome == tcp.Connected {
				connected++
			}
		}
		if connected != backlog+1 {
			t.Errorf("backlog %d: %d connected, want %d", backlog, connected, backlog+1)
		}
	}
}

func TestListenerThatAcceptsLater(t *testing.T) {
	host, inside := newHostIn(t)
	const later = 300 * time.Millisecond
	began := time.Now()
	listener, at := listen(t, host, tcp.ListenSpec{AcceptAfter: later})
	out := attempt(t, host, tcp.Attempt{To: at})[0]
	waiting := sockets(t, inside).In(observe.Listen)[0].RecvQueue
	if early := time.Since(began) < later; early && waiting != 1 {
		t.Errorf("%d connections wait in the accept queue, want 1", waiting)
	}
	_, err := host.Accept(t.Context(), listener, out.Local)
	must(t, err)
	if took := time.Since(began); took < later {
		t.Errorf("accepted after %v, want not before %v", took, later)
	}
}

func TestListenerThatAcceptsSome(t *testing.T) {
	for accepts := range 3 {
		host, inside := newHostIn(t)
		spec := tcp.ListenSpec{Accepts: accepts, NeverAccepts: accepts == 0}
		listener, at := listen(t, host, spec)
		outs := attempt(t, host, tcp.Attempt{To: at}, tcp.Attempt{To: at}, tcp.Attempt{To: at})
		for i, out := range outs {
			_, err := host.Accept(t.Context(), listener, out.Local)
			if accepted := err == nil; accepted != (i < accepts) || !accepted && !strings.Contains(err.Error(), "accepts no more") {
				t.Errorf("accepts %d: connection %d: %v", accepts, i, err)
			}
		}
		if waiting := sockets(t, inside).In(observe.Listen)[0].RecvQueue; int(waiting) != len(outs)-accepts {
			t.Errorf("accepts %d: %d connections wait, want %d", accepts, waiting, len(outs)-accepts)
		}
	}
}
