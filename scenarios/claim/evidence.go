package claim

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"twlab/harness/kernel"
	"twlab/harness/nearest"
	"twlab/harness/topo"
)

// Evidence is one item of evidence that a family's driver notes, under the name that its
// rules use: "late ms".
type Evidence struct {
	Name string
	// Unit says what values it has: "ms", "sockets", "yes or no", "an outcome".
	Unit string
	// Means is one sentence without its full stop.
	Means string
	// Aside says that no rule uses it: it is only for people who read a result.
	Aside bool
}

// Declares returns nil if the family may use the name: it is evidence that the family
// declares, or a known counter of a role.
func (f Family) Declares(what string) error {
	if role, name, isCounter := counterOf(what); isCounter {
		if _, known := Alike(kernel.Facts{})[role]; !known {
			return fmt.Errorf("%q: no role %q", what, role)
		}
		return knownCounter(name)
	}
	names := make([]string, len(f.Evidence))
	for i, e := range f.Evidence {
		names[i] = e.Name
	}
	if slices.Contains(names, what) {
		return nil
	}
	return fmt.Errorf("family %s declares no evidence %q%s; declare it beside its driver", f.Name, what, perhaps(what, names))
}

// counterOf splits the name of a role's counter: "balancer TcpExt.TW".
func counterOf(what string) (role topo.Role, name string, isCounter bool) {
	before, name, _ := strings.Cut(what, " ")
	return topo.Role(before), name, strings.Contains(name, ".")
}

// Undeclared returns an error that names the noted evidence that the family does not
// declare.
func (f Family) Undeclared(seen Seen) error {
	var all []error
	for _, w := range seen.Observations {
		if err := f.Declares(w.What); err != nil {
			all = append(all, fmt.Errorf("the driver noted %q: %w", w.Got, err))
		}
	}
	return errors.Join(all...)
}

// perhaps suggests the known names that a misspelt name is likely to mean.
func perhaps(name string, known []string) string {
	near := nearest.To(name, known)
	if len(near) == 0 {
		return ""
	}
	quoted := make([]string, len(near))
	for i, n := range near {
		quoted[i] = fmt.Sprintf("%q", n)
	}
	return " (it has " + strings.Join(quoted, ", ") + ")"
}

// knownCounter is an error for a name that is not in the list.
func knownCounter(name string) error {
	var names []string
	for _, c := range kernel.KnownCounters() {
		names = append(names, c.Name)
	}
	if slices.Contains(names, name) {
		return nil
	}
	return fmt.Errorf("%q is none of the known counters%s; add it to KnownCounters in harness/kernel/counters.go", name, perhaps(name, names))
}
