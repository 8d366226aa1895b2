package ladder

import (
	"compress/gzip"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"twlab/harness/diagnose"
	"twlab/harness/recording"
)

var update = flag.Bool("update", false, "write the ladders of testdata anew")

// recordings are those that package diagnose keeps of each cause.
func recordings(t *testing.T) map[string]recording.Recording {
	t.Helper()
	names, err := filepath.Glob("../diagnose/testdata/*.json.gz")
	if err != nil || len(names) == 0 {
		t.Fatalf("%d recordings, %v", len(names), err)
	}
	all := map[string]recording.Recording{}
	for _, name := range names {
		file, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		text, err := gzip.NewReader(file)
		if err != nil {
			t.Fatal(err)
		}
		if all[strings.TrimSuffix(filepath.Base(name), ".json.gz")], err = recording.Read(text); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	return all
}

// The ladder of each attempt that died is the one that was looked at and kept.
func TestLadders(t *testing.T) {
	for name, r := range recordings(t) {
		var text strings.Builder
		for _, d := range diagnose.Recording(&r) {
			if d.Symptom == diagnose.Fine {
				continue
			}
			for _, line := range New(&r, d).Text(false) {
				text.WriteString(line + "\n")
			}
			text.WriteString("\n")
		}
		file := filepath.Join("testdata", name+".txt")
		if *update {
			if err := os.WriteFile(file, []byte(text.String()), 0o644); err != nil { //nolint:gosec // a document
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if text.String() != string(want) {
			t.Errorf("%s: got\n%s\nwant\n%s", name, text.String(), want)
		}
	}
}
