package kernel

import "context"

// Fact is a three-valued answer to a question about a kernel. A probe that
// could not run has not found out that the feature is missing.
type Fact uint8

// The values of a Fact. The zero value is Unknown.
const (
	Unknown Fact = iota // could not tell
	No                  // conclusively absent
	Yes                 // seen to work
)

// String is "could not tell", "no" or "yes".
func (f Fact) String() string {
	switch f {
	case Yes:
		return "yes"
	case No:
		return "no"
	default:
		return "could not tell"
	}
}

// Requirement is something that a run needs of the machine, and how to find out
// whether it is there.
type Requirement struct {
	// Name says what is needed in a few words, such as "MASQUERADE in the nat table".
	Name string
	// Hint says what a person can do when it is missing.
	Hint string
	// Optional requirements cost some evidence when they are missing, and
	// nothing else.
	Optional bool
	// Probe tries it out. The detail is one line for people: a version, a
	// path, or why the answer is no or unknown.
	Probe func(ctx context.Context) (fact Fact, detail string)
}

// Finding is a requirement's answer on this machine.
type Finding struct {
	Requirement Requirement
	Fact        Fact
	Detail      string
}

// Met tells whether a run can go ahead as far as this requirement goes.
// "Could not tell" does not stand in for yes.
func (f Finding) Met() bool { return f.Fact == Yes || f.Requirement.Optional }

// String is one line: the requirement, the answer, the detail and, when the
// answer is not yes, the hint.
func (f Finding) String() string {
	line := f.Requirement.Name + ": " + f.Fact.String()
	if f.Detail != "" {
		line += " (" + f.Detail + ")"
	}
	if f.Fact != Yes && f.Requirement.Hint != "" {
		line += "; " + f.Requirement.Hint
	}
	return line
}

// Examine probes each requirement in order.
func Examine(ctx context.Context, requirements []Requirement) []Finding {
	findings := make([]Finding, 0, len(requirements))
	for _, r := range requirements {
		fact, detail := r.Probe(ctx)
		findings = append(findings, Finding{Requirement: r, Fact: fact, Detail: detail})
	}
	return findings
}
