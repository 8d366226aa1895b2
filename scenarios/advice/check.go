package advice

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"twlab/harness/kernel"
	"twlab/harness/topo"
)

// For says for what a file is checked.
type For struct {
	// Facts are those of the kernel.
	Facts kernel.Facts
	// Role is the role of the host; empty means all.
	Role topo.Role
	// All adds what there is to note of values that are the kernel's defaults, and notes about
	// namespaces.
	All bool
}

// Finding is what there is to say about a line.
type Finding struct {
	Setting Setting
	Level   Level
	// Roles are those to which it matters; none means all, or the one that was asked for.
	Roles []topo.Role
	Text  string
	// Shown are the rules and files that prove it. Where there are none, Source is the
	// history of the sysctl.
	Shown  []Proof
	Source string
}

// Check returns what there is to say about the settings of a file, in the order of its lines,
// the worst of a line first.
func Check(f File, about For) (all []Finding) {
	c := &checker{For: about, last: map[string]Setting{}, known: names(), items: Items()}
	for _, s := range f.Settings {
		c.last[s.Name] = s
	}
	for i, s := range f.Settings {
		// sysctl -a repeats the name for each line of a value.
		if next := i + 1; !c.known[s.Name] && next < len(f.Settings) && f.Settings[next].Name == s.Name {
			continue
		}
		all = append(all, c.line(s)...)
	}
	slices.SortStableFunc(all, func(a, b Finding) int {
		if a.Setting.Line != b.Setting.Line {
			return a.Setting.Line - b.Setting.Line
		}
		return slices.Index(Levels(), a.Level) - slices.Index(Levels(), b.Level)
	})
	return all
}

// Known counts the settings of which something is known here.
func (f File) Known() (n int) {
	known := names()
	for _, s := range f.Settings {
		if known[s.Name] {
			n++
		}
	}
	return n
}

// checker checks one file.
type checker struct {
	For
	last  map[string]Setting // by name: the one that counts
	known map[string]bool    // names
	items []Item
	// strange counts the names that nobody knows, of which only some are compared with all.
	strange int
}

func (c *checker) line(s Setting) []Finding {
	if last := c.last[s.Name]; last.Line != s.Line {
		if last.Value == s.Value {
			return nil
		}
		return []Finding{{
			Setting: s, Level: Contradiction,
			Text: fmt.Sprintf("Line %d sets it again, to %s, and the last one counts.", last.Line, Shown(last.Value)),
		}}
	}
	found, there := c.history(s)
	if !there {
		return found
	}
	for _, item := range c.items {
		if item.Sysctl != s.Name || !item.If.Has(s.Value) || !item.On.Hold(c.Facts) || !c.concerns(item.Roles) {
			continue
		}
		first, hold := c.hold(item.With)
		unchanged := c.isDefault(s) && (item.Level == Note || item.Level == NoEffect)
		if !hold || unchanged && !c.All {
			continue
		}
		found = append(found, Finding{
			Setting: s, Level: item.Level, Roles: c.named(item.Roles), Text: filled(item.Says, s, first), Shown: c.proofs(item.Shown),
		})
	}
	if c.All {
		found = append(found, c.notes(s)...)
	}
	return found
}

// concerns tells whether the host has one of the roles.
func (c *checker) concerns(roles []topo.Role) bool {
	return c.Role == "" || len(roles) == 0 || slices.Contains(roles, c.Role)
}

// named are the roles that the reader must be told.
func (c *checker) named(roles []topo.Role) []topo.Role {
	if c.Role != "" {
		return nil
	}
	return roles
}

// hold tells whether the conditions hold, and returns the setting of the first one, if the file
// has one.
func (c *checker) hold(all []With) (first Setting, hold bool) {
	for i, w := range all {
		s, set := c.last[w.Sysctl]
		if i == 0 {
			first = s
		}
		value := s.Value
		if !set {
			value = defaultOf(w.Sysctl, c.Facts.Release)
		}
		if w.Unset && s.Value != "" || !w.Unset && !w.Values.Has(value) {
			return Setting{}, false
		}
	}
	return first, true
}

// proofs are those for the kernel.
func (c *checker) proofs(all []Proof) (some []Proof) {
	for _, p := range all {
		if p.On.Hold(c.Facts) {
			some = append(some, p)
		}
	}
	return some
}

func defaultOf(name string, r kernel.Release) string {
	h, _ := kernel.SysctlNamed(name)
	value, _ := h.DefaultIn(r)
	return value
}

func (c *checker) isDefault(s Setting) bool { return s.Value == defaultOf(s.Name, c.Facts.Release) }

// filled is a sentence with its numbers.
func filled(says string, s, other Setting) string {
	const minute = 60 // a TIME_WAIT's, in seconds
	all, _ := numbers(s.Value)
	eachSecond, ports := "", ""
	if len(all) > 0 {
		eachSecond = strconv.Itoa(max(1, all[0]/minute))
		ports = strconv.Itoa(all[len(all)-1] - all[0] + 1)
	}
	value, _, _ := strings.Cut(Shown(s.Value), " ")
	return strings.NewReplacer("{value}", value, "{line}", strconv.Itoa(other.Line), "{each-second}", eachSecond, "{ports}", ports).Replace(says)
}
