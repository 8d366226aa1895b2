//go:build linux

package advice

import (
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"twlab/harness/kernel"
	"twlab/scenarios"
	"twlab/scenarios/claim"
	"twlab/scenarios/situation"
)

// families are all, made once.
var families = sync.OnceValue(scenarios.Families)

// ruleNamed finds a rule, and the family that has it.
func ruleNamed(name string) (f situation.Family, r claim.Rule, found bool) {
	for _, f := range families() {
		for _, r := range f.Rules {
			if r.Name == name {
				return f, r, true
			}
		}
	}
	return situation.Family{}, claim.Rule{}, false
}

// machine is what a machine of this release has: its own namespace, which is the initial one,
// shows every sysctl.
func machine(r kernel.Release) kernel.Facts {
	facts := kernel.FactsOf(r).AsGuests()
	for _, s := range kernel.Sysctls() {
		if s.Shown != "" {
			facts.Features[s.Shown] = kernel.No
			if !r.Before(s.Introduced.Major, s.Introduced.Minor) && (s.Removed == kernel.Release{} || r.Before(s.Removed.Major, s.Removed.Minor)) {
				facts.Features[s.Shown] = kernel.Yes
			}
		}
	}
	return facts
}

// Each rule that proves an item is there, is about the item's sysctl and value, and can hold on
// every kernel for which it is named; and on each kernel of the item there is a proof.
func TestItemsAreProved(t *testing.T) {
	for _, item := range Items() {
		for _, release := range releases() {
			if facts := kernel.FactsOf(release); item.On.Hold(facts) && there(item.Sysctl, release) && len((&checker{For: For{Facts: facts}}).proofs(item.Shown)) == 0 {
				t.Errorf("%s: %q: on Linux %v nothing proves it", item.Sysctl, item.Says, release)
			}
		}
		for _, p := range item.Shown {
			if p.File != "" {
				provesBySetting(t, item, p.File)
				continue
			}
			f, r, found := ruleNamed(p.Rule)
			if !found {
				t.Errorf("%s: no rule %q", item.Sysctl, p.Rule)
				continue
			}
			holds(t, item.Sysctl, item.On, p, r)
			for _, release := range knownReleases() {
				facts := kernel.FactsOf(release)
				if named := item.On.Hold(facts) && p.On.Hold(facts) && there(item.Sysctl, release); !named {
					continue
				}
				if !isAbout(f, r, item, machine(release)) {
					t.Errorf("%s: on Linux %v rule %s is about other sysctls or values than %q", item.Sysctl, release, p.Rule, item.Says)
					break
				}
			}
		}
	}
}

func there(name string, r kernel.Release) bool {
	h, _ := kernel.SysctlNamed(name)
	return !r.Before(h.Introduced.Major, h.Introduced.Minor) && (h.Removed == kernel.Release{} || r.Before(h.Removed.Major, h.Removed.Minor))
}

// holds fails where the rule does not hold on a kernel for which it is named, and where the
// newest kernels have no cell of it and no guest is named.
func holds(t *testing.T, sysctl string, on Kernels, p Proof, r claim.Rule) {
	t.Helper()
	some := false
	for _, release := range releases() {
		facts := kernel.FactsOf(release)
		if !on.Hold(facts) || !p.On.Hold(facts) || !there(sysctl, release) {
			continue
		}
		some = true
		for _, q := range r.Kernels {
			if !q.Holds(claim.Alike(machine(release))) {
				t.Errorf("%s: rule %s is not for Linux %v: %v", sysctl, p.Rule, release, q)
				return
			}
		}
	}
	if !some {
		t.Errorf("%s: no release has the proof %s", sysctl, p.Rule)
	}
	newest := claim.Newest()
	if slices.ContainsFunc(r.Kernels, func(q claim.Condition) bool { return !q.Holds(newest) }) && p.Guest == "" {
		t.Errorf("%s: the newest kernels have no cell of %s: name a guest", sysctl, p.Rule)
	}
}

// inOtherWords are words of rules that are about a sysctl and do not name it.
var inOtherWords = map[string]string{
	"remedies-more": "local port", "remedies-none": "no port is left", "refusal-client": "free local port", // ip_local_port_range
	"refusal-queue": "accept queue", // somaxconn
	"length-over":   "60 s",         // tcp_max_tw_buckets, which shortens that
}

// isAbout tells whether the rule is about the item on a kernel. Where an axis of its family is
// the sysctl, the rule must decide by it: see [decides]. Elsewhere it must speak of it.
func isAbout(f situation.Family, r claim.Rule, item Item, facts kernel.Facts) bool {
	short, axes := last(item.Sysctl), 0
	for _, a := range f.Axes {
		if a.Sysctl.Sysctl != item.Sysctl && !strings.Contains(a.Means, short) {
			continue
		}
		if axes++; decides(f, r, item, a, claim.Alike(facts)) {
			return true
		}
	}
	if words := inOtherWords[r.Name]; words != "" {
		return strings.Contains(r.Because, words)
	}
	return axes == 0 && (strings.Contains(r.Because+r.Source+f.About, short) || slices.ContainsFunc(r.Cells, func(w claim.Where) bool {
		return slices.Contains(w["sysctl"], item.Sysctl)
	}))
}

// ofOtherValues are rules about the value that an item says is better.
var ofOtherValues = []string{"chance-one-host-one-clock"}

// decides tells whether some cell with a value of the item has the rule, and with another
// value has another rule or cannot come about. Of what has no effect it is enough that a cell
// with a value of the item has the rule.
func decides(f situation.Family, r claim.Rule, item Item, a claim.Axis, k claim.Kernels) bool {
	better := slices.Contains(ofOtherValues, r.Name)
	of := func(value string) bool { // where an axis has words, the usual one is not the item's
		return (item.If.Has(value) || !isNumber(value) && value != a.Values[0]) != better
	}
	none := item.Level == NoEffect || item.Level == Contradiction
	for _, c := range cells(f) {
		value := c.Value(a.Name)
		if got, _ := f.Rule(c, k); got.Name != r.Name || !of(value) {
			continue
		}
		if none {
			return true
		}
		for _, other := range a.Values {
			flipped := claim.Cell{Values: maps.Clone(c.Values)}
			flipped.Values[a.Name] = other
			got, _ := f.Rule(flipped, k)
			if _, possible := f.Possible(flipped); !of(other) && (!possible || got.Name != r.Name) {
				return true
			}
		}
	}
	return false
}

// cells are all of a family; to list them takes a while.
func cells(f situation.Family) []claim.Cell {
	if _, listed := cellsOf[f.Name]; !listed {
		cellsOf[f.Name] = f.All()
	}
	return cellsOf[f.Name]
}

var cellsOf = map[string][]claim.Cell{}

func isNumber(text string) bool { _, ok := numbers(text); return ok }

// provesBySetting fails where a scenario file is not there, or says nothing of the sysctl.
func provesBySetting(t *testing.T, item Item, name string) {
	t.Helper()
	text, err := os.ReadFile("../incidents/" + name)
	if err != nil {
		t.Error(err)
		return
	}
	elsewhere := []string{"listener-meets-a-client.yaml"} // which draws the port by hand
	if !strings.Contains(string(text), item.Sysctl) && !slices.Contains(elsewhere, name) {
		t.Errorf("%s: %s does not set it", item.Sysctl, name)
	}
}

// What is said of absence, of the whole machine and of defaults is what the family "defaults"
// says on each release.
func TestPresenceIsProved(t *testing.T) {
	for _, p := range presences() {
		for _, group := range []struct {
			proofs []Proof
			facts  func(kernel.Release) kernel.Facts
			about  func(kernel.Release) bool
		}{
			{p.absent, machine, func(r kernel.Release) bool { return !there(p.sysctl, r) }},
			{p.usual, machine, func(r kernel.Release) bool { return there(p.sysctl, r) }},
			{p.oneForAll, kernel.FactsOf, func(r kernel.Release) bool {
				h, _ := kernel.SysctlNamed(p.sysctl)
				return there(p.sysctl, r) && r.Before(h.Namespaced.Major, h.Namespaced.Minor)
			}},
		} {
			for _, release := range releases() {
				if len(group.proofs) > 0 && group.about(release) {
					saysTheFamily(t, p.sysctl, release, group.facts(release), group.proofs)
				}
			}
		}
	}
}

// saysTheFamily fails where the family names another rule.
func saysTheFamily(t *testing.T, sysctl string, release kernel.Release, facts kernel.Facts, proofs []Proof) {
	t.Helper()
	named := (&checker{For: For{Facts: kernel.FactsOf(release)}}).proofs(proofs)
	f, _, _ := ruleNamed("defaults-own")
	cell := f.Usual()
	cell.Values["sysctl"] = sysctl
	rule, covered := f.Rule(cell, claim.Alike(facts))
	if len(named) != 1 || !covered || named[0].Rule != rule.Name {
		t.Errorf("%s on Linux %v: %v is named, and the family says %s", sysctl, release, named, rule.Name)
	}
}
