//go:build linux

package lab_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"twlab/harness/guest"
	"twlab/harness/internal/labtest"
	"twlab/harness/kernel"
	"twlab/harness/lab"
	"twlab/harness/node"
	"twlab/harness/observe"
	"twlab/harness/tcp"
	"twlab/harness/topo"
)

// guests gives the roles the first kernel that there is to test with.
func guests(t *testing.T, topology lab.Topology, roles ...lab.Role) lab.Topology {
	t.Helper()
	privileged(t)
	k := labtest.Kernel(t)
	host, err := machines()
	if err != nil {
		t.Fatal(err)
	}
	topology.Kinds = map[lab.Role]topo.NodeKind{}
	for _, r := range roles {
		topology.Kinds[r] = guest.Kind{Host: host, Kernel: k}
	}
	return topology
}

// Whichever end of a link is a guest, packets pass with the first
// SYN, and the account of it ends at the wire.
func TestLinksToOtherKernels(t *testing.T) {
	masquerade := lab.GatewaySpec{Kind: lab.Masquerade}
	for name, c := range map[string]struct {
		topology lab.Topology
		roles    []lab.Role
		want     string // the account of the second client's SYN, of a port in place of PORT
	}{
		"balancer behind a gateway": {
			lab.Topology{Clients: 2, Gateway: masquerade}, []lab.Role{lab.Balancer},
			"1 sent, 1 entered and 1 left gateway as 10.20.0.1:PORT: 1 answered by SYN-ACK",
		},
		"clients behind a gateway": {
			lab.Topology{Clients: 2, Gateway: masquerade}, []lab.Role{lab.Client},
			"1 sent, 1 entered and 1 left gateway as 10.20.0.1:PORT, 1 reached balancer: 1 answered by SYN-ACK",
		},
		"balancer between clients and servers": {
			lab.Topology{Clients: 2, Servers: 2}, []lab.Role{lab.Balancer},
			"1 sent: 1 answered by SYN-ACK",
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := build(t, guests(t, c.topology, c.roles...))
			links := []string{"client1"}
			if c.topology.Gateway != (lab.GatewaySpec{}) {
				links = append(links, "balancer")
			}
			if err := l.Capture(links...); err != nil {
				t.Fatal(err)
			}
			balancer := get(t, l, "balancer")
			listener := listenOn(t, balancer, tcp.ListenSpec{Ending: tcp.CloseAfterPeer})
			for _, client := range l.Nodes(lab.Client) {
				connectTo(t, client, listener)
			}
			out := connectTo(t, get(t, l, "client1"), listener)
			for _, server := range l.Servers() {
				connectTo(t, balancer, listenOn(t, server, tcp.ListenSpec{Ending: tcp.CloseAfterPeer}))
			}
			packets, err := l.Packets()
			if err != nil {
				t.Fatal(err)
			}
			account := observe.AccountSYNs(packets, l.Path("client1"), out.Local, listener.Addr)
			if want := strings.ReplaceAll(c.want, "PORT", fmt.Sprint(account.SYNs[0].As.Port())); account.String() != want || account.Reached != 1 {
				t.Errorf("account: %v, want %s", account, want)
			}
			if err := l.Capture("client1/lo"); (err != nil) != (c.roles[0] == lab.Client) {
				t.Errorf("capture of a loopback: %v", err)
			}
			if len(l.Consoles()) != len(l.Nodes(c.roles[0])) {
				t.Errorf("%d consoles", len(l.Consoles()))
			}
		})
	}
}

func connectTo(t *testing.T, from node.Node, listener node.Listening) tcp.Result {
	t.Helper()
	out := attemptFrom(t, from, tcp.Attempt{To: listener.Addr, Ending: tcp.CloseFirst})[0]
	if out.Outcome != tcp.Connected || out.SYNs != 1 {
		t.Fatalf("%s to %v: %v, want Connected with the first SYN", from.Identity().Name, listener.Addr, out)
	}
	return out
}

// Baseline and differences are set there too, and a sysctl that only the initial
// namespace has belongs to the node.
func TestSysctlsOfOtherKernels(t *testing.T) {
	topology := guests(t, lab.Topology{
		Clients: 1, Gateway: lab.GatewaySpec{Kind: lab.Routed},
		Sysctls: lab.On(lab.Balancer, "net.ipv4.tcp_fin_timeout=7", "net.ipv4.tcp_max_orphans=4321"),
	}, lab.Balancer)
	l := build(t, topology)
	for name, want := range map[string]string{
		"net.ipv4.tcp_fin_timeout": "7", "net.ipv4.tcp_max_orphans": "4321", "net.ipv4.tcp_max_tw_buckets": "131072",
	} {
		if got, err := get(t, l, "balancer").Sysctl(t.Context(), name); err != nil || got != want {
			t.Errorf("%s = %q, %v, want %q", name, got, err, want)
		}
	}
	err := l.AddRules(lab.Rule{Node: "balancer", Table: "filter", Chain: "INPUT", Spec: "-j DROP"})
	if err == nil || !strings.Contains(err.Error(), "balancer: no iptables rules") {
		t.Errorf("add rules: %v", err)
	}
	topology.Sysctls = lab.On(lab.Balancer, "net.ipv4.tcp_tw_reuze=1")
	if _, err := lab.Build(t.Context(), topology); !errors.Is(err, kernel.ErrSysctlUnknown) {
		t.Errorf("build: %v, want ErrSysctlUnknown", err)
	}
}

// Of two clients, the later one has been up for less by the gap and more, as it
// says itself.
func TestBootGapGivesClientsDifferentAges(t *testing.T) {
	const gap = 2 * time.Second
	topology := guests(t, lab.Topology{Clients: 2, Gateway: lab.GatewaySpec{Kind: lab.Masquerade}, BootGap: gap}, lab.Client)
	l := build(t, topology)
	listener := listenOn(t, get(t, l, "balancer"), tcp.ListenSpec{})
	age := func(client string) time.Duration {
		n := get(t, l, client)
		out := attemptFrom(t, n, tcp.Attempt{To: listener.Addr})[0]
		reading, err := n.Clock(t.Context(), out.Conn)
		if err != nil {
			t.Fatal(err)
		}
		return reading.At
	}
	younger := age("client1")
	if older := age("client0"); older-younger < gap {
		t.Errorf("ages %v and then %v, want %v and more in between", younger, older, gap)
	}
}

// A kernel that does not boot fails the lab, which leaves nothing.
func TestBuildWithAKernelThatDoesNotBoot(t *testing.T) {
	topology := guests(t, lab.Topology{Clients: 1, Gateway: lab.GatewaySpec{Kind: lab.Routed}}, lab.Balancer)
	host, err := machines()
	if err != nil {
		t.Fatal(err)
	}
	topology.Kinds[lab.Balancer] = guest.Kind{Host: host, Kernel: kernel.Image{Path: "/proc/self/exe"}}
	_, err = lab.Build(t.Context(), topology)
	if !errors.Is(err, kernel.ErrNotImage) || !strings.Contains(err.Error(), "build lab: balancer: boot /proc/self/exe: ") {
		t.Errorf("%v, want ErrNotImage and the node", err)
	}
	if open := openNamespaces(t); open > 0 {
		t.Errorf("%d namespaces are still open", open)
	}
}

// Machines that boot side by side share what there is: each of these would have room.
func TestMachinesThatDoNotAllHaveRoom(t *testing.T) {
	topology := guests(t, lab.Topology{Clients: 2, Gateway: lab.GatewaySpec{Kind: lab.Routed}}, lab.Client)
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		t.Fatal(err)
	}
	var kB int
	_, line, _ := strings.Cut(string(text), "MemAvailable:")
	if _, err := fmt.Sscan(line, &kB); err != nil {
		t.Fatal(err)
	}
	host, err := machines()
	if err != nil {
		t.Fatal(err)
	}
	host.MemoryMiB = kB >> 10 * 6 / 10
	topology.Kinds[lab.Client] = guest.Kind{Host: host, Kernel: labtest.Kernel(t)}
	l, err := lab.Build(t.Context(), topology)
	if err == nil {
		t.Fatal(errors.Join(errors.New("it boots"), l.Close()))
	}
	if !errors.Is(err, guest.ErrNoMemory) || !strings.Contains(err.Error(), "for 2 machines") {
		t.Errorf("%v, want ErrNoMemory for both", err)
	}
}
