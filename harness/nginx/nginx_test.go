//go:build linux

package nginx_test

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

	"twlab/harness/http"
	"twlab/harness/internal/nstest"
	"twlab/harness/nginx"
	"twlab/harness/ns"
	"twlab/harness/observe"
	"twlab/harness/tcp"
	"twlab/harness/topo"
)

var (
	listener = netip.MustParseAddrPort("127.0.0.1:80")
	server   = netip.MustParseAddrPort("127.0.0.1:8080")
)

func noError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func loopback(t *testing.T) (*ns.Namespace, *http.Host) {
	t.Helper()
	space := nstest.Loopback(t)
	host := tcp.NewHost("here", space.Do)
	t.Cleanup(func() { noError(t, host.CloseAll()) })
	return space, http.NewHost(host)
}

func TestBalancesAndLogs(t *testing.T) {
	if _, err := exec.LookPath("nginx"); err != nil {
		t.Skip(nginx.ErrMissing)
	}
	space, host := loopback(t)
	_, _, err := host.Listen(t.Context(), http.ListenSpec{ListenSpec: tcp.ListenSpec{At: server}})
	noError(t, err)
	n, err := nginx.Start(t.Context(), space.Do, nginx.Config{Bind: listener, Servers: []netip.AddrPort{server}})
	noError(t, err)
	// An exchange proves that nginx has both of the connections.
	done, err := host.Exchange(t.Context(), []http.Exchange{{
		Attempt: tcp.Attempt{To: listener, Ending: tcp.CloseFirst}, Requests: []http.Request{{}},
	}}, 1)
	noError(t, err)
	if done[0].Outcome != tcp.Connected || done[0].Replies[0].Disposition != http.Whole {
		t.Error(done[0])
	}
	var log string
	within, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	noError(t, observe.Await(within, "nginx's word on the connection", func() (bool, error) {
		log, err = n.Log()
		return strings.Contains(log, "client="), err
	}))
	if want := "to=127.0.0.1:8080 "; !strings.Contains(log, want) || !strings.Contains(log, "end=200") {
		t.Errorf("log %q does not say %q and end=200", log, want)
	}
	if !strings.Contains(n.Configuration(), "listen 127.0.0.1:80;") {
		t.Errorf("configuration:\n%s", n.Configuration())
	}
	noError(t, n.Close())
}

func TestSaysWhatIsWrong(t *testing.T) {
	space, _ := loopback(t)
	start := func(lines ...string) error {
		n, err := nginx.Start(t.Context(), space.Do, nginx.Config{Bind: listener, Servers: []netip.AddrPort{server}, Lines: lines})
		if err == nil {
			return errors.Join(errors.New("it starts"), n.Close())
		}
		return err
	}
	if _, err := exec.LookPath("nginx"); err == nil {
		if err := start("proxy_pas x;"); !errors.Is(err, topo.ErrEnded) || !strings.Contains(err.Error(), `unknown directive "proxy_pas"`) {
			t.Errorf("%v, want nginx's own words", err)
		}
	}
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	if err := start(); !errors.Is(err, nginx.ErrMissing) {
		t.Errorf("%v, want ErrMissing", err)
	}
	noError(t, os.WriteFile(filepath.Join(dir, "nginx"), []byte("#!/bin/sh\necho configure arguments: --with-http_v2_module\n"), 0o755))
	if err := start(); !errors.Is(err, nginx.ErrMissing) {
		t.Errorf("without the module: %v, want ErrMissing", err)
	}
}
