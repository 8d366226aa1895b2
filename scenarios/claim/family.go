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

// Family is a group of cells that one driver creates: its axes, the cells that are
// impossible, and the rules for the others.
type Family struct {
	// Name is one word, as in the label "family:tuple".
	Name string
	// About is one sentence: the situation, and the question.
	About string
	// Emulated names the kernels that an emulation imitates; empty if the kernels of the
	// roles themselves are tried.
	Emulated string
	// Evidence is what the driver notes and the rules may use, without the kernel's
	// counters.
	Evidence []Evidence
	Axes     []Axis
	// Crossed are further groups of axes that are tried in all combinations, besides the
	// axes that the document names ([Axis.Product]).
	Crossed [][]string
	// Impossible lists the cells that cannot be created at all.
	Impossible []Impossible
	// Waits says which cells have to wait long for the kernel; the first entry that
	// matches applies. Other cells take a few seconds at most.
	Waits []Wait
	// Rules are in order; the first rule that matches a cell applies.
	Rules []Rule
	// Needs are sysctls of the topology that the driver depends on: a user's own cell
	// must not change them.
	Needs []RoleSysctl
}

// Axis is one setting that varies.
type Axis struct {
	Name string
	// Values are the possible values. The first one is the usual value: a cell has it
	// unless it names another one.
	Values []string
	// Means says in a few words what the axis is.
	Means string
	// Product marks the axes that are tried in all combinations with each other: those
	// that the document itself names. The other axes are tried in all pairs of values.
	Product bool
	// Sysctl, if it is set, is the sysctl that the axis sets.
	Sysctl RoleSysctl
	// Own, if it is set, are numbers that a user's own cell may have besides the Values.
	// No rule depends on them.
	Own Numbers
}

// Numbers are the numbers from Least to Most in steps of Step.
type Numbers struct{ Least, Most, Step int }

// has tells whether the text is one of the numbers.
func (n Numbers) has(text string) bool {
	number, err := strconv.Atoi(text)
	return err == nil && n.Step > 0 && n.Least <= number && number <= n.Most && (number-n.Least)%n.Step == 0
}

// String is a text such as "any number from 8 to 256 in steps of 2".
func (n Numbers) String() string {
	text := fmt.Sprintf("any number from %d to %d", n.Least, n.Most)
	if n.Step > 1 {
		text += fmt.Sprintf(" in steps of %d", n.Step)
	}
	return text
}

// Takes tells whether a user's own cell may have the value.
func (a Axis) Takes(value string) bool { return slices.Contains(a.Values, value) || a.Own.has(value) }

// Choice describes the values that a user's own cell may have.
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

// Sets tells whether the setting is one of this sysctl.
func (k RoleSysctl) Sets(s topo.Setting) bool {
	return k != (RoleSysctl{}) && k.Role == s.Role && k.Sysctl == s.Name
}

// Wait says how long some cells take at least, so that a run can be planned: cells of half a
// minute and more are slow, and cells of an hour and more need virtual time.
type Wait struct {
	Cells Cells
	About time.Duration
}

// Impossible says why some cells are impossible.
type Impossible struct {
	Cells   Cells
	Because string
}

// Rule says what is expected in some cells on some kernels.
type Rule struct {
	// Name is unique among all families, as in the label "rule:paws-answered".
	Name  string
	Cells Cells
	// Kernels are the conditions on the kernels of the roles; all must hold.
	Kernels []Condition
	// Want is what is expected.
	Want []Expectation
	// OutOfReach says that the situation cannot be created on these kernels, for the
	// reason in Because: nothing is expected then, and the cells are not tried.
	OutOfReach bool
	// Cause is why not all goes well in these cells: why a connection does not connect at once,
	// breaks, or gets no whole answer. It is the name of a cause in the catalogue of
	// harness/diagnose, and empty where all goes well. OtherCauses are cells of the rule that
	// have another cause; the first that matches applies.
	Cause       string
	OtherCauses []CauseIn
	// Uncaused says why the rule names no cause although not all goes well.
	Uncaused string
	// Because is the reason in a sentence or two, without the last full stop. Source says
	// where it can be read: kernel function and commit, or RFC.
	Because, Source string
}

// Headline is the most important part of what the rule expects: its first two
// expectations.
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
func (r *Rule) holds(c Cell, k Kernels) bool { return r.Cells.Matches(c) && r.about(k) }

// about tells whether the rule is about these kernels.
func (r *Rule) about(k Kernels) bool {
	return !slices.ContainsFunc(r.Kernels, func(q Condition) bool { return !q.Holds(k) })
}

// Possible tells whether the cell can be created, and if not, why.
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
	for i := range f.Rules { // a rule is too large to copy each
		if f.Rules[i].holds(c, k) {
			return f.Rules[i], true
		}
	}
	return Rule{}, false
}

// Wait is how long the cell takes at least, if the family says so; otherwise zero.
func (f Family) Wait(c Cell) time.Duration {
	for _, w := range f.Waits {
		if w.Cells.Matches(c) {
			return w.About
		}
	}
	return 0
}

// IsSlow tells whether the cell waits half a minute or longer for the kernel.
func (f Family) IsSlow(c Cell) bool { return f.Wait(c) >= 30*time.Second }

// NeedsVirtualTime tells whether the cell takes hours or days.
func (f Family) NeedsVirtualTime(c Cell) bool { return f.Wait(c) >= time.Hour }

// Describe lists the axes of the cell, such as "clock=older isn=newer", and then the user's
// own sysctls, with the values in the lab.
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

// set is the value of each axis in the lab. If the user sets the sysctl of an axis to a value
// that the axis does not have, that value replaces the value of the axis.
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
