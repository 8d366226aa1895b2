package hack

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"twlab/harness/scriptfile"
)

// The Go code in README is code of the tree, or a program, which hack/test builds and runs.
func TestReadmeShowsCodeOfTheTree(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(readme), "```go\n")[1:]
	if len(blocks) == 0 {
		t.Fatal("no Go code in README")
	}
	var tree strings.Builder
	err = filepath.WalkDir("..", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := os.ReadFile(path) //nolint:gosec // ours
		tree.WriteString(unindented(string(source)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, block := range blocks {
		code, _, _ := strings.Cut(block, "```")
		if !strings.HasPrefix(code, "package main\n") && !strings.Contains(tree.String(), unindented(code)) {
			t.Errorf("no test of the tree has this:\n%s", code)
		}
	}
}

// unindented is a text without the white space at the beginning of its lines.
func unindented(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = strings.TrimLeft(line, "\t")
	}
	return strings.Join(lines, "\n")
}

// A scenario in README is one that can be read.
func TestReadmeShowsScenarios(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, block := range strings.Split(string(readme), "```yaml\n")[1:] {
		text, _, _ := strings.Cut(block, "```")
		if !strings.HasPrefix(text, "twlab:") {
			continue
		}
		found++
		if _, err := scriptfile.Read("README.md", []byte(text)); err != nil {
			t.Error(err)
		}
	}
	if found == 0 {
		t.Error("no scenario in README")
	}
}
