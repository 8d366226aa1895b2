//go:build linux

package http_test

import (
	"errors"
	"net/netip"
	"reflect"
	"sync"
	"testing"
	"time"

	"twlab/harness/internal/callerstest"

	"twlab/harness/http"
	"twlab/harness/internal/nstest"
	"twlab/harness/tcp"
)

var loopback = netip.MustParseAddr("127.0.0.1")

// host is both hosts of a machine.
type host struct {
	*tcp.Host
	web *http.Host
}

// newHost makes a host in a namespace of its own that has only a loopback.
func newHost(t *testing.T) *host {
	t.Helper()
	h, _ := newHostIn(t)
	return h
}

// newHostIn is newHost, and also returns the way into the namespace.
func newHostIn(t *testing.T) (*host, func(func() error) error) {
	t.Helper()
	space := nstest.Loopback(t)
	h := &host{Host: tcp.NewHost("here", space.Do)}
	h.web = http.NewHost(h.Host)
	t.Cleanup(func() { must(t, h.CloseAll()) })
	return h, space.Do
}

// listen listens without a word of HTTP.
func listen(t *testing.T, h *host) (tcp.Handle, netip.AddrPort) {
	t.Helper()
	handle, at, err := h.Listen(t.Context(), tcp.ListenSpec{At: netip.AddrPortFrom(loopback, 0)})
	must(t, err)
	return handle, at
}

func serve(t *testing.T, h *host, spec http.ListenSpec) (tcp.Handle, netip.AddrPort) {
	t.Helper()
	spec.At = netip.AddrPortFrom(loopback, spec.At.Port())
	handle, at, err := h.web.Listen(t.Context(), spec)
	must(t, err)
	return handle, at
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// byTwo has two callers at once for each method of http.Host.
var byTwo = map[string]func(t *testing.T, h *host){
	"Exchange": func(t *testing.T, h *host) {
		_, at, err := h.web.Listen(t.Context(), http.ListenSpec{ListenSpec: tcp.ListenSpec{At: netip.AddrPortFrom(loopback, 0)}})
		must(t, err)
		kept := exchange(t, h, http.Exchange{Attempt: tcp.Attempt{To: at}})[0]
		var done [2][]http.Exchanged
		for ending, check := range map[tcp.Ending]func(*testing.T, string, [2]error){tcp.KeepOpen: atMostOne, tcp.CloseFirst: callerstest.ExactlyOne} {
			check(t, "Exchange", callerstest.Twice(t, func(i int) (err error) {
				done[i], err = h.web.Exchange(t.Context(), []http.Exchange{{Conn: kept.Conn, Attempt: tcp.Attempt{Ending: ending}, Requests: make([]http.Request, 1)}}, 0)
				return err
			}))
			for _, d := range done {
				if d != nil && d[0].Replies[0].Disposition != http.Whole {
					t.Errorf("Exchange by two callers at once: %v", d[0])
				}
			}
			if ending == tcp.CloseFirst {
				kept = exchange(t, h, http.Exchange{Attempt: tcp.Attempt{To: at}})[0]
			}
		}
	},
	"Served": func(t *testing.T, h *host) {
		listener, _, err := h.web.Listen(t.Context(), http.ListenSpec{ListenSpec: tcp.ListenSpec{At: netip.AddrPortFrom(loopback, 0)}})
		must(t, err)
		callerstest.None(t, "Served", callerstest.Twice(t, func(int) error {
			_, err := h.web.Served(listener)
			return err
		}))
		callerstest.ExactlyOne(t, "Served and End", callerstest.Twice(t, func(i int) error {
			if i == 0 {
				return h.End(t.Context(), listener, tcp.CloseNow)
			}
			for {
				if _, err := h.web.Served(listener); err != nil {
					return err
				}
			}
		}))
	},
	"TryListen": func(t *testing.T, h *host) {
		callerstest.None(t, "TryListen", callerstest.Twice(t, func(int) error {
			web, err := h.web.TryListen(t.Context(), http.ListenSpec{ListenSpec: tcp.ListenSpec{At: netip.AddrPortFrom(loopback, 0)}})
			if err == nil {
				err = h.End(t.Context(), web.Listener, tcp.CloseNow)
			}
			return err
		}))
	},
	"Listen": func(t *testing.T, h *host) {
		callerstest.None(t, "Listen", callerstest.Twice(t, func(int) error {
			web, _, err := h.web.Listen(t.Context(), http.ListenSpec{ListenSpec: tcp.ListenSpec{At: netip.AddrPortFrom(loopback, 0)}})
			if err == nil {
				err = h.End(t.Context(), web, tcp.CloseNow)
			}
			return err
		}))
	},
}

// atMostOne wants that no call failed, or one because the other had the handle.
func atMostOne(t *testing.T, what string, errs [2]error) {
	t.Helper()
	for i, err := range errs {
		if err != nil && (!errors.Is(err, tcp.ErrNoHandle) || errs[1-i] != nil) {
			t.Errorf("%s by two callers at once: %v and %v, want at most one ErrNoHandle", what, errs[0], errs[1])
		}
	}
}

// Two callers at once on one handle, for each method there is: none hangs, and none
// touches what is not its own.
func TestEachMethodStandsTwoCallersAtOnce(t *testing.T) {
	const rounds = 100
	methods := reflect.TypeFor[*http.Host]()
	for i := range methods.NumMethod() {
		name := methods.Method(i).Name
		t.Run(name, func(t *testing.T) {
			call, there := byTwo[name]
			if !there {
				t.Fatalf("nothing calls Host.%s twice at once: add it to byTwo", name)
			}
			h := newHost(t)
			for range rounds {
				if call(t, h); t.Failed() {
					break
				}
			}
		})
	}
}

// CloseAll ends exchanges that wait, and servers.
func TestCloseAllEndsExchanges(t *testing.T) {
	h := newHost(t)
	_, at := listen(t, h)
	var waiting sync.WaitGroup
	waiting.Go(func() {
		_, err := h.web.Exchange(t.Context(), []http.Exchange{{Attempt: tcp.Attempt{To: at, Budget: 30 * time.Second}, Requests: make([]http.Request, 1)}}, 0)
		if !errors.Is(err, tcp.ErrNoHandle) {
			t.Errorf("an exchange cut short by CloseAll: %v, want ErrNoHandle", err)
		}
	})
	must(t, h.CloseAll())
	waiting.Wait()
}
