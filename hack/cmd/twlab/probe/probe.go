// Package probe is the subcommand that boots kernels, each in its own guest, and writes what
// they are and can do as JSON, for the suite's flag -kernels.
package probe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"twlab/hack/internal/cli"
	"twlab/harness/guest"
	"twlab/harness/kernel"
	"twlab/harness/kernels"
	"twlab/harness/lab"
	"twlab/scenarios/roles"
)

// Command is the subcommand, which hack/e2e --kernel ROLE= runs inside the sandbox.
func Command() *cobra.Command {
	c := &cobra.Command{
		Use:         "probe --agent FILE ROLE=KERNEL...",
		Short:       "Boot the kernels of roles, and write what they can do",
		Hidden:      true,
		Annotations: map[string]string{cli.SpeaksAs: "hack/e2e"},
	}
	agent := c.Flags().String("agent", "", "`FILE` of the guest agent")
	c.RunE = func(c *cobra.Command, words []string) error {
		ctx, stop := cli.Interruptible(c.Context())
		defer stop()
		if err := run(ctx, *agent, words, c.OutOrStdout()); err != nil {
			return cli.NotRunError(errors.New(guest.Detailed(err)))
		}
		return nil
	}
	return c
}

// CheckWords says what is wrong with the words of --kernel ROLE=, without looking for the kernels.
func CheckWords(words []string) error {
	_, err := parse(words)
	return err
}

func run(ctx context.Context, agent string, arguments []string, out io.Writer) error {
	words, err := parse(arguments)
	if err != nil {
		return err
	}
	wanted := map[lab.Role]kernel.Image{}
	for role, which := range words {
		if wanted[role], err = kernels.Find(which); err != nil {
			return fmt.Errorf("--kernel for the role %s: %w", role, err)
		}
	}
	assignment, err := roles.ProbeKernels(ctx, guest.Host{Agent: agent}, wanted)
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(assignment)
}

// parse reads "balancer=/boot/vmlinuz-5.10,/lib/modules/5.10", "balancer=debian-5.10" and the
// like.
func parse(words []string) (map[lab.Role]string, error) {
	roles := map[string]lab.Role{}
	for _, r := range []lab.Role{lab.Client, lab.Gateway, lab.Balancer, lab.Server} {
		roles[string(r)] = r
	}
	wanted := map[lab.Role]string{}
	for _, word := range words {
		name, which, _ := strings.Cut(word, "=")
		role, known := roles[name]
		if !known || which == "" {
			return nil, fmt.Errorf("--kernel %s: want ROLE=NAME, ROLE=IMAGE or ROLE=IMAGE,MODULES; roles are client, gateway, balancer and server", word)
		}
		if _, twice := wanted[role]; twice {
			return nil, fmt.Errorf("--kernel %s: two kernels for one role", word)
		}
		wanted[role] = which
	}
	return wanted, nil
}
