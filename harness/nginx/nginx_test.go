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

	"golang.org/x/sys/unix"

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

// nginx listens on an IPv6 address and on an IPv4 one beside it, and connects over IPv6.
func TestBalancesOverBothVersions(t *testing.T) {
	if _, err := exec.LookPath("nginx"); err != nil {
		t.Skip(nginx.ErrMissing)
	}
	space := nstest.Loopback(t)
	listening, clients := 0, map[string]unix.Sockaddr{
		"client=::1:":       &unix.SockaddrInet6{Addr: netip.IPv6Loopback().As16(), Port: 80},
		"client=127.0.0.1:": &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: 80},
	}
	noError(t, space.Do(func() (err error) {
		if listening, err = unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		return errors.Join(unix.Bind(listening, &unix.SockaddrInet6{Addr: netip.IPv6Loopback().As16(), Port: 8080}), unix.Listen(listening, 5))
	}))
	defer func() { noError(t, unix.Close(listening)) }()
	n, err := nginx.Start(t.Context(), space.Do, nginx.Config{
		Bind: netip.MustParseAddrPort("[::]:80"), Servers: []netip.AddrPort{netip.MustParseAddrPort("[::1]:8080")}, Lines: []string{"listen 0.0.0.0:80;"},
	})
	noError(t, err)
	for says, to := range clients {
		var client int
		noError(t, space.Do(func() (err error) {
			family := unix.AF_INET
			if _, six := to.(*unix.SockaddrInet6); six {
				family = unix.AF_INET6
			}
			if client, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
				return err
			}
			return unix.Connect(client, to)
		}))
		server, _, err := unix.Accept(listening)
		noError(t, err)
		noError(t, errors.Join(unix.Close(server), unix.Close(client)))
		within, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		noError(t, observe.Await(within, "nginx's word on "+says, func() (bool, error) {
			log, err := n.Log()
			return strings.Contains(log, says) && strings.Contains(log, " to=[::1]:8080 "), err
		}))
		cancel()
	}
	noError(t, n.Close())
}
