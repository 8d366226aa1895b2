package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"twlab/hack/internal/cli"
	"twlab/hack/internal/kit"
)

// Builder builds programs of the tree. All of it happens in the sandbox, which takes the
// compiler's own children along when it goes, but for what needs the network.
type Builder struct {
	Tree string
	Temp string // directory for the compiler; what it leaves when it is killed goes with the next build
}

// errUnbuilt is what a build fails by, after the compiler has said why.
var errUnbuilt = errors.New("the suite does not build; see above")

// Begin fetches modules, and makes room.
func (b Builder) Begin(ctx context.Context) error {
	if err := os.RemoveAll(b.Temp); err != nil {
		return fmt.Errorf("make room for the compiler: %w", err)
	}
	if err := os.MkdirAll(b.Temp, 0o755); err != nil {
		return fmt.Errorf("make room for the compiler: %w", err)
	}
	return b.do(ctx, nil, "go", "mod", "download")
}

// End takes away what only the compiler wanted.
func (b Builder) End() error {
	if err := os.RemoveAll(b.Temp); err != nil {
		return fmt.Errorf("clean up behind the compiler: %w", err)
	}
	return nil
}

// Program builds a program for an architecture.
func (b Builder) Program(ctx context.Context, pkg, to, arch string, flags ...string) error {
	argv := append([]string{"go", "build"}, flags...)
	return b.boxed(ctx, []string{"CGO_ENABLED=0", "GOARCH=" + arch}, append(argv, "-o", to, pkg)...)
}

// Ginkgo builds Ginkgo's program.
func (b Builder) Ginkgo(ctx context.Context, to string, flags ...string) error {
	return b.Program(ctx, "github.com/onsi/ginkgo/v2/ginkgo", to, runtime.GOARCH, flags...)
}

// Agent builds the guest agent, which is a part of every initramfs and therefore small.
func (b Builder) Agent(ctx context.Context, to, arch string) error {
	return b.Program(ctx, "./hack/cmd/agent", to, arch, "-ldflags=-s -w")
}

// Suite builds the suite. Only the race detector needs cgo.
func (b Builder) Suite(ctx context.Context, to string, race bool, flags ...string) error {
	cgo := "CGO_ENABLED=0"
	if race {
		cgo = "CGO_ENABLED=1"
		flags = append(flags, "-race")
	}
	argv := append([]string{"go", "test", "-c"}, flags...)
	if err := b.boxed(ctx, []string{cgo}, append(argv, "-o", to, "./e2e")...); err != nil {
		return err
	}
	if _, err := os.Stat(to); err != nil {
		return errors.New("there are no tests in e2e/")
	}
	return nil
}

func (b Builder) boxed(ctx context.Context, env []string, argv ...string) error {
	argv, err := cli.InSandbox(argv...)
	if err != nil {
		return err
	}
	return b.do(ctx, env, argv...)
}

func (b Builder) do(ctx context.Context, env []string, argv ...string) error {
	c := exec.CommandContext(ctx, argv[0], argv[1:]...) //nolint:gosec // ours
	c.Dir = b.Tree
	// Version stamps are off because git refuses a repository that belongs to
	// somebody else, as it does for a second user or in a shared folder.
	c.Env = append(os.Environ(), "GOFLAGS=-buildvcs=false "+os.Getenv("GOFLAGS"), "GOTMPDIR="+b.Temp)
	c.Env = append(c.Env, env...)
	c.Stdout, c.Stderr = os.Stderr, os.Stderr
	_, status, err := cli.Child(c)
	if err == nil && status != 0 {
		err = errUnbuilt
	}
	return err
}

// programs are what a run needs beside this program.
type programs struct{ ginkgo, suite, agent string }

// programs builds what the request needs, or takes it from what hack/build has left.
func (r *Request) programs(ctx context.Context, k kit.Kit, bin string) (p programs, err error) {
	arch := ""
	switch {
	case r.Kernel != "":
		arch = runtime.GOARCH
	case len(r.Kernels) > 0:
		arch = kit.RoleArch
	}
	if k.Built != "" {
		if r.Race {
			return p, cli.Usage(fmt.Errorf("--race means nothing here: the suite of %s is built already", k.Built))
		}
		p.ginkgo, p.suite, err = k.Suite()
		if err == nil && arch != "" {
			p.agent, err = k.Agent(arch)
		}
		return p, err
	}
	if k.Tree == "" {
		return p, errors.New("there is neither a suite beside this program nor a tree to build one from: use what hack/build leaves")
	}
	if err := cli.Bootstrap(ctx, k.Tree); err != nil {
		return p, err
	}
	b := Builder{Tree: k.Tree, Temp: filepath.Join(bin, "tmp")}
	if err := b.Begin(ctx); err != nil {
		return p, err
	}
	p = programs{filepath.Join(bin, kit.Ginkgo), filepath.Join(bin, kit.Suite), ""}
	if arch != "" {
		p.agent = filepath.Join(bin, "agent")
		if err := b.Agent(ctx, p.agent, arch); err != nil {
			return p, err
		}
	}
	if err := b.Ginkgo(ctx, p.ginkgo); err != nil {
		return p, err
	}
	return p, b.Suite(ctx, p.suite, r.Race)
}
