package results

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"twlab/harness/kernel"
	"twlab/harness/topo"
	"twlab/scenarios"
	"twlab/scenarios/claim"
)

// Run is what one run of the suite has left in a directory.
type Run struct {
	// Name is that of the directory, Heading that of the kernels: "6.18", "5.10 (client), 6.18".
	Name, Heading string
	// Releases are the kernels of the roles.
	Releases map[topo.Role]kernel.Release
	Began    time.Time
	Took     time.Duration
	// Passed is the number of specs that passed; Failed are those that did not, and Broken
	// says what else was wrong with the run.
	Passed int
	Failed []Failure
	Broken string
	// Asked are the specs that were asked for, of Specs that there are, by Filter.
	Asked, Specs int
	Filter       string
	// Cells are those that were driven, in the order of their titles.
	Cells []Cell
	// Answers are those to cells of the user's own, by their place in the file.
	Answers map[int]scenarios.Answered
	// Skipped are the specs that were left out, by the reason for it.
	Skipped map[string][]string
	// Preflight are the lines about the machine.
	Preflight []string
}

// Failure is a spec that failed.
type Failure struct{ Spec, Message string }

// Cell is one cell that was driven.
type Cell struct {
	Title  string // "tuple clock=older isn=equal"
	Result claim.Result
	Took   time.Duration
	Series []byte // of a load: a line of JSON for each interval
}

// The files of a run.
const (
	reportFile    = "report.json"
	preflightFile = "preflight.txt"
	kernelsFile   = "kernels.json"
)

// ErrNone says that a directory has no results of a suite.
var ErrNone = errors.New("no results of hack/e2e (report.json)")

// Read reads the results of a run. The error wraps [ErrNone] when there are none.
func Read(dir string) (Run, error) {
	r := Run{Name: filepath.Base(dir), Skipped: map[string][]string{}, Answers: map[int]scenarios.Answered{}}
	text, err := os.ReadFile(filepath.Join(dir, reportFile))
	if errors.Is(err, fs.ErrNotExist) {
		return r, ErrNone
	}
	if err != nil {
		return r, err
	}
	if err := r.kernels(dir); err != nil {
		return r, err
	}
	var suites []suite
	if err := json.Unmarshal(text, &suites); err != nil {
		return r, fmt.Errorf("%s: %w", reportFile, err)
	}
	for i := range suites {
		if err := r.suite(dir, &suites[i]); err != nil {
			return r, fmt.Errorf("%s: %w", reportFile, err)
		}
	}
	slices.SortFunc(r.Cells, func(a, b Cell) int { return strings.Compare(a.Title, b.Title) })
	return r, nil
}

// kernels finds out which kernels the roles had.
func (r *Run) kernels(dir string) error {
	text, err := os.ReadFile(filepath.Join(dir, preflightFile))
	if err != nil {
		return err
	}
	r.Preflight = strings.Split(strings.TrimSpace(string(text)), "\n")
	release, err := kernel.ParseRelease(strings.TrimPrefix(r.Preflight[0], "kernel: Linux "))
	if err != nil {
		return fmt.Errorf("%s: %w", preflightFile, err)
	}
	r.Releases = map[topo.Role]kernel.Release{}
	for _, role := range []topo.Role{topo.Client, topo.Gateway, topo.Balancer, topo.Server} {
		r.Releases[role] = release
	}
	r.Heading = short(release)
	text, err = os.ReadFile(filepath.Join(dir, kernelsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var assigned struct {
		Facts map[topo.Role]struct{ Release kernel.Release }
	}
	if err := json.Unmarshal(text, &assigned); err != nil {
		return fmt.Errorf("%s: %w", kernelsFile, err)
	}
	for _, role := range []topo.Role{topo.Server, topo.Balancer, topo.Gateway, topo.Client} {
		if facts, other := assigned.Facts[role]; other {
			r.Releases[role] = facts.Release
			r.Heading = fmt.Sprintf("%s (%s), %s", short(facts.Release), role, r.Heading)
		}
	}
	return nil
}

// short is the mainline version of a release.
func short(r kernel.Release) string { return fmt.Sprintf("%d.%d", r.Major, r.Minor) }

// suite is what is of interest in Ginkgo's report.
type suite struct {
	SuiteSucceeded             bool
	SpecialSuiteFailureReasons []string
	PreRunStats                struct{ TotalSpecs, SpecsThatWillRun int }
	SuiteConfig                struct{ LabelFilter string }
	StartTime                  time.Time
	RunTime                    time.Duration
	SpecReports                []spec
}

type spec struct {
	LeafNodeType            string // "It" when it is a spec, and no part of the suite's own
	LeafNodeText            string
	LeafNodeLabels          []string
	ContainerHierarchyTexts []string
	State                   string
	RunTime                 time.Duration
	Failure                 struct{ Message string }
	ReportEntries           []entry
}

type entry struct {
	Name  string
	Value struct{ AsJSON string }
}

func (r *Run) suite(dir string, s *suite) error {
	r.Began, r.Took = s.StartTime, r.Took+s.RunTime
	r.Asked, r.Specs, r.Filter = s.PreRunStats.SpecsThatWillRun, s.PreRunStats.TotalSpecs, s.SuiteConfig.LabelFilter
	for i := range s.SpecReports {
		if err := r.spec(dir, &s.SpecReports[i]); err != nil {
			return fmt.Errorf("%s: %w", s.SpecReports[i].LeafNodeText, err)
		}
	}
	if !s.SuiteSucceeded && len(r.Failed) == 0 {
		r.Broken = cmp.Or(strings.Join(s.SpecialSuiteFailureReasons, "; "), "the suite failed")
	}
	return nil
}

// spec notes how a spec ended, and its cell.
func (r *Run) spec(dir string, s *spec) error {
	name := strings.TrimSpace(strings.Join(append(s.ContainerHierarchyTexts, s.LeafNodeText), " "))
	switch s.State {
	case "passed":
		if s.LeafNodeType == "It" {
			r.Passed++
		}
	case "skipped":
		if s.Failure.Message != "" {
			r.Skipped[s.Failure.Message] = append(r.Skipped[s.Failure.Message], name)
		}
		return nil
	case "pending":
		return nil
	default:
		r.Failed = append(r.Failed, Failure{cmp.Or(name, s.LeafNodeType), s.Failure.Message})
	}
	cell := Cell{Took: s.RunTime}
	for _, e := range s.ReportEntries {
		switch e.Name {
		case "cell", "emulated":
			if err := json.Unmarshal([]byte(e.Value.AsJSON), &cell.Result); err != nil {
				return err
			}
			cell.Title, _, _ = strings.Cut(s.LeafNodeText, " is ")
		case "question":
			var answer scenarios.Answered // the last one is what it came to
			if err := json.Unmarshal([]byte(e.Value.AsJSON), &answer); err != nil {
				return err
			}
			r.Answers[answer.Number] = answer
		case "series":
			var path string
			if err := json.Unmarshal([]byte(e.Value.AsJSON), &path); err != nil {
				return err
			}
			var err error
			if cell.Series, err = os.ReadFile(filepath.Join(dir, "series", filepath.Base(path))); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	if cell.Title != "" {
		r.Cells = append(r.Cells, cell)
	}
	return nil
}

// Sort puts runs in the order of their kernels, the newest first.
func Sort(runs []Run) {
	slices.SortStableFunc(runs, func(a, b Run) int {
		x, y := a.Releases[topo.Client], b.Releases[topo.Client]
		return cmp.Or(cmp.Compare(y.Major, x.Major), cmp.Compare(y.Minor, x.Minor), cmp.Compare(y.Patch, x.Patch))
	})
	count := map[string]int{}
	for _, r := range runs {
		count[r.Heading]++
	}
	for i := range runs {
		if count[runs[i].Heading] > 1 {
			runs[i].Heading += " in " + runs[i].Name
		}
	}
}
