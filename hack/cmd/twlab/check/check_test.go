package check

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"twlab/harness/scriptfile"
)

func said(t *testing.T, c *cobra.Command, words ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	c.SetOut(&out)
	c.SetErr(&out)
	c.SetArgs(words)
	err := c.Execute()
	return out.String(), err
}

func TestTheFirstFileIsRight(t *testing.T) {
	name := filepath.Join(t.TempDir(), "mine.yaml")
	if _, err := said(t, New(), name); err != nil {
		t.Fatal(err)
	}
	out, err := said(t, Command(), name)
	if err != nil || !strings.Contains(out, "1 scenario(s), 1 twin(s)") {
		t.Errorf("%s, %v", out, err)
	}
	before, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, append(before, '#'), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := said(t, New(), name); err == nil {
		t.Error("a file that is there was overwritten")
	}
}

func TestMistakesOfAllFiles(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a.yaml", "b.yaml"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("twlab: 3\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, err := said(t, Command(), dir)
	if err == nil || strings.Count(err.Error(), "this program reads 1") != 2 {
		t.Errorf("%v, want the mistakes of both files", err)
	}
}

func TestTheSchemaIsPrinted(t *testing.T) {
	out, err := said(t, Command(), "--schema")
	if err != nil || !json.Valid([]byte(out)) || !strings.Contains(out, "$schema") {
		t.Errorf("%v:\n%.200s", err, out)
	}
	if _, err := said(t, Command(), "--schema", "x.yaml"); err == nil {
		t.Error("files and --schema go together")
	}
}

func TestKeysArePrinted(t *testing.T) {
	out, err := said(t, Command(), "--keys")
	if err != nil || strings.Count(out, "\n") != len(scriptfile.Keys()) || !strings.Contains(out, "steps.connect.from") {
		t.Errorf("%v:\n%s", err, out)
	}
}
