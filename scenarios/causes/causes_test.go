package causes_test

import (
	"slices"
	"testing"

	"twlab/harness/diagnose"
	"twlab/harness/scriptfile"
	"twlab/scenarios/causes"
	"twlab/scenarios/incidents"
)

// Each cause of the catalogue is expected by a scenario that runs: of this directory, or an
// incident.
func TestEachCauseIsBroughtAbout(t *testing.T) {
	expected := map[string]bool{}
	for _, all := range []func() ([]scriptfile.File, error){causes.All, incidents.All} {
		files, err := all()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			for _, s := range f.Scenarios {
				for _, step := range s.Steps {
					for _, e := range step.Expect {
						expected[e.Cause] = true
					}
				}
			}
		}
	}
	for _, id := range diagnose.IDs() {
		if !expected[id] {
			t.Errorf("no scenario expects the cause %s: a file in scenarios/causes is missing", id)
		}
	}
	ids := diagnose.IDs()
	if unique := len(slices.Compact(slices.Sorted(slices.Values(ids)))); unique != len(ids) {
		t.Errorf("%d causes have %d names", len(ids), unique)
	}
}
