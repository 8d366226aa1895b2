package advice

import (
	"fmt"
	"slices"
	"strings"

	"twlab/harness/kernel"
	"twlab/harness/nearest"
)

// history says what the history of a sysctl says about a line, and whether the kernel has the
// sysctl and takes the value.
func (c *checker) history(s Setting) (found []Finding, there bool) {
	h, known := kernel.SysctlNamed(s.Name)
	if !known {
		return c.unknown(s), c.known[s.Name]
	}
	level, fails := Error, "setting it fails"
	if s.Quiet {
		level, fails = NoEffect, "the dash before it hides that"
	}
	r := c.Facts.Release
	finding := Finding{Setting: s, Level: level, Source: h.Source, Shown: c.proofs(presenceOf(s.Name).absent)}
	switch {
	case h.Removed != (kernel.Release{}) && !r.Before(h.Removed.Major, h.Removed.Minor):
		finding.Text = fmt.Sprintf("Linux %v has removed it: %s.", h.Removed, fails)
		return []Finding{finding}, false
	case r.Before(h.Introduced.Major, h.Introduced.Minor):
		finding.Text = fmt.Sprintf("It exists since Linux %v: %s.", h.Introduced, fails)
		return []Finding{finding}, false
	}
	if why := refused(h, r, s.Value); why != "" {
		finding.Text, finding.Shown = why+": "+fails+".", nil
		return []Finding{finding}, false
	}
	return c.machineWide(h, s), true
}

// refused says why the kernel refuses a value; empty if it does not, or nobody knows.
func refused(h kernel.Sysctl, r kernel.Release, value string) string {
	if len(h.Defaults) == 0 && len(h.Takes) == 0 {
		return ""
	}
	all, ok := numbers(value)
	switch {
	case value == "":
		return "It has no value"
	case !ok:
		return fmt.Sprintf("%s is no number", quoted(value))
	case !h.Pair:
		all = all[:1]
	}
	if n, known := h.NumbersIn(r); known {
		for _, number := range all {
			if number < n.Least || number > n.Most {
				return fmt.Sprintf("It takes numbers from %d to %d", n.Least, n.Most)
			}
		}
	}
	if h.Pair && len(all) > 1 && all[1] < all[0] {
		return "The second number is smaller than the first"
	}
	return ""
}

// machineWide says that a sysctl is not for each network namespace.
func (c *checker) machineWide(h kernel.Sysctl, s Setting) []Finding {
	r := c.Facts.Release
	proofs := presenceOf(s.Name).oneForAll
	if len(proofs) == 0 || !r.Before(h.Namespaced.Major, h.Namespaced.Minor) || c.isDefault(s) && !c.All {
		return nil
	}
	return []Finding{{
		Setting: s, Level: Note, Shown: proofs,
		Text: fmt.Sprintf("Before Linux %v there is one value for the whole machine: containers have this one, and cannot set it.", h.Namespaced),
	}}
}

// notes are for those who want all.
func (c *checker) notes(s Setting) (found []Finding) {
	proofs := c.proofs(presenceOf(s.Name).usual)
	if len(proofs) == 0 {
		return nil
	}
	if c.isDefault(s) {
		found = append(found, Finding{Setting: s, Level: Note, Shown: proofs, Text: "This is the kernel's default."})
	}
	if h, _ := kernel.SysctlNamed(s.Name); !c.Facts.Release.Before(h.Namespaced.Major, h.Namespaced.Minor) {
		found = append(found, Finding{
			Setting: s, Level: Note, Shown: rules("defaults-own"),
			Text: "Each network namespace has its own value: containers keep theirs.",
		})
	}
	return found
}

// unknown says that nobody knows a name. Only directories are judged whose names are known
// here; other names may be anything.
func (c *checker) unknown(s Setting) []Finding {
	dir := directory(s.Name)
	if c.known[s.Name] || !slices.Contains(judged(), dir) || strings.ContainsAny(s.Name, "*?[") {
		return nil
	}
	if c.strange++; c.strange > mostHints {
		return []Finding{{Setting: s, Level: Note, Source: namesFrom, Text: "Not known here either."}}
	}
	near := nearest.To(last(s.Name), lastNames(dir))
	if len(near) == 0 {
		return []Finding{{Setting: s, Level: Note, Source: namesFrom, Text: "Not known here: misspelt, or of a kernel that is built otherwise."}}
	}
	return []Finding{{
		Setting: s, Level: Error, Source: namesFrom,
		Text: "No sysctl of this name is known here; near it: " + strings.Join(near, ", ") + ".",
	}}
}
