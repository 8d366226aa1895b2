package lab_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"twlab/harness/lab"
	"twlab/harness/labtest"
	"twlab/harness/ns"
	"twlab/harness/tcp"
)

// crashVariable makes this test program build and use labs until it is killed.
const crashVariable = "TWLAB_TEST_BUILD_UNTIL_KILLED"

func TestMain(m *testing.M) {
	if os.Getenv(crashVariable) != "" {
		fmt.Println(buildUntilKilled(context.Background()))
		os.Exit(1)
	}
	os.Exit(runTests(m))
}

func runTests(m *testing.M) (exitCode int) {
	exitCode = m.Run()
	if dir, err := scratch(); err != nil || os.RemoveAll(dir) != nil {
		exitCode = max(exitCode, 1)
	}
	return exitCode
}

func buildUntilKilled(ctx context.Context) error {
	fmt.Println(labtest.Ready)
	for {
		l, err := lab.Build(ctx, lab.Topology{Clients: 20, Servers: 2, Gateway: lab.GatewaySpec{Kind: lab.Masquerade}})
		if err != nil {
			return err
		}
		door, err := l.Nodes(lab.Balancer)[0].Listen(ctx, tcp.ListenSpec{At: netip.AddrPortFrom(netip.Addr{}, 80)})
		if err != nil {
			return err
		}
		if err := l.Capture("balancer"); err != nil {
			return err
		}
		for _, c := range l.Nodes(lab.Client) {
			if _, err := c.Attempt(ctx, []tcp.Attempt{{To: door.Addr}}); err != nil {
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
// and with it every link, rule and socket inside.
func TestKilledProcessLeavesNothing(t *testing.T) {
	privileged(t)
	labtest.KilledAtRandom(t, crashVariable+"=1", 150*time.Millisecond, func(pid int) (int, func() (bool, error)) {
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
		return held, func() (bool, error) {
			alive, err := watched.Alive()
			return alive > 0, err
		}
	})
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
