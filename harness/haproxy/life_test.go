//go:build linux

package haproxy_test

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"twlab/harness/haproxy"
	"twlab/harness/http"
	"twlab/harness/internal/nstest"
	"twlab/harness/kernel"
	"twlab/harness/ns"
	"twlab/harness/observe"
	"twlab/harness/tcp"
	"twlab/harness/topo"
)

var takeovers = []haproxy.Takeover{haproxy.HandOver, haproxy.Rebind, haproxy.MasterWorker}

// perTakeover runs a test of a HAProxy that balances to one server, for each takeover.
func perTakeover(t *testing.T, test func(t *testing.T, space *ns.Namespace, host *tcp.Host, h *haproxy.HAProxy, c haproxy.Config)) {
	t.Helper()
	for _, takeover := range takeovers {
		t.Run("takeover "+string(takeover), func(t *testing.T) {
			space := nstest.Loopback(t)
			host := tcp.NewHost("here", space.Do)
			t.Cleanup(func() { noError(t, host.CloseAll()) })
			_, _, err := host.Listen(t.Context(), tcp.ListenSpec{At: server})
			noError(t, err)
			c := simple
			c.Takeover = takeover
			test(t, space, host, start(t, space, c), c)
		})
	}
}

func soon(t *testing.T, event string, seen func() (bool, error)) {
	t.Helper()
	within, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	noError(t, observe.Await(within, event, seen))
}

// connect opens a connection through HAProxy, and returns when HAProxy has both of them.
func connect(t *testing.T, host *tcp.Host, space *ns.Namespace) tcp.Handle {
	t.Helper()
	before := atServer(t, space)
	out, err := host.Connect(t.Context(), tcp.Attempt{To: listener})
	noError(t, err)
	if out.Outcome != tcp.Connected {
		t.Fatal(out)
	}
	soon(t, "HAProxy's connection to the server", func() (bool, error) { return atServer(t, space) > before, nil })
	return out.Conn
}

// atServer counts the connections at the server.
func atServer(t *testing.T, space *ns.Namespace) (n int) {
	t.Helper()
	noError(t, space.Do(func() error {
		all, err := observe.ReadSockets()
		n = len(all.In(observe.Established).Between(server, netip.AddrPort{}))
		return err
	}))
	return n
}

// in returns the processes in a state.
func in(t *testing.T, h *haproxy.HAProxy, state topo.ProcessState) []topo.Process {
	t.Helper()
	all, err := h.Processes()
	noError(t, err)
	return slices.DeleteFunc(all, func(p topo.Process) bool { return p.State != state })
}

// only returns the one process in a state.
func only(t *testing.T, h *haproxy.HAProxy, state topo.ProcessState) topo.Process {
	t.Helper()
	found := in(t, h, state)
	if len(found) != 1 {
		all, err := h.Processes()
		t.Fatalf("%d processes are %s, want 1: %+v, %v", len(found), state, all, err)
	}
	return found[0]
}

func refused(t *testing.T, host *tcp.Host) {
	t.Helper()
	out, err := host.Connect(t.Context(), tcp.Attempt{To: listener, Ending: tcp.Abort})
	noError(t, err)
	if out.Outcome != tcp.Refused {
		t.Errorf("nobody listens, and a connect is %v", out)
	}
}

// A soft stop refuses new connections and serves old ones; a hard stop ends them; neither
// is a failure, and a start begins a new process.
func TestStopAndStart(t *testing.T) {
	perTakeover(t, func(t *testing.T, space *ns.Namespace, host *tcp.Host, h *haproxy.HAProxy, _ haproxy.Config) {
		ctx := t.Context()
		old := connect(t, host, space)
		if p := only(t, h, topo.Serving); p.Connections != 2 || p.Stats != nil {
			t.Errorf("%+v, want its connections to the client and to the server, and no statistics yet", p)
		}
		noError(t, h.Stop(ctx, topo.SoftStop))
		refused(t, host)
		if p := only(t, h, topo.Leaving); p.Connections != 2 || p.Stats["frontend.conn_tot"] != 1 {
			t.Errorf("%+v, want its connections, and that it had counted one", p)
		}
		if n := atServer(t, space); n != 1 {
			t.Errorf("%d connections at the server, want the old one", n)
		}
		if err := h.Stop(ctx, topo.SoftStop); !errors.Is(err, haproxy.ErrStopped) {
			t.Errorf("a second soft stop: %v", err)
		}
		noError(t, h.Start(ctx))
		if err := h.Start(ctx); err == nil {
			t.Error("it is started twice")
		}
		connect(t, host, space)
		if leaving, serving := only(t, h, topo.Leaving), only(t, h, topo.Serving); leaving.PID == serving.PID || serving.Connections != 2 {
			t.Errorf("leaving %+v, serving %+v; want two processes", leaving, serving)
		}
		noError(t, host.End(ctx, old, tcp.Abort))
		soon(t, "the end of the old process", func() (bool, error) { return len(in(t, h, topo.Leaving)) == 0, nil })
		noError(t, h.Failure())

		noError(t, h.Stop(ctx, topo.HardStop))
		refused(t, host)
		if all := in(t, h, topo.Ended); len(all) < 2 || all[0].Stats["frontend.conn_tot"] != 1 {
			t.Errorf("ended: %+v, want both, with what they counted", all)
		}
		if last, err := h.Stats(ctx); err != nil || last["frontend.conn_tot"] != 1 {
			t.Errorf("statistics after the stop: %v, %v", last["frontend.conn_tot"], err)
		}
		if err := h.Reload(ctx, simple); !errors.Is(err, haproxy.ErrStopped) {
			t.Errorf("reload of what was stopped: %v", err)
		}
		noError(t, errors.Join(h.Failure(), h.Close()))
	})
}

// hard-stop-after ends a process that was told to stop, with its connections.
func TestHardStopAfter(t *testing.T) {
	space := nstest.Loopback(t)
	host := tcp.NewHost("here", space.Do)
	t.Cleanup(func() { noError(t, host.CloseAll()) })
	_, _, err := host.Listen(t.Context(), tcp.ListenSpec{At: server})
	noError(t, err)
	c := simple
	c.Timeouts.HardStop = time.Second
	h := start(t, space, c)
	conn := connect(t, host, space)
	noError(t, h.Stop(t.Context(), topo.SoftStop))
	only(t, h, topo.Leaving)
	received, err := host.Receive(t.Context(), conn)
	noError(t, err)
	soon(t, "the end of the process", func() (bool, error) { return len(in(t, h, topo.Leaving)) == 0, nil })
	t.Logf("the client receives %+v", received)
	noError(t, errors.Join(h.Failure(), h.Close()))
}

// A reload with another configuration: the old process serves its connections to the end.
func TestReload(t *testing.T) {
	perTakeover(t, func(t *testing.T, space *ns.Namespace, host *tcp.Host, h *haproxy.HAProxy, c haproxy.Config) {
		ctx := t.Context()
		old := connect(t, host, space)
		next := c
		next.Timeouts.Client = 77 * time.Second
		noError(t, h.Reload(ctx, next))
		if !strings.Contains(h.Configuration(), "timeout client 77000ms") {
			t.Error(h.Configuration())
		}
		leaving, serving := only(t, h, topo.Leaving), only(t, h, topo.Serving)
		if leaving.Connections != 2 || leaving.Stats["frontend.conn_tot"] != 1 || serving.Connections != 0 || serving.Stats != nil {
			t.Errorf("leaving %+v, serving %+v", leaving, serving)
		}
		if now := stats(t, h); now["frontend.conn_tot"] != 0 {
			t.Errorf("the new process has counted %d connections", now["frontend.conn_tot"])
		}
		connect(t, host, space)
		if leaving, serving = only(t, h, topo.Leaving), only(t, h, topo.Serving); leaving.Connections != 2 || serving.Connections != 2 {
			t.Errorf("leaving %+v, serving %+v; want each to have its own connection", leaving, serving)
		}
		noError(t, host.End(ctx, old, tcp.Abort))
		soon(t, "the end of the old process", func() (bool, error) { return len(in(t, h, topo.Leaving)) == 0, nil })
		noError(t, errors.Join(h.Failure(), h.Close()))
	})
}

// What HAProxy does not accept, or cannot do, changes nothing.
func TestReloadThatFails(t *testing.T) {
	perTakeover(t, func(t *testing.T, space *ns.Namespace, host *tcp.Host, h *haproxy.HAProxy, c haproxy.Config) {
		was := only(t, h, topo.Serving)
		wrong, elsewhere, other := c, c, c
		wrong.BackendLines = []string{"balance fairly"}
		elsewhere.Bind = netip.MustParseAddrPort("192.0.2.1:80")
		other.Takeover = takeovers[(slices.Index(takeovers, c.Takeover)+1)%len(takeovers)]
		for says, next := range map[string]haproxy.Config{
			"balance only supports":       wrong,
			"Cannot assign requested add": elsewhere,
			"stop it and start another":   other,
		} {
			if err := h.Reload(t.Context(), next); err == nil || !strings.Contains(err.Error(), says) {
				t.Errorf("%v, want %q", err, says)
			}
			connect(t, host, space)
			if p := only(t, h, topo.Serving); p.PID != was.PID || p.Stats != nil || strings.Contains(h.Configuration(), "192.0.2.1") {
				t.Errorf("%+v serves %s, want %+v as before", p, h.Configuration(), was)
			}
		}
		err := h.Reload(t.Context(), c)
		switch p := only(t, h, topo.Serving); {
		case c.Takeover == haproxy.MasterWorker:
			if err == nil || !strings.Contains(err.Error(), "cannot use file descriptor") {
				t.Errorf("%v, want that the master has lost its statistics socket", err)
			}
		case err != nil || p.PID == was.PID:
			t.Errorf("it cannot be reloaded any more: %v", err)
		}
		noError(t, errors.Join(h.Failure(), h.Close()))
	})
}

// The end of a master takes its workers with it, also one that stands still.
func TestWorkerEndsWithItsMaster(t *testing.T) {
	space, _ := loopback(t)
	h := start(t, space, haproxy.Config{Servers: simple.Servers, Takeover: haproxy.MasterWorker})
	worker := only(t, h, topo.Serving)
	if master := only(t, h, topo.Supervising); master.PID != h.PID() || worker.PID == h.PID() {
		t.Errorf("master %+v, worker %+v", master, worker)
	}
	noError(t, h.Pause(t.Context()))
	if p := only(t, h, topo.Paused); p.PID != worker.PID {
		t.Errorf("%+v, want the worker", p)
	}
	noError(t, unix.Kill(h.PID(), unix.SIGKILL))
	<-h.Ended()
	if err := unix.Kill(worker.PID, 0); !errors.Is(err, unix.ESRCH) {
		t.Errorf("kill 0 says %v: the worker is still there", err)
	}
	if err := h.Close(); !errors.Is(err, topo.ErrEnded) {
		t.Errorf("close: %v, want ErrEnded: nobody asked for it", err)
	}
}

// With its sockets handed over, no connect fails during 20 reloads.
func TestReloadsWithoutLoss(t *testing.T) {
	for _, takeover := range []haproxy.Takeover{haproxy.HandOver, haproxy.MasterWorker} {
		t.Run("takeover "+string(takeover), func(t *testing.T) {
			space, host := loopback(t)
			_, _, err := host.Listen(t.Context(), http.ListenSpec{ListenSpec: tcp.ListenSpec{At: server}})
			noError(t, err)
			c := haproxy.Config{Servers: simple.Servers, Takeover: takeover}
			h := start(t, space, c)
			ctx, stop := context.WithCancel(t.Context())
			var (
				client sync.WaitGroup
				made   int
				lost   []http.Exchanged
				failed error
			)
			client.Go(func() {
				for ctx.Err() == nil {
					var done []http.Exchanged
					done, failed = host.Exchange(t.Context(), []http.Exchange{{
						Attempt: tcp.Attempt{To: listener, Ending: tcp.CloseFirst}, Requests: []http.Request{{}},
					}}, 1)
					if failed != nil {
						return
					}
					made++
					if done[0].Outcome != tcp.Connected || done[0].Replies[0].Disposition != http.Whole {
						lost = append(lost, done[0])
					}
				}
			})
			for range 20 {
				noError(t, h.Reload(t.Context(), c))
			}
			stop()
			client.Wait()
			noError(t, failed)
			if made < 20 || len(lost) > 0 {
				t.Errorf("lost %d of %d: %v", len(lost), made, lost)
			}
			t.Logf("%d connections, none lost", made)
			soon(t, "the end of the old processes", func() (bool, error) { return len(in(t, h, topo.Leaving)) == 0, nil })
			noError(t, errors.Join(h.Failure(), h.Close()))
		})
	}
}

// What waits in the accept queue of a process that stops: it is reset with the socket,
// unless the socket lives on, or the kernel moves it to the new one (tcp_migrate_req,
// inet_csk_listen_stop). The old process has as many connections as it may, so all others
// do wait there.
func TestAcceptQueueOfTheOldProcess(t *testing.T) {
	const waiting = 10
	for name, c := range map[string]struct {
		takeover haproxy.Takeover
		migrate  string
		lost     bool
	}{
		"handed over":               {haproxy.HandOver, "0", false},
		"handed over by the master": {haproxy.MasterWorker, "0", false},
		"of its own":                {haproxy.Rebind, "0", true},
		"of its own, migrated":      {haproxy.Rebind, "1", false},
	} {
		t.Run(name, func(t *testing.T) {
			space := nstest.Loopback(t)
			err := space.Do(func() error { return kernel.WriteSysctl("net.ipv4.tcp_migrate_req", c.migrate) })
			if errors.Is(err, kernel.ErrSysctlNotYet) {
				t.Skip(err)
			}
			noError(t, err)
			host := tcp.NewHost("here", space.Do)
			t.Cleanup(func() { noError(t, host.CloseAll()) })
			_, _, err = host.Listen(t.Context(), tcp.ListenSpec{At: server})
			noError(t, err)
			next := haproxy.Config{Servers: simple.Servers, Takeover: c.takeover}
			full := next
			full.FrontendLines = []string{"maxconn 1", "backlog 100"} // which is maxconn otherwise
			h := start(t, space, full)
			connect(t, host, space)
			outs, err := host.Attempt(t.Context(), slices.Repeat([]tcp.Attempt{{To: listener}}, waiting))
			noError(t, err)
			if n := atServer(t, space); n != 1 {
				t.Fatalf("%d connections are at the server: they do not wait", n)
			}
			noError(t, h.Reload(t.Context(), next))
			if !c.lost {
				soon(t, "every connection to be at the server", func() (bool, error) { return atServer(t, space) == 1+waiting, nil })
				return
			}
			for _, out := range outs {
				if got, err := host.Receive(t.Context(), out.Conn); err != nil || got != (tcp.Received{Errno: unix.ECONNRESET}) {
					t.Errorf("%+v, %v; want ECONNRESET", got, err)
				}
			}
			if n := atServer(t, space); n != 1 {
				t.Errorf("%d connections are at the server, want the one that was there", n)
			}
		})
	}
}

// A process that stands still keeps its half of the port: it does not stop to listen before
// it runs again, and the kernel goes on to put connections into its queue.
func TestReloadWaitsForAProcessThatStandsStill(t *testing.T) {
	space, _ := loopback(t)
	c := haproxy.Config{Servers: simple.Servers, Takeover: haproxy.Rebind}
	h := start(t, space, c)
	noError(t, h.Pause(t.Context()))
	within, cancel := context.WithCancel(t.Context())
	defer cancel()
	old, reloaded := h.PID(), make(chan error, 1)
	go func() { reloaded <- h.Reload(within, c) }()
	soon(t, "a new process to serve", func() (bool, error) { return h.PID() != old, nil })
	cancel() // it waits for the old process, which cannot go
	if err := <-reloaded; !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want the end of the context", err)
	}
	if paused, serving := in(t, h, topo.Paused), in(t, h, topo.Serving); len(paused) != 1 || len(serving) != 1 {
		t.Errorf("paused %+v, serving %+v", paused, serving)
	}
	noError(t, h.Continue())
	soon(t, "the end of the old process", func() (bool, error) { return len(in(t, h, topo.Ended)) == 1, nil })
	noError(t, h.Failure())
}
