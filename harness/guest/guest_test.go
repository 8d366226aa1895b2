//go:build linux

package guest_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"twlab/harness/guest"
	"twlab/harness/internal/labtest"
	"twlab/harness/internal/line"
	"twlab/harness/kernel"
	"twlab/harness/lab"
	"twlab/harness/leak"
	"twlab/harness/tcp"
	"twlab/harness/topo"
)

// bootVariable makes this test program boot machines until it is killed. It is the
// path of the agent.
const bootVariable = "TWLAB_TEST_BOOT_UNTIL_KILLED"

func TestMain(m *testing.M) {
	if path := os.Getenv(bootVariable); path != "" {
		fmt.Println(bootUntilKilled(context.Background(), path))
		os.Exit(1)
	}
	os.Exit(leak.Run(m))
}

var guestAgent = labtest.NewAgent()

func config(t *testing.T, k kernel.Image) guest.Config {
	t.Helper()
	path, err := guestAgent.Path()
	if err != nil {
		t.Fatal(err)
	}
	return guest.Config{
		Node:   topo.Identity{Name: "alone", Role: topo.Server, Addr: netip.MustParseAddr("10.0.0.1")},
		Kernel: k,
		Host:   guest.Host{Agent: path, Accelerator: guest.TCG},
	}
}

func boot(t *testing.T, c guest.Config) *guest.Machine {
	t.Helper()
	m, err := guest.Boot(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// A machine without cards is a node that talks to itself.
func TestMachineAlone(t *testing.T) {
	k := labtest.Kernel(t)
	m := boot(t, config(t, k))
	t.Run("talks to itself", func(t *testing.T) { talksToItself(t, m, k) })
	t.Run("outcomes", func(t *testing.T) { outcomes(t, m) })
	t.Logf("first word after %v by %s", m.BootTime(), m.Accelerator())
	if err := errors.Join(m.Close(), m.Close()); err != nil {
		t.Errorf("close, twice: %v", err)
	}
	if _, err := m.Counters(t.Context()); !errors.Is(err, line.ErrLost) {
		t.Errorf("after Close: %v, want ErrLost", err)
	}
}

func talksToItself(t *testing.T, m *guest.Machine, k kernel.Image) {
	t.Helper()
	listener, err := m.Listen(t.Context(), tcp.ListenSpec{Ending: tcp.CloseAfterPeer})
	if err != nil {
		t.Fatal(err)
	}
	out, err := m.Attempt(t.Context(), []tcp.Attempt{{To: listener.Addr, Ending: tcp.CloseFirst}})
	if err != nil || out[0].Outcome != tcp.Connected || out[0].End.Err() != nil {
		t.Errorf("%v, %v", out, err)
	}
	want, err := k.Release()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := m.Release(t.Context()); err != nil || got != want {
		t.Errorf("release %v, %v; its image says %v", got, err, want)
	}
	if !strings.Contains(m.Console(), want.Text) {
		t.Errorf("the console does not name kernel %v:\n%s", want, m.Console())
	}
}

// What is wrong is said in one error, soon, and nothing is left.
func TestBootSaysWhatIsWrong(t *testing.T) {
	k := labtest.Kernel(t)
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	foreign := filepath.Join(dir, "foreign")
	other := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-o", foreign, "twlab/harness/guest/testdata/foreign")
	other.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH=amd64")
	if out, err := other.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for name, c := range map[string]struct {
		change func(*guest.Config)
		is     error
		says   []string
	}{
		"modules of nobody": {
			func(c *guest.Config) { c.Kernel.Modules = dir }, os.ErrNotExist, []string{"modules.builtin", "/lib/modules/"},
		},
		"no agent": {
			func(c *guest.Config) { c.Agent = filepath.Join(dir, "none") }, os.ErrNotExist, []string{"go build -o"},
		},
		"agent that is no program": {
			func(c *guest.Config) { c.Agent = write("text", "hello", 0o755) }, line.ErrLost,
			[]string{"Kernel panic", "QEMU has ended"},
		},
		"agent of another version": {
			func(c *guest.Config) { c.Agent = foreign }, line.ErrVersion, []string{"from the same sources", "go build -o " + foreign},
		},
		"more memory than there is": {
			func(c *guest.Config) { c.MemoryMiB = 1 << 24 }, guest.ErrNoMemory, []string{"are available"},
		},
		"memory that is not enough for a kernel": {
			func(c *guest.Config) { c.MemoryMiB = 24 }, nil, []string{"console"},
		},
		"more cards than slots": {
			func(c *guest.Config) { c.Cards = manyCards(t) }, nil, []string{"25 network cards: a guest has at most 24"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			bad := config(t, k)
			c.change(&bad)
			m, err := guest.Boot(t.Context(), bad)
			if err == nil {
				t.Fatalf("it boots; close: %v", m.Close())
			}
			if c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("%v, want it to be %v", err, c.is)
			}
			for _, says := range append(c.says, "boot "+bad.Kernel.Path) {
				if !strings.Contains(guest.Detailed(err), says) {
					t.Errorf("%s\ndoes not say %q", guest.Detailed(err), says)
				}
			}
			if left := qemusOf(t, os.Getpid()); len(left) > 0 {
				t.Errorf("QEMU runs on: %v", left)
			}
		})
	}
}

// manyCards are more than there is room for. No machine gets them.
func manyCards(t *testing.T) (cards []lab.Card) {
	t.Helper()
	for range guest.MostCards + 1 {
		file, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		cards = append(cards, lab.Card{Tap: file})
	}
	return cards
}

func TestQEMUMissing(t *testing.T) {
	k := labtest.Kernel(t)
	c := config(t, k)
	t.Setenv("PATH", t.TempDir())
	if _, err := guest.Boot(t.Context(), c); !errors.Is(err, guest.ErrNoQEMU) || !strings.Contains(err.Error(), "hack/bootstrap") {
		t.Errorf("%v, want ErrNoQEMU", err)
	}
}

// A machine that dies or hangs in the middle of a call fails the call by an error
// that shows its console.
func TestMachineLostInTheMiddleOfACall(t *testing.T) {
	for name, signal := range map[string]unix.Signal{"dies": unix.SIGKILL, "hangs": unix.SIGSTOP} {
		t.Run(name, func(t *testing.T) {
			m := boot(t, config(t, labtest.Kernel(t)))
			listener, err := m.Listen(t.Context(), tcp.ListenSpec{})
			if err != nil {
				t.Fatal(err)
			}
			failed := make(chan error, 1)
			go func() {
				_, err := m.Accept(t.Context(), listener.Handle, netip.MustParseAddrPort("10.9.9.9:9"))
				failed <- err
			}()
			if _, err := m.Counters(t.Context()); err != nil {
				t.Fatal(err)
			}
			for _, pid := range qemusOf(t, os.Getpid()) {
				if err := unix.Kill(pid, signal); err != nil {
					t.Fatal(err)
				}
			}
			select {
			case err = <-failed:
			case <-time.After(2 * time.Minute):
				t.Fatal("no error within two minutes")
			}
			var dead *guest.DeadError
			if !errors.Is(err, line.ErrLost) || !errors.As(err, &dead) || !strings.Contains(err.Error(), "alone: ") || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v, want ErrLost and the node in a line", err)
			} else if !strings.HasPrefix(dead.Console, "the end of its console:\n\t[") {
				t.Errorf("the console is %q", dead.Console)
			}
			if err := m.Close(); !errors.Is(err, line.ErrLost) {
				t.Errorf("close: %v, want ErrLost: it did not end well", err)
			}
			if left := qemusOf(t, os.Getpid()); len(left) > 0 {
				t.Errorf("QEMU runs on: %v", left)
			}
		})
	}
}

func bootUntilKilled(ctx context.Context, agent string) error {
	fmt.Println(labtest.Ready)
	for {
		m, err := guest.Boot(ctx, guest.Config{
			Node:   topo.Identity{Name: "victim", Addr: netip.MustParseAddr("10.0.0.1")},
			Kernel: labtest.Kernels()[0],
			Host:   guest.Host{Agent: agent, Accelerator: guest.TCG},
		})
		if err != nil {
			return err
		}
		if err := m.Close(); err != nil {
			return err
		}
	}
}

// A killed process cannot end its machines, so the kernel must.
func TestKilledProcessLeavesNoMachine(t *testing.T) {
	labtest.Kernel(t)
	path, err := guestAgent.Path()
	if err != nil {
		t.Fatal(err)
	}
	// QEMU begins within the first tenth of a second, and what its guest does then is nothing to it.
	const within = 300 * time.Millisecond
	labtest.KilledAtRandom(t, bootVariable+"="+path, within, func(pid int) (int, func() (bool, error)) {
		machines := qemusOf(t, pid)
		return len(machines), func() (bool, error) { return slices.ContainsFunc(machines, isQEMU), nil }
	})
}

// qemusOf lists the QEMU processes that are children of a process.
func qemusOf(t *testing.T, parent int) (pids []int) {
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
		for word := range strings.FieldsSeq(string(text)) {
			if pid, err := strconv.Atoi(word); err == nil && isQEMU(pid) {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// isQEMU tells whether a process is there, runs QEMU, and is no zombie.
func isQEMU(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && strings.Contains(string(stat), "(qemu-system") && !strings.Contains(string(stat), ") Z ")
}
