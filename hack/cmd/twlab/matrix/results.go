package matrix

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"twlab/harness/kernel"
	"twlab/scenarios"
	"twlab/scenarios/claim"
)

// results are those of one run.
type results struct {
	name    string // of the directory, which a matrix calls by the kernel
	release kernel.Release
	// cells are the driven cells, by family and cell; skipped are those that were
	// left out with a reason, which Ginkgo's filters do not give.
	cells   map[string]claim.Result
	skipped map[string]string
	// answers are those to cells of the user's own, by their place in the file.
	answers map[int]scenarios.Answered
	// passed counts specs, cells or not; failed names them.
	passed int
	failed []string
	// broken says what else was wrong with the run; empty when nothing was.
	broken string
}

// matrix are the results of several kernels, the oldest first.
type matrix []results

// read reads all that can be read. The error names the others.
func read(dirs []string) (matrix, error) {
	var m matrix
	var unread []error
	for _, dir := range dirs {
		r, err := readOne(dir)
		if err != nil {
			unread = append(unread, fmt.Errorf("%s: no results for the table: %w", dir, err))
			continue
		}
		m = append(m, r)
	}
	slices.SortStableFunc(m, func(a, b results) int {
		return cmp.Or(
			cmp.Compare(a.release.Major, b.release.Major),
			cmp.Compare(a.release.Minor, b.release.Minor),
			cmp.Compare(a.release.Patch, b.release.Patch),
		)
	})
	return m, errors.Join(unread...)
}

// errMixed is what is wrong with the results of hack/e2e --kernel ROLE=.
var errMixed = errors.New("some roles were guests with other kernels, and a column is for one kernel")

// report is what is of interest in Ginkgo's report.json.
type report []struct {
	SuiteSucceeded             bool
	SpecialSuiteFailureReasons []string
	SpecReports                []spec
}

type spec struct {
	LeafNodeType   string // "It" when it is a spec, and no part of the suite's own
	LeafNodeText   string
	LeafNodeLabels []string
	State          string
	Failure        struct{ Message string }
	ReportEntries  []struct {
		Name  string
		Value struct{ AsJSON string }
	}
}

func readOne(dir string) (results, error) {
	r := results{name: filepath.Base(dir), cells: map[string]claim.Result{}, skipped: map[string]string{}, answers: map[int]scenarios.Answered{}}
	if _, err := os.Stat(filepath.Join(dir, "kernels.json")); err == nil {
		return r, errMixed
	}
	preflight, err := os.ReadFile(filepath.Join(dir, "preflight.txt"))
	if err != nil {
		return r, err
	}
	first, _, _ := strings.Cut(string(preflight), "\n")
	if r.release, err = kernel.ParseRelease(strings.TrimPrefix(first, "kernel: Linux ")); err != nil {
		return r, fmt.Errorf("preflight.txt: %w", err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "report.json"))
	if err != nil {
		return r, err
	}
	var suites report
	if err := json.Unmarshal(text, &suites); err != nil {
		return r, fmt.Errorf("report.json: %w", err)
	}
	for _, suite := range suites {
		for _, s := range suite.SpecReports {
			if err := r.add(s); err != nil {
				return r, fmt.Errorf("report.json: %s: %w", s.LeafNodeText, err)
			}
		}
		if !suite.SuiteSucceeded && len(r.failed) == 0 {
			r.broken = cmp.Or(strings.Join(suite.SpecialSuiteFailureReasons, "; "), "the suite failed")
		}
	}
	return r, nil
}

// add notes how a spec ended, and what came of its cell. What was emulated is no
// kernel's outcome, and shows only where it failed.
func (r *results) add(s spec) error {
	cell, _, _ := strings.Cut(s.LeafNodeText, " is ")
	emulated := slices.Contains(s.LeafNodeLabels, "emulated")
	switch s.State {
	case "passed":
		if s.LeafNodeType == "It" && !emulated {
			r.passed++
		}
	case "skipped":
		if s.Failure.Message != "" && !emulated {
			r.skipped[cell] = s.Failure.Message
		}
	case "pending":
	default:
		r.failed = append(r.failed, cmp.Or(s.LeafNodeText, s.LeafNodeType))
	}
	for _, entry := range s.ReportEntries {
		switch {
		case entry.Name == "question":
			var answer scenarios.Answered // the last one is what it came to
			if err := json.Unmarshal([]byte(entry.Value.AsJSON), &answer); err != nil {
				return err
			}
			r.answers[answer.Number] = answer
		case entry.Name == "cell" && !emulated:
			var one claim.Result
			if err := json.Unmarshal([]byte(entry.Value.AsJSON), &one); err != nil {
				return err
			}
			r.cells[cell] = one
		}
	}
	return nil
}
