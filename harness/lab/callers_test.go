//go:build linux

package lab_test

import (
	"errors"
	"net/netip"
	"reflect"
	"sync"
	"syscall"
	"testing"
	"time"

	"twlab/harness/guest"
	"twlab/harness/http"
	"twlab/harness/ipvs"
	"twlab/harness/node"
	"twlab/harness/observe"
	"twlab/harness/tcp"
	"twlab/harness/topo"
)

// twoCalls are two calls of one method of a node, to be made at once.
type twoCalls struct {
	on            node.Node
	first, second []reflect.Value // what follows the context
	// check looks at both answers. Without it neither may be an error.
	check func(t *testing.T, first, second answer)
}

// answer is what a call returns.
type answer struct {
	value reflect.Value // invalid when the method has nothing but an error
	err   error
}

func same(on node.Node, arguments ...reflect.Value) twoCalls {
	return twoCalls{on: on, first: arguments, second: arguments}
}

// netfilter are calls that a machine answers by an error, and by the same twice: it has no
// conntrack. It has no iptables either, and so no rules, which is no error.
func netfilter(calls twoCalls) twoCalls {
	if _, machine := calls.on.(*guest.Machine); machine {
		calls.check = func(t *testing.T, first, second answer) {
			t.Helper()
			if first.err == nil || second.err == nil || first.err.Error() != second.err.Error() {
				t.Errorf("%v and %v, want one error", first.err, second.err)
			}
		}
	}
	return calls
}

// virtual are calls that a kernel without IPVS answers by that.
func virtual(calls twoCalls) twoCalls {
	calls.check = func(t *testing.T, first, second answer) {
		t.Helper()
		for _, err := range []error{first.err, second.err} {
			if err != nil && !errors.Is(err, ipvs.ErrMissing) {
				t.Error(err)
			}
		}
	}
	return calls
}

// bothAre wants the same answer of both calls.
func bothAre[T comparable](want T) func(t *testing.T, first, second answer) {
	return func(t *testing.T, first, second answer) {
		t.Helper()
		for _, a := range []answer{first, second} {
			if got, is := a.value.Interface().(T); a.err != nil || !is || got != want {
				t.Errorf("%+v, %v, want %+v", a.value, a.err, want)
			}
		}
	}
}

// bothInUse wants that both calls find the port in use, and say by which socket.
func bothInUse(t *testing.T, first, second answer) {
	t.Helper()
	for _, a := range []answer{first, second} {
		got, is := a.value.Interface().(tcp.ListenResult)
		if a.err != nil || !is || got.Outcome != tcp.PortInUse || len(got.Holders) == 0 {
			t.Errorf("%v, %v, want the port in use", a.value, a.err)
		}
	}
}

func value[T any](v T) reflect.Value { return reflect.ValueOf(v) }

// inTwos has two calls for every method of node.Node.
var inTwos = map[string]func(t *testing.T, client, balancer node.Node) twoCalls{
	"Identity":        func(_ *testing.T, client, _ node.Node) twoCalls { return same(client) },
	"Release":         func(_ *testing.T, client, _ node.Node) twoCalls { return same(client) },
	"Counters":        func(_ *testing.T, client, _ node.Node) twoCalls { return same(client) },
	"Occupancy":       func(_ *testing.T, client, _ node.Node) twoCalls { return same(client) },
	"Sockets":         func(_ *testing.T, client, _ node.Node) twoCalls { return same(client) },
	"Flows":           func(_ *testing.T, client, _ node.Node) twoCalls { return netfilter(same(client)) },
	"Rules":           func(_ *testing.T, client, _ node.Node) twoCalls { return same(client) },
	"VirtualServices": func(_ *testing.T, client, _ node.Node) twoCalls { return virtual(same(client)) },
	"SetVirtualServices": func(_ *testing.T, client, _ node.Node) twoCalls {
		at := netip.AddrPortFrom(client.Identity().Addr, 8000)
		return virtual(same(client, value([]topo.VirtualService{{At: at, Destinations: []topo.Destination{{At: at, Weight: 1}}}})))
	},
	"DeleteFlows": func(_ *testing.T, client, _ node.Node) twoCalls {
		return netfilter(same(client, value(observe.FlowMatch{})))
	},
	"HasSymbol": func(_ *testing.T, client, _ node.Node) twoCalls { return same(client, value("tcp_v4_connect")) },
	"Sysctl": func(_ *testing.T, client, _ node.Node) twoCalls {
		return same(client, value("net.ipv4.ip_local_port_range"))
	},
	"SetSysctl": func(_ *testing.T, client, _ node.Node) twoCalls {
		return same(client, value("net.ipv4.ip_local_port_range"), value("40000 40999"))
	},
	"Listen": func(_ *testing.T, _, balancer node.Node) twoCalls {
		calls := same(balancer, value(tcp.ListenSpec{}))
		calls.check = func(t *testing.T, first, second answer) {
			t.Helper()
			if first.err != nil || second.err != nil || first.value.Equal(second.value) {
				t.Errorf("%v and %v, want two listeners", first, second)
			}
		}
		return calls
	},
	"Serve": func(_ *testing.T, _, balancer node.Node) twoCalls {
		calls := same(balancer, value(http.ListenSpec{}))
		calls.check = func(t *testing.T, first, second answer) {
			t.Helper()
			if first.err != nil || second.err != nil || first.value.Equal(second.value) {
				t.Errorf("%v and %v, want two listeners", first, second)
			}
		}
		return calls
	},
	"Connect": func(t *testing.T, client, balancer node.Node) twoCalls {
		t.Helper()
		listener := listenOn(t, balancer, tcp.ListenSpec{Ending: tcp.CloseAfterPeer})
		calls := same(client, value(tcp.Attempt{To: listener.Addr, Ending: tcp.CloseFirst}))
		calls.check = func(t *testing.T, first, second answer) {
			t.Helper()
			for _, a := range []answer{first, second} {
				if out, ok := a.value.Interface().(tcp.Result); !ok || a.err != nil || out.Outcome != tcp.Connected {
					t.Errorf("%v, %v, want Connected", out, a.err)
				}
			}
		}
		return calls
	},
	"Attempt": func(t *testing.T, client, balancer node.Node) twoCalls {
		t.Helper()
		listener := listenOn(t, balancer, tcp.ListenSpec{Ending: tcp.CloseAfterPeer})
		calls := same(client, value([]tcp.Attempt{{To: listener.Addr, Ending: tcp.CloseFirst}}))
		calls.check = func(t *testing.T, first, second answer) {
			t.Helper()
			for _, a := range []answer{first, second} {
				if outs, ok := a.value.Interface().([]tcp.Result); !ok || a.err != nil || outs[0].Outcome != tcp.Connected {
					t.Errorf("%v, %v, want Connected", outs, a.err)
				}
			}
		}
		return calls
	},
	"Exchange": func(t *testing.T, client, balancer node.Node) twoCalls {
		t.Helper()
		listener := serveOn(t, balancer, http.ListenSpec{HTTP: &http.Responder{}})
		exchange := http.Exchange{Attempt: tcp.Attempt{To: listener.Addr, Ending: tcp.CloseFirst}, Requests: []http.Request{{}}}
		calls := same(client, value([]http.Exchange{exchange}), value(1))
		calls.check = func(t *testing.T, first, second answer) {
			t.Helper()
			for _, a := range []answer{first, second} {
				if done, ok := a.value.Interface().([]http.Exchanged); !ok || a.err != nil || done[0].Replies[0].Disposition != http.Whole {
					t.Errorf("%v, %v, want a whole response", done, a.err)
				}
			}
		}
		return calls
	},
	"Served": func(t *testing.T, _, balancer node.Node) twoCalls {
		t.Helper()
		return same(balancer, value(serveOn(t, balancer, http.ListenSpec{HTTP: &http.Responder{}}).Handle))
	},
	"Accept": func(t *testing.T, client, balancer node.Node) twoCalls {
		t.Helper()
		listener := listenOn(t, balancer, tcp.ListenSpec{})
		outs := attemptFrom(t, client, tcp.Attempt{To: listener.Addr}, tcp.Attempt{To: listener.Addr})
		return twoCalls{
			on:    balancer,
			first: []reflect.Value{value(listener.Handle), value(outs[0].Local)}, second: []reflect.Value{value(listener.Handle), value(outs[1].Local)},
		}
	},
	"End": func(t *testing.T, client, balancer node.Node) twoCalls {
		t.Helper()
		conn, _ := connection(t, client, balancer)
		calls := same(client, value(conn), value(tcp.Abort))
		calls.check = func(t *testing.T, first, second answer) {
			t.Helper()
			if first.err != nil {
				first, second = second, first
			}
			if first.err != nil || !errors.Is(second.err, tcp.ErrNoHandle) {
				t.Errorf("%v and %v, want one that ends it and ErrNoHandle", first.err, second.err)
			}
		}
		return calls
	},
	"Send": func(t *testing.T, client, balancer node.Node) twoCalls {
		t.Helper()
		conn, _ := connection(t, client, balancer)
		calls := same(client, value(conn), value(1000))
		calls.check = func(t *testing.T, first, second answer) {
			t.Helper()
			for _, a := range []answer{first, second} {
				if a.err != nil || a.value.Int() != 1000 {
					t.Errorf("sent %v, %v, want 1000", a.value, a.err)
				}
			}
		}
		return calls
	},
	"TrySend": func(t *testing.T, client, balancer node.Node) twoCalls {
		t.Helper()
		conn, _ := connection(t, client, balancer)
		calls := same(client, value(conn), value(1000))
		calls.check = bothAre(tcp.Sent{Bytes: 1000})
		return calls
	},
	"HalfClose": func(t *testing.T, client, balancer node.Node) twoCalls {
		t.Helper()
		conn, _ := connection(t, client, balancer)
		calls := same(client, value(conn))
		calls.check = bothAre(syscall.Errno(0))
		return calls
	},
	"SocketError": func(t *testing.T, client, balancer node.Node) twoCalls {
		t.Helper()
		conn, _ := connection(t, client, balancer)
		calls := same(client, value(conn))
		calls.check = bothAre(syscall.Errno(0))
		return calls
	},
	"ReceiveUpTo": func(t *testing.T, client, balancer node.Node) twoCalls {
		t.Helper()
		conn, peer := connection(t, client, balancer)
		if n, err := balancer.Send(t.Context(), peer, 10); err != nil || n != 10 {
			t.Fatal(n, err)
		}
		calls := same(client, value(conn), value(tcp.Limit{Bytes: 5}))
		calls.check = bothAre(tcp.Received{Bytes: 5, Open: true})
		return calls
	},
	"TryListen": func(t *testing.T, _, balancer node.Node) twoCalls {
		t.Helper()
		at := listenOn(t, balancer, tcp.ListenSpec{}).Addr
		calls := same(balancer, value(tcp.ListenSpec{At: at}))
		calls.check = bothInUse
		return calls
	},
	"TryServe": func(t *testing.T, _, balancer node.Node) twoCalls {
		t.Helper()
		at := listenOn(t, balancer, tcp.ListenSpec{}).Addr
		calls := same(balancer, value(http.ListenSpec{ListenSpec: tcp.ListenSpec{At: at}}))
		calls.check = bothInUse
		return calls
	},
	"Receive": func(t *testing.T, client, balancer node.Node) twoCalls {
		t.Helper()
		const sent = 10_000
		conn, peer := connection(t, client, balancer)
		if n, err := balancer.Send(t.Context(), peer, sent); err != nil || n != sent {
			t.Fatal(n, err)
		}
		endOn(t, balancer, peer, tcp.CloseNow)
		calls := same(client, value(conn))
		calls.check = func(t *testing.T, first, second answer) {
			t.Helper()
			sum := first.value.FieldByName("Bytes").Int() + second.value.FieldByName("Bytes").Int()
			if first.err != nil || second.err != nil || sum != sent {
				t.Errorf("%v and %v, want %d bytes in all", first, second, sent)
			}
		}
		return calls
	},
	"Clock": func(t *testing.T, client, balancer node.Node) twoCalls {
		t.Helper()
		conn, _ := connection(t, client, balancer)
		return same(client, value(conn))
	},
	"AdvanceClock": func(t *testing.T, client, balancer node.Node) twoCalls {
		t.Helper()
		const ticks = int32(100_000_000)
		conn, _ := connection(t, client, balancer)
		before, err := client.Clock(t.Context(), conn)
		if err != nil {
			t.Fatal(err)
		}
		calls := same(client, value(conn), value(ticks))
		calls.check = func(t *testing.T, first, second answer) {
			t.Helper()
			after, err := client.Clock(t.Context(), conn)
			if rose := int32(after.Ticks - before.Ticks); first.err != nil || second.err != nil || err != nil || rose < 2*ticks {
				t.Errorf("%v and %v: %d ticks, %v, want both of %d", first.err, second.err, rose, err, ticks)
			}
		}
		return calls
	},
	"RTO": func(t *testing.T, client, balancer node.Node) twoCalls {
		t.Helper()
		conn, _ := connection(t, client, balancer)
		return same(client, value(conn))
	},
}

// connection is both ends of a connection that stands.
func connection(t *testing.T, client, balancer node.Node) (conn, peer tcp.Handle) {
	t.Helper()
	listener := listenOn(t, balancer, tcp.ListenSpec{})
	out := attemptFrom(t, client, tcp.Attempt{To: listener.Addr})[0]
	peer, err := balancer.Accept(t.Context(), listener.Handle, out.Local)
	if err != nil {
		t.Fatal(err)
	}
	return out.Conn, peer
}

// Every method may be called by two at once, on the same socket too, and says to both
// what is so. Which methods there are is node.Node's to say.
func TestTwoCallersAtOnce(t *testing.T) {
	methods := reflect.TypeFor[node.Node]()
	for name := range inTwos {
		if _, found := methods.MethodByName(name); !found {
			t.Errorf("node.Node has no method %s", name)
		}
	}
	onEveryKind(t, func(t *testing.T, client, balancer node.Node) {
		for i := range methods.NumMethod() {
			name := methods.Method(i).Name
			t.Run(name, func(t *testing.T) {
				two, found := inTwos[name]
				if !found {
					t.Fatalf("node.Node has a method %s: say here how two call it at once", name)
				}
				// Once at least: to read all symbols takes a second.
				began := time.Now()
				for round := 0; round < 20 && (round == 0 || time.Since(began) < 200*time.Millisecond); round++ {
					makeTwoCalls(t, name, two(t, client, balancer))
				}
			})
		}
	})
}

func makeTwoCalls(t *testing.T, name string, calls twoCalls) {
	t.Helper()
	method := reflect.ValueOf(calls.on).MethodByName(name)
	answers := make([]answer, 2)
	var begin, over sync.WaitGroup
	begin.Add(len(answers))
	for i, arguments := range [][]reflect.Value{calls.first, calls.second} {
		if name != "Identity" {
			arguments = append([]reflect.Value{value(t.Context())}, arguments...)
		}
		over.Go(func() {
			begin.Done()
			begin.Wait()
			answers[i] = answerOf(method.Call(arguments))
		})
	}
	ended := make(chan struct{})
	go func() { over.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(30 * time.Second):
		t.Fatal("no answer within 30 s")
	}
	if calls.check != nil {
		calls.check(t, answers[0], answers[1])
		return
	}
	for _, a := range answers {
		if a.err != nil {
			t.Error(a.err)
		}
	}
}

func answerOf(results []reflect.Value) (a answer) {
	for _, r := range results {
		if r.Type() == reflect.TypeFor[error]() {
			a.err, _ = r.Interface().(error)
		} else {
			a.value = r
		}
	}
	return a
}
