package symptoms_test

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"twlab/harness/diagnose"
	"twlab/scenarios"
	"twlab/scenarios/symptoms"
)

var update = flag.Bool("update", false, "write SYMPTOMS.md anew")

const page = "../SYMPTOMS.md"

func TestThePageIsUpToDate(t *testing.T) {
	var want strings.Builder
	if err := symptoms.Render(&want); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(page, []byte(want.String()), 0o644); err != nil { //nolint:gosec // a document
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want.String() {
		t.Error("SYMPTOMS.md is stale: run go test ./scenarios/symptoms -update and read the difference")
	}
}

// What a line says is shown by something that is there.
func TestEveryProofIsThere(t *testing.T) {
	named := map[string][]symptoms.Proof{}
	for _, s := range symptoms.All() {
		if s.Means == "" || s.Often == "" || len(s.Do) == 0 || len(s.Suspects) == 0 {
			t.Errorf("%s: want a meaning, suspects, what to do, and how often", s.ID)
		}
		for _, suspect := range s.Suspects {
			named[s.ID+": "+suspect.Who] = suspect.Shown
		}
	}
	for _, k := range symptoms.Knobs() {
		named[k.Sysctl] = k.Shown
	}
	for line, proofs := range named {
		if len(proofs) == 0 {
			t.Errorf("%s: nothing shows it", line)
		}
		for _, p := range proofs {
			if !isThere(p) {
				t.Errorf("%s: %+v is not there", line, p)
			}
		}
	}
}

func isThere(p symptoms.Proof) bool {
	switch {
	case p.Rule != "":
		for _, f := range scenarios.Families() {
			for _, r := range f.Rules {
				if r.Name == p.Rule {
					return true
				}
			}
		}
		return false
	case p.Cause != "":
		return slices.Contains(diagnose.IDs(), p.Cause)
	default:
		_, err := os.Stat(filepath.Join("..", p.File))
		return err == nil
	}
}

// Every cause that the catalogue knows can be found by what one sees.
func TestEveryCauseHasASymptom(t *testing.T) {
	var text strings.Builder
	if err := symptoms.Render(&text); err != nil {
		t.Fatal(err)
	}
	for _, id := range diagnose.IDs() {
		if !strings.Contains(text.String(), "(CAUSES.md#"+id+")") {
			t.Errorf("no symptom leads to the cause %s", id)
		}
	}
}
