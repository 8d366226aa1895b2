package incidents

import "testing"

func TestEveryIncidentCanFail(t *testing.T) {
	all, err := All()
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, f := range all {
		if len(f.Twins) == 0 {
			t.Errorf("%s has no twin: with which value is something not as expected?", f.Name)
		}
		for _, s := range append(f.Scenarios, f.Twins...) {
			if names[s.Name] {
				t.Errorf("%s: %q is the name of another one", f.Name, s.Name)
			}
			names[s.Name] = true
			if len(s.Sources) == 0 || s.Belief == "" || s.Truth == "" {
				t.Errorf("%s: want sources, a belief and a truth", f.Name)
			}
		}
	}
}
