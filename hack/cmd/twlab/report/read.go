package report

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"twlab/hack/internal/cli"
	"twlab/harness/recording"
	"twlab/harness/report"
)

// recordingFile is the file of a recording.
const recordingFile = "run.json"

// read reads all recordings below directories. Those that have a directory in between are of
// several kernels.
func read(dirs []string, line *cli.Progress) (runs []report.Run, err error) {
	for _, dir := range dirs {
		var found []string
		err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
			if err == nil && !entry.IsDir() && entry.Name() == recordingFile {
				found = append(found, path)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
		if len(found) == 0 {
			return nil, fmt.Errorf("'%s' has no recording (%s); twlab run --output-dir leaves them", report.Plain(dir), recordingFile)
		}
		for i, path := range found {
			line.Tell(fmt.Sprintf("reading recordings, %d of %d", i+1, len(found)), path)
			r, err := readRecording(path)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", report.Plain(path), err)
			}
			kernel := kernelOf(dir, path)
			of := slices.IndexFunc(runs, func(run report.Run) bool { return run.Kernel == kernel })
			if of < 0 {
				of = len(runs)
				runs = append(runs, report.Run{Kernel: kernel})
			}
			runs[of].Recordings = append(runs[of].Recordings, r)
		}
	}
	return runs, nil
}

// kernelOf is what stands between a directory and that of a scenario.
func kernelOf(dir, path string) string {
	rel, err := filepath.Rel(dir, filepath.Dir(filepath.Dir(path)))
	if err != nil || rel == "." || rel == ".." {
		return ""
	}
	return rel
}

func readRecording(path string) (recording.Recording, error) {
	file, err := os.Open(path)
	if err != nil {
		return recording.Recording{}, err
	}
	r, err := recording.Read(file)
	return r, errors.Join(err, file.Close())
}
