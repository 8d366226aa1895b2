//go:build linux

// Package labtest has what tests of labs and of their machines share: kernels to
// boot, the guest agent, and a death at a random moment.
package labtest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"twlab/harness/kernel"
	"twlab/harness/lab"
	"twlab/harness/observe"
)

const (
	// KernelVariable names a kernel image for the tests of nodes with a kernel of
	// their own. Several are separated by colons.
	KernelVariable = "TWLAB_TEST_KERNEL"
	// ModulesVariable names the directory of the modules of each image that needs
	// some, separated in the same way.
	ModulesVariable = "TWLAB_TEST_MODULES"
)

// Kernels are those to test with: none unless the variables say so.
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

// Kernel is the first of [Kernels]. It skips the test where there is none.
func Kernel(t *testing.T) kernel.Image {
	t.Helper()
	all := Kernels()
	if len(all) == 0 {
		t.Skip("needs a kernel image: name one in " + KernelVariable)
	}
	return all[0]
}

// Agent is the guest agent for the tests of a package. Its zero value is not built yet.
type Agent struct {
	build     sync.Once
	dir, path string
	err       error
}

// Path builds the agent, once, and says where it is.
func (a *Agent) Path() (path string, err error) {
	a.build.Do(func() {
		if a.dir, a.err = os.MkdirTemp("", "twlab-agent-"); a.err != nil {
			return
		}
		a.path = filepath.Join(a.dir, "agent")
		c := exec.CommandContext(context.Background(), "go", "build", "-buildvcs=false", "-ldflags=-s -w", "-o", a.path, "twlab/hack/cmd/agent")
		c.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH=amd64")
		if out, err := c.CombinedOutput(); err != nil {
			a.err = errors.Join(err, errors.New(string(out)))
		}
	})
	return a.path, a.err
}

// RemoveAfter removes what Path has built when the tests have ended with an exit code, which
// it returns, or 1 instead of 0 when it could not.
func (a *Agent) RemoveAfter(exitCode int) int {
	if a.dir != "" && os.RemoveAll(a.dir) != nil {
		return max(exitCode, 1)
	}
	return exitCode
}

// Build builds a lab that is closed when the test has ended. It skips the test where
// there is no privilege to build one.
func Build(t *testing.T, topology lab.Topology) *lab.Lab {
	t.Helper()
	l, err := lab.Build(t.Context(), topology)
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

// Ready is what a program that [KilledAtRandom] starts has to print, as a line, when
// it begins to do what it must not leave anything of.
const Ready = "ready"

// KilledAtRandom starts this test program again, 20 times, with a variable added to
// its environment, and kills it within a time of its being ready, or a longer one
// where it has not come so far by then that it holds anything. Before, it calls look,
// which says how many things the process with this id holds, and how to find out that
// one of them still exists; all of them must be gone soon after.
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
