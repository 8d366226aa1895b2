package scenarios

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"twlab/harness/script"
	"twlab/harness/scriptfile"
	"twlab/scenarios/claim"
	"twlab/scenarios/situation"
)

// Every cell that can be told is a file that is right, and expects the outcome that its rule
// predicts, if the rule predicts one.
func TestCellsAreFiles(t *testing.T) {
	for _, f := range Families() {
		for _, c := range f.Chosen(claim.Newest()) {
			rule, _ := f.Rule(c, claim.Newest())
			s, unsaid, err := f.Scenario(c, rule)
			if errors.Is(err, situation.ErrUntold) {
				continue
			}
			for _, p := range s.Check() {
				t.Errorf("%s %s: %v", f.Name, f.Describe(c), p)
			}
			var text bytes.Buffer
			if err := scriptfile.Write(&text, s); err != nil {
				t.Fatalf("%s %s: %v", f.Name, f.Describe(c), err)
			}
			if slices.ContainsFunc(unsaid, func(e claim.Expectation) bool { return e.What == "outcome" }) {
				t.Errorf("%s %s: the outcome is not expected", f.Name, f.Describe(c))
			}
		}
	}
}

// untold are the rules of families that are told of which no cell can be, and why.
var untold = map[string]string{
	"refusal-clock":                "no step sets the clock or the sequence number of each connection of a load",
	"refusal-number":               "the same",
	"refusal-client-gateway-clock": "the same",
	"idle-wrapped":                 "a step of a file lasts a day at most",
	"idle-24-days":                 "the same",
	"share-clocks-of-hosts":        "no step sets the clock of each connection of a host",
	"profile-block-full":           "no key of the usual network gives each client a block of ports",
}

// A rule whose cells cannot be told is named above, and nothing else is.
func TestWhichRulesAreTold(t *testing.T) {
	left := map[string]bool{}
	for rule := range untold {
		left[rule] = true
	}
	for _, f := range Families() {
		if told, why := f.Tell != nil, f.Untold != ""; told == why {
			t.Errorf("family %s is told: %t; it says why it is not: %t", f.Name, told, why)
		}
		if f.Tell == nil {
			continue
		}
		told := map[string]bool{}
		for _, c := range f.Chosen(claim.Newest()) {
			rule, _ := f.Rule(c, claim.Newest())
			_, _, err := f.Scenario(c, rule)
			told[rule.Name] = told[rule.Name] || err == nil
		}
		for rule, is := range told {
			if named := left[rule]; is == named {
				t.Errorf("rule %s: it is told: %t; it is named as one that is not: %t", rule, is, named)
			}
			delete(left, rule)
		}
	}
	for rule := range left {
		t.Errorf("rule %s applies to no cell: strike it off", rule)
	}
}

// What a rule expects of the last step is what the file expects there, in its words.
func TestToldExpectations(t *testing.T) {
	f, c, err := Named([]string{"tuple-older-timestamp-blocked"}, claim.Newest())
	if err != nil {
		t.Fatal(err)
	}
	rule, _ := f.Rule(c, claim.Newest())
	s, unsaid, err := f.Scenario(c, rule)
	if err != nil {
		t.Fatal(err)
	}
	last := s.Steps[len(s.Steps)-1].Expect
	first := last[0]
	if first.Outcome != "TimedOut" || first.SYNs == nil || *first.SYNs != script.Between(2, 4) || len(first.Sockets) != 1 ||
		first.Sockets[0].State != "TIME_WAIT" || first.Counters["gateway"]["Conntrack.insert_failed"] != script.Exactly(0) {
		t.Errorf("expected is %+v", first)
	}
	if len(last) != 3 || last[1].When.Since != "6.16" || last[2].When.Before != "6.16" {
		t.Errorf("by kernel: %+v", last[1:])
	}
	var names []string
	for _, e := range unsaid {
		names = append(names, e.What)
	}
	if want := []string{"syn-acks", "all syns reached", "timer"}; !slices.Equal(names, want) {
		t.Errorf("unsaid is %v, want %v", names, want)
	}
}
