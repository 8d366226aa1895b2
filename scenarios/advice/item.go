package advice

import (
	"math"
	"slices"

	"twlab/harness/kernel"
	"twlab/harness/topo"
)

// Level says how bad a finding is.
type Level string

// The levels. A note is nothing to be changed.
const (
	Error         Level = "error"         // the kernel refuses the line
	Danger        Level = "danger"        // it breaks connections
	Contradiction Level = "contradiction" // another line of the file undoes it
	NoEffect      Level = "no effect"     // it does not do what it is set for
	Note          Level = "note"
)

// Levels lists them, the worst first.
func Levels() []Level { return []Level{Error, Danger, Contradiction, NoEffect, Note} }

// Item is one piece of advice: about which values of a sysctl it is, where it holds, what it
// says, and what proves it.
type Item struct {
	Sysctl string
	If     Values
	// With are conditions on other sysctls; all must hold.
	With []With
	// Roles are those to which it matters; none means all.
	Roles []topo.Role
	On    Kernels
	Level Level
	// Says is a sentence or two. {value} is the value, {line} the line of the first
	// condition of With, {each-second} a sixtieth of the value, {ports} the number of ports of
	// a range.
	Says  string
	Shown []Proof
}

// Values are those whose number is from From to To. The number is the first one of the
// value, or the number of ports of a range.
type Values struct {
	From, To int
	Ports    bool
}

func exactly(n int) Values       { return Values{From: n, To: n} }
func atLeast(n int) Values       { return Values{From: n, To: math.MaxInt} }
func between(a, b int) Values    { return Values{From: a, To: b} }
func (v Values) ofPorts() Values { v.Ports = true; return v }

// Has tells whether the value, as it stands in a file, is one of them.
func (v Values) Has(value string) bool {
	all, ok := numbers(value)
	if !ok {
		return false
	}
	n := all[0]
	if v.Ports {
		if len(all) < 2 {
			return false
		}
		n = all[1] - all[0] + 1
	}
	return v.From <= n && n <= v.To
}

// With is a condition on another sysctl: that its value, which is the default where the file
// does not set it, is one of the values; or that the file does not set it, or to nothing.
type With struct {
	Sysctl string
	Values Values
	Unset  bool
}

// Kernels are those that have and lack some features.
type Kernels struct{ Has, Lacks []kernel.Feature }

// Hold tells whether the kernel is one of them.
func (k Kernels) Hold(facts kernel.Facts) bool {
	has := func(f kernel.Feature) bool { return facts.Features[f] == kernel.Yes }
	return !slices.ContainsFunc(k.Lacks, has) && !slices.ContainsFunc(k.Has, func(f kernel.Feature) bool { return !has(f) })
}

func since(f kernel.Feature) Kernels  { return Kernels{Has: []kernel.Feature{f}} }
func before(f kernel.Feature) Kernels { return Kernels{Lacks: []kernel.Feature{f}} }

// Proof is where the reader can see it: a rule of the suite, or a scenario file.
type Proof struct {
	Rule string
	File string // in scenarios/incidents
	// On are the kernels for which it is the proof.
	On Kernels
	// Guest is the flag --kernel for a rule that the newest kernels do not have: "balancer".
	Guest string
}

// rules are proofs on all kernels.
func rules(names ...string) (all []Proof) {
	for _, name := range names {
		all = append(all, Proof{Rule: name})
	}
	return all
}

// files are scenario files.
func files(names ...string) (all []Proof) {
	for _, name := range names {
		all = append(all, Proof{File: name})
	}
	return all
}

// guest is a rule that is about the kernels of an item, and needs a guest to be tried.
func guest(role, rule string) []Proof { return []Proof{{Rule: rule, Guest: role}} }
