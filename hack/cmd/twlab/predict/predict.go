// Package predict is the subcommand that reads a file with a user's own cells, and says what
// the rules predict for each on this kernel. It runs no cell and needs no privileges.
package predict

import (
	"context"
	"fmt"
	"io"
	"os"

	"twlab/harness/topo"

	"github.com/spf13/cobra"

	"twlab/hack/internal/cli"
	"twlab/harness/node"
	"twlab/scenarios"
	"twlab/scenarios/claim"
	"twlab/scenarios/roles"
)

// Command is the subcommand, which the suite's begins with.
func Command() *cobra.Command {
	return &cobra.Command{
		Use:         "predict FILE",
		Short:       "Say what the rules predict for your own cells, without running them",
		Hidden:      true, // ask prints the same, and the results
		Annotations: map[string]string{cli.SpeaksAs: "hack/e2e"},
		Args:        cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, words []string) error {
			return cli.NotRunError(run(c.Context(), words[0], c.OutOrStdout()))
		},
	}
}

func run(ctx context.Context, path string, stdout io.Writer) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	questions, err := scenarios.ReadQuestions(file)
	if err != nil {
		return fmt.Errorf("%s:\n%w", path, err)
	}
	here := node.NewLocal(topo.Identity{Name: "this machine"}, func(f func() error) error { return f() })
	defer here.Close()
	facts, err := roles.Probe(ctx, here)
	if err != nil {
		return err
	}
	for _, q := range questions {
		fmt.Fprintf(stdout, "%s: %s %s\n", q.Name, q.Family.Name, q.Family.Describe(q.Cell))
		rule, covered, reservation := q.Rule(claim.Alike(facts))
		if !covered {
			fmt.Fprintf(stdout, "  no claim covers this: %s\n", reservation)
		}
		if rule.Name != "" {
			fmt.Fprintf(stdout, "  %s predicts %s\n", rule.Name, rule.Headline())
		}
	}
	return nil
}
