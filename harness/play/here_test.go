//go:build linux

package play_test

import (
	"strings"
	"testing"

	"twlab/harness/recording"
	"twlab/harness/script"
)

// A scenario of other kernels takes no step, and says of which it is.
func TestAScenarioOfOtherKernels(t *testing.T) {
	s := direct(script.Step{Do: script.Listen{Node: "web", Port: 80}, Expect: []script.Expectation{{Outcome: "Refused"}}}) // wrong
	for since, want := range map[string]recording.Verdict{"2.6": recording.NotAsExpected, "99.0": recording.CannotHere} {
		s.When = script.Condition{Since: since}
		r, text := played(t, s)
		if r.Verdict() != want || want == recording.CannotHere && !strings.Contains(text, "only with the kernel since 99.0; this one is ") {
			t.Errorf("since %s: %v\n%s", since, r.Verdict(), text)
		}
	}
}
