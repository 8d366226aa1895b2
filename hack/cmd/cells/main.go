// Command cells reads a file with cells of somebody's own, as hack/e2e --cell
// does, and says what the rules predict for each on this kernel:
//
//	cells FILE
//
// It drives nothing and needs no privileges. The exit code is 2 when something
// is wrong with the file.
package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"twlab/harness/node"
	"twlab/harness/topo"
	"twlab/scenarios"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: cells FILE")
		os.Exit(2)
	}
	if err := run(context.Background(), os.Args[1], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
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
	facts, err := scenarios.Probe(ctx, here)
	if err != nil {
		return err
	}
	for _, q := range questions {
		fmt.Fprintf(stdout, "%s: %s %s\n", q.Name, q.Family.Name, q.Family.Describe(q.Cell))
		rule, covered, reservation := q.Rule(scenarios.Alike(facts))
		if !covered {
			fmt.Fprintf(stdout, "  no claim covers this: %s\n", reservation)
		}
		if rule.Name != "" {
			fmt.Fprintf(stdout, "  %s predicts %s\n", rule.Name, rule.Headline())
		}
	}
	return nil
}
