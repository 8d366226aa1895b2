//go:build linux

package lab_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"twlab/harness/haproxy"
	"twlab/harness/lab"
	"twlab/harness/nginx"
	"twlab/harness/observe"
	"twlab/harness/tcp"
	"twlab/harness/topo"
)

// installed is an error when the balancer is a program that is not there.
func installed(b lab.BalancerSpec) (string, error) {
	if b.Program == nil {
		return "", nil
	}
	return exec.LookPath(b.Program.Name())
}

// Whatever balances, and whatever stands before it, connections reach all of the
// servers and come back; who the servers see is what tells the kinds apart.
func TestBalancersReachAllServers(t *testing.T) {
	privileged(t)
	client, gateway, balancer := netip.MustParseAddr("10.10.0.2"), netip.MustParseAddr("10.20.0.1"), netip.MustParseAddr("10.30.0.1")
	for name, c := range map[string]struct {
		gateway  lab.GatewayKind
		balancer lab.BalancerSpec
		seen     netip.Addr // by the servers
	}{
		"haproxy behind masquerade": {lab.Masquerade, lab.BalancerSpec{Program: haproxy.Balancer{}}, balancer},
		"haproxy alone":             {lab.NoGateway, lab.BalancerSpec{Program: haproxy.Balancer{}, Port: 8000, ServerPort: 9000}, balancer},
		"haproxy behind a router":   {lab.Routed, lab.BalancerSpec{Program: haproxy.Balancer{Config: haproxy.Config{BackendLines: []string{"balance leastconn"}}}}, balancer},
		"nginx behind masquerade":   {lab.Masquerade, lab.BalancerSpec{Program: nginx.Balancer{}}, balancer},
		"dnat behind masquerade":    {lab.Masquerade, lab.BalancerSpec{Kind: lab.DNAT, Statistic: lab.InTurn}, gateway},
		"dnat behind a router":      {lab.Routed, lab.BalancerSpec{Kind: lab.DNAT, Port: 8000, ServerPort: 9000}, client},
		"dnat alone":                {lab.NoGateway, lab.BalancerSpec{Kind: lab.DNAT}, client},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := installed(c.balancer); err != nil {
				t.Skip(err)
			}
			ctx := t.Context()
			l := build(t, lab.Topology{Clients: 1, Servers: 3, Gateway: lab.GatewaySpec{Kind: c.gateway}, Balancer: c.balancer})
			serve(ctx, t, l)
			const connects = 60
			for range connects {
				outs, err := l.Client(0).Attempt(ctx, []tcp.Attempt{{To: l.VIP()}})
				if err != nil || outs[0].Outcome != tcp.Connected {
					t.Fatal(outs, err)
				}
			}
			within, cancel := context.WithTimeout(ctx, 10*time.Second)
			defer cancel()
			if err := observe.Await(within, "every connection to be at a server", func() (bool, error) {
				all, err := atServers(ctx, l)
				return len(all) == connects, err
			}); err != nil {
				t.Fatal(err)
			}
			for i, n := range l.Servers() {
				all, err := n.Sockets(ctx)
				if err != nil {
					t.Fatal(err)
				}
				there := all.In(observe.Established)
				if len(there) == 0 {
					t.Errorf("server%d got none of %d connections", i, connects)
				}
				if c.balancer.Statistic == lab.InTurn && len(there) != connects/3 {
					t.Errorf("server%d got %d of %d connections, want a third", i, len(there), connects)
				}
				from := map[netip.Addr]bool{}
				for _, s := range there {
					from[s.Remote.Addr()] = true
				}
				if !maps.Equal(from, map[netip.Addr]bool{c.seen: true}) {
					t.Errorf("server%d sees %v, want %v", i, slices.Collect(maps.Keys(from)), c.seen)
				}
			}
		})
	}
}

// serve listens at all the servers of a lab.
func serve(ctx context.Context, t *testing.T, l *lab.Lab) {
	t.Helper()
	for i, n := range l.Servers() {
		if _, err := n.Listen(ctx, tcp.ListenSpec{At: l.Behind()[i]}); err != nil {
			t.Fatal(err)
		}
	}
}

func atServers(ctx context.Context, l *lab.Lab) (established observe.Sockets, err error) {
	for _, n := range l.Servers() {
		all, err := n.Sockets(ctx)
		if err != nil {
			return nil, err
		}
		established = append(established, all.In(observe.Established)...)
	}
	return established, nil
}

// A program that ends in the middle says so, with its last words, until the lab is
// closed, which says so too.
func TestProgramThatDiesIsTold(t *testing.T) {
	privileged(t)
	l, err := lab.Build(t.Context(), lab.Topology{Clients: 1, Servers: 1, Balancer: lab.BalancerSpec{Program: haproxy.Balancer{}}})
	if errors.Is(err, haproxy.ErrMissing) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	p, err := l.Program()
	if err != nil {
		t.Fatal(err)
	}
	for _, pid := range programsOf(t, os.Getpid(), "haproxy") {
		if err := exec.CommandContext(t.Context(), "kill", "-SEGV", pid).Run(); err != nil {
			t.Fatal(err)
		}
	}
	within, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := observe.Await(within, "HAProxy's end", func() (bool, error) { return p.Failure() != nil, nil }); err != nil {
		t.Fatal(err)
	}
	_, asked := p.Stats(t.Context())
	for name, err := range map[string]error{"Stats": asked, "Close": l.Close()} {
		if !errors.Is(err, topo.ErrEnded) || !strings.Contains(err.Error(), "segmentation fault") {
			t.Errorf("%s: %v, want ErrEnded and how", name, err)
		}
	}
	if err := l.Close(); err != nil {
		t.Errorf("close again: %v", err)
	}
}

// Labs side by side have the same addresses and ports, and each its own HAProxy,
// which sees its own connections only, and is gone with its lab.
func TestLabsWithHAProxySideBySide(t *testing.T) {
	privileged(t)
	if _, err := exec.LookPath("haproxy"); err != nil {
		t.Skip(haproxy.ErrMissing)
	}
	const labs = 48
	var all errgroup.Group
	for i := range labs {
		all.Go(func() (err error) {
			l, err := lab.Build(t.Context(), lab.Topology{Clients: 1, Servers: 1, Balancer: lab.BalancerSpec{Program: haproxy.Balancer{}}})
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, l.Close(), l.Close()) }()
			if _, err := l.Servers()[0].Listen(t.Context(), tcp.ListenSpec{At: l.Behind()[0]}); err != nil {
				return err
			}
			outs, err := l.Client(0).Attempt(t.Context(), slices.Repeat([]tcp.Attempt{{To: l.VIP()}}, i))
			if err != nil {
				return err
			}
			if n := len(outs); n != i || slices.ContainsFunc(outs, func(o tcp.Result) bool { return o.Outcome != tcp.Connected }) {
				return fmt.Errorf("lab %d: %v", i, outs)
			}
			p, err := l.Program()
			if err != nil {
				return err
			}
			within, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			return observe.Await(within, fmt.Sprintf("exactly %d connections", i), func() (bool, error) {
				stats, err := p.Stats(within)
				return stats["frontend.conn_tot"] == uint64(i) && stats["server0.stot"] == uint64(i), err
			})
		})
	}
	if err := all.Wait(); err != nil {
		t.Error(err)
	}
	if left := programsOf(t, os.Getpid(), "haproxy"); len(left) > 0 {
		t.Errorf("HAProxy runs on: %v", left)
	}
}

func TestBuildSaysWhatTheBalancerCannotDo(t *testing.T) {
	privileged(t)
	build := func(c haproxy.Config) error {
		l, err := lab.Build(t.Context(), lab.Topology{Clients: 1, Servers: 1, Balancer: lab.BalancerSpec{Program: haproxy.Balancer{Config: c}}})
		if err == nil {
			return l.Close()
		}
		return err
	}
	if err := build(haproxy.Config{FrontendLines: []string{"option tcpkaa"}}); !errors.Is(err, haproxy.ErrRejected) ||
		!strings.Contains(err.Error(), "balancer: haproxy rejects") || !strings.Contains(err.Error(), "unknown option 'tcpkaa'") {
		t.Errorf("%v, want HAProxy's own words", err)
	}
	t.Setenv("PATH", t.TempDir())
	if err := build(haproxy.Config{}); !errors.Is(err, haproxy.ErrMissing) || !strings.Contains(err.Error(), "run hack/bootstrap") {
		t.Errorf("%v, want what to install", err)
	}
}
