package kit

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"twlab/hack/internal/cli"
)

// write makes files in a directory.
func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for path, text := range files {
		path = filepath.Join(dir, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o755)); err != nil {
			t.Fatal(err)
		}
	}
}

// sealed is a tree, and in it a directory of programs that were built from it.
func sealed(t *testing.T) (of, dir string) {
	t.Helper()
	of = t.TempDir()
	write(t, of, map[string]string{
		"go.mod": "module twlab\n", "go.sum": "", "e2e/x_test.go": "x", "hack/x.go": "x", "hack/x_test.go": "x", "harness/x.go": "x", "scenarios/x.go": "x",
	})
	dir = filepath.Join(of, ".out", "build")
	if err := Open(dir); err != nil {
		t.Fatal(err)
	}
	write(t, dir, map[string]string{Program: "1", Suite: "1", Ginkgo: "1", Agent(RoleArch): "1"})
	if err := Seal(dir, of, []string{Program, Suite, Ginkgo, Agent(RoleArch)}); err != nil {
		t.Fatal(err)
	}
	return of, dir
}

func TestProgramsOfThisTreeAreUsed(t *testing.T) {
	of, dir := sealed(t)
	write(t, of, map[string]string{"README.md": "x", "hack/x_test.go": "y", ".out/x.go": "x"}) // which no program is made of
	k, err := find(dir, "")
	if err != nil || k != (Kit{Tree: of, Built: dir}) {
		t.Fatalf("%+v, %v", k, err)
	}
	if _, suite, err := k.Suite(); err != nil || suite != filepath.Join(dir, Suite) {
		t.Errorf("%s, %v", suite, err)
	}
	if agent, err := k.Agent(RoleArch); err != nil || agent != filepath.Join(dir, "agent-amd64") {
		t.Errorf("%s, %v", agent, err)
	}
}

func TestProgramsOfAnotherTreeAreRefused(t *testing.T) {
	for _, path := range []string{"go.mod", "hack/x.go", "harness/new.go", "scenarios/x.go", "e2e/x_test.go"} {
		of, dir := sealed(t)
		write(t, of, map[string]string{path: "module twlab\n// another"})
		_, err := find(dir, of) // even where somebody says that it is fresh
		var status cli.StatusError
		if !errors.Is(err, ErrOlder) || !errors.As(err, &status) || status.Status != cli.NotRun {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestProgramsOfTwoBuildsAreRefused(t *testing.T) {
	_, dir := sealed(t)
	write(t, dir, map[string]string{Suite: "2"})
	k, err := find(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := k.Suite(); err == nil || !strings.Contains(err.Error(), "e2e.test is not of one build with the others") {
		t.Error(err)
	}
	write(t, dir, map[string]string{Program: "2"})
	if _, err := find(dir, ""); err == nil || !strings.Contains(err.Error(), "twlab is not of one build") {
		t.Error(err)
	}
}

func TestWithoutHackBuild(t *testing.T) {
	of, _ := sealed(t)
	bin := filepath.Join(of, ".out", "bin")
	if k, err := find(bin, of); err != nil || k != (Kit{Tree: of}) {
		t.Errorf("by hack/twlab: %+v, %v", k, err)
	}
	if _, err := find(bin, ""); err == nil || !strings.Contains(err.Error(), "run hack/twlab") {
		t.Errorf("in the tree, of nobody knows when: %v", err)
	}
	if k, err := find(t.TempDir(), ""); err != nil || k != (Kit{}) {
		t.Errorf("elsewhere: %+v, %v", k, err)
	}
}
