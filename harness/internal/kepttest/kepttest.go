// Package kepttest reads the recordings that the tests keep, one of each cause.
package kepttest

import (
	"compress/gzip"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"twlab/harness/recording"
)

// suffix is how the names of the files end.
const suffix = ".json.gz"

// Recordings returns the recordings of a directory, by the name of their scenario. They are read
// anew each time, so that a test may change them. It fails the test when there is none, or when one
// cannot be read.
func Recordings(t testing.TB, dir string) map[string]recording.Recording {
	t.Helper()
	all, err := readAll(dir)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// Shared returns a function that returns the recordings of a directory, as [Recordings] does, and
// reads them once for all tests of a package: it takes a second. A test may change the map and the
// fields of a recording in it, and nothing to which these refer.
func Shared(dir string) func(testing.TB) map[string]recording.Recording {
	once := sync.OnceValues(func() (map[string]recording.Recording, error) { return readAll(dir) })
	return func(t testing.TB) map[string]recording.Recording {
		t.Helper()
		all, err := once()
		if err != nil {
			t.Fatal(err)
		}
		return maps.Clone(all)
	}
}

// Recording returns one of the recordings of a directory, read anew.
func Recording(t testing.TB, dir, name string) recording.Recording {
	t.Helper()
	r, err := read(filepath.Join(dir, name+suffix))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func readAll(dir string) (map[string]recording.Recording, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*"+suffix))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("%s has no recordings", dir)
	}
	all := map[string]recording.Recording{}
	for _, name := range names {
		r, err := read(name)
		if err != nil {
			return nil, err
		}
		all[strings.TrimSuffix(filepath.Base(name), suffix)] = r
	}
	return all, nil
}

func read(name string) (r recording.Recording, err error) {
	file, err := os.Open(name)
	if err != nil {
		return r, err
	}
	defer file.Close()
	text, err := gzip.NewReader(file)
	if err != nil {
		return r, fmt.Errorf("%s: %w", name, err)
	}
	if r, err = recording.Read(text); err != nil {
		return r, fmt.Errorf("%s: %w", name, err)
	}
	return r, nil
}
