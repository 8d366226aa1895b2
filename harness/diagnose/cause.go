package diagnose

import "slices"

// Cause is one way in which a connection dies, as data.
type Cause struct {
	ID string
	// Why says in a sentence who ended it, and by which mechanism.
	Why string
	// Symptoms are those that it can have.
	Symptoms []Symptom
	// Where and Requires must all be true. Where is what packets show of many causes that end
	// packets at the same place, so that it alone speaks for none of them.
	Where, Requires []Condition
	// Contradicts must all be false.
	Contradicts []Condition
	// Also are facts that are told when they are true, and prove nothing.
	Also []Condition
	// LookAlikes are what it can be taken for.
	LookAlikes []LookAlike
	// Do is what changes it, and Cost what that costs.
	Do, Cost string
	// Look is how to see it on a machine in production, with the tools that are there.
	Look string
	// Source is the kernel's function, or the RFC.
	Source string
}

// LookAlike is a cause that gives the same picture, and what rules it out when it is true.
type LookAlike struct {
	ID string
	By Condition
}

// Status says how sure a finding is.
type Status string

// The statuses.
const (
	Proved       Status = "proved"
	Consistent   Status = "consistent"   // what would decide is unknown
	Undetermined Status = "undetermined" // several causes are consistent
	Unexplained  Status = "unexplained"  // no cause of the catalogue fits, or nothing but the place speaks for those that do
)

// Finding is a cause that fits an attempt.
type Finding struct {
	Cause  Cause
	Status Status
	// Proof are the facts that are true, Open those that are unknown.
	Proof, Open []Fact
	// NotThese are the look-alikes that are ruled out, each with its fact.
	NotThese []Exclusion

	against Fact // that makes it not fit
	// instead are the look-alikes that their facts speak for, and not against.
	instead []Exclusion
	// whole says that all that the cause requires is true.
	whole bool
	// spoken says that something speaks for it that does not speak for all at that place.
	spoken bool
}

// Exclusion is a look-alike that a fact rules out.
type Exclusion struct {
	ID string
	By Fact
}

// judge holds a cause against a case. It does not fit when something that it requires is false.
// Of several cases that may all be, what holds in each of them is true.
func (cause Cause) judge(cases ...*Case) (f Finding, fits bool) {
	f.Cause = cause
	if !slices.Contains(cause.Symptoms, cases[0].symptom) {
		return f, false
	}
	for i, condition := range slices.Concat(cause.Where, cause.Requires) {
		switch fact := condition.of(cases); fact.Is {
		case True:
			f.Proof = append(f.Proof, fact)
			f.spoken = f.spoken || i >= len(cause.Where)
		case Unknown:
			f.Open = append(f.Open, fact)
		case False:
			f.against = fact
			return f, false
		}
	}
	f.whole = len(f.Open) == 0
	for _, condition := range cause.Contradicts {
		switch fact := condition.of(cases); fact.Is {
		case True:
			f.against = fact
			return f, false
		case Unknown:
			f.Open = append(f.Open, fact)
		case False:
		}
	}
	for _, other := range cause.LookAlikes {
		fact := other.By.of(cases)
		switch fact.Is {
		case True:
			f.NotThese = append(f.NotThese, Exclusion{other.ID, fact})
			continue
		case False:
			f.instead = append(f.instead, Exclusion{other.ID, fact})
		case Unknown:
		}
		f.Open = append(f.Open, fact)
	}
	if f.Status = Consistent; len(f.Open) == 0 && f.kinds() >= 2 {
		f.Status = Proved
	}
	if len(f.Proof) == 0 && !cases[0].captured {
		return f, false
	}
	for _, condition := range cause.Also {
		if fact := condition.of(cases); fact.Is == True {
			f.Proof = append(f.Proof, fact)
		}
	}
	return f, true
}

// kinds is of how many kinds the evidence is.
func (f Finding) kinds() int {
	kinds := map[string]bool{}
	for _, fact := range f.Proof {
		kinds[string(fact.By)] = true
	}
	return len(kinds)
}
