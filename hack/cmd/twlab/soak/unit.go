package soak

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"twlab/hack/internal/cli"
)

// job is what a run does.
type job interface {
	name() string
	// do does it, notes in r what came of it, and leaves in dir what it said.
	do(ctx context.Context, dir string, r *result) error
}

// unit are the unit tests.
type unit struct {
	packages []testPackage
	env      []string // beside ours
}

// testPackage is a package with tests, and the program that they were built into.
type testPackage struct{ path, dir, program string }

// buildUnit builds what `go test` would build in each run, once. The suite is Ginkgo's
// to run.
func buildUnit(ctx context.Context, repository, into string, race bool) (u unit, err error) {
	if err := os.MkdirAll(into, 0o755); err != nil {
		return u, err
	}
	goTool := func(arguments ...string) (string, error) {
		c := exec.CommandContext(ctx, "go", arguments...)
		c.Dir = repository
		var said bytes.Buffer
		c.Stderr = &said
		out, err := c.Output()
		if err != nil {
			return "", fmt.Errorf("go %s: %w\n%s", arguments[0], err, &said)
		}
		return string(out), nil
	}
	// Tests build programs in the sandbox, where no network is.
	if _, err := goTool("mod", "download"); err != nil {
		return u, err
	}
	// The longest first: it would be alone at the end.
	list, err := goTool("list", "-f", "{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}} {{.Dir}}{{end}}", "./harness/lab", "./...")
	if err != nil {
		return u, err
	}
	for _, line := range lines(list) {
		path, dir, _ := strings.Cut(line, " ")
		if path == "twlab/e2e" {
			continue
		}
		p := testPackage{path, dir, filepath.Join(into, strings.ReplaceAll(path, "/", "+")+".test")}
		if _, err := goTool("test", "-c", "-race="+strconv.FormatBool(race), "-buildvcs=false", "-o", p.program, path); err != nil {
			return u, err
		}
		u.packages = append(u.packages, p)
	}
	return u, nil
}

func (unit) name() string { return "unit tests" }

// do runs the tests of each package in a sandbox of its own, as hack/test does, and as
// many at a time as it does: those of networks mostly wait.
func (u unit) do(ctx context.Context, dir string, r *result) error {
	began := time.Now()
	var (
		side errgroup.Group
		mu   sync.Mutex
		said bytes.Buffer
	)
	side.SetLimit(2 * runtime.NumCPU())
	for _, p := range u.packages {
		side.Go(func() error {
			if ctx.Err() != nil {
				return nil
			}
			var out bytes.Buffer
			argv, err := cli.InSandbox(p.program, "-test.paniconexit0", "-test.timeout=20m")
			if err != nil {
				return err
			}
			c := exec.CommandContext(ctx, argv[0], argv[1:]...) //nolint:gosec // built by us
			c.Dir = p.dir
			// As in hack/test: the race detector has every program wait a second before it exits.
			c.Env = append(append(os.Environ(), u.env...), "GORACE=atexit_sleep_ms=0")
			c.Stdout, c.Stderr = &out, &out
			used, status, err := cli.Child(c)
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			r.processor += used
			fmt.Fprintf(&said, "== %s: exit status %d\n%s", p.path, status, &out)
			if status != 0 {
				r.red = append(r.red, redTests(p.path, out.String())...)
			}
			return nil
		})
	}
	err := side.Wait()
	r.wall = time.Since(began)
	if err != nil {
		return err
	}
	slices.Sort(r.red)
	return os.WriteFile(filepath.Join(dir, "unit.txt"), said.Bytes(), 0o644)
}

var failed = regexp.MustCompile(`(?m)^ *--- FAIL: (\S+)`)

// redTests names the tests that failed, the innermost of those that contain each
// other; or the package, when none says so, as after a panic.
func redTests(path, said string) []string {
	var all []string
	for _, m := range failed.FindAllStringSubmatch(said, -1) {
		all = append(all, m[1])
	}
	if len(all) == 0 {
		reason := "no test"
		for _, line := range lines(said) {
			if strings.HasPrefix(line, "panic: ") || strings.HasPrefix(line, "fatal error: ") || strings.HasPrefix(line, "sandbox: ") {
				reason = line
				break
			}
		}
		return []string{path + ": " + reason}
	}
	var innermost []string
	for _, name := range all {
		if !slices.ContainsFunc(all, func(other string) bool { return strings.HasPrefix(other, name+"/") }) {
			innermost = append(innermost, path+": "+name)
		}
	}
	return innermost
}
