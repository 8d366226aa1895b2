package report

import (
	"fmt"
	"io"
	"path/filepath"

	"twlab/hack/internal/cli"
	"twlab/harness/report"
	"twlab/scenarios/results"
)

// ofSuites reads the results of suites.
func ofSuites(dirs []string, line *cli.Progress) (made, error) {
	var runs []results.Run
	var files []results.File
	for i, dir := range dirs {
		line.Tell(fmt.Sprintf("reading results, %d of %d", i+1, len(dirs)), dir)
		r, err := results.Read(dir)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", report.Plain(dir), err)
		}
		runs = append(runs, r)
		if len(files) > 0 {
			continue // those of the first are enough
		}
		if files, err = results.Files(filepath.Join(dir, results.RecordingsDir)); err != nil {
			return nil, fmt.Errorf("%s: %w", report.Plain(dir), err)
		}
	}
	results.Sort(runs)
	return func(to io.Writer) error { return results.Write(to, runs, files) }, nil
}
