package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"twlab/hack/internal/cli"
	"twlab/hack/internal/kit"
)

// DefaultOutput is where results go when nobody says where.
func DefaultOutput(k kit.Kit) string {
	if k.Tree != "" {
		return filepath.Join(k.Tree, ".out")
	}
	return "twlab-results"
}

// output is a directory of results, which one run at a time has for itself.
type output struct {
	dir  string
	lock int // descriptor; -1 where the file system has no locks
}

// bin is where programs are built, and where the suite runs.
func (o output) bin() string { return filepath.Join(o.dir, "bin") }

const madeByUs = ".made-by-hack-e2e"

// openOutput makes the directory, takes it for this run, and removes what an earlier one left.
func openOutput(dir string) (o output, err error) {
	o = output{dir: dir, lock: -1}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return o, cannotWrite(dir, err)
	}
	if o.dir, err = filepath.Abs(dir); err != nil {
		return o, cannotWrite(dir, err)
	}
	for _, d := range []string{o.dir, o.bin(), o.path("evidence")} {
		info, err := os.Stat(d)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return o, cannotWrite(o.dir, err)
		case !info.IsDir():
			return o, cannotWrite(o.dir, fmt.Errorf("'%s' is not a directory", d))
		case unix.Access(d, unix.W_OK|unix.X_OK) != nil:
			return o, cannotWrite(o.dir, fmt.Errorf("no permission for '%s'", d))
		}
	}
	if err := o.take(); err != nil {
		return o, err
	}
	return o, o.clear()
}

func (o output) path(name string) string { return filepath.Join(o.dir, name) }

// take locks the directory. Where the file system has no locks, it does without.
func (o *output) take() (err error) {
	o.lock, err = unix.Open(o.path(".lock"), unix.O_WRONLY|unix.O_CREAT|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return cannotWrite(o.dir, fmt.Errorf("no permission for '%s'", o.path(".lock")))
	}
	if err := unix.Flock(o.lock, unix.LOCK_EX|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
		return fmt.Errorf("another run is using '%s'; wait for it, or give another directory with --output-dir DIR", o.dir)
	}
	return nil
}

// inherit lets the programs of the run have the lock, which goes with the last of them.
func (o output) inherit() error {
	if _, err := unix.FcntlInt(uintptr(o.lock), unix.F_SETFD, 0); err != nil {
		return fmt.Errorf("keep the output directory locked: %w", err)
	}
	return nil
}

// clear removes the results of an earlier run. Whatever is in evidence/ goes, so it must be
// a directory that we made.
func (o output) clear() error {
	evidence := o.path("evidence")
	there, err := os.ReadDir(evidence)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return cannotWrite(o.dir, err)
	}
	if _, err := os.Stat(filepath.Join(evidence, madeByUs)); err != nil && len(there) > 0 {
		return fmt.Errorf("'%s' has files that hack/e2e did not make; move them, or give another directory with --output-dir DIR", evidence)
	}
	old := []string{evidence}
	for _, name := range []string{
		"series/*.jsonl", "recordings/*.json.gz", "report.html", "junit.xml", "report.json", "preflight.txt", "cells.txt", "mutations.txt", "kernels.json", "e2e_junit.xml", "e2e_report.json",
	} {
		found, err := filepath.Glob(o.path(name))
		if err != nil {
			return fmt.Errorf("earlier results: %w", err)
		}
		old = append(old, found...)
	}
	for _, path := range old {
		err = os.RemoveAll(path)
		if err != nil {
			return cannotWrite(o.dir, err)
		}
	}
	for _, dir := range []string{o.bin(), evidence} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return cannotWrite(o.dir, err)
		}
	}
	if err := os.WriteFile(filepath.Join(evidence, madeByUs), nil, 0o644); err != nil {
		return cannotWrite(o.dir, err)
	}
	return nil
}

// cannotWrite says what to do about a directory that is not to be had.
func cannotWrite(dir string, why error) error {
	advice := "give another one with --output-dir DIR"
	if info, err := os.Stat(dir); err == nil {
		if s, is := info.Sys().(*syscall.Stat_t); is && int(s.Uid) != os.Geteuid() {
			advice += fmt.Sprintf(", or take it back: sudo chown -R \"$(id -u)\" '%s'", dir)
		}
	}
	return cli.NotRunError(fmt.Errorf("cannot write to the output directory: %w; %s", why, advice))
}
