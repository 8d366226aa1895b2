package soak

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"twlab/hack/cmd/twlab/e2e"
	"twlab/hack/internal/cli"
	"twlab/hack/internal/kit"
	"twlab/harness/kernels"
)

// options are what the command line asks for.
type options struct {
	output    string
	runs      int
	unit, e2e bool
	race      bool     // the unit tests have the race detector
	flags     []string // of hack/e2e

	repository string   // "" is none
	suite      []string // how hack/e2e is run
	env        []string // of the unit tests, beside ours
}

// read takes the words of the command line: the number of runs, and flags of hack/e2e.
func (o *options) read(words []string) (err error) {
	if len(words) == 0 {
		return cli.Usage(fmt.Errorf("how many runs?"))
	}
	if o.runs, err = strconv.Atoi(words[0]); err != nil || o.runs < 1 {
		return cli.Usage(fmt.Errorf("'%s' is no number of runs of at least 1", words[0]))
	}
	o.flags = words[1:]
	switch {
	case !o.unit && !o.e2e:
		return cli.Usage(fmt.Errorf("--no-unit and --no-e2e leave nothing to run"))
	case !o.unit && !o.race:
		return cli.Usage(fmt.Errorf("--no-race is about the unit tests, which --no-unit leaves out"))
	case !o.e2e && len(o.flags) > 0:
		return cli.Usage(fmt.Errorf("'%s' is for hack/e2e, which --no-e2e leaves out", o.flags[0]))
	}
	r, err := e2e.Parse(o.flags, nil)
	switch {
	case errors.Is(err, e2e.ErrHelp):
		return cli.Usage(fmt.Errorf("flags of hack/e2e: see hack/e2e --help"))
	case err == nil && r.Output != "":
		return cli.Usage(fmt.Errorf("--output-dir stands before the number of runs"))
	}
	return err
}

// settle finds what the soak works with.
func (o *options) settle(k kit.Kit) (err error) {
	o.repository = k.Tree
	if o.unit && (k.Tree == "" || k.Built != "") {
		return errors.New("unit tests are built from the repository, by Go: add --no-unit where there is none")
	}
	if o.output == "" {
		o.output = filepath.Join(e2e.DefaultOutput(k), "soak")
	}
	if o.output, err = filepath.Abs(o.output); err != nil {
		return fmt.Errorf("output directory: %w", err)
	}
	o.env = testKernel()
	o.suite, err = e2e.Argv(k)
	return err
}

// testKernel is the environment that names the kernel that machines are tested with, as in
// hack/test; nothing where it was not fetched or where QEMU or /dev/net/tun is missing.
func testKernel() []string {
	const name = "debian-6.1"
	if os.Getenv(kernelVariable) != "" {
		return nil
	}
	k, err := kernels.Find(name)
	_, missing := exec.LookPath("qemu-system-x86_64")
	if err != nil || missing != nil || unix.Access("/dev/net/tun", unix.W_OK) != nil {
		return nil
	}
	return []string{kernelVariable + "=" + k.Path, "TWLAB_TEST_MODULES=" + k.Modules}
}

const kernelVariable = "TWLAB_TEST_KERNEL"

// mark is in a directory that a soak has made, so that it may empty it.
const mark = ".made-by-hack-soak"

// prepare makes the output directory, and all that is built once.
func (o options) prepare(ctx context.Context) (jobs []job, err error) {
	if err := os.MkdirAll(o.output, 0o755); err != nil {
		return nil, fmt.Errorf("cannot write to the output directory: %w", err)
	}
	there, err := os.ReadDir(o.output)
	if err != nil {
		return nil, fmt.Errorf("cannot read the output directory: %w", err)
	}
	if len(there) > 0 && !slices.ContainsFunc(there, func(e os.DirEntry) bool { return e.Name() == mark }) {
		return nil, fmt.Errorf("'%s' has files that twlab soak did not make; give another directory with --output-dir DIR", o.output)
	}
	for _, e := range there {
		if strings.HasPrefix(e.Name(), "run-") || e.Name() == "soak.txt" {
			if err := os.RemoveAll(filepath.Join(o.output, e.Name())); err != nil {
				return nil, err
			}
		}
	}
	if err := os.WriteFile(filepath.Join(o.output, mark), nil, 0o644); err != nil {
		return nil, fmt.Errorf("cannot write to the output directory: %w", err)
	}
	if o.unit {
		u, err := buildUnit(ctx, o.repository, filepath.Join(o.output, "unit"), o.race)
		u.env = o.env
		if err != nil {
			return nil, fmt.Errorf("the unit tests do not build: %w", err)
		}
		jobs = append(jobs, u)
	}
	if o.e2e {
		jobs = append(jobs, suite{argv: o.suite, output: filepath.Join(o.output, "e2e"), flags: o.flags})
	}
	return jobs, nil
}
