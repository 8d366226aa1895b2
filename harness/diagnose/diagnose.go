package diagnose

import (
	"slices"
	"sync"

	"twlab/harness/recording"
)

// Diagnosis is what became of one attempt, and why.
type Diagnosis struct {
	Step    int // its number in the scenario
	ID      string
	Attempt recording.Attempt
	Symptom Symptom
	// Status is Proved or Consistent with one finding, Undetermined with several, Unexplained
	// with none; empty for an attempt that is fine.
	Status   Status
	Findings []Finding
	// Others are causes of which too little is known to rule them out, and for which less speaks
	// than for the findings.
	Others []Finding
	// Excluded are the other causes with this symptom, each with a fact that rules it out.
	Excluded []Exclusion
	// Then are the causes that ended later SYNs at other places, in their order; the findings
	// are then of the first SYNs alone. All of them are proved.
	Then []Finding
	// SYNs are those that no SYN-ACK answered, Lives all packets of the attempt as they were sent.
	SYNs, Lives []Life
	// Events are what kernels have told of its packets, Before are the states of all nodes
	// when it began.
	Events []recording.Event
	Before map[string]recording.State
}

// Cause is the ID of the one cause that fits, of several after each other the first; "none" for
// an attempt that is fine, and empty where none or several fit.
func (d Diagnosis) Cause() string {
	switch {
	case d.Symptom == Fine:
		return "none"
	case len(d.Findings) == 1:
		return d.Findings[0].Cause.ID
	}
	return ""
}

// Of diagnoses the attempts of a step, or the connection that it used. Steps are numbered from
// 0 here.
func Of(r *recording.Recording, step int) []Diagnosis {
	return of(r, step, sync.OnceValue(func() []Life { return Lives(r) }))
}

// Recording diagnoses all attempts of a recording, in the order of its steps.
func Recording(r *recording.Recording) (all []Diagnosis) {
	lives := sync.OnceValue(func() []Life { return Lives(r) })
	for i := range r.Steps {
		all = append(all, of(r, i, lives)...)
	}
	return all
}

// of is Of with the lives of all packets, which are needed when something has died.
func of(r *recording.Recording, step int, lives func() []Life) (all []Diagnosis) {
	s := r.Steps[step]
	if s.Verb == "await" { // its attempts are those of the step that it waits for
		return nil
	}
	for _, a := range s.Result.Attempts {
		all = append(all, one(r, step, a, nil, lives))
	}
	if on := s.Result.On; on != nil {
		all = append(all, one(r, step, recording.Attempt{Node: on.Node, Local: on.Local, Remote: on.Remote}, on, lives))
	}
	return all
}

func one(r *recording.Recording, step int, a recording.Attempt, on *recording.On, lives func() []Life) Diagnosis {
	d := Diagnosis{Step: r.Steps[step].Number, ID: r.Steps[step].ID, Attempt: a, Symptom: symptomOf(a, r.Steps[step].Result, on)}
	if d.Symptom == Fine {
		return d
	}
	c := newCase(r, step, a, on, lives())
	d.take(c)
	d.judge(c)
	if d.Status == Unexplained {
		d.judgeParts(c)
	}
	return d
}

// take takes from a case what it has gathered.
func (d *Diagnosis) take(c *Case) {
	d.SYNs, d.Lives, d.Events, d.Before = Sent(c.r, c.syns), Sent(c.r, c.lives), c.events, c.before
}

// WithPackets is the diagnosis of an attempt of a step that went well, with its packets: those of
// one that died has it already. Steps are numbered from 0 here.
func (d Diagnosis) WithPackets(r *recording.Recording, step int) Diagnosis {
	if d.Symptom == Fine {
		d.take(newCase(r, step, d.Attempt, nil, Lives(r)))
	}
	return d
}

// judge finds the causes that fit the cases of which one is the case.
func (d *Diagnosis) judge(cases ...*Case) {
	for _, cause := range Catalogue() {
		switch f, fits := cause.judge(cases...); {
		case fits:
			d.Findings = append(d.Findings, f)
		case f.against.Says != "":
			d.Excluded = append(d.Excluded, Exclusion{cause.ID, f.against})
		}
	}
	// What is proved leaves no room for what is only possible.
	if i := slices.IndexFunc(d.Findings, func(f Finding) bool { return f.Status == Proved }); i >= 0 {
		d.Findings = slices.DeleteFunc(d.Findings, func(f Finding) bool { return f.Status != Proved })
	}
	// Where nothing speaks for one of them more than for any other, none is told.
	if !cases[0].captured && !slices.ContainsFunc(d.Findings, func(f Finding) bool { return f.spoken }) {
		d.Findings, d.Others = nil, d.Findings
	}
	d.settle()
}

// judgeParts explains an attempt whose SYNs ended at several places by a cause for each place. It
// takes them only if all are proved.
func (d *Diagnosis) judgeParts(c *Case) {
	parts := c.parts()
	if len(parts) < 2 {
		return
	}
	var all []Finding
	for _, part := range parts {
		one := Diagnosis{}
		one.judge(part)
		if one.Status != Proved {
			return
		}
		all = append(all, one.Findings[0])
	}
	d.Findings, d.Then, d.Others, d.Excluded = all[:1], all[1:], nil, nil
	d.settle()
}

// settle says how sure the findings are.
func (d *Diagnosis) settle() {
	switch len(d.Findings) {
	case 0:
		d.Status = Unexplained
	case 1:
		d.Status = d.Findings[0].Status
	default:
		d.Status = Undetermined
	}
}
