package report

import (
	"slices"

	"twlab/harness/diagnose"
	"twlab/harness/ladder"
	"twlab/harness/recording"
)

// Ladder draws the packets of the connection that was not as expected, in lines of at most
// [ladder.Width] columns; with ascii, in ASCII alone. It is empty when there was no connection,
// or no packets are known. Its lines are not yet safe for a terminal.
func Ladder(r recording.Recording, ascii bool) []string {
	d, found := suspect(&r)
	if !found || r.Missing[recording.OfPackets] != "" {
		return nil
	}
	return ladder.New(&r, d).Text(ascii)
}

// suspect is the attempt that was not as expected: of the first step with a finding that was
// not met, or the last one before it. Of several, the first that died, or did not connect.
func suspect(r *recording.Recording) (d diagnose.Diagnosis, found bool) {
	for i, s := range r.Steps {
		if all := diagnose.Of(r, diagnosed(r, i)); len(all) > 0 && all[0].Attempt.Remote.IsValid() {
			died := slices.IndexFunc(all, func(d diagnose.Diagnosis) bool { return d.Symptom != diagnose.Fine })
			d, found = all[max(0, died)].WithPackets(r, diagnosed(r, i)), true
		}
		if s.Verdict() == recording.NotAsExpected {
			break
		}
	}
	return d, found
}

// diagnosed is the step whose attempts those of a step are: one that waits has those of the
// step that it waited for.
func diagnosed(r *recording.Recording, i int) int {
	s := r.Steps[i]
	if s.Verb != "await" || len(s.Result.Attempts) == 0 {
		return i
	}
	a := s.Result.Attempts[0]
	for k, other := range r.Steps[:i] {
		if b := other.Result.Attempts; len(b) > 0 && b[0].Local == a.Local && b[0].Remote == a.Remote && b[0].Took == a.Took {
			return k
		}
	}
	return i
}
