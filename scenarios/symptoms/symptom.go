// Package symptoms has what people see of a connection that fails, who can do that, how to tell
// them apart, and what to do; and of each sysctl that people turn, whether it is safe.
// SYMPTOMS.md is made of it.
package symptoms

import "slices"

// Symptom is what somebody sees.
type Symptom struct {
	// ID is the anchor in SYMPTOMS.md.
	ID string
	// See is what one sees: errors, and packets. Means is what that says already.
	See, Means string
	Suspects   []Suspect
	// Do is what helps, best first.
	Do []string
	// Often is how often it hits.
	Often string
}

// Suspect is who can do it.
type Suspect struct {
	// Who did it, and Tell is how to know that it was this one.
	Who, Tell string
	// Kernels are those on which it can happen; empty means all.
	Kernels string
	Shown   []Proof
}

// Proof is where it can be seen. Exactly one field is set.
type Proof struct {
	Rule  string // of a family, in RULES.md
	Cause string // in CAUSES.md
	File  string // a scenario file, below scenarios
}

// Knob is a sysctl that people turn.
type Knob struct {
	Sysctl string
	// Safe answers "is it safe?" in one sentence.
	Safe  string
	Shown []Proof
}

// All lists the symptoms, those first in which nothing is connected.
func All() []Symptom {
	return slices.Concat(atTheClient(), unanswered(), answered(), answeredOtherwise(), afterConnected(), behindABalancer())
}

// IDs lists the IDs of all symptoms.
func IDs() (all []string) {
	for _, s := range All() {
		all = append(all, s.ID)
	}
	return all
}

func rule(name string) Proof { return Proof{Rule: name} }

func cause(id string) Proof { return Proof{Cause: id} }

func incident(name string) Proof { return Proof{File: "incidents/" + name + ".yaml"} }

func scenario(name string) Proof { return Proof{File: "causes/" + name + ".yaml"} }
