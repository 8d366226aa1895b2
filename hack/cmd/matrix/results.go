package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"twlab/harness/kernel"
	"twlab/scenarios"
)

// results are those of one run.
type results struct {
	name    string
	release kernel.Release
	// cells are the driven cells, by family and cell; skipped are those that were
	// left out with a reason, which Ginkgo's filters do not give.
	cells   map[string]scenarios.Result
	skipped map[string]string
}

// matrix are the results of several kernels, the oldest first.
type matrix []results

func read(dirs []string) (matrix, error) {
	var m matrix
	for _, dir := range dirs {
		r, err := readOne(dir)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", dir, err)
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
	return m, nil
}

// report is what is of interest in Ginkgo's report.json.
type report []struct {
	SpecReports []struct {
		LeafNodeText  string
		State         string
		Failure       struct{ Message string }
		ReportEntries []struct {
			Name  string
			Value struct{ AsJSON string }
		}
	}
}

func readOne(dir string) (results, error) {
	r := results{name: filepath.Base(dir), cells: map[string]scenarios.Result{}, skipped: map[string]string{}}
	preflight, err := os.ReadFile(filepath.Join(dir, "preflight.txt"))
	if err != nil {
		return r, fmt.Errorf("the run left no results: %w", err)
	}
	first, _, _ := strings.Cut(string(preflight), "\n")
	if r.release, err = kernel.ParseRelease(strings.TrimPrefix(first, "kernel: Linux ")); err != nil {
		return r, fmt.Errorf("preflight.txt: %w", err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "report.json"))
	if err != nil {
		return r, fmt.Errorf("the run left no results: %w", err)
	}
	var suites report
	if err := json.Unmarshal(text, &suites); err != nil {
		return r, fmt.Errorf("report.json: %w", err)
	}
	for _, suite := range suites {
		for _, spec := range suite.SpecReports {
			if spec.State == "skipped" && spec.Failure.Message != "" {
				cell, _, _ := strings.Cut(spec.LeafNodeText, " is ")
				r.skipped[cell] = spec.Failure.Message
			}
			for _, entry := range spec.ReportEntries {
				if entry.Name != "cell" {
					continue
				}
				var one scenarios.Result
				if err := json.Unmarshal([]byte(entry.Value.AsJSON), &one); err != nil {
					return r, fmt.Errorf("report.json: %s: %w", spec.LeafNodeText, err)
				}
				cell, _, _ := strings.Cut(spec.LeafNodeText, " is ")
				r.cells[cell] = one
			}
		}
	}
	return r, nil
}
