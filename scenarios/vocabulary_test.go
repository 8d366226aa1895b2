package scenarios

import (
	"context"
	"strings"
	"testing"

	"twlab/harness/lab"
	"twlab/scenarios/claim"
	"twlab/scenarios/situation"
	"twlab/scenarios/timewait"
)

func TestEvidenceIsDeclaredOnceAndUsed(t *testing.T) {
	used := map[claim.Evidence]bool{} // by a rule of a family that declares the very same
	each(t, func(t *testing.T, f situation.Family) {
		wanted := map[string]bool{}
		for _, r := range f.Rules {
			for _, e := range r.Want {
				wanted[e.What] = true
			}
		}
		once := map[string]bool{}
		for _, e := range f.Evidence {
			if once[e.Name] {
				t.Errorf("family %s declares %q twice in the family's package", f.Name, e.Name)
			}
			once[e.Name] = true
			if e.Name == "" || e.Unit == "" || e.Means == "" || strings.HasSuffix(e.Means, ".") {
				t.Errorf("evidence %q of family %s: want a name, a unit and a sentence without its full stop in the family's package", e.Name, f.Name)
			}
			if strings.Contains(e.Name, ".") {
				t.Errorf("evidence %q of family %s: looks like a role's counter", e.Name, f.Name)
			}
			used[e] = used[e] || wanted[e.Name]
		}
	})
	for e, is := range used {
		switch {
		case !is && !e.Aside:
			t.Errorf("no rule speaks of %q: take it away in the family's package, or mark it Aside", e.Name)
		case is && e.Aside:
			t.Errorf("a rule speaks of %q, which is marked Aside in the family's package", e.Name)
		}
	}
}

// A word has one meaning in all families.
func TestEvidenceOfOneNameIsTheSameEverywhere(t *testing.T) {
	other := map[string]situation.Family{}
	for _, f := range Families() {
		for _, e := range f.Evidence {
			before, known := other[e.Name]
			if !known {
				other[e.Name] = f
				continue
			}
			for _, same := range before.Evidence {
				if same.Name == e.Name && same != e {
					t.Errorf("%q means %q in family %s and %q in family %s (scenarios/vocabulary.go)", e.Name, same.Means, before.Name, e.Means, f.Name)
				}
			}
		}
	}
}

// What a driver notes under a name that was put together is known only when it runs.
func TestTryNamesEvidenceThatIsNotDeclared(t *testing.T) {
	f := timewait.Tuple()
	f.Drive = func(context.Context, claim.Cell, *lab.Lab) (seen claim.Seen, err error) {
		seen.Count("syns", 1)
		seen.Count("late"+" s", 3)
		return seen, nil
	}
	seen, err := f.Try(t.Context(), f.Usual(), nil)
	if err == nil || !strings.Contains(err.Error(), `family tuple declares no evidence "late s" (it has "late ms"`) {
		t.Errorf("got error %v", err)
	}
	if got, _ := seen.Get("syns"); got != "1" {
		t.Errorf("syns: got %q, want what was noted", got)
	}
}
