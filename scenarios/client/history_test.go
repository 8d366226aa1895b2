package client

import (
	"testing"

	"twlab/harness/kernel"
	"twlab/scenarios/claim"
)

// The history of a sysctl and the rules about it name the same defaults.
func TestDefaultsAreThoseOfTheHistory(t *testing.T) {
	family, compared := Defaults().Family, 0
	for _, u := range tunables() {
		h, known := kernel.SysctlNamed(u.sysctl)
		if !known {
			t.Errorf("%s has rules, and no history in harness/kernel/sysctls.go", u.sysctl)
		}
		for _, r := range kernel.KnownReleases() {
			cell := family.Usual()
			cell.Values[sysctl], cell.Values[what] = u.sysctl, whatDefault
			rule, covered := family.Rule(cell, claim.Alike(kernel.FactsOf(r)))
			if !covered || len(rule.Want) < 2 || rule.Want[1].What != "value" || len(rule.Want[1].OneOf) == 0 {
				continue // not there, or it depends on the machine
			}
			if got, _ := h.DefaultIn(r); got != rule.Want[1].OneOf[0] {
				t.Errorf("%s on Linux %v: the history says %q, rule %s %q", u.sysctl, r, got, rule.Name, rule.Want[1].OneOf[0])
			}
			compared++
		}
	}
	if compared < len(tunables()) {
		t.Errorf("%d defaults compared, of %d sysctls", compared, len(tunables()))
	}
}
