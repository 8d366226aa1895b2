package diagnose

import "twlab/harness/recording"

// Truth is what is known of a statement. The zero value is Unknown.
type Truth int

// The truths.
const (
	Unknown Truth = iota
	False
	True
)

// String returns "unknown", "false" or "true".
func (t Truth) String() string { return [...]string{"unknown", "false", "true"}[t] }

func truth(yes bool) Truth {
	if yes {
		return True
	}
	return False
}

// Fact is a statement about one attempt, with the evidence that it rests on.
type Fact struct {
	Is   Truth
	Says string
	By   recording.Evidence
	// At is the node whose evidence it is, where that is of one node.
	At string
}

// Condition finds out a fact. What it says holds for whatever truth it has: "insert_failed of
// gateway rose by 0, want 3".
type Condition func(*Case) Fact

// of finds out the fact in several cases of which one is the case: it is known where all of
// them agree.
func (condition Condition) of(cases []*Case) (f Fact) {
	for i, c := range cases {
		c.lacking, c.counted, c.asked = false, false, ""
		fact := condition(c)
		fact.At = c.asked
		if c.captured && fact.By == recording.OfErrno { // concluded from packets
			fact.By = recording.OfPackets
		}
		// A counter that nobody has given, or that was looked for at all nodes.
		if c.lacking || c.captured && fact.By == recording.OfCounters && !c.counted {
			fact.Is = Unknown
		}
		switch {
		case i == 0:
			f = fact
		case fact.Is != f.Is:
			f.Is = Unknown
		}
		if f.Is == Unknown { // whatever it is in the other cases
			break
		}
	}
	return f
}
