package run

import (
	"context"
	"errors"
	"fmt"
	"io"

	"twlab/harness/kernel"
	"twlab/harness/lab"
	"twlab/harness/recording"
	"twlab/harness/report"
	"twlab/harness/script"
	"twlab/scenarios"
	"twlab/scenarios/roles"
)

// claims says which rules of the matrix predict what was seen.
type claims struct {
	// here is whether scenarios run on the running kernel, which can then be asked what it can do:
	// a distribution's kernel may have more than mainline of its release.
	here    bool
	running kernel.Facts // once it was asked
}

// write says which rule predicts what was seen in a scenario that was a cell, or that none claims
// anything of it. Of other scenarios, and of those that did not come to their end, it says nothing.
func (c *claims) write(ctx context.Context, to io.Writer, s script.Scenario, seen recording.Recording) error {
	if verdict := seen.Verdict(); verdict != recording.AsExpected && verdict != recording.NotAsExpected || len(seen.Steps) != len(s.Steps) {
		return nil
	}
	kernels, err := scenarios.KernelsOf(seen, c.running)
	if err != nil {
		return err
	}
	claimed, is := scenarios.ClaimedBy(s, kernels)
	if !is {
		return nil
	}
	if c.here && c.running.Features == nil {
		if c.running, err = ask(ctx); err != nil {
			return err
		}
		if kernels, err = scenarios.KernelsOf(seen, c.running); err != nil {
			return err
		}
		claimed, _ = scenarios.ClaimedBy(s, kernels)
	}
	_, err = fmt.Fprintln(to, report.Plain(claimed.Text(seen)))
	return err
}

// ask finds out what the running kernel can do, in a lab of its own.
func ask(ctx context.Context) (facts kernel.Facts, err error) {
	l, err := lab.Build(ctx, lab.Topology{Clients: 1, NoBaseline: true})
	if err != nil {
		return facts, fmt.Errorf("ask the running kernel: %w", err)
	}
	facts, err = roles.Probe(ctx, l.Client(0))
	return facts, errors.Join(err, l.Close())
}
