package scenarios

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"twlab/harness/kernel"
	"twlab/harness/nearest"
	"twlab/scenarios/claim"
	"twlab/scenarios/situation"
)

// Named finds a cell by the words of its name, as reports, JUnit and the families' descriptions
// have them: the family and AXIS=VALUE for each axis, of which those that are left out have their
// usual value. What reports put before and behind the name may stay. A single word may also be
// the name of a rule: then it is a quick cell to which that rule applies with these kernels.
func Named(words []string, k claim.Kernels) (f situation.Family, c claim.Cell, err error) {
	words = nameAlone(strings.Fields(strings.Join(words, " ")))
	if len(words) == 0 {
		return f, c, fmt.Errorf("which cell? give its family and AXIS=VALUE, or the name of a rule")
	}
	all := Families()
	i := slices.IndexFunc(all, func(f situation.Family) bool { return f.Name == words[0] })
	if i < 0 {
		return ofRule(words, k)
	}
	f, c = all[i], all[i].Usual()
	for _, word := range words[1:] {
		name, value, _ := strings.Cut(word, "=")
		axis, found := f.Axis(name)
		switch {
		case !found:
			return f, c, fmt.Errorf("family %s has no axis %q%s", f.Name, name, near(name, axes(f)))
		case !slices.Contains(axis.Values, value):
			return f, c, fmt.Errorf("axis %s has no value %q%s", name, value, near(value, axis.Values))
		}
		c.Values[name] = value
	}
	if because, possible := f.Possible(c); !possible {
		return f, c, fmt.Errorf("%s %s is impossible: %s", f.Name, f.Describe(c), because)
	}
	return f, c, nil
}

// nameAlone leaves out what reports put around the name of a cell: "[It] Cell tuple clock=older is
// tuple-older-timestamp-answered [cell, family:tuple]".
func nameAlone(words []string) []string {
	for len(words) > 0 && (strings.HasPrefix(words[0], "[") || words[0] == "Cell") {
		words = words[1:]
	}
	if i := slices.Index(words, "is"); i >= 0 {
		words = words[:i]
	}
	return words
}

// ofRule finds a cell to which a rule applies: the first of an ordinary run that can be told and
// does not wait long, or else the first.
func ofRule(words []string, k claim.Kernels) (f situation.Family, c claim.Cell, err error) {
	var names []string
	for _, f := range Families() {
		names = append(names, f.Name)
		for i := range f.Rules { // a rule is too large to copy each
			if names = append(names, f.Rules[i].Name); f.Rules[i].Name == words[0] && len(words) == 1 {
				return cellOf(f, words[0], k)
			}
		}
	}
	return f, c, fmt.Errorf("no family and no rule %q%s", words[0], near(words[0], names))
}

func cellOf(f situation.Family, rule string, k claim.Kernels) (situation.Family, claim.Cell, error) {
	var found []claim.Cell
	for _, c := range f.Chosen(k) {
		r, covered := f.Rule(c, k)
		if !covered || r.Name != rule || r.OutOfReach {
			continue
		}
		if _, _, err := f.Scenario(c, r); err == nil && !f.IsSlow(c) {
			return f, c, nil
		}
		found = append(found, c)
	}
	if len(found) == 0 {
		text := fmt.Sprintf("rule %s applies to no cell on this kernel", rule)
		if release, others := OnOthers(rule, k); others {
			text += fmt.Sprintf(", but on Linux %v and others (--release %[1]v)", release)
		}
		return f, claim.Cell{}, errors.New(text)
	}
	return f, found[0], nil
}

// OnOthers is the latest kernel on which a rule applies to a cell, if it applies to none with these.
func OnOthers(rule string, k claim.Kernels) (on kernel.Release, others bool) {
	for _, f := range Families() {
		if !slices.ContainsFunc(f.Rules, func(r claim.Rule) bool { return r.Name == rule }) || applies(f, rule, k) {
			continue
		}
		for _, release := range slices.Backward(kernel.KnownReleases()) {
			if applies(f, rule, claim.Alike(kernel.FactsOf(release))) {
				return release, true
			}
		}
	}
	return on, false
}

// applies reports whether a rule applies to a cell of an ordinary run.
func applies(f situation.Family, rule string, k claim.Kernels) bool {
	return slices.ContainsFunc(f.Chosen(k), func(c claim.Cell) bool {
		r, covered := f.Rule(c, k)
		return covered && r.Name == rule && !r.OutOfReach
	})
}

func axes(f situation.Family) (names []string) {
	for _, a := range f.Axes {
		names = append(names, a.Name)
	}
	return names
}

// near is the end of a sentence about a slip: the names that are near, or all if they are few.
func near(slip string, names []string) string {
	const few = 12
	switch found := nearest.To(slip, names); {
	case len(found) > 0:
		return "; near it: " + strings.Join(found, ", ")
	case len(names) <= few:
		return "; there are " + strings.Join(names, ", ")
	default:
		return ""
	}
}
