//go:build linux

// Command twlab is the program of this repository; --help of each subcommand says what it
// does. hack/twlab builds it if it is older than the tree, and runs it.
package main

import (
	confined "twlab/harness/sandbox"

	"context"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"twlab/hack/cmd/twlab/ask"
	"twlab/hack/cmd/twlab/build"
	"twlab/hack/cmd/twlab/check"
	"twlab/hack/cmd/twlab/diagnose"
	"twlab/hack/cmd/twlab/doctor"
	"twlab/hack/cmd/twlab/e2e"
	"twlab/hack/cmd/twlab/explain"
	"twlab/hack/cmd/twlab/guest"
	"twlab/hack/cmd/twlab/kernels"
	"twlab/hack/cmd/twlab/lint"
	"twlab/hack/cmd/twlab/load"
	"twlab/hack/cmd/twlab/matrix"
	"twlab/hack/cmd/twlab/mutate"
	"twlab/hack/cmd/twlab/predict"
	"twlab/hack/cmd/twlab/probe"
	"twlab/hack/cmd/twlab/report"
	scenarioRun "twlab/hack/cmd/twlab/run"
	"twlab/hack/cmd/twlab/sandbox"
	"twlab/hack/cmd/twlab/soak"
	"twlab/hack/internal/cli"
)

const about = `Shows what the real kernel does with connections around NAT, TIME_WAIT and load balancers.
It works in private network namespaces, and does not touch this machine's network.

In the repository, hack/twlab runs it, and hack/e2e runs twlab e2e.`

func main() {
	if code, isInit := confined.Init(); isInit {
		os.Exit(code)
	}
	if err := widenPath(); err != nil {
		os.Exit(cli.Report(os.Stderr, program(), err))
	}
	os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}

// widenPath adds the directories of iptables and haproxy, which Debian keeps out of an
// ordinary user's PATH. hack/twlab does the same, and adds the directory of Go.
func widenPath() error {
	path := filepath.SplitList(os.Getenv("PATH"))
	for _, dir := range []string{"/usr/local/sbin", "/usr/sbin", "/sbin"} {
		if !slices.Contains(path, dir) {
			path = append(path, dir)
		}
	}
	return os.Setenv("PATH", strings.Join(path, string(os.PathListSeparator)))
}

func run(ctx context.Context, arguments []string, stdout, stderr io.Writer) (status int) {
	root := program()
	root.SetOut(stdout)
	root.SetErr(stderr)
	// With one dash, like Ginkgo and the tools of Go.
	if i := slices.Index(arguments, "-help"); i >= 0 && !slices.Contains(arguments[:i], "--") {
		arguments = slices.Clone(arguments)
		arguments[i] = "--help"
	}
	// A misspelt subcommand is told before its flags, which none of them has.
	if len(arguments) > 0 && !strings.HasPrefix(arguments[0], "-") {
		if c, _, err := root.Find(arguments); err == nil && c == root {
			arguments = arguments[:1]
		}
	}
	root.SetArgs(arguments)
	c, err := root.ExecuteContextC(ctx)
	return cli.Report(stderr, c, err)
}

// program is the command with all its subcommands.
func program() *cobra.Command {
	root := cli.Group(&cobra.Command{
		Use:   "twlab",
		Short: "Show what the real kernel does with connections around NAT, TIME_WAIT and load balancers",
		Long:  about,
		Example: `  twlab doctor
  twlab run scenarios/causes/time-wait-rfc1337.yaml
  twlab explain snat-exhausted
  sysctl -a | twlab lint --role balancer -
  twlab load --clients 2 --profile gcp --rate 8 --for 30s
  source <(twlab completion bash)`,
		SilenceErrors: true, // we say them, in one line
		SilenceUsage:  true,
	})
	root.SetFlagErrorFunc(cli.WrongFlag)
	root.AddCommand(
		doctor.Command(), scenarioRun.Command(), report.Command(), check.Command(), check.New(), explain.Command(), diagnose.Command(), lint.Command(), load.Command(), ask.Command(), e2e.Command(), mutate.Command(),
		kernels.Command(), matrix.Command(), soak.Command(), build.Command(),
		// What these run inside the sandbox.
		sandbox.Command(), e2e.Told(), guest.Command(), predict.Command(), probe.Command(),
	)
	return root
}
