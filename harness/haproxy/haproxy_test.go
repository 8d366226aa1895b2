//go:build linux

package haproxy_test

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
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

// loopback is a namespace with a loopback device, and its host.
func loopback(t *testing.T) (*ns.Namespace, *http.Host) {
	t.Helper()
	space := nstest.Loopback(t)
	host := tcp.NewHost("here", space.Do)
	t.Cleanup(func() { noError(t, host.CloseAll()) })
	return space, http.NewHost(host)
}

func noError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var (
	listener = netip.MustParseAddrPort("127.0.0.1:80")
	server   = netip.MustParseAddrPort("127.0.0.1:8080")
	simple   = haproxy.Config{Servers: []netip.AddrPort{server}}
)

// start starts a HAProxy that ends with the test.
func start(t *testing.T, space *ns.Namespace, c haproxy.Config) *haproxy.HAProxy {
	t.Helper()
	if _, err := exec.LookPath("haproxy"); err != nil {
		t.Skip("needs haproxy: run hack/bootstrap")
	}
	h, err := haproxy.Start(t.Context(), space.Do, c)
	noError(t, err)
	t.Cleanup(func() { _ = h.Close() }) // some tests kill it, and see what that says
	return h
}

func stats(t *testing.T, h *haproxy.HAProxy) kernel.Counters {
	t.Helper()
	all, err := h.Stats(t.Context())
	noError(t, err)
	return all
}

// exchange makes an HTTP exchange, closes the client's connection first, and awaits
// that HAProxy has told of it, as it does when both connections are over. The answer
// proves that it has both: of a client that closes before it has the server's, it
// says that the client gave up (CC, 14 of 300 that closed as soon as they had
// connected, on a busy machine).
func exchange(t *testing.T, host *http.Host, h *haproxy.HAProxy) {
	t.Helper()
	before := logged(t, h)
	done, err := host.Exchange(t.Context(), []http.Exchange{{
		Attempt: tcp.Attempt{To: listener, Ending: tcp.CloseFirst}, Requests: []http.Request{{}},
	}}, 1)
	noError(t, err)
	if done[0].Outcome != tcp.Connected || done[0].Replies[0].Disposition != http.Whole {
		t.Fatal(done[0])
	}
	within, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	noError(t, observe.Await(within, "HAProxy's word on the connection", func() (bool, error) {
		return logged(t, h) > before, nil
	}))
}

// logged is how many connections HAProxy has told the end of.
func logged(t *testing.T, h *haproxy.HAProxy) int {
	t.Helper()
	log, err := h.Log()
	noError(t, err)
	return strings.Count(log, "client=")
}

func TestCountsAndLogsWhatItDid(t *testing.T) {
	space, host := loopback(t)
	_, _, err := host.Listen(t.Context(), http.ListenSpec{ListenSpec: tcp.ListenSpec{At: server}})
	noError(t, err)
	h := start(t, space, haproxy.Config{
		Servers: []netip.AddrPort{server}, Source: haproxy.Source{Addr: netip.MustParseAddr("127.0.0.7"), First: 5000, Last: 5001},
	})
	before := stats(t, h)
	exchange(t, host, h)
	exchange(t, host, h)
	moved := stats(t, h).Sub(before)
	for name, want := range map[string]uint64{
		"frontend.conn_tot": 2, "frontend.stot": 2, "backend.connect": 2, "server0.stot": 2, "server0.econ": 0, "server0.wretr": 0,
	} {
		if got, counted := moved[name]; !counted || got != want {
			t.Errorf("%s moved by %d (counted: %v), want %d", name, got, counted, want)
		}
	}
	if n, counted := moved["frontend.econ"]; counted {
		t.Errorf("a frontend has %d failed connects, and HAProxy does not count those there", n)
	}
	log, err := h.Log()
	noError(t, err)
	for _, want := range []string{"server=server0 from=127.0.0.7:5000 to=127.0.0.1:8080 ", "from=127.0.0.7:5001 "} {
		if !strings.Contains(log, want) {
			t.Errorf("log %q does not say %q", log, want)
		}
	}
	if n := strings.Count(log, " end=-- "); n != 2 {
		t.Errorf("log %q: %d connections ended well, want 2", log, n)
	}
}

func TestSaysWhatIsWrong(t *testing.T) {
	space, host := loopback(t)
	_, _, err := host.Listen(t.Context(), http.ListenSpec{ListenSpec: tcp.ListenSpec{At: netip.MustParseAddrPort("127.0.0.1:81")}})
	noError(t, err)
	for name, c := range map[string]struct {
		program string // instead of HAProxy; "" is the real one, "none" is none
		change  func(*haproxy.Config)
		is      error
		says    []string
	}{
		"not installed":   {"none", func(*haproxy.Config) {}, haproxy.ErrMissing, []string{"run hack/bootstrap"}},
		"rejected":        {"", func(c *haproxy.Config) { c.BackendLines = []string{"option nolinge"} }, haproxy.ErrRejected, []string{"unknown option 'nolinge'"}},
		"rejected number": {"", func(c *haproxy.Config) { c.BackendLines = []string{"balance fairly"} }, haproxy.ErrRejected, []string{"balance only supports"}},
		"port in use":     {"", func(c *haproxy.Config) { c.Bind = netip.MustParseAddrPort("127.0.0.1:81") }, topo.ErrEnded, []string{"cannot bind socket (Address already in use)", "127.0.0.1:81"}},
		"no such address": {"", func(c *haproxy.Config) { c.Bind = netip.MustParseAddrPort("192.0.2.1:80") }, topo.ErrEnded, []string{"cannot bind socket (Cannot assign requested address)"}},
		"too old": {
			"HA-Proxy version 1.8.19-1+deb10u3 2020/08/01", func(*haproxy.Config) {}, haproxy.ErrTooOld, []string{"want HAProxy 2.0, and this is 1.8"},
		},
		"old enough": {
			"HAProxy version 2.4.22 2023/02/14", func(*haproxy.Config) {}, haproxy.ErrRejected, []string{"no idea"},
		},
		"unknown mode":      {"", func(c *haproxy.Config) { c.Mode = "udp" }, nil, []string{`unknown mode "udp": want "tcp" or "http"`}},
		"no servers":        {"", func(c *haproxy.Config) { c.Servers = nil }, nil, []string{"no servers to balance over"}},
		"http in mode tcp":  {"", func(c *haproxy.Config) { c.Connections = haproxy.CloseBoth }, nil, []string{`option httpclose needs mode "http"`}},
		"ports anywhere":    {"", func(c *haproxy.Config) { c.Source = haproxy.Source{First: 8, Last: 9} }, nil, []string{"source ports 8-9", "without an address"}},
		"ports reversed":    {"", func(c *haproxy.Config) { c.Source = haproxy.Source{First: 9, Last: 8} }, nil, []string{"source ports 9-8"}},
		"negative timeout":  {"", func(c *haproxy.Config) { c.Timeouts.Client = -time.Second }, nil, []string{"a timeout of -1s"}},
		"two at the same t": {"", func(c *haproxy.Config) { c.Mode = "udp"; c.Servers = nil }, nil, []string{"unknown mode", "no servers"}},
	} {
		t.Run(name, func(t *testing.T) {
			if c.program == "" {
				if _, err := exec.LookPath("haproxy"); err != nil {
					t.Skip("needs haproxy: run hack/bootstrap")
				}
			} else {
				t.Setenv("PATH", pretend(t, c.program))
			}
			bad := simple
			c.change(&bad)
			h, err := haproxy.Start(t.Context(), space.Do, bad)
			if err == nil {
				t.Fatal(errors.Join(errors.New("it starts"), h.Close()))
			}
			if c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("%v\nis not %v", err, c.is)
			}
			for _, says := range c.says {
				if !strings.Contains(err.Error(), says) {
					t.Errorf("%v\ndoes not say %q", err, says)
				}
			}
		})
	}
}

// pretend makes a directory with a HAProxy of another version, which rejects every
// configuration, or with none.
func pretend(t *testing.T, version string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if version != "none" {
		script := "#!/bin/sh\ncase $1 in -v) echo '" + version + "';; *) echo 'no idea' >&2; exit 1;; esac\n"
		noError(t, os.WriteFile(filepath.Join(dir, "haproxy"), []byte(script), 0o755))
	}
	return dir
}

// A HAProxy that dies says so at the next question and when it is closed, with its
// last words, and only once.
func TestDeathIsToldWithItsLastWords(t *testing.T) {
	space, host := loopback(t)
	_, _, err := host.Listen(t.Context(), http.ListenSpec{ListenSpec: tcp.ListenSpec{At: server}})
	noError(t, err)
	h := start(t, space, simple)
	exchange(t, host, h)
	noError(t, unix.Kill(h.PID(), unix.SIGSEGV))
	within, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	select {
	case <-h.Ended():
	case <-within.Done():
		t.Fatal("it lives on")
	}
	_, asked := h.Stats(t.Context())
	for name, err := range map[string]error{"Stats": asked, "Failure": h.Failure(), "Close": h.Close()} {
		for _, want := range []string{"signal: segmentation fault", "the end of its log:\n\tclient=127.0.0.1:"} {
			if !errors.Is(err, topo.ErrEnded) || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v\nwant ErrEnded and %q", name, err, want)
			}
		}
	}
	noError(t, h.Close())
}

// A question ends with its context, also when HAProxy does not answer.
func TestAQuestionEndsWithItsContext(t *testing.T) {
	space, _ := loopback(t)
	h := start(t, space, simple)
	noError(t, unix.Kill(h.PID(), unix.SIGSTOP))
	within, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := h.Stats(within); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, want the end of the context", err)
	}
	noError(t, h.Close())
	if err := unix.Kill(h.PID(), 0); !errors.Is(err, unix.ESRCH) {
		t.Errorf("kill 0 says %v: it is still there", err)
	}
}
