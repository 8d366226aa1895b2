//go:build linux

package nginx_test

import (
	"context"
	"errors"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"twlab/harness/internal/nstest"
	"twlab/harness/nginx"
	"twlab/harness/observe"
	"twlab/harness/tcp"
	"twlab/harness/topo"
)

// in returns the processes in a state.
func in(t *testing.T, n *nginx.Nginx, state topo.ProcessState) []topo.Process {
	t.Helper()
	all, err := n.Processes()
	noError(t, err)
	return slices.DeleteFunc(all, func(p topo.Process) bool { return p.State != state })
}

func soon(t *testing.T, event string, seen func() (bool, error)) {
	t.Helper()
	within, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	noError(t, observe.Await(within, event, seen))
}

// nginx is reloaded, stopped softly, started again and stopped hard; old connections live
// on until the hard stop, and nothing of that is a failure.
func TestLife(t *testing.T) {
	if _, err := exec.LookPath("nginx"); err != nil {
		t.Skip(nginx.ErrMissing)
	}
	ctx := t.Context()
	space := nstest.Loopback(t)
	host := tcp.NewHost("here", space.Do)
	t.Cleanup(func() { noError(t, host.CloseAll()) })
	_, _, err := host.Listen(ctx, tcp.ListenSpec{At: server})
	noError(t, err)
	c := nginx.Config{Bind: listener, Servers: []netip.AddrPort{server}}
	n, err := nginx.Start(ctx, space.Do, c)
	noError(t, err)
	t.Cleanup(func() { noError(t, n.Close()) })
	connect := func() {
		out, err := host.Connect(ctx, tcp.Attempt{To: listener})
		noError(t, err)
		if out.Outcome != tcp.Connected {
			t.Fatal(out)
		}
		soon(t, "nginx to have the connection and one to the server", func() (bool, error) {
			serving := in(t, n, topo.Serving)
			return len(serving) == 1 && serving[0].Connections == 2, nil
		})
	}
	connect()
	first := in(t, n, topo.Serving)[0]

	wrong := c
	wrong.Lines = []string{"proxy_pas x;"}
	if err := n.Reload(ctx, wrong); !errors.Is(err, nginx.ErrRejected) || !strings.Contains(err.Error(), `unknown directive "proxy_pas"`) {
		t.Errorf("%v, want nginx's own words", err)
	}
	if now := in(t, n, topo.Serving); len(now) != 1 || now[0].PID != first.PID {
		t.Errorf("%+v serve, want %+v", now, first)
	}

	next := c
	next.Lines = []string{"proxy_timeout 77s;"}
	noError(t, n.Reload(ctx, next))
	if old := in(t, n, topo.Leaving); len(old) != 1 || old[0].PID != first.PID || old[0].Connections != 2 || !strings.Contains(n.Configuration(), "77s") {
		t.Errorf("%+v leave, want %+v with its connections; configuration:\n%s", old, first, n.Configuration())
	}
	connect()

	noError(t, n.Stop(ctx, topo.SoftStop))
	refused, err := host.Connect(ctx, tcp.Attempt{To: listener})
	noError(t, err)
	if old := in(t, n, topo.Leaving); len(old) != 2 || refused.Outcome != tcp.Refused {
		t.Errorf("%+v leave, and a connect is %v; want two, and Refused", old, refused)
	}
	if err := n.Stop(ctx, topo.SoftStop); !errors.Is(err, nginx.ErrStopped) {
		t.Errorf("a second soft stop: %v", err)
	}
	noError(t, n.Start(ctx))
	connect()
	noError(t, n.Stop(ctx, topo.HardStop))
	if ended := in(t, n, topo.Ended); len(ended) != 2 {
		t.Errorf("%+v have ended, want both masters", ended)
	}
	noError(t, n.Failure())
}

// The end of the master takes its workers with it, and is told.
func TestWorkerEndsWithItsMaster(t *testing.T) {
	if _, err := exec.LookPath("nginx"); err != nil {
		t.Skip(nginx.ErrMissing)
	}
	space := nstest.Loopback(t)
	n, err := nginx.Start(t.Context(), space.Do, nginx.Config{Bind: listener, Servers: []netip.AddrPort{server}})
	noError(t, err)
	worker, master := in(t, n, topo.Serving)[0], in(t, n, topo.Supervising)[0]
	noError(t, unix.Kill(master.PID, unix.SIGKILL))
	soon(t, "the end of nginx", func() (bool, error) { return n.Failure() != nil, nil })
	if err := unix.Kill(worker.PID, 0); !errors.Is(err, unix.ESRCH) {
		t.Errorf("kill 0 says %v: the worker is still there", err)
	}
	if err := n.Close(); !errors.Is(err, topo.ErrEnded) {
		t.Errorf("close: %v, want ErrEnded", err)
	}
}
