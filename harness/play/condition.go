//go:build linux

package play

import (
	"fmt"
	"maps"
	"slices"

	"twlab/harness/kernel"
	"twlab/harness/script"
)

// applies reports whether a condition holds, and why not.
func (p *player) applies(w script.Condition) (applies bool, why string, err error) {
	if w == (script.Condition{}) {
		return true, "", nil
	}
	facts, err := p.deciding(w.At)
	if err != nil {
		return false, "", err
	}
	release := facts.Release
	for _, limit := range []struct {
		text   string
		before bool // whether it is the first release to which it does not apply
	}{{w.Since, false}, {w.Before, true}} {
		if limit.text == "" {
			continue
		}
		r, err := kernel.ParseRelease(limit.text)
		if err != nil {
			return false, "", err
		}
		if release.Before(r.Major, r.Minor) != limit.before {
			return false, fmt.Sprintf("only with the %v; this one is %v", w, release), nil
		}
	}
	for _, f := range []struct {
		name   string
		wanted bool
	}{{w.Feature, true}, {w.Without, false}} {
		if f.name != "" && (facts.Features[kernel.Feature(f.name)] == kernel.Yes) != f.wanted {
			return false, fmt.Sprintf("only with the %v; this one is %v", w, release), nil
		}
	}
	return true, "", nil
}

// deciding returns the kernel that decides: that of a node, or that of all.
func (p *player) deciding(at string) (kernel.Facts, error) {
	if at != "" {
		return p.facts[at], nil
	}
	all := slices.Collect(maps.Values(p.facts))
	for _, f := range all {
		if f.Release != all[0].Release {
			return kernel.Facts{}, fmt.Errorf("nodes have different kernels (%v and %v): say \"at\", whose kernel decides", f.Release, all[0].Release)
		}
	}
	return all[0], nil
}
