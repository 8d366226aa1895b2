//go:build linux

package lab_test

import (
	"context"
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"twlab/harness/haproxy"
	"twlab/harness/http"
	"twlab/harness/lab"
	"twlab/harness/nginx"
	"twlab/harness/observe"
	"twlab/harness/tcp"
	"twlab/harness/topo"
)

const balancer = string(lab.Balancer)

// withHTTP builds a lab of a client, HAProxy in mode HTTP, and a server that answers.
func withHTTP(t *testing.T, c haproxy.Config) *lab.Lab {
	t.Helper()
	privileged(t)
	if _, err := exec.LookPath("haproxy"); err != nil {
		t.Skip(haproxy.ErrMissing)
	}
	c.Mode = haproxy.HTTP
	l := build(t, lab.Topology{Clients: 1, Servers: 1, Balancer: lab.BalancerSpec{Program: haproxy.Balancer{Config: c}}})
	if _, err := l.Servers()[0].Serve(t.Context(), http.ListenSpec{ListenSpec: tcp.ListenSpec{At: l.Behind()[0]}}); err != nil {
		t.Fatal(err)
	}
	return l
}

// ask makes a request on the client's connection, or on a new one, which it keeps.
func ask(t *testing.T, l *lab.Lab, conn tcp.Handle) http.Exchanged {
	t.Helper()
	done, err := l.Client(0).Exchange(t.Context(), []http.Exchange{{
		Attempt: tcp.Attempt{To: l.VIP()}, Conn: conn, Requests: []http.Request{{}},
	}}, 1)
	if err != nil {
		t.Fatal(err)
	}
	return done[0]
}

// A request on a connection that was idle when HAProxy was stopped softly. By default
// HAProxy closes it at once. A request that crosses the FIN, which a rule holds back, finds
// an orphan, which resets the connection (tcp_rcv_state_process, TCPAbortOnData); after the
// FIN there is no answer. With option idle-close-on-response the request is answered, and
// the answer announces the end.
func TestRequestAfterSoftStop(t *testing.T) {
	noFIN := lab.Rule{Node: balancer, Table: "filter", Chain: "OUTPUT", Spec: "-p tcp --sport 80 --tcp-flags FIN FIN -j DROP"}
	for name, c := range map[string]struct {
		config  haproxy.Config
		rules   []lab.Rule
		want    http.Reply
		aborted uint64
	}{
		"crosses the FIN":        {haproxy.Config{}, []lab.Rule{noFIN}, http.Reply{Disposition: http.Broken, Errno: unix.ECONNRESET, Length: -1}, 1},
		"comes after the FIN":    {haproxy.Config{}, nil, http.Reply{Disposition: http.Unanswered, Length: -1}, 0},
		"idle-close-on-response": {haproxy.Config{IdleCloseOnResponse: true}, nil, http.Reply{Disposition: http.Whole, Status: 200, Close: true}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			l := withHTTP(t, c.config)
			first := ask(t, l, tcp.Handle{})
			if first.Outcome != tcp.Connected || first.Replies[0].Disposition != http.Whole || first.Conn.IsZero() {
				t.Fatal(first)
			}
			if err := l.AddRules(c.rules...); err != nil {
				t.Fatal(err)
			}
			if err := l.StopProgram(ctx, balancer, topo.SoftStop); err != nil {
				t.Fatal(err)
			}
			if !c.config.IdleCloseOnResponse {
				want := observe.FinWait1
				if len(c.rules) == 0 {
					want = observe.FinWait2
				}
				// HAProxy also resets its idle connection to the server, by SO_LINGER 0, which
				// the same counter counts (__tcp_close).
				await(t, "HAProxy's end of the client's connection, and nothing else", func() (bool, error) {
					all, err := l.Balancer().Sockets(ctx)
					return len(all) == 1 && all[0].Local == l.VIP() && all[0].State == want, err
				})
			}
			before := counters(t, l.Balancer())
			got := ask(t, l, first.Conn).Replies[0]
			got.FirstByte, got.Took, got.Bytes, c.want.Length = 0, 0, 0, got.Length
			if got != c.want {
				t.Errorf("%+v, want %+v", got, c.want)
			}
			if n := counters(t, l.Balancer()).Sub(before)["TcpExt.TCPAbortOnData"]; n != c.aborted && !c.config.IdleCloseOnResponse {
				t.Errorf("TCPAbortOnData +%d, want +%d", n, c.aborted)
			}
			p, err := l.Program()
			if err != nil || p.Failure() != nil {
				t.Errorf("a soft stop is told as a failure: %v, %v", err, p.Failure())
			}
		})
	}
}

func await(t *testing.T, event string, seen func() (bool, error)) {
	t.Helper()
	within, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := observe.Await(within, event, seen); err != nil {
		t.Fatal(err)
	}
}

// The life of a program is told by the name of its node, and what cannot be is an error.
func TestProgramsAreStoppedStartedAndReloadedByNode(t *testing.T) {
	ctx := t.Context()
	l := withHTTP(t, haproxy.Config{})
	next := haproxy.Balancer{Config: haproxy.Config{Mode: haproxy.HTTP, Connections: haproxy.CloseBoth}}
	for _, step := range []func() error{
		func() error { return l.PauseProgram(ctx, balancer) },
		func() error { return l.ContinueProgram(balancer) },
		func() error { return l.ReloadProgram(ctx, balancer, nil) },
		func() error { return l.StopProgram(ctx, balancer, topo.HardStop) },
		func() error { return l.StartProgram(ctx, balancer) },
		func() error { return l.ReloadProgram(ctx, balancer, next) },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	p, err := l.Program()
	if err != nil || !strings.Contains(p.Configuration(), "option httpclose") {
		t.Errorf("%v; configuration:\n%s", err, p.Configuration())
	}
	if reply := ask(t, l, tcp.Handle{}).Replies[0]; reply.Disposition != http.Whole || !reply.Close {
		t.Errorf("%v, want the new configuration's last answer", reply)
	}
	wrong := next
	wrong.FrontendLines = []string{"option tcpkaa"}
	if err := l.ReloadProgram(ctx, balancer, wrong); !errors.Is(err, haproxy.ErrRejected) || !strings.Contains(err.Error(), "balancer: haproxy rejects") {
		t.Errorf("%v, want HAProxy's own words", err)
	}
	for says, err := range map[string]error{
		"cannot be one of nginx":            l.ReloadProgram(ctx, balancer, nginx.Balancer{}),
		"no program balances at client0":    l.StopProgram(ctx, "client0", topo.SoftStop),
		`unknown mode "": want "soft" or "`: l.StopProgram(ctx, balancer, ""),
	} {
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v, want %q", err, says)
		}
	}
}
