//go:build linux

package kernels

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

	"golang.org/x/sys/unix"
)

// CacheVariable is the environment variable with the directory of the cache.
const CacheVariable = "TWLAB_KERNELS"

// Cache is a directory with a subdirectory for each fetched kernel.
type Cache struct {
	// Dir need not exist before the first fetch.
	Dir string
}

// Kernel is a kernel that has been fetched.
type Kernel struct {
	Name    string `json:"-"`
	Release string `json:"release"` // as uname(2) returns it when the kernel runs
	// Architecture is Debian's name of the architecture.
	Architecture string `json:"architecture"`
	// Packages are the packages it was taken from, as NAME VERSION.
	Packages []string `json:"packages"`
	// Origin says where the packages came from: a mirror and suite, or files.
	Origin string `json:"origin"`
	// Image is the path of the kernel image.
	Image string `json:"-"`
	// Modules is the directory with the modules and modules.dep; empty when the packages
	// had none.
	Modules string `json:"-"`
	// Size is the size of its files in the cache, in bytes.
	Size int64 `json:"size"`
}

// The contents of a kernel's directory. Below lib/modules it looks like the root of a file
// system, as depmod and modprobe expect.
const (
	recordFile = "kernel.json"
	imageFile  = "vmlinuz"
	configFile = "config"
	modulesDir = "lib/modules"
)

// Names in the cache that begin with a dot are not kernels.
const (
	lockFile   = ".lock"
	unfinished = ".unfinished-"
)

// DefaultCache returns the cache that the environment selects: $TWLAB_KERNELS, or
// twlab/kernels in the user's cache directory.
func DefaultCache() (Cache, error) {
	if dir := os.Getenv(CacheVariable); dir != "" {
		absolute, err := filepath.Abs(dir)
		return Cache{Dir: absolute}, err
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return Cache{}, fmt.Errorf("kernel cache: %w; name a directory with %s", err, CacheVariable)
	}
	return Cache{Dir: filepath.Join(dir, "twlab", "kernels")}, nil
}

// Find returns a fetched kernel. The error wraps ErrNotFetched or ErrUnknown when there is
// none.
func (c Cache) Find(name string) (Kernel, error) {
	if err := checkName(name); err != nil {
		return Kernel{}, fmt.Errorf("%w: %w", ErrUnknown, err)
	}
	if k, present, err := c.load(name); present || err != nil {
		return k, err
	}
	if _, known := Lookup(name); known {
		return Kernel{}, fmt.Errorf("%s: %w: nothing in %s; run hack/twlab kernels fetch %[1]s", name, ErrNotFetched, c.Dir)
	}
	return Kernel{}, fmt.Errorf("%s: %w", name, c.unknown())
}

// unknown returns an error that lists the known names.
func (c Cache) unknown() error {
	known := Names()
	fetched, err := c.List()
	for _, k := range fetched {
		if !slices.Contains(known, k.Name) {
			known = append(known, k.Name)
		}
	}
	return errors.Join(fmt.Errorf("%w: known are %s", ErrUnknown, strings.Join(known, ", ")), err)
}

// load reads a kernel's record, if there is one.
func (c Cache) load(name string) (k Kernel, present bool, err error) {
	dir := filepath.Join(c.Dir, name)
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return Kernel{}, false, nil
	} else if err != nil {
		return Kernel{}, false, fmt.Errorf("kernel %s: %w", name, err)
	}
	k, err = readKernel(dir)
	if err != nil {
		return Kernel{}, false, fmt.Errorf("kernel %s is damaged: %w; run hack/twlab kernels remove %[1]s and fetch it again", name, err)
	}
	return k, true, nil
}

func readKernel(dir string) (Kernel, error) {
	raw, err := os.ReadFile(filepath.Join(dir, recordFile))
	if err != nil {
		return Kernel{}, err
	}
	var k Kernel
	if err := json.Unmarshal(raw, &k); err != nil {
		return Kernel{}, fmt.Errorf("%s: %w", recordFile, err)
	}
	k.Name = filepath.Base(dir)
	k.Image = filepath.Join(dir, imageFile)
	if _, err := os.Stat(k.Image); err != nil {
		return Kernel{}, err
	}
	modules := filepath.Join(dir, modulesDir, k.Release)
	if _, err := os.Stat(modules); err == nil {
		k.Modules = modules
	}
	return k, nil
}

// List returns all fetched kernels by name. Damaged ones are left out; the error, which may
// come together with the others, names them.
func (c Cache) List() ([]Kernel, error) {
	entries, err := os.ReadDir(c.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("kernel cache: %w", err)
	}
	var kernels []Kernel
	var damaged []error
	for _, e := range entries {
		if !e.IsDir() || checkName(e.Name()) != nil {
			continue
		}
		k, present, err := c.load(e.Name())
		if err != nil {
			damaged = append(damaged, err)
		}
		if present { // not removed in between
			kernels = append(kernels, k)
		}
	}
	slices.SortFunc(kernels, func(a, b Kernel) int { return cmp.Compare(a.Name, b.Name) })
	return kernels, errors.Join(damaged...)
}

// Remove removes a kernel from the cache, even a damaged one. It is gone at once, even if
// deleting its files fails. The error wraps ErrNotFetched or ErrUnknown when there is none.
func (c Cache) Remove(name string) (err error) {
	if _, found := c.Find(name); errors.Is(found, ErrNotFetched) || errors.Is(found, ErrUnknown) {
		return found
	}
	s, err := c.scratch()
	if err != nil {
		return advise(fmt.Errorf("remove kernel %s: %w", name, err))
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := os.Rename(filepath.Join(c.Dir, name), filepath.Join(s.dir, name)); err != nil {
		return fmt.Errorf("remove kernel %s: %w", name, err)
	}
	return nil
}

// scratch is a directory in the cache for unfinished work.
type scratch struct {
	dir  string
	lock *os.File // held on dir by the process that uses it
}

// scratch makes a scratch directory. It is removed when it is closed or, if its process
// dies before that, when the next one is made.
func (c Cache) scratch() (scratch, error) {
	s, err := c.makeScratch()
	if err != nil {
		return scratch{}, fmt.Errorf("kernel cache: %w", err)
	}
	return s, nil
}

func (c Cache) makeScratch() (scratch, error) {
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return scratch{}, err
	}
	// One process at a time, so that none removes a directory between its creation and its
	// lock.
	turn, err := os.OpenFile(filepath.Join(c.Dir, lockFile), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return scratch{}, err
	}
	defer turn.Close()
	if err := unix.Flock(int(turn.Fd()), unix.LOCK_EX); err != nil {
		return scratch{}, fmt.Errorf("lock %s: %w", turn.Name(), err)
	}
	if err := c.sweep(); err != nil {
		return scratch{}, err
	}
	dir, err := os.MkdirTemp(c.Dir, unfinished)
	if err != nil {
		return scratch{}, err
	}
	lock, err := lockDirectory(dir)
	if err != nil {
		return scratch{}, errors.Join(err, os.Remove(dir))
	}
	return scratch{dir: dir, lock: lock}, nil
}

func (s scratch) close() error {
	return errors.Join(os.RemoveAll(s.dir), s.lock.Close())
}

// sweep removes the directories of dead processes. A live process holds a lock on its
// directory.
func (c Cache) sweep() error {
	left, err := filepath.Glob(filepath.Join(c.Dir, unfinished+"*"))
	if err != nil {
		return err
	}
	for _, dir := range left {
		lock, err := lockDirectory(dir)
		if errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if err := errors.Join(os.RemoveAll(dir), lock.Close()); err != nil {
			return err
		}
	}
	return nil
}

// lockDirectory fails with EWOULDBLOCK when another process holds the lock.
func lockDirectory(dir string) (*os.File, error) {
	file, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", dir, err), file.Close())
	}
	return file, nil
}

// advise adds advice to the error of a cache that cannot be written.
func advise(err error) error {
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return fmt.Errorf("%w; make room, or choose another directory (--cache DIR or %s)", err, CacheVariable)
	case errors.Is(err, fs.ErrPermission), errors.Is(err, unix.EROFS), errors.Is(err, unix.ENOTDIR):
		return fmt.Errorf("%w; choose a directory that can be written (--cache DIR or %s)", err, CacheVariable)
	default:
		return err
	}
}
