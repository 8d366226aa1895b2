package scenarios

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	"twlab/scenarios/claim"
	"twlab/scenarios/situation"
)

// satisfying is evidence of which all expectations are right; it fails the test when
// there can be none.
func satisfying(t *testing.T, want []claim.Expectation) (seen claim.Seen) {
	t.Helper()
	for _, e := range want {
		if _, noted := seen.Get(e.What); noted {
			continue
		}
		possible := slices.Clone(e.OneOf)
		for _, other := range want {
			if other.What == e.What && len(other.OneOf) == 0 {
				possible = append(possible, strconv.FormatInt(other.Least, 10), strconv.FormatInt(other.Most, 10))
			}
		}
		i := slices.IndexFunc(possible, func(got string) bool {
			return !slices.ContainsFunc(want, func(other claim.Expectation) bool { return other.What == e.What && !accepts(other, got) })
		})
		if i < 0 {
			t.Fatalf("nothing can satisfy all of %v", want)
		}
		seen.Note(e.What, possible[i])
	}
	return seen
}

func accepts(e claim.Expectation, got string) bool {
	var seen claim.Seen
	seen.Note(e.What, got)
	return claim.Agree(claim.Compare([]claim.Expectation{e}, seen))
}

func TestMutationsAreJudgedByTheLineThatIsPredicted(t *testing.T) {
	m := claim.Mutation{
		Rule: claim.Rule{Name: "x-tried", Want: []claim.Expectation{claim.Is("outcome", "Connected"), claim.Exactly("syns", 1), claim.AtMost("late ms", 900)}},
		Own:  claim.Rule{Name: "x-own", Want: []claim.Expectation{claim.Is("outcome", "TimedOut"), claim.AtLeast("syns", 2), claim.Is("timer", "running")}},
	}
	noted := func(pairs ...string) (seen claim.Seen) {
		for i := 0; i < len(pairs); i += 2 {
			seen.Note(pairs[i], pairs[i+1])
		}
		return seen
	}
	for name, c := range map[string]struct {
		seen claim.Seen
		want claim.Catch
		says string
	}{
		"as the other rule says": {
			noted("outcome", "TimedOut", "syns", "2", "late ms", "3000", "timer", "running"), claim.Caught, "caught by outcome, syns",
		},
		"as if nothing were changed": {
			noted("outcome", "Connected", "syns", "1", "late ms", "0", "timer", "gone"), claim.Missed, "x-own",
		},
		"wrong by chance": {
			noted("outcome", "Connected", "syns", "1", "late ms", "901", "timer", "gone"), claim.WrongLine, "wrong: late ms",
		},
		"evidence that nobody noted": {
			noted("late ms", "0", "timer", "running"), claim.WrongLine, "outcome (not noted), syns (not noted)",
		},
		"another outcome than either rule's": {
			noted("outcome", "Refused", "syns", "1", "late ms", "0", "timer", "running"), claim.OwnBroken, "wrong: outcome, syns",
		},
		"the other rule broken elsewhere": {
			noted("outcome", "TimedOut", "syns", "2", "late ms", "3000"), claim.OwnBroken, "wrong: timer (not noted)",
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := m.Judge(claim.Family{Name: "x"}, c.seen)
			if got.Catch != c.want || !strings.Contains(got.String(), c.says) {
				t.Errorf("got %s, want %s with %q:\n%v", got.Catch, c.want, c.says, got)
			}
		})
	}
}

// canBeCaughtAndMissed checks that a mutation is caught when what is seen is as the lab's
// own rule says, and missed when it is as the rule says that is tried.
func canBeCaughtAndMissed(t *testing.T, f claim.Family, m claim.Mutation) {
	t.Helper()
	if got := m.Judge(f, satisfying(t, m.Own.Want)); got.Catch != claim.Caught {
		t.Errorf("%s, %s=%s, as %s says: %v", m.Rule.Name, m.Axis, m.To, m.Own.Name, got)
	}
	if got := m.Judge(f, satisfying(t, m.Rule.Want)); got.Catch != claim.Missed {
		t.Errorf("%s, %s=%s, as if nothing were changed: %v", m.Rule.Name, m.Axis, m.To, got)
	}
}

func TestSampleHasOneQuickMutationOfEachRule(t *testing.T) {
	each(t, func(t *testing.T, f situation.Family) {
		all := f.Mutations(claim.Newest())
		quick, sampled := map[string]bool{}, map[string]bool{}
		for _, m := range all {
			if !f.IsSlow(m.Mutated) {
				quick[m.Rule.Name] = true
			}
		}
		for _, m := range claim.Sample(f.Family, all) {
			if sampled[m.Rule.Name] || f.IsSlow(m.Mutated) {
				t.Errorf("%s: sampled twice, or slow", m.Rule.Name)
			}
			sampled[m.Rule.Name] = true
		}
		if len(sampled) != len(quick) {
			t.Errorf("%d rules have quick mutations, %d are sampled", len(quick), len(sampled))
		}
	})
}
