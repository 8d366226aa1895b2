package client

import (
	"time"

	"twlab/harness/script"
	"twlab/scenarios/claim"
	"twlab/scenarios/situation"
)

// unchanged is for how long a value must not come about that nobody has set.
const unchanged = 100 * time.Millisecond

// defaultsTell tells a cell of the family as steps: the sysctl is set, unless its default is asked for,
// where the kernel shows it, and then it is read. That it takes its own value is told by another one,
// since a file knows no value before it is run.
func defaultsTell(c claim.Cell) (situation.Told, error) {
	t := tunableOf(c)
	var steps situation.Steps
	if !c.Is(what, whatDefault) {
		set := script.Step{Do: script.Set{Node: theClient, Sysctls: []script.Sysctl{{Name: t.sysctl, Value: t.other}}}}
		if shown := t.shown(); shown != "" {
			set.When = script.Condition{At: theClient, Feature: string(shown)}
		}
		steps = append(steps, set)
	}
	steps.Do(script.Sleep{For: time.Millisecond})
	show := func(e *script.Expectation, node, value string) {
		e.Sysctls = map[string]map[string]string{node: {t.sysctl: value}}
	}
	other := func(_ claim.Expectation, to *[]script.Expectation) bool {
		show(&(*to)[0], theClient, t.other)
		return true
	}
	return situation.Told{Steps: steps, Evidence: map[string]situation.Teller{
		"file": func(e claim.Expectation, to *[]script.Expectation) bool {
			state := script.SysctlAbsent
			if e.OneOf[0] == situation.SysctlThere {
				state = script.SysctlThere
			}
			show(&(*to)[0], theClient, state)
			return true
		},
		"value": func(e claim.Expectation, to *[]script.Expectation) bool {
			if len(e.OneOf) != 1 {
				return false
			}
			show(&(*to)[0], theClient, e.OneOf[0])
			return true
		},
		"set here": other, "can be set": other,
		"elsewhere": func(e claim.Expectation, to *[]script.Expectation) bool {
			var there script.Expectation
			if show(&there, theBalancer, t.other); e.OneOf[0] == "as before" {
				there.Never = unchanged
			}
			*to = append(*to, there)
			return true
		},
	}}, nil
}
