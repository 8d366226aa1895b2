package recording

import "maps"

// Lean is the recording without the frames of its packets and without the counters that stood still
// at their node from the beginning to the end. By how much a counter rose is the same in both, since
// one that is missing counts as 0.
func (r Recording) Lean() Recording {
	moved := map[string]map[string]bool{} // by node
	r.eachState(func(node string, s State) {
		for name, value := range s.Counters {
			if first, there := r.Before[node].Counters[name]; value != first || !there && value > 0 {
				if moved[node] == nil {
					moved[node] = map[string]bool{}
				}
				moved[node][name] = true
			}
		}
	})
	lean := func(states map[string]State) map[string]State {
		if states == nil {
			return nil
		}
		fewer := map[string]State{}
		for node, s := range states {
			s.Counters = maps.Clone(s.Counters)
			maps.DeleteFunc(s.Counters, func(name string, _ uint64) bool { return !moved[node][name] })
			fewer[node] = s
		}
		return fewer
	}
	packets := make([]Packet, len(r.Packets))
	for i, p := range r.Packets {
		p.Raw = nil
		packets[i] = p
	}
	steps := make([]Step, len(r.Steps))
	for i, s := range r.Steps {
		s.After = lean(s.After)
		steps[i] = s
	}
	r.Packets, r.Steps, r.Before, r.After = packets, steps, lean(r.Before), lean(r.After)
	return r
}

// eachState goes through the states of all nodes at all times.
func (r Recording) eachState(do func(node string, s State)) {
	all := []map[string]State{r.Before, r.After}
	for _, s := range r.Steps {
		all = append(all, s.After)
	}
	for _, states := range all {
		for node, s := range states {
			do(node, s)
		}
	}
}
