//go:build linux

package lab_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"twlab/harness/guest"
	"twlab/harness/internal/labtest"
	"twlab/harness/kernel"
	"twlab/harness/lab"
	"twlab/harness/tcp"
	"twlab/harness/topo"
)

// full is a balancer whose conntrack table has room for three connections.
func full() lab.Topology {
	return lab.Topology{
		Clients: 1, Gateway: lab.GatewaySpec{Kind: lab.Masquerade},
		Sysctls: lab.On(lab.Client, "net.ipv4.tcp_syn_retries=1"),
	}
}

// A limit that the machine has once cannot be a namespace's, which says what can have it.
func TestConntrackMaxOfANamespace(t *testing.T) {
	privileged(t)
	topology := full()
	topology.Sysctls = topology.Sysctls.On(lab.Gateway, "net.netfilter.nf_conntrack_max=3")
	l, err := lab.Build(t.Context(), topology)
	if err == nil {
		t.Fatalf("built; close: %v", l.Close())
	}
	if !errors.Is(err, kernel.ErrSysctlReadOnly) || !strings.Contains(err.Error(), "gateway: ") || !strings.Contains(err.Error(), "make the node a guest") {
		t.Errorf("%v, want gateway, ErrSysctlReadOnly, and what can be done", err)
	}
}

// A guest whose conntrack table is full drops SYNs, and says so in its log; its hash table has
// the size that it was given at boot. Sysctls that the machine has once are its own.
func TestConntrackTableFull(t *testing.T) {
	privileged(t)
	k := labtest.Kernel(t)
	host, err := machines()
	if err != nil {
		t.Fatal(err)
	}
	topology := full()
	topology.Kinds = map[lab.Role]topo.NodeKind{
		lab.Balancer: guest.Kind{Host: host, Kernel: k, Conntrack: guest.Conntrack{Always: true, Buckets: 1024}},
	}
	topology.Sysctls = topology.Sysctls.On(lab.Balancer, "net.netfilter.nf_conntrack_max=3", "net.ipv4.tcp_mem=1000 2000 3000")
	l := build(t, topology)
	balancer := l.Balancer()
	if buckets, err := balancer.Sysctl(t.Context(), "net.netfilter.nf_conntrack_buckets"); err != nil || buckets != "1024" {
		t.Errorf("%s buckets, %v, want 1024", buckets, err)
	}
	listening := listenOn(t, balancer, tcp.ListenSpec{})
	for i := range 4 {
		want := tcp.Connected
		if i == 3 {
			want = tcp.TimedOut
		}
		result, err := l.Client(0).Connect(t.Context(), tcp.Attempt{To: listening.Addr})
		if err != nil || result.Outcome != want {
			t.Errorf("connection %d: %v, %v, want %s", i+1, result, err, want)
		}
		if want == tcp.Connected {
			// Until it is accepted, its entry has not seen the last ACK, and is not safe from
			// the next SYN (early_drop).
			if _, err := balancer.Accept(t.Context(), listening.Handle, netip.AddrPortFrom(l.Gateway().Identity().Addr, result.Local.Port())); err != nil {
				t.Fatal(err)
			}
		}
	}
	if flows, err := balancer.Flows(t.Context()); err != nil || len(flows) != 3 {
		t.Errorf("%v, %v, want 3 entries", flows, err)
	}
	if log := l.Consoles()["balancer"]; !strings.Contains(log, "nf_conntrack: table full, dropping packet") {
		t.Errorf("the log does not say that the table is full:\n%s", log)
	}
}
