package report

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"twlab/hack/internal/cli"
)

// recorded puts a recording where twlab run would.
func recorded(t *testing.T, dir string) {
	t.Helper()
	names, err := filepath.Glob("../../../../harness/diagnose/testdata/a-rule-drops*.json.gz")
	if err != nil || len(names) != 1 {
		t.Fatalf("%v, %v", names, err)
	}
	file, err := os.Open(names[0])
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	unpacked, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(unpacked)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, recordingFile), text, 0o644)); err != nil {
		t.Fatal(err)
	}
}

// run runs the subcommand.
func run(t *testing.T, words ...string) (stdout string, status int, err error) {
	t.Helper()
	c := Command()
	var out bytes.Buffer
	c.SetOut(&out)
	c.SetErr(&out)
	c.SetArgs(words)
	c.SilenceErrors, c.SilenceUsage = true, true
	err = c.ExecuteContext(t.Context())
	var s cli.StatusError
	switch {
	case errors.As(err, &s):
		status = s.Status
	case err != nil:
		status = cli.NotRun
	}
	return out.String(), status, err
}

func TestPageOfRecordings(t *testing.T) {
	dir := t.TempDir()
	recorded(t, filepath.Join(dir, "one"))
	recorded(t, filepath.Join(dir, "debian-6.1", "one"))
	said, status, err := run(t, dir)
	path := filepath.Join(dir, FileName)
	if status != 0 || said != path+"\n" {
		t.Fatalf("%q, status %d, %v", said, status, err)
	}
	page, err := os.ReadFile(path)
	if err != nil || strings.Count(string(page), "<article") != 2 || !strings.Contains(string(page), "Linux debian-6.1 ") {
		t.Errorf("%v, %d articles", err, strings.Count(string(page), "<article"))
	}
	said, status, err = run(t, "-o", "-", filepath.Join(dir, "one"))
	if status != 0 || !strings.HasPrefix(said, "<!DOCTYPE html>") || strings.Count(said, "<article") != 1 {
		t.Errorf("on standard output: status %d, %v, %.40q", status, err, said)
	}
	if left, err := filepath.Glob(filepath.Join(dir, ".unfinished-*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestWhatIsNoResult(t *testing.T) {
	empty, broken := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(broken, recordingFile), []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		words []string
		says  string
	}{
		{nil, "which directory?"},
		{[]string{empty}, "has no recording"},
		{[]string{filepath.Join(empty, "none")}, "no such file"},
		{[]string{broken}, "cut off"},
		{[]string{"-o", filepath.Join(empty, "no", "dir.html"), empty}, "has no recording"},
	} {
		if _, status, err := run(t, c.words...); status != cli.NotRun || err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%v: status %d, %v; want %d and %q", c.words, status, err, cli.NotRun, c.says)
		}
	}
	if _, err := os.Stat(filepath.Join(empty, FileName)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a page of nothing was written: %v", err)
	}
}
