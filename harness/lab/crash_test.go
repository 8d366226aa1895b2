package lab_test

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"twlab/harness/lab"
	"twlab/harness/ns"
	"twlab/harness/observe"
	"twlab/harness/tcp"
)

// crashVariable makes this test program build and use labs with that kind of
// balancer until it is killed.
const crashVariable = "TWLAB_TEST_BUILD_UNTIL_KILLED"

func TestMain(m *testing.M) {
	if kind, told := os.LookupEnv(crashVariable); told {
		fmt.Println(buildUntilKilled(context.Background(), lab.BalancerKind(kind)))
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

func buildUntilKilled(ctx context.Context, kind lab.BalancerKind) error {
	fmt.Println("ready")
	for {
		l, err := lab.Build(ctx, lab.Topology{
			Clients: 20, Servers: 2, Gateway: lab.GatewaySpec{Kind: lab.Masquerade}, Balancer: lab.BalancerSpec{Kind: kind},
		})
		if err != nil {
			return err
		}
		listening := l.Nodes(lab.Balancer)
		if kind != lab.Endpoint {
			listening = l.Nodes(lab.Server)
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
			if _, err := c.Attempt(ctx, []tcp.Attempt{{To: l.Door()}}); err != nil {
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
	for _, kind := range []lab.BalancerKind{lab.Endpoint, lab.HAProxy} {
		t.Run(cmp.Or(string(kind), "endpoint"), func(t *testing.T) {
			privileged(t)
			if _, err := exec.LookPath(string(kind)); kind != lab.Endpoint && err != nil {
				t.Skipf("needs %s: run hack/bootstrap", kind)
			}
			killAtRandomMoments(t, kind)
		})
	}
}

func killAtRandomMoments(t *testing.T, kind lab.BalancerKind) {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	held, ran := 0, 0
	within := map[bool]int{true: 150, false: 1000}[kind == lab.Endpoint] // a few labs, in ms
	for range 20 {
		watched, err := ns.NewWatch()
		if err != nil {
			t.Fatal(err)
		}
		child := exec.CommandContext(t.Context(), os.Args[0])
		child.Env = append(os.Environ(), crashVariable+"="+string(kind))
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
		moment := time.Now().Add(time.Duration(random.IntN(within)) * time.Millisecond)
		if err := observe.Await(t.Context(), "a random moment", func() (bool, error) { return time.Now().After(moment), nil }); err != nil {
			t.Fatal(err)
		}
		watchNamespacesOf(t, child.Process.Pid, watched)
		alive, err := watched.Alive()
		if err != nil {
			t.Fatal(err)
		}
		held += alive
		programs := programsOf(t, child.Process.Pid, string(kind))
		ran += len(programs)
		if err := child.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = child.Wait() // it was killed, and says so

		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		err = observe.Await(ctx, "the namespaces of a killed process to go", func() (bool, error) {
			alive, err := watched.Alive()
			return alive == 0, err
		})
		if err != nil {
			t.Error(err)
		}
		err = observe.Await(ctx, "the programs of a killed process to end", func() (bool, error) {
			return !slices.ContainsFunc(programs, func(pid string) bool { return runs(pid, string(kind)) }), nil
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
	if ran == 0 && kind != lab.Endpoint {
		t.Errorf("no %s ran at any of the moments: this test has seen nothing", kind)
	}
	t.Logf("%d namespaces were held and %d programs ran at the 20 moments", held, ran)
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
