package ladder

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"twlab/harness/diagnose"
	"twlab/harness/internal/kepttest"
)

var update = flag.Bool("update", false, "write the ladders of testdata anew")

// The ladder of each attempt that died is the one that was looked at and kept.
func TestLadders(t *testing.T) {
	for name, r := range kepttest.Recordings(t, "../diagnose/testdata") {
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
