//go:build linux

package lab_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"twlab/harness/internal/nstest"
	"twlab/harness/kernel"
	"twlab/harness/lab"
	"twlab/harness/node"
	"twlab/harness/observe"
	"twlab/harness/tcp"
)

// privileged skips a test that builds labs where they cannot be built.
func privileged(t *testing.T) {
	t.Helper()
	if err := nstest.New(t).Close(); err != nil {
		t.Error(err)
	}
}

func build(t *testing.T, topology lab.Topology) *lab.Lab {
	t.Helper()
	privileged(t)
	l, err := lab.Build(t.Context(), topology)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(l.Close(), l.Close()); err != nil {
			t.Errorf("close, twice: %v", err)
		}
	})
	return l
}

func get(t *testing.T, l *lab.Lab, name string) node.Node {
	t.Helper()
	n, err := l.Node(name)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestEveryPathCarriesAConnection(t *testing.T) {
	for name, c := range map[string]struct {
		gateway lab.GatewaySpec
		path    observe.Path
		as      string // source that the balancer sees
		passed  int    // SYNs through the gateway
	}{
		"direct":     {lab.GatewaySpec{}, observe.Path{Client: "client1", Server: "balancer"}, "10.10.0.3", 0},
		"routed":     {lab.GatewaySpec{Kind: lab.Routed}, observe.Path{Client: "client1", Gateways: []string{"gateway"}, Server: "balancer"}, "10.10.0.3", 1},
		"masquerade": {lab.GatewaySpec{Kind: lab.Masquerade}, observe.Path{Client: "client1", Gateways: []string{"gateway"}, Server: "balancer"}, "10.20.0.1", 1},
	} {
		t.Run(name, func(t *testing.T) {
			l := build(t, lab.Topology{Clients: 3, Gateway: c.gateway})
			links := []string{"client1"}
			if len(c.path.Gateways) > 0 {
				links = append(links, "balancer")
			}
			if err := l.Capture(links...); err != nil {
				t.Fatal(err)
			}
			listener, err := get(t, l, "balancer").Listen(t.Context(), tcp.ListenSpec{Ending: tcp.CloseAfterPeer})
			if err != nil {
				t.Fatal(err)
			}
			out, err := get(t, l, "client1").Attempt(t.Context(), []tcp.Attempt{{To: listener.Addr, Ending: tcp.CloseFirst}})
			if err != nil {
				t.Fatal(err)
			}
			noEndErrors(t, out)
			if out[0].Outcome != tcp.Connected || out[0].SYNs != 1 {
				t.Fatalf("got %v, want Connected with the first SYN: links are up when Build returns", out[0])
			}
			packets, err := l.Packets()
			if err != nil {
				t.Fatal(err)
			}
			account := observe.AccountSYNs(packets, c.path, out[0].Local, listener.Addr)
			if account.Sent != 1 || account.EnteredGateway != c.passed || account.LeftGateway != c.passed ||
				account.Reached != 1 || account.SYNACKs != 1 {
				t.Errorf("account: %v", account)
			}
			if as := account.SYNs[0].As.Addr().String(); as != c.as {
				t.Errorf("the balancer sees %s, want %s", as, c.as)
			}
		})
	}
}

func TestALoopbackIsRecorded(t *testing.T) {
	l := build(t, lab.Topology{Clients: 1})
	if err := l.Capture("client0/lo"); err != nil {
		t.Fatal(err)
	}
	client := get(t, l, "client0")
	for _, at := range []netip.Addr{netip.MustParseAddr("127.0.0.1"), client.Identity().Addr} {
		listener, err := client.Listen(t.Context(), tcp.ListenSpec{At: netip.AddrPortFrom(at, 0), Ending: tcp.CloseAfterPeer})
		if err != nil {
			t.Fatal(err)
		}
		out, err := client.Attempt(t.Context(), []tcp.Attempt{{To: listener.Addr, Ending: tcp.CloseFirst}})
		if err != nil {
			t.Fatal(err)
		}
		noEndErrors(t, out)
		packets, err := l.Packets()
		if err != nil {
			t.Fatal(err)
		}
		account := observe.AccountSYNs(packets, observe.Path{Client: "client0", Server: "client0"}, out[0].Local, listener.Addr)
		if account.Sent != 1 || account.Reached != 1 || account.SYNACKs != 1 {
			t.Errorf("%v: account: %v", listener.Addr, account)
		}
	}
	if err := l.Capture("client1/lo"); err == nil {
		t.Error("no error for the loopback of a node that is not there")
	}
}

func TestServersAreReachedFromTheBalancer(t *testing.T) {
	l := build(t, lab.Topology{Clients: 1, Servers: 2, Gateway: lab.GatewaySpec{Kind: lab.Masquerade}})
	for _, server := range l.Servers() {
		listener, err := server.Listen(t.Context(), tcp.ListenSpec{Ending: tcp.CloseAfterPeer})
		if err != nil {
			t.Fatal(err)
		}
		out, err := get(t, l, "balancer").Attempt(t.Context(), []tcp.Attempt{{To: listener.Addr, Ending: tcp.CloseFirst}})
		if err != nil {
			t.Fatal(err)
		}
		noEndErrors(t, out)
		if out[0].Outcome != tcp.Connected {
			t.Errorf("%s: %v", server.Identity().Name, out[0])
		}
	}
}

func TestSysctlsReachTheirTargets(t *testing.T) {
	l := build(t, lab.Topology{
		Clients: 2, Names: []string{"old"}, Gateway: lab.GatewaySpec{Kind: lab.Routed},
		Sysctls: lab.On(lab.Client, "net.ipv4.tcp_timestamps=2").OnNode("old", "net.ipv4.tcp_timestamps=0", "net.ipv4.ip_local_port_range=50000 50009"),
	})
	for _, c := range []struct{ node, name, want string }{
		{"old", "net.ipv4.tcp_timestamps", "0"},
		{"old", "net.ipv4.ip_local_port_range", "50000 50009"},
		{"client1", "net.ipv4.tcp_timestamps", "2"},
		{"gateway", "net.ipv4.tcp_timestamps", "1"},
		{"gateway", "net.ipv4.ip_forward", "1"},
		{"balancer", "net.ipv4.ip_forward", "0"},
	} {
		got, err := get(t, l, c.node).Sysctl(t.Context(), c.name)
		if err != nil || got != c.want {
			t.Errorf("%s %s = %q, %v, want %q", c.node, c.name, got, err, c.want)
		}
	}
}

func TestBuildSaysWhatItCannotDo(t *testing.T) {
	privileged(t)
	for name, c := range map[string]struct {
		topology lab.Topology
		is       error
		want     string
	}{
		"unknown sysctl": {
			lab.Topology{Clients: 1, Sysctls: lab.On(lab.Client, "net.ipv4.tcp_tw_reuze=1")},
			kernel.ErrSysctlUnknown, "client0: sysctl net.ipv4.tcp_tw_reuze=1: no such sysctl",
		},
		"sysctl of the whole machine": {
			lab.Topology{Clients: 1, Sysctls: lab.On(lab.Balancer, "net.ipv4.tcp_mem=1 2 3")},
			kernel.ErrSysctlGlobal, "balancer: sysctl net.ipv4.tcp_mem=1 2 3: not per network namespace",
		},
		"refused value": {
			lab.Topology{Clients: 1, Sysctls: lab.On(lab.Client, "net.ipv4.tcp_tw_reuse=7")},
			kernel.ErrSysctlValue, "client0: sysctl net.ipv4.tcp_tw_reuse=7: value refused",
		},
		"reversed range": {
			lab.Topology{Clients: 1, Sysctls: lab.On(lab.Client, "net.ipv4.ip_local_port_range=5000 4000")},
			kernel.ErrSysctlValue, "client0: sysctl net.ipv4.ip_local_port_range=5000 4000: value refused",
		},
		"rule that iptables refuses": {
			lab.Topology{Clients: 1, Rules: []lab.Rule{{Role: lab.Balancer, Table: "filter", Chain: "NOWHERE", Spec: "-j DROP"}}},
			nil, "balancer: iptables -t filter -A NOWHERE -j DROP: ",
		},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := lab.Build(t.Context(), c.topology)
			if err == nil {
				t.Fatal(errors.Join(errors.New("built it"), l.Close()))
			}
			if c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("%v\nis not %v", err, c.is)
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v\ndoes not say %q", err, c.want)
			}
		})
	}
}

// An iptables that is missing, or that finds no usable tables in the kernel, is
// one error that says what to do.
func TestBuildSaysWhatIsWrongWithIPTables(t *testing.T) {
	privileged(t)
	topology := lab.Topology{Clients: 1, Gateway: lab.GatewaySpec{Kind: lab.Masquerade}}
	for name, c := range map[string]struct{ program, want string }{
		"missing":  {"", "run hack/bootstrap"},
		"unusable": {"#!/bin/sh\ncase $1 in --version) echo 'iptables v1.8.9 (legacy)';; *) echo 'no table' >&2; exit 3;; esac\n", "choose the other one"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			t.Setenv("PATH", dir)
			if c.program != "" {
				if err := os.WriteFile(filepath.Join(dir, "iptables"), []byte(c.program), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			l, err := lab.Build(t.Context(), topology)
			if err == nil {
				t.Fatal(errors.Join(errors.New("built it"), l.Close()))
			}
			if !strings.Contains(err.Error(), "iptables") || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v\ndoes not say %q", err, c.want)
			}
		})
	}
}

func TestRecycleIsGoneSinceALongTime(t *testing.T) {
	release, err := kernel.Running()
	if err != nil || release.Before(4, 12) {
		t.Fatalf("kernel %v, %v: this is the claim for Linux 4.12 and later", release, err)
	}
	privileged(t)
	_, err = lab.Build(t.Context(), lab.Topology{Clients: 1, Sysctls: lab.On(lab.Client, "net.ipv4.tcp_tw_recycle=1")})
	var sysctl *kernel.SysctlError
	if !errors.As(err, &sysctl) || !errors.Is(err, kernel.ErrSysctlGone) || !strings.Contains(err.Error(), "removed in Linux 4.12") {
		t.Errorf("got %v, want a SysctlError that says since when it is gone", err)
	}
}

// Whenever the context ends, nothing of the lab stays.
func TestCancelledBuildLeavesNothing(t *testing.T) {
	privileged(t)
	before := openNamespaces(t)
	for _, after := range []time.Duration{0, time.Millisecond, 5 * time.Millisecond, 10 * time.Millisecond, 20 * time.Millisecond} {
		ctx, cancel := context.WithTimeout(t.Context(), after)
		l, err := lab.Build(ctx, lab.Topology{Clients: 400, Gateway: lab.GatewaySpec{Kind: lab.Masquerade}})
		cancel()
		if err == nil {
			t.Fatal(errors.Join(errors.New("400 clients were built in no time"), l.Close()))
		}
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("after %v: %v", after, err)
		}
	}
	if after := openNamespaces(t); after != before {
		t.Errorf("%d namespaces held open, %d before", after, before)
	}
}

// openNamespaces counts this process's descriptors of network namespaces.
func openNamespaces(t *testing.T) int {
	t.Helper()
	links, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil && strings.HasPrefix(target, "net:[") {
			n++
		}
	}
	return n
}

// The descriptor is a way in, as nsenter takes it.
func TestDescriptorIsTheNamespace(t *testing.T) {
	l := build(t, lab.Topology{Clients: 1})
	number, err := l.Descriptor("client0")
	if err != nil {
		t.Fatal(err)
	}
	held, err := os.Stat(fmt.Sprintf("/proc/self/fd/%d", number))
	if err != nil {
		t.Fatal(err)
	}
	inside, err := l.Inside("client0")
	if err != nil {
		t.Fatal(err)
	}
	if err := inside(func() error {
		own, err := os.Stat("/proc/thread-self/ns/net")
		if err == nil && !os.SameFile(own, held) {
			err = fmt.Errorf("descriptor %d is another namespace", number)
		}
		return err
	}); err != nil {
		t.Error(err)
	}
	if _, err := l.Descriptor("nobody"); err == nil {
		t.Error("a node that is none has a descriptor")
	}
}
