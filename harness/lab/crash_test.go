//go:build linux

package lab_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"twlab/harness/haproxy"
	"twlab/harness/internal/exampletest"
	"twlab/harness/internal/labtest"
	"twlab/harness/lab"
	"twlab/harness/ns"
	"twlab/harness/tcp"
)

// crashVariable makes this test program build and use labs with that kind of
// balancer until it is killed.
const crashVariable = "TWLAB_TEST_BUILD_UNTIL_KILLED"

func TestMain(m *testing.M) {
	if kind, told := os.LookupEnv(crashVariable); told {
		fmt.Println(buildUntilKilled(context.Background(), kind))
		os.Exit(1)
	}
	os.Exit(exampletest.Main(m))
}

// endpoint is a balancer that is no program.
const endpoint = "endpoint"

func buildUntilKilled(ctx context.Context, kind string) error {
	var balancer lab.BalancerSpec
	if kind != endpoint {
		balancer.Program = haproxy.Balancer{}
	}
	fmt.Println(labtest.Ready)
	for {
		l, err := lab.Build(ctx, lab.Topology{
			Clients: 20, Servers: 2, Gateway: lab.GatewaySpec{Kind: lab.Masquerade}, Balancer: balancer,
		})
		if err != nil {
			return err
		}
		listening := l.Nodes(lab.Balancer)
		if kind != endpoint {
			listening = l.Servers()
		}
		for _, n := range listening {
			if _, err := n.Listen(ctx, tcp.ListenSpec{At: netip.AddrPortFrom(netip.Addr{}, 80)}); err != nil {
				return err
			}
		}
		if err := l.Capture("balancer"); err != nil {
			return err
		}
		for _, c := range l.Nodes(lab.Client) {
			if _, err := c.Attempt(ctx, []tcp.Attempt{{To: l.VIP()}}); err != nil {
				return err
			}
		}
		if err := l.Close(); err != nil {
			return err
		}
	}
}

// A killed process cannot clean up, so there must be nothing to clean up:
// every namespace that it held at the moment of its death is gone soon after,
// and with it every link, rule and socket inside, and the balancer's program.
func TestKilledProcessLeavesNothing(t *testing.T) {
	for _, kind := range []string{endpoint, haproxy.Balancer{}.Name()} {
		t.Run(kind, func(t *testing.T) {
			privileged(t)
			within := 150 * time.Millisecond // a few labs
			if kind != endpoint {
				within = time.Second
				if _, err := exec.LookPath(kind); err != nil {
					t.Skipf("needs %s: run hack/bootstrap", kind)
				}
			}
			killAtRandomMoments(t, kind, within)
		})
	}
}

func killAtRandomMoments(t *testing.T, kind string, within time.Duration) {
	t.Helper()
	labtest.KilledAtRandom(t, crashVariable+"="+kind, within, func(pid int) (int, func() (bool, error)) {
		watched, err := ns.NewWatch()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := watched.Close(); err != nil {
				t.Error(err)
			}
		})
		watchNamespacesOf(t, pid, watched)
		held, err := watched.Alive()
		if err != nil {
			t.Fatal(err)
		}
		programs := programsOf(t, pid, kind)
		if kind != endpoint {
			held = len(programs) // the namespaces come first, and the moments must be late enough
		}
		return held, func() (bool, error) {
			alive, err := watched.Alive()
			running := slices.ContainsFunc(programs, func(pid string) bool { return runs(pid, kind) })
			return alive > 0 || running, err
		}
	})
}

// programsOf lists the processes of that name that are children of a process.
func programsOf(t *testing.T, parent int, name string) (pids []string) {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", parent))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // the thread has ended
		}
		for pid := range strings.FieldsSeq(string(text)) {
			if runs(pid, name) {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// runs tells whether a process is there, has that name, and is no zombie.
func runs(pid, name string) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%s/stat", pid))
	return err == nil && strings.Contains(string(stat), "("+name+")") && !strings.Contains(string(stat), ") Z ")
}

// watchNamespacesOf watches the namespaces that a process holds now, but for the
// one that it shares with us. Some of its descriptors go away meanwhile; those
// need no watching.
func watchNamespacesOf(t *testing.T, pid int, w *ns.Watch) {
	t.Helper()
	ours, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	links, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		target, err := os.Readlink(link)
		if err == nil && target != ours && strings.HasPrefix(target, "net:[") {
			_ = w.AddPath(link)
		}
	}
}
