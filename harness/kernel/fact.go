package kernel

import "context"

// Fact is a three-valued answer to a question about a kernel. A probe that could not run
// has not shown that the feature is missing.
type Fact uint8

// The values of a Fact. The zero value is Unknown.
const (
	Unknown Fact = iota // not determined
	No                  // certainly absent
	Yes                 // shown to work
)

// String returns "could not tell", "no" or "yes".
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

// Requirement is something that a run needs from the machine, with a probe for it.
type Requirement struct {
	// Name says in a few words what is needed, such as "MASQUERADE in the nat table".
	Name string
	// Hint says what to do when it is missing.
	Hint string
	// Optional means that a run is possible without it, with less evidence.
	Optional bool
	// Probe tries it. The detail is one line for people: a version, a path, or why the
	// answer is no or unknown.
	Probe func(ctx context.Context) (fact Fact, detail string)
}

// Finding is the answer of a requirement's probe on this machine.
type Finding struct {
	Requirement Requirement
	Fact        Fact
	Detail      string
}

// Met reports whether a run is possible as regards this requirement. "Could not tell" does
// not count as yes.
func (f Finding) Met() bool { return f.Fact == Yes || f.Requirement.Optional }

// String returns one line: the requirement, the answer, the detail and, when the answer is
// not yes, the hint.
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
