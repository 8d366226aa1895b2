package claim

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"twlab/harness/topo"
)

// Family is a group of combinations that one driver brings about: its axes, the
// combinations that cannot be, and the rules for the others.
type Family struct {
	// Name is one word, as in the label "family:tuple".
	Name string
	// About is one sentence: the situation, and the question.
	About string
	// Emulated names the kernels that an emulation stands in for; empty when the
	// kernels of the roles are asked themselves.
	Emulated string
	// Evidence is what the driver notes and the rules may speak of, kernel counters
	// apart (vocabulary.go).
	Evidence []Evidence
	Axes     []Axis
	// Crossed are further groups of axes that are tried in all combinations,
	// beside those that the document names ([Axis.Product]).
	Crossed [][]string
	// Impossible lists the combinations that cannot be brought about at all.
	Impossible []Impossible
	// Waits says which cells the kernel makes wait for long, the first that
	// matches counts. Others take a few seconds at most.
	Waits []Wait
	// Rules are in order; the first that matches a cell counts.
	Rules []Rule
	// Needs are sysctls of the topology that the driver goes by: a cell of a
	// user's own must leave them alone.
	Needs []RoleSysctl
}

// Axis is one thing that varies.
type Axis struct {
	Name string
	// Values are the values in the order of interest; the first is what a cell
	// has that says nothing.
	Values []string
	// Means is what the axis is, in a few words.
	Means string
	// Product marks the axes that are tried in all combinations with each
	// other: those that the document itself names. The rest is tried in all
	// pairs.
	Product bool
	// Sysctl, when it is set, is the sysctl that the axis is.
	Sysctl RoleSysctl
	// Own, when it is set, are numbers that a cell of a user's own may have beside
	// the Values. No rule turns on them.
	Own Numbers
}

// Numbers are the numbers from Least to Most, every Step.
type Numbers struct{ Least, Most, Step int }

// has tells whether the text is one of the numbers.
func (n Numbers) has(text string) bool {
	number, err := strconv.Atoi(text)
	return err == nil && n.Step > 0 && n.Least <= number && number <= n.Most && (number-n.Least)%n.Step == 0
}

// String is "any number from 8 to 256, every 2".
func (n Numbers) String() string {
	text := fmt.Sprintf("any number from %d to %d", n.Least, n.Most)
	if n.Step > 1 {
		text += fmt.Sprintf(" in steps of %d", n.Step)
	}
	return text
}

// Takes tells whether a cell of a user's own may have the value.
func (a Axis) Takes(value string) bool { return slices.Contains(a.Values, value) || a.Own.has(value) }

// Choice is what a value may be.
func (a Axis) Choice() string {
	text := "one of " + strings.Join(a.Values, ", ")
	if a.Own != (Numbers{}) {
		text += "; or " + a.Own.String()
	}
	return text
}

// RoleSysctl is a sysctl on all nodes of a role.
type RoleSysctl struct {
	Role   topo.Role
	Sysctl string
	// IfPresent says that the axis means nothing on kernels without the sysctl.
	IfPresent bool
}

// Sets tells whether the setting is of this sysctl.
func (k RoleSysctl) Sets(s topo.Setting) bool {
	return k != (RoleSysctl{}) && k.Role == s.Role && k.Sysctl == s.Name
}

// Wait says how long some cells take at least, for everybody who plans a run:
// those of half a minute and more are slow, those of an hour and more are for
// machines in which idle time passes at once.
type Wait struct {
	Cells Cells
	About time.Duration
}

// Impossible says why some combinations cannot be.
type Impossible struct {
	Cells   Cells
	Because string
}

// Rule says what is to be seen in some cells on some kernels.
type Rule struct {
	// Name is unique among all families, as in the label "rule:paws-answered".
	Name  string
	Cells Cells
	// Kernels are the conditions on the kernels of the roles; all must hold.
	Kernels []Condition
	// Want is what is to be seen.
	Want []Expectation
	// OutOfReach says that the situation cannot come about on these kernels, for
	// the reason in Because: nothing is wanted then, and nobody tries.
	OutOfReach bool
	// Because is the reason in one sentence, Source where it can be read:
	// kernel function and commit, or RFC.
	Because, Source string
}

// Headline is the heart of what the rule wants: its first two expectations.
func (r Rule) Headline() string {
	if r.OutOfReach {
		return "out of reach"
	}
	var parts []string
	for _, e := range r.Want[:min(2, len(r.Want))] {
		parts = append(parts, e.String())
	}
	return strings.Join(parts, "; ")
}

// holds tells whether the rule is about the cell on these kernels.
func (r Rule) holds(c Cell, k Kernels) bool {
	if !r.Cells.Matches(c) {
		return false
	}
	return !slices.ContainsFunc(r.Kernels, func(q Condition) bool { return !q.Holds(k) })
}

// Possible tells whether the cell can be brought about, and if not, why.
func (f Family) Possible(c Cell) (because string, possible bool) {
	for _, i := range f.Impossible {
		if i.Cells.Matches(c) {
			return i.Because, false
		}
	}
	return "", true
}

// Rule finds the rule for a cell: the first that holds.
func (f Family) Rule(c Cell, k Kernels) (Rule, bool) {
	for _, r := range f.Rules {
		if r.holds(c, k) {
			return r, true
		}
	}
	return Rule{}, false
}

// Wait is how long the cell takes at least, as far as the family says; else zero.
func (f Family) Wait(c Cell) time.Duration {
	for _, w := range f.Waits {
		if w.Cells.Matches(c) {
			return w.About
		}
	}
	return 0
}

// IsSlow tells whether the kernel makes the cell wait for half a minute or more.
func (f Family) IsSlow(c Cell) bool { return f.Wait(c) >= 30*time.Second }

// NeedsVirtualTime tells whether the cell takes hours or days.
func (f Family) NeedsVirtualTime(c Cell) bool { return f.Wait(c) >= time.Hour }

// Describe lists the axes of the cell, such as "clock=older isn=newer", and then the
// user's own sysctls, all with the values that the lab has.
func (f Family) Describe(c Cell) string {
	values := f.set(c)
	parts := make([]string, len(f.Axes))
	for i, a := range f.Axes {
		parts[i] = a.Name + "=" + values[a.Name]
	}
	for _, s := range c.Extra {
		if !slices.ContainsFunc(f.Axes, func(a Axis) bool { return a.Sysctl.Sets(s) }) {
			parts = append(parts, fmt.Sprintf("%s:%s=%s", s.Role, s.Name, s.Value))
		}
	}
	return strings.Join(parts, " ")
}

// set is the value of each axis as the lab has it: a sysctl of the user's own that is an
// axis, with a value that the axis does not have, takes the place of the axis' value.
func (f Family) set(c Cell) map[string]string {
	if len(c.Extra) == 0 {
		return c.Values
	}
	values := maps.Clone(c.Values)
	for _, a := range f.Axes {
		for _, s := range c.Extra {
			if a.Sysctl.Sets(s) {
				values[a.Name] = s.Value
			}
		}
	}
	return values
}

// Axis finds an axis by name.
func (f Family) Axis(name string) (Axis, bool) {
	i := slices.IndexFunc(f.Axes, func(a Axis) bool { return a.Name == name })
	if i < 0 {
		return Axis{}, false
	}
	return f.Axes[i], true
}

// Usual is the cell in which every axis has its first value.
func (f Family) Usual() Cell {
	c := Cell{Values: map[string]string{}}
	for _, a := range f.Axes {
		c.Values[a.Name] = a.Values[0]
	}
	return c
}
