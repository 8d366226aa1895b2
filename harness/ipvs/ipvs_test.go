//go:build linux

package ipvs_test

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"twlab/harness/guest"
	"twlab/harness/internal/labtest"
	"twlab/harness/ipvs"
	"twlab/harness/kernel"
	"twlab/harness/lab"
	"twlab/harness/observe"
	"twlab/harness/tcp"
	"twlab/harness/topo"
)

// balanced is a client, and IPVS before two servers.
func balanced(ip topo.IPVersion) lab.Topology {
	return lab.Topology{
		IP: ip, Clients: 1, Servers: 2, Balancer: topo.BalancerSpec{Program: ipvs.Balancer{}},
		Sysctls: topo.On(topo.Balancer, "net.ipv4.vs.expire_nodest_conn=0", "net.ipv4.vs.conn_reuse_mode=1"),
	}
}

// A kernel without IPVS says which module it lacks, and not that it lacks the module's sysctls.
func TestWithoutIPVS(t *testing.T) {
	l, err := lab.Build(t.Context(), balanced(topo.IPv4))
	if err == nil {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		t.Skip("this kernel has IPVS")
	}
	if !errors.Is(err, ipvs.ErrMissing) {
		t.Fatalf("%v, want ErrMissing", err)
	}
	for _, want := range []string{"balancer: ", "module ip_vs", "CONFIG_IP_VS", "debian-6.1"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestValidate(t *testing.T) {
	one, two := netip.MustParseAddrPort("10.30.0.2:80"), netip.MustParseAddrPort("[fd00::2]:80")
	at := topo.Place{At: netip.MustParseAddrPort("10.20.0.2:80"), Servers: []netip.AddrPort{one}}
	if err := (ipvs.Balancer{Weights: map[netip.AddrPort]uint32{one: 0}}).Validate(at); err != nil {
		t.Error(err)
	}
	wrong := at
	wrong.Servers = []netip.AddrPort{two}
	for name, err := range map[string]error{
		"another version":     ipvs.Balancer{}.Validate(wrong),
		"a weight for nobody": ipvs.Balancer{Weights: map[netip.AddrPort]uint32{two: 1}}.Validate(at),
		"without nobody":      ipvs.Balancer{Without: []netip.AddrPort{two}}.Validate(at),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// world is a lab with IPVS in a guest.
type world struct {
	*testing.T
	l       *lab.Lab
	servers []netip.AddrPort
	listens []tcp.Handle
}

// inGuest builds the lab with a guest as the balancer.
func inGuest(t *testing.T, ip topo.IPVersion) *world {
	t.Helper()
	k := labtest.Kernel(t)
	agent, err := guestAgent.Path()
	if err != nil {
		t.Fatal(err)
	}
	topology := balanced(ip)
	topology.Kinds = map[topo.Role]topo.NodeKind{topo.Balancer: guest.Kind{Host: guest.Host{Agent: agent}, Kernel: k}}
	w := &world{T: t, l: labtest.Build(t, topology)}
	w.servers = w.l.Behind()
	for i, n := range w.l.Servers() {
		listening, err := n.Listen(t.Context(), tcp.ListenSpec{At: w.servers[i]})
		if err != nil {
			t.Fatal(err)
		}
		w.listens = append(w.listens, listening.Handle)
	}
	return w
}

// connect makes a connection, which stays, and returns the server that has it.
func (w *world) connect() (client, server tcp.Handle, at int) {
	w.Helper()
	result, err := w.l.Client(0).Connect(w.Context(), tcp.Attempt{To: w.l.VIP()})
	if err != nil || result.Outcome != tcp.Connected {
		w.Fatal(result, err)
	}
	for i, n := range w.l.Servers() {
		all, err := n.Sockets(w.Context())
		if err != nil {
			w.Fatal(err)
		}
		has := func(s observe.Socket) bool { return s.Remote == result.Local }
		if !slices.ContainsFunc(all, has) {
			continue
		}
		conn, err := n.Accept(w.Context(), w.listens[i], result.Local)
		if err != nil {
			w.Fatal(err)
		}
		return result.Conn, conn, i
	}
	w.Fatalf("no server has a connection of %v", result.Local)
	return client, server, at
}

// spread makes n connections and returns how many each server got.
func (w *world) spread(n int) [2]int {
	w.Helper()
	var got [2]int
	for range n {
		_, _, at := w.connect()
		got[at]++
	}
	return got
}

// reload changes the balancer.
func (w *world) reload(to ipvs.Balancer) {
	w.Helper()
	if err := w.l.ReloadProgram(w.Context(), "balancer", to); err != nil {
		w.Fatal(err)
	}
}

// send sends five bytes to a server, and reports whether they arrive soon.
func (w *world) send(client, server tcp.Handle, at int) bool {
	w.Helper()
	if _, err := w.l.Client(0).Send(w.Context(), client, 5); err != nil {
		w.Fatal(err)
	}
	return w.arrives(server, at, 5, 500*time.Millisecond)
}

func (w *world) arrives(server tcp.Handle, at, bytes int, within time.Duration) bool {
	w.Helper()
	got, err := w.l.Servers()[at].ReceiveUpTo(w.Context(), server, tcp.Limit{Bytes: bytes, Within: within})
	if err != nil {
		w.Fatal(err)
	}
	return got.Bytes == bytes
}

// awaitStats waits until the balancer has these statistics.
func (w *world) awaitStats(want kernel.Counters) {
	w.Helper()
	p, err := w.l.Program()
	if err != nil {
		w.Fatal(err)
	}
	within, stop := context.WithTimeout(w.Context(), 20*time.Second)
	defer stop()
	var stats kernel.Counters
	err = observe.Await(within, "the statistics", func() (bool, error) {
		var err error
		stats, err = p.Stats(within)
		return maps.Equal(stats, want), err
	})
	if err != nil {
		w.Errorf("%v: they are %v, want %v", err, stats, want)
	}
}

// In a guest whose kernel has IPVS, connections go to the servers in turn; one with weight 0
// gets none and keeps those that it has; one that is removed does not get another packet of
// them either, until it is there again (ip_vs_in: a destination that is not available).
func TestInGuest(t *testing.T) {
	for _, ip := range []topo.IPVersion{topo.IPv4, topo.IPv6} {
		t.Run(string(ip), func(t *testing.T) { inTurn(inGuest(t, ip)) })
	}
}

func inTurn(w *world) {
	client, server, at := w.connect()
	other := 1 - at
	w.spread(1)
	if got := w.spread(4); got != [2]int{2, 2} {
		w.Errorf("4 connections in turn: %v", got)
	}
	w.awaitStats(kernel.Counters{
		"server0.connections": 3, "server0.active": 3, "server0.inactive": 0,
		"server1.connections": 3, "server1.active": 3, "server1.inactive": 0,
	})

	w.reload(ipvs.Balancer{Weights: map[netip.AddrPort]uint32{w.servers[at]: 0}})
	if got := w.spread(4); got[at] != 0 {
		w.Errorf("with weight 0 server %d got %d of 4", at, got[at])
	}
	if !w.send(client, server, at) {
		w.Error("with weight 0 the server lost its connection")
	}

	w.reload(ipvs.Balancer{Without: []netip.AddrPort{w.servers[at]}})
	if w.send(client, server, at) {
		w.Error("a packet reached a server that was removed")
	}
	if got := w.spread(2); got[other] != 2 {
		w.Errorf("of 2 connections, the only server got %d", got[other])
	}
	w.reload(ipvs.Balancer{})
	if !w.arrives(server, at, 5, 10*time.Second) {
		w.Error("the server is there again, and what was sent did not arrive")
	}
	w.expires(client, at)
}

// expires removes a server, with expire_nodest_conn: the client's next segment finds no entry,
// and the balancer itself answers with a RST.
func (w *world) expires(client tcp.Handle, at int) {
	balancer := w.l.Balancer()
	if err := balancer.SetSysctl(w.Context(), "net.ipv4.vs.expire_nodest_conn", "1"); err != nil {
		w.Fatal(err)
	}
	w.reload(ipvs.Balancer{Without: []netip.AddrPort{w.servers[at]}})
	if _, err := w.l.Client(0).Send(w.Context(), client, 5); err != nil {
		w.Fatal(err)
	}
	within, stop := context.WithTimeout(w.Context(), 10*time.Second)
	defer stop()
	if err := observe.Await(within, "the client to be reset", func() (bool, error) {
		errno, err := w.l.Client(0).SocketError(w.Context(), client)
		return errno != 0, err
	}); err != nil {
		w.Error(err)
	}
}

// A scheduler that the kernel has not, an error names.
func TestNoScheduler(t *testing.T) {
	k := labtest.Kernel(t)
	agent, err := guestAgent.Path()
	if err != nil {
		t.Fatal(err)
	}
	topology := balanced(topo.IPv4)
	topology.Balancer.Program = ipvs.Balancer{Scheduler: "nosuch"}
	topology.Kinds = map[topo.Role]topo.NodeKind{topo.Balancer: guest.Kind{Host: guest.Host{Agent: agent}, Kernel: k}}
	_, err = lab.Build(t.Context(), topology)
	if !errors.Is(err, ipvs.ErrScheduler) || !strings.Contains(err.Error(), "ip_vs_nosuch") {
		t.Errorf("%v, want ErrScheduler and its module", err)
	}
}
