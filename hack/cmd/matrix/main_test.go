package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"twlab/scenarios"
)

// A run in which one cell came out by a rule, and another was left out if there is
// a reason.
func run1(t *testing.T, release string, one scenarios.Result, skipped string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), release)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	cell, err := json.Marshal(one)
	if err != nil {
		t.Fatal(err)
	}
	entry, err := json.Marshal(string(cell))
	if err != nil {
		t.Fatal(err)
	}
	report := fmt.Sprintf(`[{"SpecReports": [
		{"LeafNodeText": "negotiation a=1 is %s", "State": "passed", "ReportEntries": [{"Name": "cell", "Value": {"AsJSON": %s}}]},
		{"LeafNodeText": "negotiation a=2 is x", "State": "skipped", "Failure": {"Message": %q}}]}]`, one.Rule, entry, skipped)
	for name, text := range map[string]string{"report.json": report, "preflight.txt": "kernel: Linux " + release + "\nmore\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func result(rule string, right bool) scenarios.Result {
	return scenarios.Result{Family: "negotiation", Rule: rule, Lines: []scenarios.Line{{What: "verdict", Right: right}}}
}

func TestMatrixNamesTheKernelOfAChange(t *testing.T) {
	newer := run1(t, "6.12.1", result("negotiation-agreed", true), "")
	older := run1(t, "5.10.9", result("negotiation-not-taken", false), "")
	var out strings.Builder
	if err := run([]string{newer, older}, &out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"5.10       6.12",
		"0/1 WRONG",
		"at 6.12.1, after 5.10.9: negotiation-not-taken becomes negotiation-agreed in 1 cells",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}

func TestACellThatNobodyDroveIsAFailure(t *testing.T) {
	dirs := []string{
		run1(t, "6.1.1", result("negotiation-agreed", true), "needs an old kernel"),
		run1(t, "6.12.1", result("negotiation-agreed", true), "needs an old kernel"),
	}
	var out strings.Builder
	err := run(dirs, &out)
	if !errors.Is(err, errNeverDriven) || !strings.Contains(out.String(), "negotiation a=2: needs an old kernel") {
		t.Errorf("%v, after\n%s", err, out.String())
	}
	if !strings.Contains(out.String(), "NO CHANGES") {
		t.Errorf("what is the same is a change:\n%s", out.String())
	}
}

func TestARunWithoutResults(t *testing.T) {
	if err := run([]string{t.TempDir()}, &strings.Builder{}); err == nil || !strings.Contains(err.Error(), "left no results") {
		t.Error(err)
	}
}
