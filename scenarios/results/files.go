package results

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sync/errgroup"

	"twlab/harness/recording"
)

// RecordingsDir is where the suite leaves the recordings of scenario files, below the directory
// of its results.
const RecordingsDir = "recordings"

// The kinds of [File].
const (
	OfIncident = "incident"
	OfCause    = "cause"
	// OfCell has packets alone: those of the cell that its scenario names.
	OfCell = "cell"
)

// ending is that of their names.
const ending = ".json.gz"

// WriteFile writes the recording of a scenario file into a directory, without the frames and without
// the counters that never moved: what is left is what diagnoses and pages read.
func WriteFile(dir, name string, f File) (err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	file, err := os.Create(filepath.Join(dir, f.Kind+"-"+name+ending))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	packed := gzip.NewWriter(file)
	return errors.Join(f.Recording.Lean().Write(packed), packed.Close())
}

// Files reads what WriteFile has left in a directory, in the order of the names. Without the
// directory there are none.
func Files(dir string) (all []File, err error) {
	names, err := filepath.Glob(filepath.Join(dir, "*"+ending))
	if err != nil {
		return nil, err
	}
	all = make([]File, len(names))
	var reading errgroup.Group
	reading.SetLimit(runtime.GOMAXPROCS(0))
	for i, name := range names {
		reading.Go(func() (err error) {
			all[i].Kind, _, _ = strings.Cut(filepath.Base(name), "-")
			if all[i].Recording, err = readFile(name); err != nil {
				return fmt.Errorf("%s: %w", filepath.Base(name), err)
			}
			return nil
		})
	}
	if err := reading.Wait(); err != nil {
		return nil, err
	}
	return all, nil
}

func readFile(name string) (r recording.Recording, err error) {
	file, err := os.Open(name)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	unpacked, err := gzip.NewReader(file)
	if err != nil {
		return r, err
	}
	return recording.Read(io.Reader(unpacked))
}
