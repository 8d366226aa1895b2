//go:build linux

package cli

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestTemporary(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	failed := errors.New("failed")
	var was string
	err := Temporary("some-", func(dir string) error {
		was = dir
		if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
			return err
		}
		return failed
	})
	if !errors.Is(err, failed) {
		t.Errorf("got %v, want the error of the function", err)
	}
	if _, err := os.Stat(was); was == "" || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%q: %v, want that it is gone", was, err)
	}
}

func TestTemporaryWhereNoneCanBe(t *testing.T) {
	t.Setenv("TMPDIR", filepath.Join(t.TempDir(), "none"))
	t.Setenv("TWLAB_SANDBOX", "")
	err := Temporary("some-", func(string) error { t.Error("called"); return nil })
	if err == nil {
		t.Error("no error")
	}
	t.Log(err)
}
