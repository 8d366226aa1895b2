package matrix

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"twlab/hack/cmd/twlab/e2e"
	"twlab/hack/cmd/twlab/guest"
	"twlab/hack/internal/cli"
	"twlab/hack/internal/kit"
)

// errRed is how a matrix ends when a run did, which has been said already.
var errRed = cli.StatusError{Status: cli.Failed}

var noName = regexp.MustCompile(`[^A-Za-z0-9._-]`)

// directory is where the results of a kernel go.
func (o options) directory(kernel string) string {
	return filepath.Join(o.output, noName.ReplaceAllString(kernel, "-"))
}

// runs has the suite run on all kernels, on some at the same time. What cannot run is told before
// the others have run for an hour. red is what came of them.
func (o options) runs(ctx context.Context, k kit.Kit, out io.Writer) (red, err error) {
	for _, kernel := range o.kernels {
		if kernel == running {
			continue
		}
		if _, err := (guest.Machine{Kernel: kernel}).Check(ctx); err != nil {
			return nil, cli.NotRunError(err)
		}
	}
	suite, err := e2e.Argv(k)
	if err != nil {
		return nil, err
	}
	var side errgroup.Group
	side.SetLimit(o.jobs)
	var mu sync.Mutex
	for _, kernel := range o.kernels {
		side.Go(func() error {
			if ctx.Err() != nil {
				return nil
			}
			how, status, err := o.once(ctx, suite, kernel)
			mu.Lock()
			defer mu.Unlock()
			fmt.Fprint(out, how)
			if err == nil && status != 0 {
				err = errRed
			}
			return err
		})
	}
	return side.Wait(), nil
}

// once runs the suite on one kernel, and says in a line or some how that went. The run is
// told in a file, and ends with us.
func (o options) once(ctx context.Context, suite []string, kernel string) (how string, status int, err error) {
	dir := o.directory(kernel)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", 0, err
	}
	// What an earlier run left is not to be taken for ours.
	if err := os.Remove(filepath.Join(dir, "report.json")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", 0, err
	}
	path := filepath.Join(dir, "run.txt")
	file, err := os.Create(path)
	if err != nil {
		return "", 0, err
	}
	defer file.Close()
	argv := append(slices.Clone(suite), "--output-dir="+dir)
	if kernel != running {
		argv = append(argv, "--kernel=all="+kernel)
		if o.virtual != "" {
			argv = append(argv, "--virtual-time="+o.virtual)
		}
	}
	argv = append(argv, o.flags...)
	c := exec.CommandContext(ctx, argv[0], argv[1:]...) //nolint:gosec // ours
	c.Stdout, c.Stderr = file, file
	began := time.Now()
	if _, status, err = cli.Child(c); err != nil {
		return "", status, err
	}
	how = fmt.Sprintf("%s: exit status %d after %.0f s (%s)\n", kernel, status, time.Since(began).Seconds(), path)
	if status == 0 {
		return how, status, nil
	}
	said, err := os.ReadFile(path)
	return how + why(string(said)), status, err
}

var telling = regexp.MustCompile(`(?m)^(hack/e2e|sandbox): .*|^Ran .*|.*\[FAIL\].*`)

// why are the last lines that say why a run was red.
func why(said string) string {
	const most = 5
	lines := telling.FindAllString(said, -1)
	var text strings.Builder
	for _, line := range lines[max(0, len(lines)-most):] {
		fmt.Fprintln(&text, "  "+line)
	}
	return text.String()
}

// available is the KiB that /proc/meminfo says could be had.
func available(meminfo string) int {
	for line := range strings.Lines(meminfo) {
		if words := strings.Fields(line); len(words) > 1 && words[0] == "MemAvailable:" {
			n, err := strconv.Atoi(words[1])
			if err == nil {
				return n
			}
		}
	}
	return 0
}
