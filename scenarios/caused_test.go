package scenarios

import (
	"slices"
	"strings"
	"testing"

	"twlab/harness/diagnose"
	"twlab/harness/script"
	"twlab/scenarios/claim"
)

// What counts connections and requests that do not go well, besides "refused by ...".
var lost = []string{ //nolint:gochecknoglobals // a constant list
	"given up", "no port", "truncated", "broken", "unanswered", "bytes lost", "errors", "failed", "timed out", "late", "refused", "rejected",
}

// goesWell tells whether a rule expects that every connection connects at once and is whole; known
// is false if it does not say so.
func goesWell(r claim.Rule) (well, known bool) {
	well = true
	for _, e := range r.Want {
		switch {
		case e.What == "outcome":
			known = true
			well = well && slices.Equal(e.OneOf, []string{"Connected"})
		case e.What == "whole" || e.What == "connected":
			known = true
		case slices.Contains(lost, e.What) || strings.HasPrefix(e.What, "refused by ") || strings.HasPrefix(e.What, "refused after "):
			known = true
			well = well && e.Least == 0
		case e.What == "segment":
			known = true
			well = well && slices.Equal(e.OneOf, []string{"accepted"})
		case e.What == "outcome before":
			well = well && !slices.Contains(e.OneOf, "NoPort")
		case e.What == "IPv4 reaches" || e.What == "IPv6 reaches":
			well = well && !slices.Contains(e.OneOf, "nobody")
		case e.What == "answers" || e.What == "first answer":
			well = well && slices.Equal(e.OneOf, []string{"SYN-ACK"})
		case e.What == "syns":
			well = well && e.Least <= 1
		}
	}
	return well, known
}

// The causes that rules name are those of the catalogue.
func TestCausesOfRulesExist(t *testing.T) {
	for _, f := range Families() {
		for _, r := range f.Rules {
			for _, id := range r.Causes() {
				if _, found := diagnose.Find(id); !found {
					t.Errorf("rule %s: no cause %q: twlab explain lists them", r.Name, id)
				}
			}
			for _, other := range r.OtherCauses {
				if r.Cause == "" || other.Cause == r.Cause || len(other.Cells) == 0 {
					t.Errorf("rule %s: cells %v have the cause %q besides %q", r.Name, other.Cells, other.Cause, r.Cause)
				}
			}
		}
	}
}

// A rule of a family that is told names a cause, or why it names none, where not all goes well, and
// neither where all does. One that predicts no outcome may do either.
func TestRulesNameTheirCause(t *testing.T) {
	for _, f := range Families() {
		for _, r := range f.Rules {
			if f.Tell == nil || r.OutOfReach {
				continue
			}
			well, known := goesWell(r)
			switch named := r.Cause != ""; {
			case named && r.Uncaused != "":
				t.Errorf("rule %s names the cause %s, and says why it names none", r.Name, r.Cause)
			case well && known && (named || r.Uncaused != ""):
				t.Errorf("rule %s: all goes well, and it names a cause, or why it names none", r.Name)
			case !well && !named && r.Uncaused == "":
				t.Errorf("rule %s, %s: which cause has it? Else say in Uncaused why it names none", r.Name, r.Headline())
			}
		}
	}
}

// Each cell that is told expects the cause that its rule names, but a load, of whose attempts only
// their number is known.
func TestToldCellsExpectTheirCause(t *testing.T) {
	for _, f := range Families() {
		for _, c := range f.Chosen(claim.Newest()) {
			rule, _ := f.Rule(c, claim.Newest())
			s, _, err := f.Scenario(c, rule)
			if err != nil {
				continue
			}
			last := s.Steps[len(s.Steps)-1]
			want := rule.CauseOf(c)
			if _, load := last.Do.(script.Load); load {
				want = ""
			}
			if got := last.Expect[0].Cause; got != want {
				t.Errorf("%s: it expects the cause %q, and rule %s names %q", s.Name, got, rule.Name, want)
			}
		}
	}
}
