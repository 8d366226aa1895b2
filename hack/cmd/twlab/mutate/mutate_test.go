package mutate

import (
	"testing"

	"twlab/harness/kernel"
	"twlab/scenarios/claim"
)

func TestChoices(t *testing.T) {
	facts := kernel.FactsOf(kernel.Release{Major: 6, Minor: 18})
	for name, c := range map[string]struct {
		choice choice
		filter string
		count  int
	}{
		"one rule":   {choice{rule: "length-over"}, "mutation && rule: containsAny {length-over}", 2},
		"quick ones": {choice{rule: "length-over", quick: true}, "mutation && rule: containsAny {length-over} && !slow", 1},
		"a group": {
			choice{rule: "length-over*", quick: true}, "mutation && rule: containsAny {length-over-port-free, length-over} && !slow", 2,
		},
		"a family":          {choice{family: "clock", rule: "clock-f*"}, "mutation && family:clock && rule: containsAny {clock-five-tuple}", 0},
		"what takes hours":  {choice{rule: "idle-2147-s"}, "mutation && rule: containsAny {idle-2147-s}", 1},
		"with an emulation": {choice{rule: "recycle-forgotten"}, "mutation && rule: containsAny {recycle-forgotten}", 4},
	} {
		t.Run(name, func(t *testing.T) {
			rules, err := c.choice.rules()
			if err != nil {
				t.Fatal(err)
			}
			if got := c.choice.filter(rules); got != c.filter {
				t.Errorf("filter: got %q, want %q", got, c.filter)
			}
			if got := c.choice.count(claim.Alike(facts), rules); got != c.count {
				t.Errorf("count: got %d, want %d", got, c.count)
			}
		})
	}
}
