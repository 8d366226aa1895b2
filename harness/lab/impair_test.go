//go:build linux

package lab_test

import (
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"twlab/harness/guest"
	"twlab/harness/internal/labtest"
	"twlab/harness/lab"
	"twlab/harness/node"
	"twlab/harness/observe"
	"twlab/harness/tcp"
	"twlab/harness/topo"
)

const phoneMTU = 1400

// phone is a client of a kind, linked to a balancer.
func phone(kind topo.NodeKind, sends topo.Impairment) topo.Network {
	return topo.Network{
		Nodes: []topo.Node{
			{Identity: topo.Identity{Name: "balancer", Role: topo.Balancer}},
			{Identity: topo.Identity{Name: "client0", Role: topo.Client}, Kind: kind},
		},
		Links:   []topo.Link{{Outer: "client0", Inner: "balancer", MTU: phoneMTU, OuterSends: sends}},
		Sysctls: topo.On(topo.Client, "net.ipv4.tcp_syn_retries=1"),
	}
}

// A kernel without netem says so, what it lacks, and what can be had all the same.
func TestImpairWithoutNetem(t *testing.T) {
	sends := topo.Impairment{Delay: 100 * time.Millisecond}
	l := labtest.BuildNetwork(t, phone(nil, topo.Impairment{}))
	err := l.Impair(t.Context(), "client0", "balancer", sends)
	if err == nil {
		t.Skip("this kernel has netem")
	}
	_, built := lab.BuildNetwork(t.Context(), phone(nil, sends))
	for name, err := range map[string]error{"running": err, "described": built} {
		if !errors.Is(err, lab.ErrNoNetem) {
			t.Errorf("%s: %v, want ErrNoNetem", name, err)
		}
		for _, want := range []string{"client0: set netem on eth0", "sch_netem", "CONFIG_NET_SCH_NETEM", "by a rule"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %q", name, err, want)
			}
		}
	}
}

// What a node of the running kernel sends is late, or lost, and as it was again.
func TestImpair(t *testing.T) {
	impaired(t, nil)
}

// And what a guest sends, whose kernel has netem.
func TestImpairGuest(t *testing.T) {
	privileged(t)
	k := labtest.Kernel(t)
	host, err := machines()
	if err != nil {
		t.Fatal(err)
	}
	impaired(t, guest.Kind{Host: host, Kernel: k})
}

func impaired(t *testing.T, kind topo.NodeKind) {
	t.Helper()
	const late = 700 * time.Millisecond
	l, err := lab.BuildNetwork(t.Context(), phone(kind, topo.Impairment{Delay: late}))
	if errors.Is(err, lab.ErrNoNetem) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}()
	client := get(t, l, "client0")
	listening := listenOn(t, l.Balancer(), tcp.ListenSpec{Ending: tcp.CloseAfterPeer})
	try := func(when string, want tcp.Outcome, least, most time.Duration) {
		t.Helper()
		result, err := client.Connect(t.Context(), tcp.Attempt{To: listening.Addr, Ending: tcp.CloseNow})
		if err != nil || result.Outcome != want || result.Took < least || result.Took > most {
			t.Errorf("%s: %v, %v, want %s in %v to %v", when, result, err, want, least, most)
		}
	}
	impair := func(i topo.Impairment) {
		t.Helper()
		if err := l.Impair(t.Context(), "client0", "balancer", i); err != nil {
			t.Fatal(err)
		}
	}
	try("late", tcp.Connected, late, time.Minute)
	impair(topo.Impairment{Loss: 100})
	try("lost", tcp.TimedOut, time.Second, time.Minute)
	impair(topo.Impairment{})
	try("as it was", tcp.Connected, 0, late)
	impair(topo.Impairment{Delay: late, Jitter: late / 4, KeepOrder: true, Duplicate: 100, Limit: 100})
	twice(t, l, listening)
	impair(topo.Impairment{Rate: 640}) // a SYN of 74 bytes in 0.9 s
	try("slow", tcp.Connected, late, time.Minute)
	for _, keep := range []bool{false, true} {
		impair(topo.Impairment{Delay: late, Jitter: late, KeepOrder: keep})
		if ports := arrivals(t, l, listening); slices.IsSorted(ports) != keep {
			t.Errorf("order kept: %v, and SYNs came from the ports %v", keep, ports)
		}
	}
}

// twice connects, and waits until each of its SYNs has come twice.
func twice(t *testing.T, l *lab.Lab, at node.Listening) {
	t.Helper()
	if err := l.Capture("client0"); err != nil {
		t.Fatal(err)
	}
	mark := l.Mark()
	result, err := l.Client(0).Connect(t.Context(), tcp.Attempt{To: at.Addr, Ending: tcp.Abort})
	if err != nil || result.Outcome != tcp.Connected {
		t.Fatalf("%v, %v", result, err)
	}
	within, stop := context.WithTimeout(t.Context(), 10*time.Second)
	defer stop()
	err = observe.Await(within, "every SYN to come twice", func() (bool, error) {
		packets, err := l.PacketsSince(mark)
		for _, p := range packets {
			if p.Flags != observe.FlagSYN {
				continue // it may have no option
			}
			const headers, mss = 40, 14 + 40 + 2 // of IP and TCP; where the first option is, behind that of Ethernet
			if got := binary.BigEndian.Uint16(p.Raw[mss:]); got != phoneMTU-headers {
				t.Errorf("a SYN announces segments of %d bytes, want %d", got, phoneMTU-headers)
			}
		}
		return countSYNs(packets) == 2*result.SYNs, err
	})
	if err != nil {
		t.Errorf("%v: of %v", err, result)
	}
}

// countSYNs counts the SYNs that came to the balancer.
func countSYNs(packets []observe.Packet) (n int) {
	for _, p := range packets {
		if p.Flags == observe.FlagSYN && p.Point == "balancer" && p.Direction == observe.In {
			n++
		}
	}
	return n
}

// arrivals are the ports of 20 SYNs that a client sends in their order, as they arrive.
func arrivals(t *testing.T, l *lab.Lab, at node.Listening) (ports []uint16) {
	t.Helper()
	if err := l.Capture("client0"); err != nil {
		t.Fatal(err)
	}
	mark := l.Mark()
	var attempts []tcp.Attempt
	for i := range uint16(20) {
		from := netip.AddrPortFrom(l.Client(0).Identity().Addr, 20000+i)
		attempts = append(attempts, tcp.Attempt{To: at.Addr, From: from, ReuseAddr: true, Ending: tcp.Abort})
	}
	if _, err := l.Client(0).Attempt(t.Context(), attempts); err != nil {
		t.Fatal(err)
	}
	packets, err := l.PacketsSince(mark)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range packets {
		first := p.Flags == observe.FlagSYN && !slices.Contains(ports, p.Src.Port())
		if first && p.Point == "balancer" && p.Direction == observe.In {
			ports = append(ports, p.Src.Port())
		}
	}
	if len(ports) != len(attempts) {
		t.Fatalf("%d of %d SYNs came", len(ports), len(attempts))
	}
	return ports
}

// narrow is a path whose middle has a smaller MTU than its ends.
func narrow(t *testing.T) (l *lab.Lab, send func() error) {
	t.Helper()
	sender := netip.MustParseAddr("10.0.0.2")
	l = labtest.BuildNetwork(t, topo.Network{
		Nodes: []topo.Node{
			{Identity: topo.Identity{Name: "client0", Role: topo.Client}},
			{Identity: topo.Identity{Name: "near", Role: topo.Gateway}, Forwards: true},
			{Identity: topo.Identity{Name: "far"}, Forwards: true, Routes: []topo.Route{{To: netip.PrefixFrom(sender, 32), Via: "near"}}},
			{Identity: topo.Identity{Name: "server0", Role: topo.Server}},
		},
		Links: []topo.Link{
			{Outer: "client0", Inner: "near", OuterAddr: sender, InnerAddr: netip.MustParseAddr("10.0.0.1")}, {Outer: "near", Inner: "far", MTU: 1000}, {Outer: "server0", Inner: "far"},
		},
	})
	client, server := get(t, l, "client0"), get(t, l, "server0")
	p := &pair{client: client, server: server, at: listenOn(t, server, tcp.ListenSpec{})}
	p.open(t, netip.Addr{})
	return l, func() error {
		const bytes = 20000
		if _, err := client.Send(t.Context(), p.near, bytes); err != nil {
			return err
		}
		fin(t, client, p.near)
		got, err := server.Receive(t.Context(), p.far)
		if err == nil && got.Bytes != bytes {
			err = errors.New("not all bytes have come")
		}
		return err
	}
}

func destUnreachable(t *testing.T, n node.Node) uint64 {
	t.Helper()
	counters, err := n.Counters(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return counters["Icmp.OutDestUnreachs"]
}

// A packet that is too large for a link in the middle comes back as ICMP, and the sender learns
// (icmp_send in ip_forward, tcp_v4_mtu_reduced).
func TestMTU(t *testing.T) {
	l, send := narrow(t)
	if err := send(); err != nil {
		t.Error(err)
	}
	if n := destUnreachable(t, get(t, l, "near")); n == 0 {
		t.Error("no ICMP was sent")
	}
}

// A path MTU black hole: the small packets of the handshake pass, and no large one ever does.
func TestBlackHole(t *testing.T) {
	l, send := narrow(t)
	drops, err := l.Drop(topo.Drop{Node: "client0", Table: "raw", Chain: "PREROUTING", Match: "-p icmp"})
	if err != nil {
		t.Fatal(err)
	}
	sent := make(chan error, 1)
	go func() { sent <- send() }()
	err = observe.Await(t.Context(), "a second ICMP to be dropped", func() (bool, error) {
		n, err := drops.Dropped()
		return n >= 2, err
	})
	if err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-sent:
		t.Fatalf("the data has arrived: %v", err)
	default:
	}
	if err := drops.End(); err != nil {
		t.Fatal(err)
	}
	if err := <-sent; err != nil {
		t.Errorf("after the drop: %v", err)
	}
}
