// Package sandbox is the subcommand that runs a command in a sandbox: the command cannot see
// or change the host's network, and no process that it starts survives it. The subcommand
// compares the host's network before and after.
package sandbox

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"twlab/hack/internal/cli"
	"twlab/harness/observe"
	"twlab/harness/sandbox"
)

const (
	hostChanged = 123
	notRun      = 125
)

// Command is the subcommand. The exit status is the command's, or 128 and the number of the
// signal that killed it, or 123 when the host changed, or 125 when the command was not run.
func Command() *cobra.Command {
	return &cobra.Command{
		Use:                "sandbox [--] COMMAND [ARGUMENT...]",
		Short:              "Run a command that cannot touch this machine's network, and end all its processes",
		Hidden:             true, // the others enter it by themselves
		DisableFlagParsing: true, // flags are the command's
		RunE: func(c *cobra.Command, argv []string) error {
			if status := run(c.Context(), argv, os.Stderr); status != 0 {
				return cli.StatusError{Status: status}
			}
			return nil
		},
	}
}

func run(ctx context.Context, argv []string, stderr io.Writer) (exitCode int) {
	if len(argv) > 0 && argv[0] == "--" {
		argv = argv[1:]
	} else if len(argv) > 0 && len(argv[0]) > 0 && argv[0][0] == '-' {
		argv = nil
	}
	if len(argv) == 0 {
		fmt.Fprintln(stderr, "usage: sandbox [--] command [argument...]")
		return notRun
	}
	before, err := observe.SnapshotHost(ctx)
	if err != nil {
		fmt.Fprintf(stderr, "sandbox: before the run: %v\n", err)
		return notRun
	}
	exitCode, err = sandbox.Run(ctx, argv)
	if err != nil {
		fmt.Fprintln(stderr, err)
		return notRun
	}
	after, err := observe.SnapshotHost(ctx)
	if err != nil {
		fmt.Fprintf(stderr, "sandbox: after the run, which ended with %d: %v\n", exitCode, err)
		return hostChanged
	}
	difference := observe.Diff(before, after)
	if len(difference) == 0 {
		return exitCode
	}
	fmt.Fprintf(stderr, "sandbox: the host changed during the run, which ended with %d: either the run touched it "+
		"(a defect), or something else on this machine did:\n", exitCode)
	for _, line := range difference {
		fmt.Fprintln(stderr, "  "+line)
	}
	return hostChanged
}
