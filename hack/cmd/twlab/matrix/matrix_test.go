package matrix

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"twlab/scenarios"
	"twlab/scenarios/claim"
)

// A run in which one cell came out by a rule, and another was left out if there is
// a reason. What was emulated must not show.
func run1(t *testing.T, release string, one claim.Result, skipped string) string {
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
	state := "passed"
	if !one.Agrees() {
		state = "failed"
	}
	report := fmt.Sprintf(`[{"SuiteSucceeded": %[1]t, "SpecReports": [
		{"LeafNodeType": "SynchronizedBeforeSuite", "State": "passed"},
		{"LeafNodeType": "It", "LeafNodeText": "negotiation a=1 is %[2]s", "State": %[3]q, "ReportEntries": [{"Name": "cell", "Value": {"AsJSON": %[4]s}}]},
		{"LeafNodeType": "It", "LeafNodeText": "emulated (Linux 2): negotiation a=1 is %[2]s", "LeafNodeLabels": ["emulated"], "State": "passed",
			"ReportEntries": [{"Name": "cell", "Value": {"AsJSON": %[4]s}}]},
		{"LeafNodeType": "It", "LeafNodeText": "emulated (Linux 2): negotiation a=3 is x", "LeafNodeLabels": ["emulated"], "State": "skipped",
			"Failure": {"Message": "needs root"}},
		{"LeafNodeType": "It", "LeafNodeText": "negotiation a=2 is x", "State": "skipped", "Failure": {"Message": %[5]q}}]}]`,
		one.Agrees(), one.Rule, state, entry, skipped)
	for name, text := range map[string]string{"report.json": report, "preflight.txt": "kernel: Linux " + release + "\nmore\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func result(rule string, right bool) claim.Result {
	return claim.Result{Family: "negotiation", Rule: rule, Lines: []claim.Line{{What: "outcome", Right: right}}}
}

// asked is a run of cells of the user's own, in an order that is not the file's.
func asked(t *testing.T, release string, answers ...scenarios.Answered) string {
	t.Helper()
	var specs []string
	for _, a := range answers {
		one, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		entry, err := json.Marshal(string(one))
		if err != nil {
			t.Fatal(err)
		}
		state := "passed"
		if a.Result == nil {
			state = "failed"
		}
		specs = append(specs, fmt.Sprintf(`{"LeafNodeType": "It", "LeafNodeText": %q, "State": %q, "ReportEntries": [{"Name": "question", "Value": {"AsJSON": %s}}]}`,
			a.Name+": "+a.Title, state, entry))
	}
	dir := filepath.Join(t.TempDir(), release)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"report.json": `[{"SuiteSucceeded": true, "SpecReports": [` + strings.Join(specs, ", ") + `]}]`, "preflight.txt": "kernel: Linux " + release + "\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func answer(number int, name, outcome string, right bool) scenarios.Answered {
	return scenarios.Answered{Number: number, Name: name, Title: "tuple clock=older", Covered: true, Result: &claim.Result{
		Rule: "r", Lines: []claim.Line{{What: "outcome", Right: right}}, Seen: claim.Seen{Observations: []claim.Observation{{What: "outcome", Got: outcome}}},
	}}
}

func TestCellsOfOnesOwnAreTold(t *testing.T) {
	out := printed(t, nil,
		asked(t, "6.12.1", answer(2, "hardened", "TimedOut", true), answer(1, "as it is", "Connected", true)),
		asked(t, "5.10.9", answer(1, "as it is", "NoPort", false), answer(2, "hardened", "TimedOut", true)))
	for _, want := range []string{
		"YOUR CELLS",
		"               5.10          6.12       \n  1  as it is  NoPort WRONG  Connected  tuple clock=older\n  2  hardened  TimedOut      TimedOut   tuple clock=older\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	for _, other := range []string{"CLAIMS", "RULES", "not tried"} {
		if strings.Contains(out, other) {
			t.Errorf("%q in\n%s", other, out)
		}
	}
	failed := answer(1, "as it is", "", true)
	failed.Result = nil
	if out := printed(t, errFailed, asked(t, "6.12.1", failed)); !strings.Contains(out, "as it is  FAILED") {
		t.Errorf("a cell that did not come about is not told in\n%s", out)
	}
}

func TestMatrixNamesTheKernelOfAChange(t *testing.T) {
	newer := run1(t, "6.12.1", result("negotiation-agreed", true), "")
	older := run1(t, "5.10.9", result("negotiation-not-taken", true), "")
	out := printed(t, nil, newer, older)
	for _, want := range []string{
		"5.10  Linux 5.10.9  results in 5.10.9  specs passed: 1\n",
		"     5.10  6.12  changes at  the document says",
		"  3  1/1   1/1   6.12        [right] Timestamps are negotiated",
		"not tried in these runs: 1, 2, 4,",
		"negotiation              5.10  6.12",
		"  negotiation-agreed     -     1/1   outcome: Connected; in use: yes\n",
		"  6.12, and not yet 5.10 (cells: 1)\n" +
			"    before: negotiation-not-taken: in use: no; option in the SYN-ACK: no; ",
		"\n    since:  negotiation-agreed: in use: yes; option in the SYN-ACK: yes; ",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}

func TestMatrixOfKernelsThatAreAlike(t *testing.T) {
	out := printed(t, nil, run1(t, "6.12.1-a", result("negotiation-agreed", true), ""), run1(t, "6.12.1-b", result("negotiation-agreed", true), ""))
	for _, want := range []string{"6.12.1-a  6.12.1-b", "none between these kernels"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}

func TestARunThatFailedFailsTheMatrix(t *testing.T) {
	wrong := run1(t, "6.12.1", result("negotiation-agreed", false), "")
	out := printed(t, errFailed, run1(t, "5.10.9", result("negotiation-agreed", true), ""), wrong)
	for _, want := range []string{"specs passed: 0, FAILED: 1", "1/1   0/1 WRONG", "FAILED in 6.12.1: negotiation a=1 is negotiation-agreed\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}

func TestACellThatNobodyDroveIsAFailure(t *testing.T) {
	out := printed(t, errNeverDriven,
		run1(t, "6.1.1", result("negotiation-agreed", true), "needs an old kernel"),
		run1(t, "6.12.1", result("negotiation-agreed", true), "needs an old kernel"))
	if !strings.Contains(out, "SKIPPED ON EVERY KERNEL: negotiation a=2: needs an old kernel\n") {
		t.Errorf("it does not say which:\n%s", out)
	}
}

func TestWhatWasEmulatedIsLeftOut(t *testing.T) {
	out := printed(t, nil, run1(t, "6.12.1", result("negotiation-agreed", true), ""))
	if !strings.Contains(out, "1/1") || !strings.Contains(out, "specs passed: 1") || strings.Contains(out, "emulated") {
		t.Errorf("want one cell and spec, and nothing emulated, in\n%s", out)
	}
}

// What the others say is told all the same.
func TestARunWithoutResults(t *testing.T) {
	empty := t.TempDir()
	if out := printed(t, errNothing, empty); out != "" {
		t.Errorf("a matrix of nothing:\n%s", out)
	}
	if out := printed(t, fs.ErrNotExist, empty, run1(t, "6.1.1", result("negotiation-agreed", true), "")); !strings.Contains(out, "specs passed: 1") {
		t.Errorf("the results that there are are not told:\n%s", out)
	}
}

func TestARunOfSeveralKernelsIsNoColumn(t *testing.T) {
	mixed := run1(t, "6.1.1", result("negotiation-agreed", true), "")
	if err := os.WriteFile(filepath.Join(mixed, "kernels.json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	printed(t, errMixed, mixed)
}

// printed is what is said about directories, with an error that is want.
func printed(t *testing.T, want error, dirs ...string) string {
	t.Helper()
	var out strings.Builder
	if err := (options{output: t.TempDir()}).table(dirs, &out); !errors.Is(err, want) {
		t.Errorf("%v, want %v, after\n%s", err, want, out.String())
	}
	return out.String()
}
