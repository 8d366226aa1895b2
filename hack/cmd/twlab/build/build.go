// Package build is the subcommand behind hack/build: it builds static programs that run on a
// Linux machine without Go.
package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"runtime"

	"github.com/spf13/cobra"

	"twlab/hack/cmd/twlab/e2e"
	"twlab/hack/internal/cli"
	"twlab/hack/internal/kit"
)

const about = `Builds static programs into DIR (default: .out/build in the repository). They run on a Linux
machine of this architecture without Go and without this repository:

  twlab          all subcommands; twlab e2e is the same as hack/e2e
  e2e.test       the compiled suite, which twlab runs
  ginkgo         Ginkgo, which runs specs of the suite in parallel
  agent-*        /init of guests with another kernel
  SHA256SUMS     of all these programs: twlab refuses programs of another build and, inside
                 a repository, programs that were built from other sources

If there is no Go, hack/twlab and hack/e2e use the programs in .out/build.
The machine needs what hack/bootstrap installs, except Go; twlab doctor checks this.

Exit status: 0 if everything was built, 1 if not, 2 for wrong usage.`

// Command is the subcommand.
func Command() *cobra.Command {
	return &cobra.Command{
		Use:   "build [DIR]",
		Short: "Build static programs that run on a machine without Go",
		Long:  about,
		Example: `  hack/build
  hack/build /tmp/twlab && scp -r /tmp/twlab elsewhere: && ssh elsewhere twlab/twlab e2e`,
		Annotations: map[string]string{cli.SpeaksAs: "hack/build"},
		Args: func(_ *cobra.Command, words []string) error {
			if len(words) > 1 {
				return cli.Usage(fmt.Errorf("one directory, not %d", len(words)))
			}
			return nil
		},
		RunE: func(c *cobra.Command, words []string) error {
			ctx, stop := cli.Interruptible(c.Context())
			defer stop()
			k, err := kit.Find()
			if err != nil {
				return err
			}
			if k.Tree == "" || k.Built != "" {
				return cli.NotRunError(errors.New("it is built from the repository, by Go"))
			}
			dir := filepath.Join(k.Tree, ".out", "build")
			if len(words) > 0 {
				dir = words[0]
			}
			if dir, err = filepath.Abs(dir); err != nil {
				return fmt.Errorf("directory of programs: %w", err)
			}
			return build(ctx, k.Tree, dir, c.OutOrStdout())
		},
	}
}

func build(ctx context.Context, tree, dir string, out io.Writer) error {
	if err := kit.Open(dir); err != nil {
		return err
	}
	b := e2e.Builder{Tree: tree, Temp: filepath.Join(dir, "tmp")}
	if err := b.Begin(ctx); err != nil {
		return err
	}
	small := []string{"-ldflags=-s -w"}
	in := func(name string) string { return filepath.Join(dir, name) }
	steps := []func() error{
		func() error {
			return b.Program(ctx, "./hack/cmd/twlab", in(kit.Program), runtime.GOARCH, small...)
		},
		func() error { return b.Ginkgo(ctx, in(kit.Ginkgo), small...) },
		func() error { return b.Suite(ctx, in(kit.Suite), false, small...) },
	}
	programs := []string{kit.Program, kit.Ginkgo, kit.Suite}
	for _, arch := range kit.Architectures() {
		programs = append(programs, kit.Agent(arch))
		steps = append(steps, func() error { return b.Agent(ctx, in(kit.Agent(arch)), arch) })
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	if err := errors.Join(b.End(), kit.Seal(dir, tree, programs)); err != nil {
		return err
	}
	fmt.Fprintln(out, "programs in "+dir)
	return nil
}
