package soak

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// repository makes a directory whose hack/e2e is the script.
func repository(t *testing.T, script string) string {
	t.Helper()
	dir := t.TempDir()
	if err := errors.Join(
		os.MkdirAll(filepath.Join(dir, "hack"), 0o755),
		os.WriteFile(filepath.Join(dir, "hack", "e2e"), []byte("#!/bin/sh\n"+script), 0o755),
	); err != nil {
		t.Fatal(err)
	}
	return dir
}

// soaking are runs of the suite alone.
func soaking(repository string, runs int) options {
	return options{
		output: filepath.Join(repository, ".out", "soak"), runs: runs, e2e: true,
		suite: []string{filepath.Join(repository, "hack", "e2e")}, flags: []string{"--label-filter", "x"},
	}
}

// The suite's part of the script is red in the second of three runs.
const redOnce = `
output=$2
mkdir -p "$output/bin" "$output/evidence/one"
echo run >>"$output/../count"
echo seen >"$output/evidence/one/state.txt"
state=passed
[ "$(wc -l <"$output/../count")" -ne 2 ] || state=failed
cat >"$output/report.json" <<EOF
[{"SpecReports": [
  {"LeafNodeType": "It", "ContainerHierarchyTexts": ["Cell"], "LeafNodeText": "a", "State": "passed"},
  {"LeafNodeType": "It", "ContainerHierarchyTexts": ["Cell"], "LeafNodeText": "b", "State": "$state"},
  {"LeafNodeType": "It", "ContainerHierarchyTexts": ["Cell"], "LeafNodeText": "c", "State": "skipped"}]}]
EOF
[ $state = passed ]
`

func TestARedRunIsToldAndItsEvidenceKept(t *testing.T) {
	dir := repository(t, redOnce)
	var out strings.Builder
	err := soaking(dir, 3).run(t.Context(), &out)
	if !errors.Is(err, errRed) {
		t.Errorf("%v, want %v", err, errRed)
	}
	for _, want := range []string{
		"hack/e2e    processors free: 2 runs, 0 red;",
		"hack/e2e    processors busy: 1 runs, 1 red;",
		"\n  1  hack/e2e: Cell b (2)\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("it does not say %q:\n%s", want, &out)
		}
	}
	soak := filepath.Join(dir, ".out", "soak")
	kept, err := filepath.Glob(filepath.Join(soak, "run-*", "evidence", "one", "state.txt"))
	if want := filepath.Join(soak, "run-2", "evidence", "one", "state.txt"); err != nil || !slices.Equal(kept, []string{want}) {
		t.Errorf("kept %v, %v, want %s", kept, err, want)
	}
	if text, err := os.ReadFile(filepath.Join(soak, "soak.txt")); err != nil || !strings.Contains(out.String(), string(text)) {
		t.Errorf("soak.txt: %q, %v", text, err)
	}
}

func TestGreenRuns(t *testing.T) {
	var out strings.Builder
	if err := soaking(repository(t, "exit 0"), 2).run(t.Context(), &out); err != nil {
		t.Errorf("%v\n%s", err, &out)
	}
}

func TestARunWithoutSpecsIsNotGreen(t *testing.T) {
	var out strings.Builder
	err := soaking(repository(t, "echo 'sandbox: the host changed' >&2; exit 123"), 1).run(t.Context(), &out)
	if want := "hack/e2e: no spec, but exit status 123: sandbox: the host changed"; !errors.Is(err, errRed) || !strings.Contains(out.String(), want) {
		t.Errorf("%v, want it red with %q:\n%s", err, want, &out)
	}
	err = soaking(repository(t, "echo 'hack/e2e: no spec is selected' >&2; exit 2"), 5).run(t.Context(), &out)
	if !errors.Is(err, errNothing) || !strings.Contains(err.Error(), "hack/e2e: no spec is selected") {
		t.Errorf("%v, want errNothing and why", err)
	}
}

func TestTheInnermostTestIsRed(t *testing.T) {
	for name, c := range map[string]struct {
		said string
		want []string
	}{
		"subtests": {"--- FAIL: TestA (0.00s)\n    --- FAIL: TestA/one (0.00s)\n    --- FAIL: TestA/two (0.00s)\n--- FAIL: TestAB (0.00s)\nFAIL\n",
			[]string{"p: TestA/one", "p: TestA/two", "p: TestAB"}},
		"a panic": {"panic: no such thing\n\ngoroutine 1\n", []string{"p: panic: no such thing"}},
		"silence": {"", []string{"p: no test"}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := redTests("p", c.said); !slices.Equal(got, c.want) {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

func TestTheTableCountsRunsOfATestOnce(t *testing.T) {
	text := table([]result{
		{run: 1, what: "unit tests", wall: time.Second, processor: 2 * time.Second, red: []string{"p: TestA", "p: TestA"}},
		{run: 2, what: "unit tests", busy: true, red: []string{"p: TestB", "p: TestA"}},
	})
	for _, want := range []string{
		"unit tests  processors free: 1 runs, 1 red; on average 1.0 s, 2.0 s of processor time",
		"  2  p: TestA (1, 2)\n  1  p: TestB (2)\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("it does not say %q:\n%s", want, text)
		}
	}
}

func TestAReportThatCannotBeReadIsAnError(t *testing.T) {
	path := filepath.Join(t.TempDir(), "report.json")
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	var syntax *json.SyntaxError
	if _, err := redSpecs(path); !errors.As(err, &syntax) {
		t.Errorf("%v, want a syntax error", err)
	}
}
