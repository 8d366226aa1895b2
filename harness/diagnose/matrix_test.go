package diagnose

import (
	"cmp"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"twlab/harness/recording"
)

// With -matrix DIR,DIR the recordings of repeated runs are judged by all causes:
//
//	hack/twlab run --output-dir DIR scenarios/causes
var repeated = flag.String("matrix", "", "directories of `hack/twlab run --output-dir`, a run each, of which CONTRIBUTING gets the table")

const (
	tablePage  = "../../CONTRIBUTING.md"
	tableBegin = "<!-- Written by go test ./harness/diagnose -run TestMatrix -matrix DIR,DIR,... -->\n"
	tableEnd   = "<!-- End of what TestMatrix has written. -->\n"
)

// row is what became of all that was expected to have one cause.
type row struct {
	runs                       map[string]bool
	scenarios                  map[string]bool
	died                       int
	proved, consistent, others int
	wrong                      map[string]int
}

// Whatever is expected to have a cause has it in every run, and no other.
func TestMatrix(t *testing.T) {
	if *repeated == "" {
		t.Skip("no recordings of repeated runs: give -matrix")
	}
	rows, kernels := map[string]*row{}, map[string]bool{}
	dirs := strings.Split(*repeated, ",")
	for _, dir := range dirs {
		names, err := filepath.Glob(filepath.Join(dir, "*", "run.json"))
		if err != nil || len(names) == 0 {
			t.Fatalf("%s: %d recordings, %v", dir, len(names), err)
		}
		for _, name := range names {
			file, err := os.Open(name)
			if err != nil {
				t.Fatal(err)
			}
			r, err := recording.Read(file)
			if closed := file.Close(); err != nil || closed != nil {
				t.Fatalf("%s: %v, %v", name, err, closed)
			}
			if v := r.Verdict(); v != recording.AsExpected && v != recording.NotAsExpected {
				continue // it did not come about here
			}
			for _, n := range r.Nodes {
				release, _, _ := strings.Cut(n.Kernel, "-")
				kernels[release] = true
			}
			tally(t, rows, dir, name, &r)
		}
	}
	writeTable(t, rows, len(dirs), slices.Sorted(maps.Keys(kernels)))
}

// tally adds a recording: what each of its steps expects, and all that died in them.
func tally(t *testing.T, rows map[string]*row, run, name string, r *recording.Recording) {
	t.Helper()
	for i, s := range r.Steps {
		for _, f := range s.Findings {
			want, _, _ := strings.Cut(f.Wanted, " ")
			if f.What != "cause" || want == "none" {
				continue
			}
			one := rows[want]
			if one == nil {
				one = &row{runs: map[string]bool{}, scenarios: map[string]bool{}, wrong: map[string]int{}}
				rows[want] = one
			}
			one.runs[run], one.scenarios[r.Scenario] = true, true
			for _, d := range Of(r, i) {
				if d.Symptom == Fine {
					continue
				}
				one.died++
				switch {
				case d.Cause() != want:
					one.others++
					one.wrong[d.Short()]++
					t.Errorf("%s: step %d: %s, want %s\n%s", name, d.Step, d.Short(), want, strings.Join(d.Lines(), "\n"))
				case d.Status == Proved:
					one.proved++
				default:
					one.consistent++
				}
			}
		}
	}
}

// writeTable writes the table.
func writeTable(t *testing.T, rows map[string]*row, runs int, kernels []string) {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "Of %d runs, on Linux %s:\n\n", runs, strings.Join(kernels, " and "))
	b.WriteString("| cause expected | scenarios | runs | connections that died | of this cause, proved | of this cause, consistent | anything else |\n|---|---|---|---|---|---|---|\n")
	died, right := 0, 0
	for _, id := range slices.Sorted(maps.Keys(rows)) {
		one := rows[id]
		var wrong []string
		for _, short := range slices.Sorted(maps.Keys(one.wrong)) {
			wrong = append(wrong, fmt.Sprintf("%d %s", one.wrong[short], short))
		}
		fmt.Fprintf(&b, "| %s | %d | %d | %d | %d | %d | %s |\n", id, len(one.scenarios), len(one.runs), one.died, one.proved, one.consistent, cmp.Or(strings.Join(wrong, ", "), "0"))
		died, right = died+one.died, right+one.proved+one.consistent
	}
	fmt.Fprintf(&b, "\n%d of %d connections have the cause that their scenario expects.\n", right, died)
	if missing := slices.DeleteFunc(IDs(), func(id string) bool { return rows[id] != nil }); len(missing) > 0 {
		fmt.Fprintf(&b, "Not in these runs: %s.\n", strings.Join(missing, ", "))
	}
	text, err := os.ReadFile(tablePage)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, begun := strings.Cut(string(text), tableBegin)
	_, after, ended := strings.Cut(rest, tableEnd)
	if !begun || !ended {
		t.Fatalf("%s has no place for the table", tablePage)
	}
	if err := os.WriteFile(tablePage, []byte(before+tableBegin+b.String()+tableEnd+after), 0o644); err != nil { //nolint:gosec // a document
		t.Fatal(err)
	}
}
