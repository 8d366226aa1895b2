package soak

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"twlab/hack/internal/cli"
)

// suite is hack/e2e. All runs have one output directory, so that what it builds
// there is built once.
type suite struct {
	argv   []string // how it is run
	output string
	flags  []string
}

func (suite) name() string { return "hack/e2e" }

// notRun is the exit status of hack/e2e when nothing was run.
const notRun = 2

func (s suite) do(ctx context.Context, dir string, r *result) (err error) {
	path := filepath.Join(dir, "e2e.txt")
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	argv := slices.Concat(s.argv, []string{"--output-dir", s.output}, s.flags)
	c := exec.CommandContext(ctx, argv[0], argv[1:]...) //nolint:gosec // ours
	c.Stdout, c.Stderr = file, file
	began := time.Now()
	used, status, err := cli.Child(c)
	r.wall, r.processor = time.Since(began), used
	if err != nil || ctx.Err() != nil {
		return err
	}
	said, err := os.ReadFile(path)
	if err != nil || status == 0 {
		return err
	}
	if status == notRun {
		return fmt.Errorf("%w: %s", errNothing, last(string(said)))
	}
	specs, err := redSpecs(filepath.Join(s.output, "report.json"))
	if err != nil || len(specs) == 0 {
		specs = []string{fmt.Sprintf("no spec, but exit status %d: %s", status, last(string(said)))}
	}
	for _, spec := range specs {
		r.red = append(r.red, "hack/e2e: "+spec)
	}
	return s.keep(dir)
}

// last is what the script or the sandbox says itself, or the last line.
func last(said string) string {
	all := lines(said)
	for _, line := range slices.Backward(all) {
		if strings.HasPrefix(line, "hack/e2e: ") || strings.HasPrefix(line, "sandbox: ") {
			return line
		}
	}
	if len(all) == 0 {
		return "it said nothing"
	}
	return all[len(all)-1]
}

// keep copies what the run has left, but for the programs.
func (s suite) keep(dir string) error {
	entries, err := os.ReadDir(s.output)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		from, to := filepath.Join(s.output, e.Name()), filepath.Join(dir, e.Name())
		switch {
		case e.Name() == "bin" || strings.HasPrefix(e.Name(), "."):
		case e.IsDir():
			err = errors.Join(err, os.CopyFS(to, os.DirFS(from)))
		default:
			text, unread := os.ReadFile(from)
			err = errors.Join(err, unread, os.WriteFile(to, text, 0o644))
		}
	}
	return err
}

// redSpecs names the specs of Ginkgo's report that failed.
func redSpecs(path string) (red []string, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var suites []struct {
		SpecReports []struct {
			ContainerHierarchyTexts    []string
			LeafNodeType, LeafNodeText string
			State                      string
		}
	}
	if err := json.Unmarshal(text, &suites); err != nil {
		return nil, fmt.Errorf("report.json: %w", err)
	}
	for _, suite := range suites {
		for _, s := range suite.SpecReports {
			switch s.State {
			case "passed", "skipped", "pending", "":
			default:
				name := append(slices.Clone(s.ContainerHierarchyTexts), cmp.Or(s.LeafNodeText, s.LeafNodeType))
				red = append(red, strings.Join(name, " "))
			}
		}
	}
	slices.Sort(red)
	return red, nil
}
