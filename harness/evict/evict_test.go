//go:build linux

package evict_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"twlab/harness/evict"
	"twlab/harness/internal/labtest"
	"twlab/harness/kernel"
	"twlab/harness/lab"
	"twlab/harness/observe"
	"twlab/harness/tcp"
)

const (
	ports   = 8
	timeout = 8 * time.Second // of conntrack
)

// behindGateway is a lab whose gateway has few ports.
func behindGateway(t *testing.T) *lab.Lab {
	t.Helper()
	seconds := int(timeout.Seconds())
	return labtest.Build(t, lab.Topology{
		Clients: 1,
		Gateway: lab.GatewaySpec{Kind: lab.Masquerade, Ports: lab.PortRange{First: 2000, Last: 2000 + ports - 1}},
		// Who is refused gives up after 3 s. One clock for all, so that the
		// balancer's TIME_WAITs refuse nobody.
		Sysctls: lab.On(lab.Client, "net.ipv4.tcp_syn_retries=1", "net.ipv4.tcp_syn_linear_timeouts=0", "net.ipv4.tcp_timestamps=2").
			On(lab.Gateway, fmt.Sprintf("net.netfilter.nf_conntrack_tcp_timeout_time_wait=%d", seconds),
				fmt.Sprintf("net.netfilter.nf_conntrack_tcp_timeout_close=%d", seconds)),
	})
}

// connect makes n attempts side by side, and counts the connected ones.
func connect(t *testing.T, l *lab.Lab, to netip.AddrPort, n int, ending tcp.Ending) (connected int) {
	t.Helper()
	outcomes, err := l.Client(0).Attempt(t.Context(), slices.Repeat([]tcp.Attempt{{To: to, Ending: ending}}, n))
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range outcomes {
		if o.Outcome == tcp.Connected {
			connected++
		}
	}
	return connected
}

func listen(t *testing.T, l *lab.Lab, ending tcp.Ending) netip.AddrPort {
	t.Helper()
	listener, err := l.Balancer().Listen(t.Context(), tcp.ListenSpec{Ending: ending})
	if err != nil {
		t.Fatal(err)
	}
	return listener.Addr
}

func flows(t *testing.T, l *lab.Lab) []observe.Flow {
	t.Helper()
	all, err := l.Gateway().Flows(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestEndedConnectionsKeepTheirPortsForTheWholeTimeout(t *testing.T) {
	for _, c := range []struct {
		name        string
		here, there tcp.Ending
		state       string
	}{
		{"the balancer closes first", tcp.CloseAfterPeer, tcp.CloseFirst, "TIME_WAIT"},
		{"the client closes first", tcp.CloseFirst, tcp.CloseAfterPeer, "TIME_WAIT"},
		{"the client resets", tcp.Abort, tcp.CloseAfterPeer, "CLOSE"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := behindGateway(t)
			if err := evict.Attach(t.Context(), l); err != nil {
				t.Fatal(err)
			}
			to := listen(t, l, c.there)
			// One after the other: two side by side may clash over a port.
			for i := range ports {
				if connect(t, l, to, 1, c.here) != 1 {
					t.Fatalf("attempt %d did not connect: want a port for each of %d", i, ports)
				}
			}
			ended := time.Now()
			// The last packet may be on its way.
			soon, stop := context.WithTimeout(t.Context(), 3*timeout)
			defer stop()
			err := observe.Await(soon, fmt.Sprintf("%d entries in %s", ports, c.state), func() (bool, error) {
				all := flows(t, l)
				return len(all) == ports && !slices.ContainsFunc(all, func(f observe.Flow) bool { return f.State != c.state }), nil
			})
			if err != nil {
				t.Fatalf("%v: %v", err, flows(t, l))
			}
			n := connect(t, l, to, ports, c.here)
			if took := time.Since(ended); took > timeout-2*time.Second {
				t.Fatalf("the attempts took %v: this machine is too busy for a timeout of %v", took, timeout)
			}
			if n > 0 {
				t.Errorf("%d connected within the timeout, want none", n)
			}
			err = observe.Await(soon, "the entries to expire", func() (bool, error) { return len(flows(t, l)) == 0, nil })
			if err != nil {
				t.Fatal(err)
			}
			if kept := time.Since(ended); kept > timeout+2*time.Second {
				t.Errorf("the entries expired after %v, want %v", kept, timeout)
			}
			if connect(t, l, to, 1, c.here) != 1 {
				t.Error("no connection after the timeout, want one")
			}
		})
	}
}

// The test above must see what it forbids where nothing prevents it.
func TestLinuxEvictsWhenNothingPreventsIt(t *testing.T) {
	r, err := kernel.Running()
	if err != nil {
		t.Fatal(err)
	}
	if r.Before(6, 5) {
		t.Skipf("Linux %v does not evict", r)
	}
	l := behindGateway(t)
	to := listen(t, l, tcp.CloseFirst)
	n := 0
	for range 4 * ports {
		n += connect(t, l, to, 1, tcp.CloseAfterPeer)
	}
	if n <= ports {
		t.Errorf("%d connected through %d ports, want more", n, ports)
	}
}

func TestConnectionsThatStandAreLeftAlone(t *testing.T) {
	l := behindGateway(t)
	if err := evict.Attach(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	to := listen(t, l, tcp.KeepOpen)
	if connect(t, l, to, 1, tcp.KeepOpen) != 1 {
		t.Fatal("no connection")
	}
	if all := flows(t, l); len(all) != 1 || all[0].State != "ESTABLISHED" || all[0].Expires < time.Hour {
		t.Errorf("flows %v, want one ESTABLISHED with days to go", all)
	}
}

// The one way in which a port comes back before its time, with or without prevention.
func TestAClientThatTakesItsOwnPortAgainReplacesItsEntry(t *testing.T) {
	l := behindGateway(t)
	if err := evict.Attach(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	to := listen(t, l, tcp.CloseFirst)
	attempt := tcp.Attempt{To: to, From: netip.AddrPortFrom(netip.Addr{}, 40000), ReuseAddr: true, Ending: tcp.CloseAfterPeer}
	once := func() tcp.Outcome {
		outcomes, err := l.Client(0).Attempt(t.Context(), []tcp.Attempt{attempt})
		if err != nil {
			t.Fatal(err)
		}
		return outcomes[0].Outcome
	}
	if v := once(); v != tcp.Connected {
		t.Fatalf("got %s, want Connected", v)
	}
	for i := range ports - 1 {
		if connect(t, l, to, 1, tcp.CloseAfterPeer) != 1 {
			t.Fatalf("attempt %d did not connect: want a port for each of %d", i, ports)
		}
	}
	if v := once(); v != tcp.Connected {
		t.Errorf("from the first port again: %s, want Connected", v)
	}
	if n := len(flows(t, l)); n != ports {
		t.Errorf("%d entries, want %d: one was replaced", n, ports)
	}
}

// Packets are still being marked when it is closed.
func TestCloseInTheMiddleOfPackets(t *testing.T) {
	for range 30 {
		l := behindGateway(t)
		if err := evict.Attach(t.Context(), l); err != nil {
			t.Fatal(err)
		}
		to := listen(t, l, tcp.CloseFirst)
		client := l.Nodes(lab.Client)[0]
		var attempts sync.WaitGroup
		began := make(chan struct{})
		attempts.Go(func() {
			for i := range ports {
				// The lab goes away in the middle of it.
				_, _ = client.Attempt(t.Context(), []tcp.Attempt{{To: to, Ending: tcp.CloseAfterPeer}})
				if i == 0 {
					close(began)
				}
			}
		})
		<-began
		err := l.Close()
		attempts.Wait()
		if err != nil {
			t.Fatal(err)
		}
	}
}
