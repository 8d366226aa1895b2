//go:build linux

package tcp_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"twlab/harness/internal/callerstest"

	"golang.org/x/sys/unix"

	"twlab/harness/internal/nstest"
	"twlab/harness/ns"
	"twlab/harness/observe"
	"twlab/harness/tcp"
)

// openSockets counts the socket descriptors of this process.
func openSockets(t *testing.T) (n int) {
	t.Helper()
	const folder = "/proc/self/fd"
	entries, err := os.ReadDir(folder)
	must(t, err)
	for _, e := range entries {
		if to, err := os.Readlink(filepath.Join(folder, e.Name())); err == nil && strings.HasPrefix(to, "socket:") {
			n++
		}
	}
	return n
}

// pair is a connection of one host with itself.
type pair struct {
	host           *tcp.Host
	inside         func(func() error) error // of the namespace
	listener       tcp.Handle
	at             netip.AddrPort
	client, server tcp.Handle
}

func newPair(t *testing.T, host *tcp.Host, listener tcp.Handle, at netip.AddrPort) pair {
	t.Helper()
	return newPairOf(t, host, host, listener, at)
}

// newPairOf is a connection between two hosts of a namespace.
func newPairOf(t *testing.T, host, peer *tcp.Host, listener tcp.Handle, at netip.AddrPort) pair {
	t.Helper()
	outs, err := host.Attempt(t.Context(), []tcp.Attempt{{To: at}})
	must(t, err)
	server, err := peer.Accept(t.Context(), listener, outs[0].Local)
	must(t, err)
	return pair{host: host, listener: listener, at: at, client: outs[0].Conn, server: server}
}

// byTwo has two callers at once for each method of tcp.Host.
var byTwo = map[string]func(t *testing.T, p pair){
	"Accept": func(t *testing.T, p pair) {
		outs, err := p.host.Attempt(t.Context(), []tcp.Attempt{{To: p.at}})
		must(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var got [2]tcp.Handle
		errs := callerstest.Twice(t, func(i int) (err error) {
			got[i], err = p.host.Accept(ctx, p.listener, outs[0].Local)
			cancel() // the other one waits in vain
			return err
		})
		if errs[0] != nil {
			errs[0], errs[1], got[0], got[1] = errs[1], errs[0], got[1], got[0]
		}
		if errs[0] != nil || got[0].IsZero() || !errors.Is(errs[1], context.Canceled) || !got[1].IsZero() {
			t.Errorf("Accept by two callers at once: %v, %v, want a connection for one of them", got, errs)
		}
	},
	"AdvanceClock": func(t *testing.T, p pair) {
		const far = 1 << 20
		first, err := p.host.Clock(p.client)
		must(t, err)
		callerstest.None(t, "AdvanceClock", callerstest.Twice(t, func(int) error { return p.host.AdvanceClock(p.client, far) }))
		second, err := p.host.Clock(p.client)
		must(t, err)
		if moved := second.Ticks - first.Ticks; moved < 2*far-10 || moved > 3*far {
			t.Errorf("AdvanceClock by two callers at once: it moved by %d, want twice %d", moved, far)
		}
		callerstest.None(t, "AdvanceClock and Receive", callerstest.Twice(t, func(i int) error {
			if i == 0 {
				got, err := p.host.Receive(t.Context(), p.client)
				if err == nil && got.Bytes != 20 {
					err = fmt.Errorf("%+v, want 20 bytes", got)
				}
				return err
			}
			for range 20 {
				_, err := p.host.Send(p.server, 1)
				if err = errors.Join(err, p.host.AdvanceClock(p.client, 2)); err != nil {
					return err
				}
			}
			return p.host.End(t.Context(), p.server, tcp.CloseNow)
		}))
		callerstest.ExactlyOne(t, "AdvanceClock and End", callerstest.Twice(t, func(i int) error {
			if i == 0 {
				return p.host.End(t.Context(), p.client, tcp.Abort)
			}
			for {
				if err := p.host.AdvanceClock(p.client, 2); err != nil {
					return err
				}
			}
		}))
	},
	"Attempt": func(t *testing.T, p pair) {
		callerstest.None(t, "Attempt", callerstest.Twice(t, func(int) error {
			outs, err := p.host.Attempt(t.Context(), []tcp.Attempt{{To: p.at, Ending: tcp.Abort}, {To: p.at}})
			if err == nil {
				err = p.host.End(t.Context(), outs[1].Conn, tcp.Abort)
			}
			return err
		}))
	},
	"Connect": func(t *testing.T, p pair) {
		callerstest.None(t, "Connect", callerstest.Twice(t, func(int) error {
			out, err := p.host.Connect(t.Context(), tcp.Attempt{To: p.at})
			if err == nil {
				err = p.host.End(t.Context(), out.Conn, tcp.Abort)
			}
			return err
		}))
	},
	"Clock": func(t *testing.T, p pair) {
		callerstest.ExactlyOne(t, "Clock and End", callerstest.Twice(t, func(i int) error {
			if i == 0 {
				return p.host.End(t.Context(), p.client, tcp.Abort)
			}
			for {
				if _, err := p.host.Clock(p.client); err != nil {
					return err
				}
			}
		}))
	},
	"CloseAll": func(t *testing.T, p pair) {
		host := tcp.NewHost("here", p.inside)
		listener, at := listen(t, host, tcp.ListenSpec{})
		newPair(t, host, listener, at)
		callerstest.None(t, "CloseAll", callerstest.Twice(t, func(int) error { return host.CloseAll() }))
	},
	"End": func(t *testing.T, p pair) {
		host := p.host
		for _, how := range []tcp.Ending{tcp.CloseNow, tcp.Abort, tcp.Vanish} {
			p := newPair(t, host, p.listener, p.at)
			callerstest.ExactlyOne(t, string(how), callerstest.Twice(t, func(int) error { return host.End(t.Context(), p.client, how) }))
		}
		for _, how := range []tcp.Ending{tcp.CloseFirst, tcp.CloseAfterPeer} {
			p := newPair(t, host, p.listener, p.at)
			var peer sync.WaitGroup
			peer.Go(func() {
				if err := host.End(t.Context(), p.server, tcp.CloseNow); err != nil {
					t.Error(err)
				}
			})
			callerstest.ExactlyOne(t, string(how), callerstest.Twice(t, func(int) error { return host.End(t.Context(), p.client, how) }))
			peer.Wait()
		}
	},
	"Dial": func(t *testing.T, p pair) {
		// Of two calls one may find the other at the connection.
		errs := callerstest.Twice(t, func(int) error {
			return p.host.Dial(t.Context(), 1, 1, func(ctx context.Context, d *tcp.Dialer) error {
				_, fresh, err := d.Attempt(ctx, tcp.Attempt{To: p.at})
				if err != nil {
					return err
				}
				if err := fresh.Reset(); err != nil {
					return err
				}
				_, kept, err := d.Resume(ctx, p.client)
				if err != nil {
					return err
				}
				_, conn, err := kept.Finish(ctx, tcp.KeepOpen, 0)
				if err == nil && conn != p.client {
					err = errors.New("it has another handle now")
				}
				return err
			})
		})
		for i, err := range errs {
			if err != nil && (!errors.Is(err, tcp.ErrNoHandle) || errs[1-i] != nil) {
				t.Errorf("Dial by two callers at once: %v and %v, want at most one ErrNoHandle", errs[0], errs[1])
			}
		}
	},
	"Serve": func(t *testing.T, p pair) {
		callerstest.None(t, "Serve", callerstest.Twice(t, func(int) error {
			listener, at, err := p.host.Serve(t.Context(), tcp.ListenSpec{At: netip.AddrPortFrom(loopback, 0)}, readAll)
			if err == nil {
				_, err = p.host.Attempt(t.Context(), []tcp.Attempt{{To: at, Ending: tcp.Abort}})
			}
			return errors.Join(err, p.host.End(t.Context(), listener, tcp.CloseNow))
		}))
	},
	"Listens": func(t *testing.T, p pair) {
		listener, _, err := p.host.Listen(t.Context(), tcp.ListenSpec{At: netip.AddrPortFrom(loopback, 0)})
		must(t, err)
		callerstest.ExactlyOne(t, "Listens and End", callerstest.Twice(t, func(i int) error {
			if i == 0 {
				return p.host.End(t.Context(), listener, tcp.CloseNow)
			}
			for {
				if err := p.host.Listens(listener); err != nil {
					return err
				}
			}
		}))
	},
	"Listen": func(t *testing.T, p pair) {
		callerstest.None(t, "Listen", callerstest.Twice(t, func(int) error {
			listener, _, err := p.host.Listen(t.Context(), tcp.ListenSpec{At: netip.AddrPortFrom(loopback, 0)})
			if err == nil {
				err = p.host.End(t.Context(), listener, tcp.CloseNow)
			}
			return err
		}))
	},
	"TryListen": func(t *testing.T, p pair) {
		callerstest.None(t, "TryListen", callerstest.Twice(t, func(int) error {
			got, err := p.host.TryListen(t.Context(), tcp.ListenSpec{At: p.at})
			if err == nil && (got.Outcome != tcp.PortInUse || len(got.Holders) == 0 || got.Holders[0].Handle != p.listener) {
				err = fmt.Errorf("%v, want the port in use by socket %v", got, p.listener)
			}
			return err
		}))
	},
	"TryServe": func(t *testing.T, p pair) {
		callerstest.None(t, "TryServe", callerstest.Twice(t, func(int) error {
			got, err := p.host.TryServe(t.Context(), tcp.ListenSpec{At: netip.AddrPortFrom(loopback, 0)}, readAll)
			return errors.Join(err, p.host.End(t.Context(), got.Listener, tcp.CloseNow))
		}))
	},
	"RTO": func(t *testing.T, p pair) {
		callerstest.ExactlyOne(t, "RTO and End", callerstest.Twice(t, func(i int) error {
			if i == 0 {
				return p.host.End(t.Context(), p.client, tcp.Abort)
			}
			for {
				if _, err := p.host.RTO(p.client); err != nil {
					return err
				}
			}
		}))
	},
	"Receive": func(t *testing.T, p pair) {
		errs := callerstest.Twice(t, func(i int) error {
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(1+i)*time.Millisecond)
			defer cancel()
			_, err := p.host.Receive(ctx, p.client)
			return err
		})
		for _, err := range errs {
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Receive by two callers at once: %v, want each to end with its context", err)
			}
		}
		callerstest.ExactlyOne(t, "Receive and End", callerstest.Twice(t, func(i int) error {
			if i == 0 {
				return p.host.End(t.Context(), p.client, tcp.Abort)
			}
			_, err := p.host.Receive(t.Context(), p.client)
			return err
		}))
		callerstest.None(t, "Receive of a RST", callerstest.Twice(t, func(int) error {
			got, err := p.host.Receive(t.Context(), p.server)
			if err == nil && got.Errno != unix.ECONNRESET {
				err = errors.New("took it for a FIN")
			}
			return err
		}))
	},
	"TrySend": func(t *testing.T, p pair) {
		callerstest.ExactlyOne(t, "TrySend and End", callerstest.Twice(t, func(i int) error {
			if i == 0 {
				return p.host.End(t.Context(), p.client, tcp.Abort)
			}
			for {
				if _, err := p.host.TrySend(p.client, 1); err != nil {
					return err
				}
			}
		}))
	},
	"HalfClose": func(t *testing.T, p pair) {
		callerstest.None(t, "HalfClose", callerstest.Twice(t, func(int) error {
			errno, err := p.host.HalfClose(p.client)
			if err == nil && errno != 0 {
				err = errno
			}
			return err
		}))
		callerstest.ExactlyOne(t, "HalfClose and End", callerstest.Twice(t, func(i int) error {
			if i == 0 {
				return p.host.End(t.Context(), p.client, tcp.Abort)
			}
			for {
				if _, err := p.host.HalfClose(p.client); err != nil {
					return err
				}
			}
		}))
	},
	"SocketError": func(t *testing.T, p pair) {
		callerstest.ExactlyOne(t, "SocketError and End", callerstest.Twice(t, func(i int) error {
			if i == 0 {
				return p.host.End(t.Context(), p.client, tcp.Abort)
			}
			for {
				if _, err := p.host.SocketError(p.client); err != nil {
					return err
				}
			}
		}))
	},
	"ReceiveUpTo": func(t *testing.T, p pair) {
		_, err := p.host.Send(p.server, 10)
		must(t, err)
		callerstest.None(t, "ReceiveUpTo", callerstest.Twice(t, func(int) error {
			got, err := p.host.ReceiveUpTo(t.Context(), p.client, tcp.Limit{Bytes: 5})
			if err == nil && got != (tcp.Received{Bytes: 5, Open: true}) {
				err = fmt.Errorf("%+v, want half of the bytes", got)
			}
			return err
		}))
	},
	"Send": func(t *testing.T, p pair) {
		callerstest.None(t, "Send", callerstest.Twice(t, func(int) error {
			_, err := p.host.Send(p.client, 100)
			return err
		}))
		callerstest.ExactlyOne(t, "Send and End", callerstest.Twice(t, func(i int) error {
			if i == 0 {
				return p.host.End(t.Context(), p.client, tcp.Abort)
			}
			for {
				if _, err := p.host.Send(p.client, 1); err != nil {
					return err
				}
			}
		}))
	},
}

// Two callers at once on one handle, for each method there is: none hangs, none
// touches what is not its own, and nothing is left.
func TestEachMethodStandsTwoCallersAtOnce(t *testing.T) {
	const rounds = 100
	methods := reflect.TypeFor[*tcp.Host]()
	for i := range methods.NumMethod() {
		name := methods.Method(i).Name
		t.Run(name, func(t *testing.T) {
			call, there := byTwo[name]
			if !there {
				t.Fatalf("nothing calls Host.%s twice at once: add it to byTwo", name)
			}
			before := openSockets(t)
			host, inside := newHostIn(t)
			listener, at := listen(t, host, tcp.ListenSpec{})
			for range rounds {
				p := newPair(t, host, listener, at)
				p.inside = inside
				call(t, p)
				if t.Failed() {
					break
				}
			}
			if err := host.CloseAll(); err != nil {
				t.Error("CloseAll:", err)
			}
			if after := openSockets(t); after != before {
				t.Errorf("%d sockets are open, %d before", after, before)
			}
		})
	}
}

// waits are all calls of a host that wait for what never comes: two connections,
// whose other ends are another host's, and its own listener.
func waits(host *tcp.Host, p, q pair, own tcp.Handle) map[string]func(ctx context.Context) error {
	const long = 30 * time.Second
	receive := func(ctx context.Context) error {
		_, err := host.Receive(ctx, p.client)
		return err
	}
	return map[string]func(ctx context.Context) error{
		"Accept": func(ctx context.Context) error {
			_, err := host.Accept(ctx, own, netip.AddrPortFrom(loopback, 1))
			return err
		},
		"Attempt": func(ctx context.Context) error {
			_, err := host.Attempt(ctx, []tcp.Attempt{{To: p.at, Ending: tcp.CloseAfterPeer, Budget: long}})
			return err
		},
		"Dial": func(ctx context.Context) error {
			return host.Dial(ctx, 1, 1, func(ctx context.Context, d *tcp.Dialer) error {
				_, st, err := d.Attempt(ctx, tcp.Attempt{To: p.at})
				if err != nil {
					return err
				}
				_, err = st.Read(ctx)
				return errors.Join(err, st.Reset())
			})
		},
		"End":                    func(ctx context.Context) error { return host.End(ctx, q.client, tcp.CloseFirst) },
		"Receive":                receive,
		"Receive behind Receive": receive,
	}
}

// Whatever waits ends with CloseAll, which ends once.
func TestCloseAllEndsEveryCallThatWaits(t *testing.T) {
	const rounds = 20
	for round := range rounds {
		before := openSockets(t)
		host, inside := newHostIn(t)
		peer := tcp.NewHost("here", inside)
		own, _ := listen(t, host, tcp.ListenSpec{})
		listener, at := listen(t, peer, tcp.ListenSpec{})
		p, q := newPairOf(t, host, peer, listener, at), newPairOf(t, host, peer, listener, at)
		var waiting sync.WaitGroup
		for name, wait := range waits(host, p, q, own) {
			waiting.Go(func() {
				if err := wait(t.Context()); !errors.Is(err, tcp.ErrNoHandle) || errors.Is(err, context.Canceled) {
					t.Errorf("%s cut short by CloseAll: %v, want ErrNoHandle", name, err)
				}
			})
		}
		if round%2 == 0 { // else some of them begin too late
			await(t, "the calls to wait", func() bool {
				all := sockets(t, inside)
				return len(all.In(observe.FinWait2)) == 1 && len(all.In(observe.Established)) == 6
			})
		}
		callerstest.None(t, "CloseAll", callerstest.Twice(t, func(int) error { return host.CloseAll() }))
		atOnce := openSockets(t)
		callerstest.Twice(t, func(int) error {
			waiting.Wait()
			return nil
		})
		if later := openSockets(t); atOnce > later {
			t.Fatalf("%d sockets were open when CloseAll had returned, %d later", atOnce, later)
		}
		must(t, peer.CloseAll())
		if after := openSockets(t); after != before {
			t.Fatalf("%d sockets are open, %d before", after, before)
		}
	}
}

// Each waits until its own context ends, and leaves the connection to the others.
func TestEachWaitEndsWithItsOwnContext(t *testing.T) {
	host := newHost(t)
	listener, at := listen(t, host, tcp.ListenSpec{})
	p, q := newPair(t, host, listener, at), newPair(t, host, listener, at)
	const each = 10 * time.Millisecond
	var waiting sync.WaitGroup
	within := each
	for name, wait := range waits(host, p, q, listener) {
		ctx, cancel := context.WithTimeout(t.Context(), within)
		within += each
		waiting.Go(func() {
			defer cancel()
			if err := wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: %v, want the end of its context", name, err)
			}
		})
	}
	callerstest.Twice(t, func(int) error {
		waiting.Wait()
		return nil
	})
	// All ends are there still; one FIN is sent.
	must(t, host.End(t.Context(), q.server, tcp.CloseAfterPeer))
	must(t, host.End(t.Context(), q.client, tcp.CloseAfterPeer))
	must(t, host.End(t.Context(), p.server, tcp.CloseNow))
	must(t, host.End(t.Context(), p.client, tcp.CloseAfterPeer))
}

// served marks a listener whose connections a server has.
const served tcp.Ending = "by a server"

// readAll is a server that reads until the end.
func readAll(ctx context.Context, st *tcp.Stream) error {
	for {
		if _, err := st.Read(ctx); err != nil {
			return st.Reset()
		}
	}
}

// A listener that is ended while clients connect leaves no connection behind, and
// so no namespace.
func TestListenerThatIsEndedUnderLoadLeavesNothing(t *testing.T) {
	const rounds, clients = 300, 4
	for _, spec := range []tcp.ListenSpec{{}, {Ending: tcp.CloseAfterPeer}, {Ending: served}} {
		before := openSockets(t)
		space := nstest.Loopback(t)
		watch, err := ns.NewWatch()
		must(t, err)
		defer func() { must(t, watch.Close()) }()
		must(t, watch.Add(space))
		host := tcp.NewHost("here", space.Do)
		spec.At = netip.AddrPortFrom(loopback, 80)
		var serve func(context.Context, *tcp.Stream) error
		if spec.Ending == served {
			spec.Ending, serve = tcp.KeepOpen, readAll
		}
		for range rounds {
			listener, at, err := host.Serve(t.Context(), spec, serve)
			must(t, err)
			var load sync.WaitGroup
			for range clients {
				load.Go(func() {
					if _, err := host.Attempt(t.Context(), []tcp.Attempt{{To: at, Ending: tcp.Abort}, {To: at, Ending: tcp.Abort}}); err != nil {
						t.Error(err)
					}
				})
			}
			must(t, host.End(t.Context(), listener, tcp.CloseNow))
			load.Wait()
		}
		// And CloseAll while they do.
		_, at, err := host.Serve(t.Context(), spec, serve)
		must(t, err)
		var load sync.WaitGroup
		for range clients {
			load.Go(func() {
				for {
					if _, err := host.Attempt(t.Context(), []tcp.Attempt{{To: at}}); err != nil {
						if !errors.Is(err, tcp.ErrNoHandle) {
							t.Error(err)
						}
						return
					}
				}
			})
		}
		_, err = host.Attempt(t.Context(), []tcp.Attempt{{To: at}})
		must(t, err)
		must(t, host.CloseAll())
		load.Wait()
		must(t, space.Close())
		if after := openSockets(t); after != before {
			t.Errorf("%+v: %d sockets are open, %d before", spec, after, before)
		}
		soon, stop := context.WithTimeout(t.Context(), 10*time.Second)
		defer stop()
		must(t, observe.Await(soon, "the end of the namespace", func() (bool, error) {
			alive, err := watch.Alive()
			return alive == 0, err
		}))
	}
}

// What a host reports, it reports once.
func TestSecondCloseAllSaysNothing(t *testing.T) {
	host, inside := newHostIn(t)
	listener, at := listen(t, host, tcp.ListenSpec{})
	var client int
	must(t, inside(func() (err error) {
		client, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		return err
	}))
	defer func() { must(t, unix.Close(client)) }()

	// From now on there is no number for another descriptor.
	var limit unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	free, err := unix.Dup(client)
	must(t, err)
	none := limit
	none.Cur = uint64(free)
	must(t, errors.Join(unix.Close(free), unix.Setrlimit(unix.RLIMIT_NOFILE, &none)))
	failed := unix.Connect(client, &unix.SockaddrInet4{Addr: loopback.As4(), Port: int(at.Port())})
	_, err = host.Accept(t.Context(), listener, netip.AddrPortFrom(loopback, 1))
	must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit))
	must(t, failed)

	if !errors.Is(err, unix.EMFILE) {
		t.Errorf("Accept of a listener without descriptors: %v, want EMFILE", err)
	}
	if err := host.CloseAll(); !errors.Is(err, unix.EMFILE) {
		t.Errorf("CloseAll: %v, want what the listener ran into", err)
	}
	if err := host.CloseAll(); err != nil {
		t.Errorf("second CloseAll: %v, want nil", err)
	}
}
