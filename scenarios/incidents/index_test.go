package incidents

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"twlab/harness/script"
	"twlab/harness/scriptfile"
)

var update = flag.Bool("update", false, "write INCIDENTS.md anew")

const index = "../INCIDENTS.md"

const preface = `# Incidents

<!-- Written by go test ./scenarios/incidents -update. -->

What people ran into, from public reports: what they believed, and what is true. Each line is a scenario
file, which the suite runs on every kernel that it is tried on (label ` + "`incident`" + `), with twins in which a value
is turned and something must be different. By hand: ` + "`hack/twlab run --twins scenarios/incidents/FILE`" + `.
*Kernels* are the limits that the file itself names; without any it holds wherever it can run.

| incident | what people believe | what is true | runs, twins | kernels | reports |
|---|---|---|---|---|---|
`

func TestTheIndexIsWhatTheFilesSay(t *testing.T) {
	all, err := All()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString(preface)
	for _, f := range all {
		writeLine(&b, f)
	}
	if *update {
		if err := os.WriteFile(index, []byte(b.String()), 0o644); err != nil { //nolint:gosec // a document
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(index)
	if err != nil {
		t.Fatal(err)
	}
	if string(text) != b.String() {
		t.Error("INCIDENTS.md is stale: run go test ./scenarios/incidents -update and read the difference")
	}
}

// writeLine writes the line of a file.
func writeLine(b *strings.Builder, f scriptfile.File) {
	s := f.Scenarios[0]
	name, _, _ := strings.Cut(s.Name, " [")
	var reports []string
	for i, source := range s.Sources {
		reports = append(reports, fmt.Sprintf("[%d](%s)", i+1, source))
	}
	fmt.Fprintf(b, "| [%s](incidents/%s) | %s | %s | %d, %d | %s | %s |\n", cell(name), f.Name, cell(s.Belief), cell(s.Truth),
		len(f.Scenarios), len(f.Twins), kernelsOf(f), strings.Join(reports, " "))
}

func cell(text string) string { return strings.ReplaceAll(strings.TrimSpace(text), "|", `\|`) }

// kernelsOf lists the conditions on kernels in steps and expectations, and of the whole scenario and its
// twins.
func kernelsOf(f scriptfile.File) string {
	var limits []string
	note := func(w script.Condition, of string) {
		if w != (script.Condition{}) {
			limits = append(limits, of+strings.TrimPrefix(w.String(), "kernel "))
		}
	}
	for _, s := range f.Scenarios {
		note(s.When, "")
		for _, step := range s.Steps {
			note(step.When, "")
			for _, e := range step.Expect {
				note(e.When, "")
			}
		}
	}
	for _, t := range f.Twins {
		if t.When != f.Scenarios[0].When {
			note(t.When, "twin ")
		}
	}
	slices.Sort(limits)
	return strings.Join(slices.Compact(limits), ", ")
}
