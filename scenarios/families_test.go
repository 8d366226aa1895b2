package scenarios

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"twlab/harness/kernel"
	"twlab/scenarios/claim"
	"twlab/scenarios/situation"
)

// each runs a test for every family.
func each(t *testing.T, test func(*testing.T, situation.Family)) {
	t.Helper()
	for _, f := range Families() {
		t.Run(f.Name, func(t *testing.T) { test(t, f) })
	}
}

// distinctKernels picks, of all known kernels, in machines and in namespaces, one
// of each kind that the family's rules can tell apart.
func distinctKernels(f situation.Family) []kernel.Facts {
	told := map[kernel.Feature]bool{}
	for _, r := range f.Rules {
		for _, q := range r.Kernels {
			told[q.Feature] = true
		}
	}
	kinds := map[string]bool{}
	var distinct []kernel.Facts
	for _, release := range kernel.KnownReleases() {
		for _, facts := range []kernel.Facts{kernel.FactsOf(release), kernel.FactsOf(release).AsGuests()} {
			kind := ""
			for _, feature := range slices.Sorted(maps.Keys(told)) {
				kind += facts.Features[feature].String() + " "
			}
			if !kinds[kind] {
				kinds[kind] = true
				distinct = append(distinct, facts)
			}
		}
	}
	return distinct
}

// A sysctl that is an axis is set by the axis: what a topology says of it would be lost.
func TestTopologiesLeaveSysctlsToTheAxes(t *testing.T) {
	each(t, func(t *testing.T, f situation.Family) {
		for _, c := range f.Chosen(claim.Newest()) {
			for _, s := range f.Topology(c).Sysctls {
				if slices.ContainsFunc(f.Axes, func(a claim.Axis) bool { return a.Sysctl.Sets(s) }) {
					t.Fatalf("%s: the topology in %s sets %s of the %s, which an axis sets", f.Describe(c), file(f), s.Name, s.Role)
				}
			}
		}
	})
}

func TestEveryCellHasItsRuleAndNoRuleIsDead(t *testing.T) {
	each(t, func(t *testing.T, f situation.Family) {
		alive, all := map[string]bool{}, f.All()
		for _, facts := range distinctKernels(f) {
			here, driven := map[string]bool{}, map[string]bool{}
			for _, c := range all {
				rule, covered := f.Rule(c, claim.Alike(facts))
				if !covered {
					t.Fatalf("Linux %v: no rule for %s: widen the Cells of one in %s, or add one", facts.Release, f.Describe(c), rulesFile(f))
				}
				alive[rule.Name], here[rule.Name] = true, true
			}
			for _, c := range f.Chosen(claim.Alike(facts)) {
				rule, _ := f.Rule(c, claim.Alike(facts))
				driven[rule.Name] = true
			}
			for rule := range here {
				if !driven[rule] {
					t.Errorf("Linux %v: rule %s has no cell in an ordinary run; see Product and Crossed of the axes in %s", facts.Release, rule, file(f))
				}
			}
		}
		for _, r := range f.Rules {
			if !alive[r.Name] {
				t.Errorf("rule %s in %s is dead: rules before it match all its cells, or no known kernel is its own", r.Name, file(f))
			}
		}
	})
}

func TestRulesAreComplete(t *testing.T) {
	names := map[string]bool{}
	each(t, func(t *testing.T, f situation.Family) {
		for _, r := range f.Rules {
			if names[r.Name] {
				t.Errorf("two rules are named %q, one of them in %s", r.Name, file(f))
			}
			names[r.Name] = true
			if !strings.HasPrefix(r.Name, f.Name+"-") {
				t.Errorf("rule %q in %s: want a name that begins with %q", r.Name, file(f), f.Name+"-")
			}
			if r.Because == "" || r.Source == "" {
				t.Errorf("rule %s in %s has no reason, or no source of it", r.Name, file(f))
			}
			if (len(r.Want) == 0) != r.OutOfReach {
				t.Errorf("rule %s in %s: want expectations, or OutOfReach", r.Name, file(f))
			}
			for _, e := range r.Want {
				if err := sound(f, e); err != nil {
					t.Errorf("rule %s in %s: %v", r.Name, file(f), err)
				}
			}
			for _, q := range r.Kernels {
				if _, known := kernel.FactsOf(kernel.Mainline(6, 12)).Features[q.Feature]; !known {
					t.Errorf("rule %s in %s turns on the unknown feature %q; describe it in Features, harness/kernel/feature.go", r.Name, file(f), q.Feature)
				}
			}
		}
	})
}

// sound says what is wrong with an expectation in itself.
func sound(f situation.Family, e claim.Expectation) error {
	if len(e.OneOf) == 0 && e.Most < e.Least {
		return fmt.Errorf("%s: no number is in %d to %d", e.What, e.Least, e.Most)
	}
	return f.Declares(e.What)
}

func TestAxesAndValuesExist(t *testing.T) {
	each(t, func(t *testing.T, f situation.Family) {
		check := func(what string, cells claim.Cells) {
			t.Helper()
			if len(cells) == 0 {
				t.Errorf("%s: %s matches no cell", file(f), what)
			}
			for _, w := range cells {
				for axis, values := range w {
					a, found := f.Axis(axis)
					if !found {
						t.Errorf("%s: %s: no axis %q", file(f), what, axis)
					}
					for _, v := range values {
						if found && !slices.Contains(a.Values, v) {
							t.Errorf("%s: %s: axis %s has no value %q: want one of %v", file(f), what, axis, v, a.Values)
						}
					}
				}
			}
		}
		for _, r := range f.Rules {
			check("rule "+r.Name, r.Cells)
		}
		for _, i := range f.Impossible {
			check("impossible: "+i.Because, i.Cells)
			if i.Because == "" {
				t.Errorf("%s: impossible %v: no reason", file(f), i.Cells)
			}
		}
		for i, w := range f.Waits {
			check("waits", w.Cells)
			if !slices.ContainsFunc(f.All(), func(c claim.Cell) bool { return w.Cells.Matches(c) && f.Wait(c) == w.About }) {
				t.Errorf("%s: Waits[%d], %v: no cell, or others before it have the cells", file(f), i, w.About)
			}
		}
		for _, a := range f.Axes {
			if a.Means == "" || len(a.Values) == 0 {
				t.Errorf("%s: axis %q: want a meaning and values", file(f), a.Name)
			}
		}
		if because, possible := f.Possible(f.Usual()); !possible {
			t.Errorf("%s: the usual cell, the first value of each axis, is impossible: %s", file(f), because)
		}
	})
}

// Whatever a cell asks for must be a topology that can be built.
func TestTopologiesAreValid(t *testing.T) {
	each(t, func(t *testing.T, f situation.Family) {
		for _, c := range f.Chosen(claim.Newest()) {
			if err := f.Lab(c).Validate(); err != nil {
				t.Errorf("%s: Topology of %s: %v", file(f), f.Describe(c), err)
			}
		}
	})
}

func TestChosenCellsMakeAllPairsMeet(t *testing.T) {
	each(t, func(t *testing.T, f situation.Family) {
		seen := map[string]bool{}
		for _, c := range f.Chosen(claim.Newest()) {
			if seen[f.Describe(c)] {
				t.Errorf("chosen twice: %s", f.Describe(c))
			}
			seen[f.Describe(c)] = true
			if because, possible := f.Possible(c); !possible {
				t.Errorf("chosen, though impossible (%s): %s", because, f.Describe(c))
			}
		}
		if c, pairs := f.Unmet(f.Chosen(claim.Newest())); pairs > 0 {
			t.Errorf("%d pairs of %s have not met", pairs, f.Describe(c))
		}
	})
}

// A rule that no flip of an axis can break proves nothing, on whatever kernel; nor does
// one whose break would not be told from its opposite.
func TestEveryRuleCanBeBroken(t *testing.T) {
	each(t, func(t *testing.T, f situation.Family) {
		for _, facts := range distinctKernels(f) {
			broken := map[string]bool{}
			for _, m := range f.Mutations(claim.Alike(facts)) {
				broken[m.Rule.Name] = true
				canBeCaughtAndMissed(t, f.Family, m)
			}
			for _, c := range f.Chosen(claim.Alike(facts)) {
				if r, covered := f.Rule(c, claim.Alike(facts)); covered && !broken[r.Name] && !r.OutOfReach {
					t.Errorf("Linux %v: rule %s in %s: no axis has a value at which another rule contradicts it", facts.Release, r.Name, rulesFile(f))
					broken[r.Name] = true // said once
				}
			}
		}
	})
}

func TestFeaturesAreDescribedAndUsed(t *testing.T) {
	used := map[kernel.Feature]bool{}
	for _, f := range Families() {
		for _, r := range f.Rules {
			for _, q := range r.Kernels {
				used[q.Feature] = true
			}
		}
	}
	seen := map[kernel.Feature]bool{}
	for _, f := range kernel.Features() {
		if seen[f.Feature] {
			t.Errorf("feature %s is described twice in harness/kernel/feature.go", f.Feature)
		}
		seen[f.Feature] = true
		if !used[f.Feature] {
			t.Errorf("no rule turns on feature %s: what only a driver goes by is no feature of harness/kernel/feature.go", f.Feature)
		}
		if (f.Probe.Kind == kernel.NoProbe) != (f.Probe.Name == "") {
			t.Errorf("feature %s in harness/kernel/feature.go: want a probe's kind and the name of what it looks at, or neither", f.Feature)
		}
		if f.Means == "" || f.Source == "" || (len(f.In) == 0) != f.OfGuests {
			t.Errorf("feature %s in harness/kernel/feature.go: want a meaning, a source, and either releases or OfGuests", f.Feature)
		}
	}
}
