//go:build linux

// Package labtest contains what tests of labs and of guests share: kernels to boot, the
// guest agent, and a kill at a random moment.
package labtest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"twlab/harness/internal/program"
	"twlab/harness/kernel"
	"twlab/harness/lab"
	"twlab/harness/observe"
	"twlab/harness/topo"
)

const (
	// KernelVariable is the environment variable with a kernel image for the tests of
	// guests. Several images are separated by colons.
	KernelVariable = "TWLAB_TEST_KERNEL"
	// ModulesVariable is the environment variable with the directory of each image's
	// modules, separated in the same way; empty for an image that needs none.
	ModulesVariable = "TWLAB_TEST_MODULES"
)

// Kernels returns the kernels to test with, from these variables.
func Kernels() (all []kernel.Image) {
	modules := filepath.SplitList(os.Getenv(ModulesVariable))
	for i, image := range filepath.SplitList(os.Getenv(KernelVariable)) {
		k := kernel.Image{Path: image}
		if i < len(modules) {
			k.Modules = modules[i]
		}
		all = append(all, k)
	}
	return all
}

// Kernel returns the first of [Kernels]. It skips the test when there is none.
func Kernel(t *testing.T) kernel.Image {
	t.Helper()
	all := Kernels()
	if len(all) == 0 {
		t.Skip("needs a kernel image: name one in " + KernelVariable)
	}
	return all[0]
}

// Agent is the guest agent for the tests of a package, in a file without a name: nothing of
// it stays, however the tests end.
type Agent struct {
	file  *os.File
	build sync.Once
	err   error
}

// NewAgent makes one that has not been built yet. It is called before the tests begin, since
// its descriptor stays open until they have ended.
func NewAgent() *Agent {
	a := &Agent{}
	a.file, a.err = program.InMemory("twlab-agent", func(io.Writer) error { return nil })
	return a
}

// Path builds the agent, once, and returns its path, which is good until this process ends.
func (a *Agent) Path() (path string, err error) {
	a.build.Do(func() {
		if a.err != nil {
			return
		}
		// The first of the ExtraFiles is descriptor 3. The compiler copies its result to what
		// is no place to rename it to.
		c := exec.CommandContext(context.Background(), "go", "build", "-buildvcs=false", "-ldflags=-s -w", "-o", "/proc/self/fd/3", "twlab/hack/cmd/agent")
		c.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH=amd64")
		c.ExtraFiles = []*os.File{a.file}
		if out, err := c.CombinedOutput(); err != nil {
			a.err = errors.Join(err, errors.New(string(out)))
		}
	})
	if a.err != nil {
		return "", a.err
	}
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), a.file.Fd()), nil
}

// Build builds a lab and closes it at the end of the test. It skips the test when there is
// no privilege to build one.
func Build(t *testing.T, topology lab.Topology) *lab.Lab {
	t.Helper()
	l, err := lab.Build(t.Context(), topology)
	return closing(t, l, err)
}

// BuildNetwork is Build for a network.
func BuildNetwork(t *testing.T, network topo.Network) *lab.Lab {
	t.Helper()
	l, err := lab.BuildNetwork(t.Context(), network)
	return closing(t, l, err)
}

func closing(t *testing.T, l *lab.Lab, err error) *lab.Lab {
	t.Helper()
	if errors.Is(err, unix.EPERM) {
		t.Skip("needs CAP_NET_ADMIN: run it with hack/test")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// Ready is the line that a program started by [KilledAtRandom] has to print when it starts
// the work of which nothing may remain.
const Ready = "ready"

// KilledAtRandom starts this test program again, 20 times, with a variable added to its
// environment, and kills it at a random moment within a duration after it is ready. The
// duration grows as long as no process has held anything when it was killed. Before the
// kill it calls look, which returns how many things the process with this id holds, and a
// function that reports whether any of them still exists; all must be gone soon after.
func KilledAtRandom(t *testing.T, variable string, within time.Duration, look func(pid int) (held int, left func() (bool, error))) {
	t.Helper()
	const rounds = 20
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	seen := 0
	for range rounds {
		held, err := killOne(t, variable, time.Duration(random.Int64N(int64(within))), look)
		if err != nil {
			t.Error(err)
		}
		if seen += held; seen == 0 {
			within += within / 2
		}
	}
	if seen == 0 {
		t.Error("nothing was held at any of the moments: this test has seen nothing")
	}
	t.Logf("held at the %d moments: %d", rounds, seen)
}

func killOne(t *testing.T, variable string, after time.Duration, look func(pid int) (int, func() (bool, error))) (held int, err error) {
	t.Helper()
	child := exec.CommandContext(t.Context(), os.Args[0])
	child.Env = append(os.Environ(), variable)
	out, err := child.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := child.Start(); err != nil {
		return 0, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != Ready+"\n" {
		return 0, errors.Join(fmt.Errorf("child says %q: %w", line, err), child.Process.Kill(), child.Wait())
	}
	moment := time.Now().Add(after)
	if err := observe.Await(t.Context(), "a random moment", func() (bool, error) { return time.Now().After(moment), nil }); err != nil {
		return 0, err
	}
	held, left := look(child.Process.Pid)
	if err := child.Process.Kill(); err != nil {
		return held, err
	}
	_ = child.Wait() // it was killed, and says so
	soon, stop := context.WithTimeout(t.Context(), 30*time.Second)
	defer stop()
	return held, observe.Await(soon, "what a killed process held to go", func() (bool, error) {
		some, err := left()
		return !some, err
	})
}
