package scenarios

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"twlab/harness/kernel"
	"twlab/harness/recording"
	"twlab/harness/script"
	"twlab/harness/topo"
	"twlab/scenarios/claim"
	"twlab/scenarios/situation"
)

// Claimed is what the rules say of a scenario that was a cell of the matrix, and that somebody may
// have changed.
type Claimed struct {
	// Rule predicts what comes about; its name is empty if no rule is near.
	Rule claim.Rule
	// Beyond is why no rule claims anything of this scenario; empty if Rule does.
	Beyond string
	// told is the cell that it is about, as twlab show tells it.
	told script.Scenario
}

// ClaimedBy finds the rule for a scenario that was a cell, which its name says: cell tells whether
// it does. Sysctls that are axes of the family make it another cell; no rule is about other
// sysctls, or other steps.
func ClaimedBy(s script.Scenario, k claim.Kernels) (c Claimed, cell bool) {
	if !strings.Contains(s.Name, "=") {
		return c, false
	}
	f, its, err := Named([]string{s.Name}, k)
	if err != nil {
		return c, false
	}
	asIs, err := asTold(f, its, k)
	if err != nil {
		return c, false
	}
	var beyond []string
	for _, one := range changed(asIs.Network.Sysctls, s.Network.Sysctls) {
		i := slices.IndexFunc(f.Axes, func(a claim.Axis) bool { return a.Sysctl.Sets(one) })
		if i >= 0 && slices.Contains(f.Axes[i].Values, one.Value) {
			its.Values[f.Axes[i].Name] = one.Value
			continue
		}
		beyond = append(beyond, fmt.Sprintf("%s=%s on the %s", one.Name, one.Value, cmp.Or(string(one.Role), one.Node)))
	}
	if len(beyond) > 0 {
		if c, found := neighbour(f, its, s, k); found {
			its, beyond = c, nil
		}
	}
	c.Rule, _ = f.Rule(its, k)
	told, err := asTold(f, its, k)
	switch {
	case len(beyond) > 0:
		c.Beyond = "no rule is about " + strings.Join(beyond, ", ")
	case err != nil:
		c.Beyond = err.Error()
	case !alike(told, s):
		c.Beyond = fmt.Sprintf("its network or its steps are not those of a cell: twlab show %s %s prints the nearest", f.Name, f.Describe(its))
	}
	if err == nil {
		c.told = told
	}
	return c, true
}

// neighbour finds the cell of the same steps that a scenario is, one value of an axis beside another
// cell: a sysctl may belong to a value of an axis that is none itself.
func neighbour(f situation.Family, of claim.Cell, s script.Scenario, k claim.Kernels) (claim.Cell, bool) {
	for _, a := range f.Axes {
		for _, v := range a.Values {
			c := claim.Cell{Values: maps.Clone(of.Values), Extra: of.Extra}
			c.Values[a.Name] = v
			told, err := asTold(f, c, k)
			if err == nil && len(changed(told.Network.Sysctls, s.Network.Sysctls)) == 0 && alike(told, s) {
				return c, true
			}
		}
	}
	return of, false
}

// asTold is a cell as twlab show tells it.
func asTold(f situation.Family, cell claim.Cell, k claim.Kernels) (script.Scenario, error) {
	rule, covered := f.Rule(cell, k)
	because, possible := f.Possible(cell)
	switch {
	case !possible:
		return script.Scenario{}, fmt.Errorf("this cell is impossible: %s", because)
	case !covered:
		return script.Scenario{}, fmt.Errorf("no rule for this cell on this kernel")
	case rule.OutOfReach:
		return script.Scenario{}, fmt.Errorf("out of reach on this kernel: %s", rule.Because)
	}
	s, _, err := f.Scenario(cell, rule)
	return s, err
}

// changed are the sysctls that have another value than before. One that is not set any more has
// the value of the baseline.
func changed(before, now topo.Settings) (all topo.Settings) {
	value := func(of topo.Settings, like topo.Setting) string {
		for _, one := range slices.Concat(of, topo.Settings(topo.Baseline)) {
			if one.Name == like.Name && (one.Role == like.Role && one.Node == like.Node || one.Role == "" && one.Node == "") {
				return one.Value
			}
		}
		return "the kernel's default"
	}
	for _, one := range slices.Concat(now, before) {
		seen := slices.ContainsFunc(all, func(o topo.Setting) bool { return o.Name == one.Name && o.Role == one.Role && o.Node == one.Node })
		if is := value(now, one); is != value(before, one) && !seen {
			one.Value = is
			all = append(all, one)
		}
	}
	return all
}

// alike tells whether two scenarios do the same in the same network, but for sysctls of the
// network and for what is expected.
func alike(a, b script.Scenario) bool {
	for _, s := range []*script.Scenario{&a, &b} {
		s.Name, s.Belief, s.Truth, s.Sources, s.Network.Sysctls = "", "", "", nil, nil
		s.Steps = slices.Clone(s.Steps)
		for i := range s.Steps {
			s.Steps[i].Expect = nil
		}
	}
	return reflect.DeepEqual(a, b)
}

// KernelsOf are the kernels on which a scenario was run, by role; a role without a node has that
// of the first one.
func KernelsOf(r recording.Recording) (claim.Kernels, error) {
	all := claim.Kernels{}
	for _, n := range r.Nodes {
		release, err := kernel.ParseRelease(n.Kernel)
		if err != nil {
			return nil, err
		}
		if all[topo.Role(n.Role)] = kernel.FactsOf(release); n.Role == string(topo.Client) {
			for _, role := range []topo.Role{topo.Gateway, topo.Balancer, topo.Server} {
				if _, known := all[role]; !known {
					all[role] = kernel.FactsOf(release)
				}
			}
		}
	}
	return all, nil
}

// Text says in a line which rule predicts what was seen, or that none claims anything of it.
func (c Claimed) Text(seen recording.Recording) string {
	lines := c.Against(seen)
	var parts []string
	for _, l := range lines {
		text := l.What + ": " + l.Wanted
		if !l.Right {
			text += " (seen: " + l.Got + ")"
		}
		parts = append(parts, text)
	}
	predicts := fmt.Sprintf("%s predicts %s", c.Rule.Name, cmp.Or(strings.Join(parts, "; "), c.Rule.Headline()))
	switch {
	case c.Beyond != "" && c.Rule.Name != "":
		return "no rule claims anything of this: " + c.Beyond + "; of the nearest cell, " + predicts
	case c.Beyond != "":
		return "no rule claims anything of this: " + c.Beyond
	case claim.Agree(lines):
		return "rule " + predicts + ", which was seen"
	default:
		return "rule " + predicts + ", which was NOT seen"
	}
}
