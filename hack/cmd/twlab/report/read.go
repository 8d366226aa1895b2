package report

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"twlab/harness/recording"
	"twlab/harness/report"
)

// recordingFile is the file of a recording.
const recordingFile = "run.json"

// read reads all recordings below directories. Those that have a directory in between are of
// several kernels.
func read(dirs []string) (runs []report.Run, err error) {
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
		for _, path := range found {
			r, err := readRecording(path)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", report.Plain(path), err)
			}
			kernel := kernelOf(dir, path)
			i := slices.IndexFunc(runs, func(run report.Run) bool { return run.Kernel == kernel })
			if i < 0 {
				i = len(runs)
				runs = append(runs, report.Run{Kernel: kernel})
			}
			runs[i].Recordings = append(runs[i].Recordings, r)
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
