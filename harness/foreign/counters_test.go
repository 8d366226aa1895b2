package foreign

import (
	"maps"
	"slices"
	"testing"

	"twlab/harness/diagnose"
	"twlab/harness/recording"
)

// The counters of one captured node, whichever it is, never exclude the cause that the whole
// recording proves, and prove no other: where they stood still, another node may be the one.
func TestNoCountersExcludeTheCause(t *testing.T) {
	recordings := kept(t)
	names := countersOf(recordings)
	looked := 0
	for name, r := range recordings {
		all := diagnose.Recording(&r)
		for _, v := range views {
			files := sources(t, r, v, 65535)
			for i, want := range all {
				if want.Symptom == diagnose.Fine || i > 0 && all[i-1].Step == want.Step {
					continue
				}
				for _, node := range nodesOf(files) {
					tables, there := tablesOf(r, want, node, names)
					if !there {
						continue
					}
					result, err := Read(t.Context(), files, Options{Evidence: map[string]Tables{node: tables}})
					if err != nil {
						t.Fatalf("%s, %s: %v", name, v.name, err)
					}
					c := find(result, want, all)
					if c == nil {
						continue
					}
					looked++
					got := c.Diagnose()
					if !fits(got, want.Cause()) || got.Status == diagnose.Proved && got.Cause() != want.Cause() {
						t.Errorf("%s, %s, counters of %s, step %d: %s, want %s\n%v\n%v", name, v.name, node, want.Step, got.Short(), want.Cause(), got.Account(), got.Excluded)
					}
				}
			}
		}
	}
	if looked < 100 {
		t.Errorf("only %d attempts were looked at", looked)
	}
}

func nodesOf(files []Source) (all []string) {
	for _, f := range files {
		if !slices.Contains(all, f.Node) {
			all = append(all, f.Node)
		}
	}
	return all
}

// countersOf are the names of all counters that moved in any recording.
func countersOf(all map[string]recording.Recording) (names []string) {
	there := map[string]bool{}
	for _, r := range all {
		for _, s := range r.After {
			for counter := range s.Counters {
				there[counter] = true
			}
		}
	}
	return slices.Collect(maps.Keys(there))
}

// tablesOf are the counters of a node around an attempt, with those that were zero, which our
// recordings leave out.
func tablesOf(r recording.Recording, d diagnose.Diagnosis, node string, names []string) (t Tables, there bool) {
	after := r.After
	for _, s := range r.Steps {
		if s.Number == d.Step && s.After != nil {
			after = s.After
		}
	}
	name := node
	if _, known := r.Nodes[name]; !known {
		name = node[len("server-"):]
	}
	t = Tables{Before: map[string]uint64{}, After: map[string]uint64{}}
	for _, counter := range names {
		t.Before[counter], t.After[counter] = d.Before[name].Counters[counter], after[name].Counters[counter]
	}
	return t, len(after[name].Counters) > 0
}
