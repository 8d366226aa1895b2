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
}

// Condition finds out a fact. What it says holds for whatever truth it has: "insert_failed of
// gateway rose by 0, want 3".
type Condition func(*Case) Fact
