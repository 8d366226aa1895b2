package scenarios

import (
	"slices"
	"strconv"
	"strings"
	"testing"
)

// satisfying is evidence of which all expectations are right; it fails the test when
// there can be none.
func satisfying(t *testing.T, want []Expectation) (seen Seen) {
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
			return !slices.ContainsFunc(want, func(other Expectation) bool { return other.What == e.What && !accepts(other, got) })
		})
		if i < 0 {
			t.Fatalf("nothing can satisfy all of %v", want)
		}
		seen.Note(e.What, possible[i])
	}
	return seen
}

func accepts(e Expectation, got string) bool {
	var seen Seen
	seen.Note(e.What, got)
	return Agree(Compare([]Expectation{e}, seen))
}

func TestMutationsAreJudgedByTheLineThatIsPredicted(t *testing.T) {
	m := Mutation{
		Rule: Rule{Name: "x-tried", Want: []Expectation{Is("verdict", "Connected"), Exactly("syns", 1), AtMost("late ms", 900)}},
		Own:  Rule{Name: "x-own", Want: []Expectation{Is("verdict", "TimedOut"), AtLeast("syns", 2), Is("timer", "running")}},
	}
	noted := func(pairs ...string) (seen Seen) {
		for i := 0; i < len(pairs); i += 2 {
			seen.Note(pairs[i], pairs[i+1])
		}
		return seen
	}
	for name, c := range map[string]struct {
		seen Seen
		want Catch
		says string
	}{
		"as the other rule says": {
			noted("verdict", "TimedOut", "syns", "2", "late ms", "3000", "timer", "running"), Caught, "caught by verdict, syns",
		},
		"as if nothing were changed": {
			noted("verdict", "Connected", "syns", "1", "late ms", "0", "timer", "gone"), Missed, "x-own",
		},
		"wrong by chance": {
			noted("verdict", "Connected", "syns", "1", "late ms", "901", "timer", "gone"), WrongLine, "wrong is late ms",
		},
		"evidence that nobody noted": {
			noted("late ms", "0", "timer", "running"), WrongLine, "verdict (not noted), syns (not noted)",
		},
		"another outcome than either rule's": {
			noted("verdict", "Refused", "syns", "1", "late ms", "0", "timer", "running"), OwnBroken, "wrong is verdict, syns",
		},
		"the other rule broken elsewhere": {
			noted("verdict", "TimedOut", "syns", "2", "late ms", "3000"), OwnBroken, "wrong is timer (not noted)",
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := m.Judge(Family{Name: "x"}, c.seen)
			if got.Catch != c.want || !strings.Contains(got.String(), c.says) {
				t.Errorf("got %s, want %s with %q:\n%v", got.Catch, c.want, c.says, got)
			}
		})
	}
}

// canBeCaughtAndMissed checks that a mutation is caught when what is seen is as the lab's
// own rule says, and missed when it is as the rule says that is tried.
func canBeCaughtAndMissed(t *testing.T, f Family, m Mutation) {
	t.Helper()
	if got := m.Judge(f, satisfying(t, m.Own.Want)); got.Catch != Caught {
		t.Errorf("%s, %s=%s, as %s says: %v", m.Rule.Name, m.Axis, m.To, m.Own.Name, got)
	}
	if got := m.Judge(f, satisfying(t, m.Rule.Want)); got.Catch != Missed {
		t.Errorf("%s, %s=%s, as if nothing were changed: %v", m.Rule.Name, m.Axis, m.To, got)
	}
}

func TestSampleHasOneQuickMutationOfEachRule(t *testing.T) {
	each(t, func(t *testing.T, f Driven) {
		all := f.Mutations(newestKernel())
		quick, sampled := map[string]bool{}, map[string]bool{}
		for _, m := range all {
			if !f.IsSlow(m.World) {
				quick[m.Rule.Name] = true
			}
		}
		for _, m := range Sample(f.Family, all) {
			if sampled[m.Rule.Name] || f.IsSlow(m.World) {
				t.Errorf("%s: sampled twice, or slow", m.Rule.Name)
			}
			sampled[m.Rule.Name] = true
		}
		if len(sampled) != len(quick) {
			t.Errorf("%d rules have quick mutations, %d are sampled", len(quick), len(sampled))
		}
	})
}
