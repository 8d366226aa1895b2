package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// options are what the command line asks for.
type options struct {
	repository string
	output     string
	runs       int
	unit, e2e  bool
	flags      []string // of hack/e2e
}

// parse reads REPOSITORY, which hack/soak gives, and what its user gives.
func parse(arguments []string) (o options, err error) {
	if len(arguments) == 0 {
		return o, errors.New("which repository?")
	}
	o = options{repository: arguments[0], output: filepath.Join(arguments[0], ".out", "soak"), unit: true, e2e: true}
	rest := arguments[1:]
	for ; len(rest) > 0 && strings.HasPrefix(rest[0], "-"); rest = rest[1:] {
		name, value, given := strings.Cut(rest[0], "=")
		switch name {
		case "--no-unit":
			o.unit = false
		case "--no-e2e":
			o.e2e = false
		case "--output-dir":
			if !given && len(rest) > 1 {
				rest = rest[1:]
				value = rest[0]
			}
			if value == "" {
				return o, errors.New("--output-dir wants a directory")
			}
			if o.output, err = filepath.Abs(value); err != nil {
				return o, err
			}
		default:
			return o, fmt.Errorf("unknown flag '%s'; flags of hack/e2e stand behind the number of runs", rest[0])
		}
	}
	if len(rest) == 0 {
		return o, errors.New("how many runs? see hack/soak --help")
	}
	if o.runs, err = strconv.Atoi(rest[0]); err != nil || o.runs < 1 {
		return o, fmt.Errorf("'%s' is no number of runs of at least 1", rest[0])
	}
	o.flags = rest[1:]
	switch {
	case !o.unit && !o.e2e:
		return o, errors.New("--no-unit and --no-e2e leave nothing to run")
	case !o.e2e && len(o.flags) > 0:
		return o, fmt.Errorf("'%s' is for hack/e2e, which --no-e2e leaves out", o.flags[0])
	case slices.ContainsFunc(o.flags, func(f string) bool { return strings.HasPrefix(strings.TrimLeft(f, "-"), "output-dir") }):
		return o, errors.New("--output-dir stands before the number of runs")
	}
	return o, nil
}

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
		return nil, fmt.Errorf("'%s' has files that hack/soak did not make; give another directory with --output-dir DIR", o.output)
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
		u, err := buildUnit(ctx, o.repository, filepath.Join(o.output, "unit"))
		if err != nil {
			return nil, fmt.Errorf("the unit tests do not build: %w", err)
		}
		jobs = append(jobs, u)
	}
	if o.e2e {
		jobs = append(jobs, suite{script: filepath.Join(o.repository, "hack", "e2e"), output: filepath.Join(o.output, "e2e"), flags: o.flags})
	}
	return jobs, nil
}
