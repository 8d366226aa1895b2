package lab_test

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"twlab/harness/lab"
	"twlab/harness/ns"
	"twlab/harness/observe"
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
	fmt.Println("ready")
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
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	held := 0
	for range 20 {
		watched, err := ns.NewWatch()
		if err != nil {
			t.Fatal(err)
		}
		child := exec.CommandContext(t.Context(), os.Args[0])
		child.Env = append(os.Environ(), crashVariable+"=1")
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(out).ReadString('\n')
		if err != nil || line != "ready\n" {
			t.Fatalf("child says %q, %v", line, err)
		}
		moment := time.Now().Add(time.Duration(random.IntN(150)) * time.Millisecond)
		if err := observe.Await(t.Context(), "a random moment", func() (bool, error) { return time.Now().After(moment), nil }); err != nil {
			t.Fatal(err)
		}
		watchNamespacesOf(t, child.Process.Pid, watched)
		alive, err := watched.Alive()
		if err != nil {
			t.Fatal(err)
		}
		held += alive
		if err := child.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = child.Wait() // it was killed, and says so

		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		err = observe.Await(ctx, "the namespaces of a killed process to go", func() (bool, error) {
			alive, err := watched.Alive()
			return alive == 0, err
		})
		cancel()
		if err != nil {
			t.Error(err)
		}
		if err := watched.Close(); err != nil {
			t.Error(err)
		}
	}
	if held == 0 {
		t.Error("no namespace was held at any of the moments: this test has seen nothing")
	}
	t.Logf("%d namespaces were held at the 20 moments", held)
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
