// Package kepttest reads the recordings that the tests keep, one of each cause.
package kepttest

import (
	"compress/gzip"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"twlab/harness/recording"
)

// suffix is how the names of the files end.
const suffix = ".json.gz"

// Recordings returns the recordings of a directory, by the name of their scenario. It fails the
// test when there is none, or when one cannot be read.
func Recordings(t testing.TB, dir string) map[string]recording.Recording {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*"+suffix))
	if err != nil || len(names) == 0 {
		t.Fatalf("%s has %d recordings, %v", dir, len(names), err)
	}
	all := map[string]recording.Recording{}
	for _, name := range names {
		r, err := read(name)
		if err != nil {
			t.Fatal(err)
		}
		all[strings.TrimSuffix(filepath.Base(name), suffix)] = r
	}
	return all
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
