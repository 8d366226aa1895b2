package document

import (
	"flag"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"twlab/scenarios"
	"twlab/scenarios/claim"
	"twlab/scenarios/symptoms"
	"twlab/scenarios/timewait"
)

var update = flag.Bool("update", false, "write CLAIMS.md and RULES.md anew")

// The pages are generated; what is committed must be what the code says.
func TestPagesAreUpToDate(t *testing.T) {
	for page, render := range map[string]func(io.Writer) error{"../CLAIMS.md": RenderClaims, "../RULES.md": RenderRules} {
		var want strings.Builder
		if err := render(&want); err != nil {
			t.Fatal(err)
		}
		if *update {
			if err := os.WriteFile(page, []byte(want.String()), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		got, err := os.ReadFile(page) //nolint:gosec // ours
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != want.String() {
			t.Errorf("%s is stale: run go test ./scenarios/document -update and read the difference", page)
		}
	}
}

// What a claim shows is seen in every run, in a scenario that is there, and somebody can act on it.
func TestWhatClaimsShowIsThere(t *testing.T) {
	tried := triedByRule()
	for _, section := range Document() {
		for _, c := range section.Claims {
			if c.Short == "" || len(c.Shown.Evidence) == 0 {
				t.Errorf("claim %q in scenarios/document: want a short truth, and evidence that shows it", c.English)
			}
			if tried[c.Shown.Rule].ordinary == 0 {
				t.Errorf("claim %q in scenarios/document: rule %q has no cell in an ordinary run", c.English, c.Shown.Rule)
			}
			if !slices.ContainsFunc(c.Proofs(), func(r claim.Rule) bool { return r.Name == c.Shown.Rule }) {
				t.Errorf("claim %q in scenarios/document: rule %q shows it, and does not prove it", c.English, c.Shown.Rule)
			}
			if _, err := os.Stat(filepath.Join("..", c.Shown.File)); err != nil {
				t.Errorf("claim %q in scenarios/document: %v", c.English, err)
			}
			if c.Symptom != "" && !slices.Contains(symptoms.IDs(), c.Symptom) {
				t.Errorf("claim %q in scenarios/document: scenarios/symptoms has no %q", c.English, c.Symptom)
			}
		}
	}
}

func TestClaimsAreProved(t *testing.T) {
	rules := map[string]bool{} // whether a claim names it
	for _, f := range scenarios.Families() {
		for _, r := range f.Rules {
			rules[r.Name] = false
		}
	}
	for _, section := range Document() {
		for _, c := range section.Claims {
			if c.English == "" || c.Truth == "" || c.Since == "" || len(c.Rules) == 0 {
				t.Errorf("claim %q in scenarios/document: want English, truth, kernels and rules", c.English)
			}
			switch c.Mark {
			case Right, Imprecise, Wrong, Dated:
			case Question:
				if c.Chinese != "" {
					t.Errorf("claim %q in scenarios/document: a question is nothing that the document says", c.English)
				}
			default:
				t.Errorf("claim %q in scenarios/document: unknown mark %q; scenarios/document/claims.go has the marks", c.English, c.Mark)
			}
			if strings.HasSuffix(c.English, "?") != (c.Mark == Question) {
				t.Errorf("claim %q in scenarios/document: a question has the mark Question, and nothing else has it", c.English)
			}
			for _, pattern := range c.Rules {
				named := Claim{Rules: []string{pattern}}.Proofs()
				if len(named) == 0 {
					t.Errorf("claim %q in scenarios/document: no rule %q", c.English, pattern)
				}
				for _, r := range named {
					rules[r.Name] = true
				}
			}
		}
	}
	for name, named := range rules {
		if !named {
			t.Errorf("rule %s is behind no claim: name it in the Rules of one in scenarios/document (document.go, causes.go, remedies.go)", name)
		}
	}
}

// Every rule of the kernels that had tcp_tw_recycle is tried by some emulation, and
// none of the kernels that do not have it.
func TestEmulationsGoByTheRulesOfOldKernels(t *testing.T) {
	emulated := emulatedByRule()
	for _, r := range timewait.Recycle().Rules {
		of := r.Name != "recycle-untouched"
		for _, k := range r.Kernels {
			if k.Lacks {
				of = false
			}
		}
		if of && emulated[r.Name] == 0 {
			t.Errorf("no emulation is tried against %s", r.Name)
		}
		if !of && r.Name != "recycle-untouched" && emulated[r.Name] > 0 {
			t.Errorf("an emulation is tried against %s, which is a rule of kernels without the sysctl", r.Name)
		}
	}
}
