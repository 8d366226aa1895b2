package results

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"twlab/harness/kernel"
	"twlab/harness/topo"
	"twlab/scenarios/claim"
)

// A user chooses these. Each is a select of the page, and a part of the tables without a script.

// knob is a sysctl of a role that some axis sets.
type knob struct {
	ID, Role, Sysctl, Default string
	Values                    []string
}

// way is the kind of way between client and balancer.
type way string

// The kinds. A cell of the zero value has nothing to do with it.
const (
	anyWay  way = ""
	noNAT   way = "direct"
	someNAT way = "nat"
)

// wayOf says over which kind of way the connections of a cell go.
func wayOf(f *family, c *cell) way {
	switch c.values["path"] {
	case "direct":
		return noNAT
	case "nat":
		return someNAT
	}
	switch c.values["second"] {
	case "direct":
		return noNAT
	case "same-host", "other-host":
		return someNAT
	}
	if slices.Contains([]string{"gateway", "share", "chance", "refusal", "profile", "uptimes"}, f.Name) {
		return someNAT
	}
	return anyWay
}

// aboutUsers are the families in which connections get in, or do not.
func aboutUsers(all []*family) (chosen []*family) {
	for _, f := range all {
		if f.Emulated != "" || slices.Contains([]string{"bothversions", "dualstack", "ceiling", "refusal"}, f.Name) {
			continue
		}
		for _, row := range f.Rows {
			if slices.ContainsFunc(row.Squares, func(c *cell) bool { return c.Class != Measured }) {
				chosen = append(chosen, f)
				break
			}
		}
	}
	return chosen
}

// cells are all cells of a family, in order.
func (f *family) cells() (all []*cell) {
	for _, row := range f.Rows {
		all = append(all, row.Squares...)
	}
	return all
}

// knobs are the sysctls that the axes of the families set, with the values of cells, and the default
// of each on the kernel of its role.
func knobs(of []*family, releases map[topo.Role]kernel.Release) (all []knob) {
	for _, f := range of {
		for _, a := range f.Axes {
			if a.Sysctl.Sysctl == "" {
				continue
			}
			id := knobID(a)
			i := slices.IndexFunc(all, func(k knob) bool { return k.ID == id })
			if i < 0 {
				i = len(all)
				k := knob{ID: id, Role: string(a.Sysctl.Role), Sysctl: a.Sysctl.Sysctl}
				if s, known := kernel.SysctlNamed(a.Sysctl.Sysctl); known {
					k.Default, _ = s.DefaultIn(releases[a.Sysctl.Role])
				}
				all = append(all, k)
			}
			for _, c := range f.cells() {
				if v := c.values[a.Name]; !slices.Contains(all[i].Values, v) && slices.Contains(a.Values, v) {
					all[i].Values = append(all[i].Values, v)
				}
			}
		}
	}
	for i := range all {
		slices.SortFunc(all[i].Values, func(a, b string) int { return cmp.Or(len(a)-len(b), strings.Compare(a, b)) })
	}
	slices.SortStableFunc(all, func(a, b knob) int { return slices.Index(roleOrder, a.Role) - slices.Index(roleOrder, b.Role) })
	return slices.DeleteFunc(all, func(k knob) bool { return len(k.Values) < 2 })
}

var roleOrder = []string{string(topo.Client), string(topo.Gateway), string(topo.Balancer), string(topo.Server)}

func knobID(a claim.Axis) string {
	return string(a.Sysctl.Role) + "-" + strings.ReplaceAll(a.Sysctl.Sysctl[strings.LastIndex(a.Sysctl.Sysctl, ".")+1:], "_", "-")
}

// effect is what one value of a sysctl does, compared with the default, in cells that are the same
// but for it.
type effect struct {
	Knob                knob
	Value, Way          string
	Better, Same, Worse int
	BetterAt, WorseAt   link
	Says, Class         string
}

// effects are those of all values that are not the default, behind NAT and without, on one run.
func effects(of []*family, knobs []knob, run int) (all []effect) {
	for _, k := range knobs {
		for _, value := range k.Values {
			if value == k.Default {
				continue
			}
			for _, over := range []way{someNAT, noNAT} {
				e := effect{Knob: k, Value: value, Way: map[way]string{someNAT: "behind NAT", noNAT: "without NAT"}[over]}
				for _, f := range of {
					e.compare(f, over, run)
				}
				if e.Better+e.Same+e.Worse > 0 {
					e.conclude()
					all = append(all, e)
				}
			}
		}
	}
	return all
}

// compare holds each cell with the value against the one with the default.
func (e *effect) compare(f *family, over way, run int) {
	i := slices.IndexFunc(f.Axes, func(a claim.Axis) bool { return a.Sysctl.Sysctl != "" && knobID(a) == e.Knob.ID })
	if i < 0 {
		return
	}
	axis := f.Axes[i].Name
	without := func(c *cell) string {
		var parts []string
		for _, a := range f.Axes {
			if a.Name != axis {
				parts = append(parts, c.values[a.Name])
			}
		}
		return strings.Join(parts, "\x00")
	}
	usual := map[string]byte{}
	for _, c := range f.cells() {
		if c.values[axis] == e.Knob.Default {
			usual[without(c)] = c.Classes[run]
		}
	}
	for _, c := range f.cells() {
		before, there := usual[without(c)]
		w := wayOf(f, c)
		if c.values[axis] != e.Value || !there || before == '-' || c.Classes[run] == '-' || w != over && w != anyWay {
			continue
		}
		to := link{f.Name + " " + c.Values, "#" + c.ID}
		switch d := Class(c.Classes[run]).rank() - Class(before).rank(); {
		case d < 0:
			e.Better++
			if e.BetterAt.Href == "" {
				e.BetterAt = to
			}
		case d > 0:
			e.Worse++
			if e.WorseAt.Href == "" {
				e.WorseAt = to
			}
		default:
			e.Same++
		}
	}
}

func (e *effect) conclude() {
	switch {
	case e.Worse > 0 && e.Better > 0:
		e.Says, e.Class = "helps some, and harms others", "warn"
	case e.Worse > 0:
		e.Says, e.Class = "harms", "bad"
	case e.Better > 0:
		e.Says, e.Class = "helps; no harm seen", "good"
	default:
		e.Says, e.Class = "no difference seen", "good"
	}
}

// combination is a row of the table of outcomes: one kind of way, and the timestamps of both sides.
type combination struct {
	Way, Client, Balancer string
	Counts                []count
}

// count is how many cells of a family there are of each class.
type count struct {
	Good, Late, Bad int
	Class           string
	Href            string // of the worst
}

// combinations are those of timestamps and NAT, with what happens in the families.
func combinations(of []*family, run int) (heads []link, all []combination) {
	var with []*family
	for _, f := range of {
		if slices.ContainsFunc(f.Axes, func(a claim.Axis) bool { return a.Name == "client-ts" }) && slices.ContainsFunc(f.Axes, func(a claim.Axis) bool { return a.Name == "balancer-ts" }) {
			with = append(with, f)
			heads = append(heads, link{f.Name, "#" + f.ID})
		}
	}
	for _, over := range []way{someNAT, noNAT} {
		for _, client := range []string{"1", "2", "0"} {
			for _, balancer := range []string{"1", "0"} {
				row := combination{Way: map[way]string{someNAT: "behind NAT", noNAT: "without NAT"}[over], Client: client, Balancer: balancer}
				for _, f := range with {
					var n count
					worst := Measured
					for _, c := range f.cells() {
						w := wayOf(f, c)
						if c.values["client-ts"] != client || c.values["balancer-ts"] != balancer || w != over && w != anyWay {
							continue
						}
						class := Class(c.Classes[run])
						switch class {
						case AtOnce:
							n.Good++
						case Late:
							n.Late++
						case NotIn:
							n.Bad++
						case Measured:
						}
						if class.rank() > worst.rank() {
							worst, n.Href = class, "#"+c.ID
						}
					}
					n.Class = worst.CSS()
					row.Counts = append(row.Counts, n)
				}
				all = append(all, row)
			}
		}
	}
	return heads, all
}

// predicted is what rules say of the cells where client and balancer have different kernels, which
// no run had: a letter for each cell, "-" where they say nothing.
func predicted(runs []Run, all []*family) map[string]string {
	pairs := map[string]string{}
	of, _ := known()
	for i := range runs {
		for j := range runs {
			client, balancer := runs[i].Releases[topo.Client], runs[j].Releases[topo.Balancer]
			if i == j || client == balancer {
				continue
			}
			k := claim.Alike(kernel.FactsOf(balancer))
			k[topo.Client] = kernel.FactsOf(client)
			var b strings.Builder
			for _, f := range all {
				family := of[f.Name]
				class := map[string]byte{}
				for n := range family.Rules {
					class[family.Rules[n].Name] = '-'
					if c, known := ClassWanted(family.Rules[n]); known {
						class[family.Rules[n].Name] = byte(c)
					}
				}
				for _, c := range f.cells() {
					letter := byte('-')
					if r, covered := family.Rule(claim.Cell{Values: c.values}, k); covered && f.Emulated == "" {
						letter = class[r.Name]
					}
					b.WriteByte(letter)
				}
			}
			pairs[fmt.Sprintf("%d,%d", i, j)] = b.String()
		}
	}
	return pairs
}

// sortedKeys are the keys of a map in order.
func sortedKeys[T any](m map[string]T) []string { return slices.Sorted(maps.Keys(m)) }
