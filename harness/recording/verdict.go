package recording

// Verdict says how a run ended.
type Verdict int

// The verdicts, from the best to the worst.
const (
	// AsExpected: everything that was expected was seen.
	AsExpected Verdict = iota
	// NotAsExpected: something else was seen.
	NotAsExpected
	// NotBroughtAbout: a step failed, so that the run says nothing about the kernel.
	NotBroughtAbout
	// CannotHere: this machine or a kernel lacks something that a step needs.
	CannotHere
	// Interrupted: somebody ended the run before its steps did.
	Interrupted
)

// String returns the verdict in words.
func (v Verdict) String() string {
	switch v {
	case AsExpected:
		return "as expected"
	case NotAsExpected:
		return "NOT as expected"
	case NotBroughtAbout:
		return "did not come about"
	case CannotHere:
		return "cannot run here"
	default:
		return "interrupted"
	}
}

// Verdict returns the worst of all steps, whether or not the scenario is a twin.
func (r Recording) Verdict() Verdict {
	switch {
	case r.Interrupted != "":
		return Interrupted
	case r.Unbuilt != "":
		return CannotHere
	}
	worst := AsExpected
	if r.Failed != "" {
		worst = NotBroughtAbout
	}
	for _, s := range r.Steps {
		worst = max(worst, s.Verdict())
	}
	return worst
}

// Conclusion is the verdict, but that of a twin is turned: it is as expected when something
// in it is not.
func (r Recording) Conclusion() Verdict {
	switch v := r.Verdict(); {
	case r.Twin && v == NotAsExpected:
		return AsExpected
	case r.Twin && v == AsExpected:
		return NotAsExpected
	default:
		return v
	}
}

// Problem returns why there was no network, or why the first step that could not be taken
// could not, or why the recording is not whole; empty if nothing went wrong.
func (r Recording) Problem() string {
	if r.Unbuilt != "" {
		return "could not be built: " + r.Unbuilt
	}
	for _, s := range r.Steps {
		if s.Problem != "" {
			return s.Verb + ": " + s.Problem
		}
	}
	return r.Failed
}

// Verdict is that of one step.
func (s Step) Verdict() Verdict {
	switch {
	case s.Cannot:
		return CannotHere
	case s.Problem != "":
		return NotBroughtAbout
	}
	for _, f := range s.Findings {
		if !f.Met {
			return NotAsExpected
		}
	}
	return AsExpected
}
