package run

import (
	"fmt"
	"io"

	"twlab/harness/recording"
	"twlab/harness/report"
	"twlab/harness/script"
	"twlab/scenarios"
)

// writeClaimed says which rule of the matrix predicts what was seen in a scenario that was a cell,
// or that none claims anything of it. Of other scenarios, and of those that did not come to their
// end, it says nothing.
func writeClaimed(to io.Writer, s script.Scenario, seen recording.Recording) error {
	if verdict := seen.Verdict(); verdict != recording.AsExpected && verdict != recording.NotAsExpected || len(seen.Steps) != len(s.Steps) {
		return nil
	}
	kernels, err := scenarios.KernelsOf(seen)
	if err != nil {
		return err
	}
	claimed, is := scenarios.ClaimedBy(s, kernels)
	if !is {
		return nil
	}
	_, err = fmt.Fprintln(to, report.Plain(claimed.Text(seen)))
	return err
}
