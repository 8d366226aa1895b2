//go:build linux

package node_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"twlab/harness/http"
	"twlab/harness/internal/arrivaltest"
	"twlab/harness/internal/nstest"
	"twlab/harness/ipvs"
	"twlab/harness/node"
	"twlab/harness/observe"
	"twlab/harness/tcp"
	"twlab/harness/topo"
)

var loopback = netip.MustParseAddr("127.0.0.1")

// situation is a node with a listener and a connection to itself.
type situation struct {
	*node.Local
	listener node.Listening
	web      node.Listening
	client   tcp.Result
	server   tcp.Handle
}

func newSituation(t *testing.T, n *node.Local) (s situation) {
	t.Helper()
	at := netip.AddrPortFrom(loopback, 0)
	s.Local = n
	var err error
	if s.listener, err = n.Listen(t.Context(), tcp.ListenSpec{At: at}); err != nil {
		t.Fatal(err)
	}
	if s.web, err = n.Serve(t.Context(), http.ListenSpec{ListenSpec: tcp.ListenSpec{At: at}, HTTP: &http.Responder{}}); err != nil {
		t.Fatal(err)
	}
	outs, err := n.Attempt(t.Context(), []tcp.Attempt{{To: s.listener.Addr}})
	if err != nil {
		t.Fatal(err)
	}
	s.client = outs[0]
	if s.server, err = n.Accept(t.Context(), s.listener.Handle, s.client.Local); err != nil {
		t.Fatal(err)
	}
	return s
}

// calls has one call of each method of node.Node, which two callers make at once.
// Where only one of two can succeed, the other gets ErrNoHandle.
var calls = map[string]func(ctx context.Context, s situation) error{
	"Identity": func(_ context.Context, s situation) error {
		if s.Identity().Name == "" {
			return errors.New("no name")
		}
		return nil
	},
	"Release": func(ctx context.Context, s situation) error { return second(s.Release(ctx)) },
	"Sysctl":  func(ctx context.Context, s situation) error { return second(s.Sysctl(ctx, "net.ipv4.tcp_fin_timeout")) },
	"SetSysctl": func(ctx context.Context, s situation) error {
		return s.SetSysctl(ctx, "net.ipv4.tcp_fin_timeout", "7")
	},
	"Counters":        func(ctx context.Context, s situation) error { return second(s.Counters(ctx)) },
	"Occupancy":       func(ctx context.Context, s situation) error { return second(s.Occupancy(ctx)) },
	"Sockets":         func(ctx context.Context, s situation) error { return second(s.Sockets(ctx)) },
	"Flows":           func(ctx context.Context, s situation) error { return second(s.Flows(ctx)) },
	"Rules":           func(ctx context.Context, s situation) error { return second(s.Rules(ctx)) },
	"DeleteFlows":     func(ctx context.Context, s situation) error { return second(s.DeleteFlows(ctx, observe.FlowMatch{})) },
	"VirtualServices": func(ctx context.Context, s situation) error { return ifThere(second(s.VirtualServices(ctx))) },
	"SetVirtualServices": func(ctx context.Context, s situation) error {
		at := netip.AddrPortFrom(loopback, 8000)
		one := []topo.VirtualService{{At: at, Destinations: []topo.Destination{{At: at, Weight: 1}}}}
		return errors.Join(ifThere(s.SetVirtualServices(ctx, nil)), ifThere(s.SetVirtualServices(ctx, one)))
	},
	"HasSymbol": func(ctx context.Context, s situation) error { return second(s.HasSymbol(ctx, "tcp_v4_connect")) },
	"Listen": func(ctx context.Context, s situation) error {
		return second(s.Listen(ctx, tcp.ListenSpec{At: netip.AddrPortFrom(loopback, 0)}))
	},
	"Serve": func(ctx context.Context, s situation) error {
		return second(s.Serve(ctx, http.ListenSpec{ListenSpec: tcp.ListenSpec{At: netip.AddrPortFrom(loopback, 0)}}))
	},
	"TryListen": func(ctx context.Context, s situation) error {
		got, err := s.TryListen(ctx, tcp.ListenSpec{At: s.listener.Addr})
		if err == nil && (got.Outcome != tcp.PortInUse || len(got.Holders) == 0) {
			err = fmt.Errorf("%v, want the port in use", got)
		}
		return err
	},
	"TryServe": func(ctx context.Context, s situation) error {
		got, err := s.TryServe(ctx, http.ListenSpec{ListenSpec: tcp.ListenSpec{At: netip.AddrPortFrom(netip.IPv6Unspecified(), 0)}})
		if err == nil && got.Addr.Addr() != netip.IPv6Loopback() {
			err = fmt.Errorf("%v, want it at the node's own IPv6 address", got)
		}
		return err
	},
	"Connect": func(ctx context.Context, s situation) error {
		return second(s.Connect(ctx, tcp.Attempt{To: s.listener.Addr}))
	},
	"Attempt": func(ctx context.Context, s situation) error {
		return second(s.Attempt(ctx, []tcp.Attempt{{To: s.listener.Addr}}))
	},
	"Exchange": func(ctx context.Context, s situation) error {
		x := http.Exchange{Attempt: tcp.Attempt{To: s.web.Addr, Ending: tcp.CloseFirst}, Requests: make([]http.Request, 1)}
		return second(s.Exchange(ctx, []http.Exchange{x}, 0))
	},
	"Served": func(ctx context.Context, s situation) error { return second(s.Served(ctx, s.web.Handle)) },
	"Accept": func(ctx context.Context, s situation) error {
		outs, err := s.Attempt(ctx, []tcp.Attempt{{To: s.listener.Addr}})
		if err != nil {
			return err
		}
		return second(s.Accept(ctx, s.listener.Handle, outs[0].Local))
	},
	"End":         func(ctx context.Context, s situation) error { return s.End(ctx, s.client.Conn, tcp.Abort) },
	"Send":        func(ctx context.Context, s situation) error { return second(s.Send(ctx, s.client.Conn, 1)) },
	"TrySend":     func(ctx context.Context, s situation) error { return second(s.TrySend(ctx, s.client.Conn, 1)) },
	"HalfClose":   func(ctx context.Context, s situation) error { return second(s.HalfClose(ctx, s.client.Conn)) },
	"SocketError": func(ctx context.Context, s situation) error { return second(s.SocketError(ctx, s.client.Conn)) },
	"ReceiveUpTo": func(ctx context.Context, s situation) error {
		return second(s.ReceiveUpTo(ctx, s.client.Conn, tcp.Limit{Within: time.Millisecond}))
	},
	"Receive": func(ctx context.Context, s situation) error {
		if err := s.End(ctx, s.server, tcp.CloseNow); err != nil && !errors.Is(err, tcp.ErrNoHandle) {
			return err
		}
		return second(s.Receive(ctx, s.client.Conn))
	},
	"Clock":        func(ctx context.Context, s situation) error { return second(s.Clock(ctx, s.client.Conn)) },
	"AdvanceClock": func(ctx context.Context, s situation) error { return s.AdvanceClock(ctx, s.client.Conn, 2) },
	"RTO":          func(ctx context.Context, s situation) error { return second(s.RTO(ctx, s.client.Conn)) },
}

func second[T any](_ T, err error) error { return err }

// ifThere leaves out that the kernel has no IPVS.
func ifThere(err error) error {
	if errors.Is(err, ipvs.ErrMissing) {
		return nil
	}
	return err
}

// Methods may be called from any goroutine: here each by two at once, on one node,
// and under the race detector.
func TestEachMethodStandsTwoCallersAtOnce(t *testing.T) {
	space := nstest.Loopback(t)
	n := node.NewLocal(topo.Identity{Name: "alone", Role: topo.Client, Addr: loopback}, space.Do)
	defer func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	}()
	methods := reflect.TypeFor[node.Node]()
	for i := range methods.NumMethod() {
		name := methods.Method(i).Name
		t.Run(name, func(t *testing.T) {
			call, there := calls[name]
			if !there {
				t.Fatalf("nothing calls Node.%s twice at once: add it to calls", name)
			}
			rounds := 10
			if name == "HasSymbol" {
				rounds = 1 // it reads all of /proc/kallsyms
			}
			for range rounds {
				s := newSituation(t, n)
				failed := make(chan error, 2)
				for range cap(failed) {
					go func() { failed <- call(t.Context(), s) }()
				}
				first, other := <-failed, <-failed
				if first != nil {
					first, other = other, first
				}
				if once := name == "End"; first != nil || once != errors.Is(other, tcp.ErrNoHandle) || !once && other != nil {
					t.Fatalf("%v and %v", first, other)
				}
			}
		})
	}
}

// A listener at all addresses is reached at the node's own address of that IP version.
func TestListeningAtTheNodesOwnAddress(t *testing.T) {
	four, six := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("2001:db8::1")
	space := nstest.Loopback(t)
	err := space.Do(func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		for _, text := range []string{four.String() + "/32", six.String() + "/128"} {
			addr, err := netlink.ParseAddr(text)
			if err != nil {
				return err
			}
			addr.Flags = unix.IFA_F_NODAD
			if err := netlink.AddrAdd(lo, addr); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	arrivaltest.Await(t, space, six)
	all4, all6 := netip.AddrPortFrom(netip.IPv4Unspecified(), 0), netip.AddrPortFrom(netip.IPv6Unspecified(), 0)
	for _, c := range []struct {
		node netip.Addr
		at   netip.AddrPort
		want netip.Addr
	}{
		{four, all4, four}, {four, all6, six}, {four, netip.AddrPort{}, four},
		{six, all6, six}, {six, all4, four}, {six, netip.AddrPort{}, six},
		{four, netip.AddrPortFrom(loopback, 0), loopback},
	} {
		n := node.NewLocal(topo.Identity{Name: "alone", Addr: c.node}, space.Do)
		got, err := n.Listen(t.Context(), tcp.ListenSpec{At: c.at})
		if err != nil || got.Addr.Addr() != c.want {
			t.Errorf("node %v at %v: %v, %v, want %v", c.node, c.at, got.Addr, err, c.want)
		}
		out, err := n.Connect(t.Context(), tcp.Attempt{To: got.Addr, Ending: tcp.Abort})
		if err != nil || out.Outcome != tcp.Connected {
			t.Errorf("node %v at %v: %v, %v, want Connected", c.node, c.at, out, err)
		}
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	}
}
