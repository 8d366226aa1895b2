// Package doctor is the subcommand that says what this machine offers, and what does not work
// without the things that are missing.
package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"

	"github.com/spf13/cobra"

	"twlab/hack/internal/cli"
	"twlab/hack/internal/kit"
)

const about = `Tries in a private sandbox whether this machine has everything that labs and their evidence
need, and looks for the programs that only some runs need. For each thing that is missing it
says what does not work without it, and how to get it. It changes nothing; hack/bootstrap
installs what is missing.

Exit status: 0 if everything required is there, 1 if not.`

// state is whether something is there.
type state string

const (
	ok      state = "ok"
	missing state = "MISSING" // nothing works without it
	absent  state = "absent"
)

// finding is one thing that was looked for.
type finding struct {
	State  state
	Thing  string
	Detail string
	Cost   string // what does not work without it
	Mend   string // how to get it
}

// Command is the subcommand.
func Command() *cobra.Command {
	c := &cobra.Command{
		Use:     "doctor",
		Short:   "Check what this machine offers, and what does not work without the rest",
		Long:    about,
		Example: "  twlab doctor",
		Args:    cli.NoArguments,
	}
	inside := c.Flags().Bool("inside", false, "we are in the sandbox: write what labs need as JSON")
	_ = c.Flags().MarkHidden("inside") // the flag exists
	c.RunE = func(c *cobra.Command, _ []string) error {
		ctx, stop := cli.Interruptible(c.Context())
		defer stop()
		if *inside {
			return json.NewEncoder(c.OutOrStdout()).Encode(labs(ctx))
		}
		k, err := kit.Find()
		if err != nil {
			return err
		}
		all := append(sandboxed(ctx), tools(k)...)
		show(c.OutOrStdout(), all)
		return complaint(all)
	}
	return c
}

// sandboxed are the findings of this program inside the sandbox, or why there is none.
func sandboxed(ctx context.Context) []finding {
	self, err := os.Executable()
	if err != nil {
		return []finding{noSandbox(err)}
	}
	argv, err := cli.InSandbox(self, "doctor", "--inside")
	if err != nil {
		return []finding{noSandbox(err)}
	}
	text, err := cli.Quiet(exec.CommandContext(ctx, argv[0], argv[1:]...)) //nolint:gosec // ourselves
	if err != nil {
		return []finding{noSandbox(err)}
	}
	var found []finding
	if err := json.Unmarshal([]byte(text), &found); err != nil {
		return []finding{noSandbox(fmt.Errorf("what was found there: %w", err))}
	}
	return found
}

func noSandbox(err error) finding {
	return finding{
		State: missing, Thing: "sandbox", Detail: strings.ReplaceAll(strings.TrimSpace(err.Error()), "\n", ": "),
		Cost: "nothing can be run", Mend: "as it says; hack/bootstrap --check tries the same",
	}
}

// show writes the findings, and below each that is missing what that costs.
func show(to io.Writer, all []finding) {
	for _, f := range all {
		fmt.Fprintf(to, "%-8s %s", f.State, f.Thing)
		if f.Detail != "" {
			fmt.Fprintf(to, ": %s", f.Detail)
		}
		fmt.Fprintln(to)
		if f.State == ok {
			continue
		}
		if f.Cost != "" {
			fmt.Fprintf(to, "           costs: %s\n", f.Cost)
		}
		if f.Mend != "" {
			fmt.Fprintf(to, "           mend:  %s\n", f.Mend)
		}
	}
}

// complaint is an error that names what is required and missing.
func complaint(all []finding) error {
	var names []string
	for _, f := range all {
		if f.State == missing {
			names = append(names, f.Thing)
		}
	}
	if len(names) == 0 {
		return nil
	}
	return errors.New("missing: " + strings.Join(names, ", "))
}
