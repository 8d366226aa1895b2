//go:build linux

package kernels

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Request says what to fetch and from where.
type Request struct {
	// Name is a name of the catalogue. With Debs it may be a new name; empty then means the
	// kernel's release.
	Name string
	// Mirror is the URL of a Debian mirror or archive to use instead of the mirrors of the
	// system's apt.
	Mirror string
	// Debs are paths of packages to use instead: that of the kernel and, where it is
	// separate, that of its modules. Their signatures are not checked.
	Debs []string
	// Progress, when it is set, is called before each step.
	Progress func(step string)
}

// The lists of a suite (about 60 MB), a package (40 MB) and its unpacked files (110 MB),
// with some reserve.
const roomForFetch = 300 << 20

// Fetch puts a kernel into the cache, or returns the one that is already there. The cache
// gets the whole kernel or nothing.
func (c Cache) Fetch(ctx context.Context, r Request) (Kernel, error) {
	k, err := c.fetch(ctx, r)
	if err != nil {
		return Kernel{}, advise(fmt.Errorf("fetch %s: %w", cmp.Or(r.Name, strings.Join(r.Debs, ", ")), err))
	}
	return k, nil
}

func (c Cache) fetch(ctx context.Context, r Request) (k Kernel, err error) {
	architecture, err := Architecture()
	if err != nil {
		return Kernel{}, err
	}
	entry, err := c.check(r)
	if err != nil {
		return Kernel{}, err
	}
	if k, present, err := c.present(r); present || err != nil {
		return k, err
	}
	if entry.Archived && r.Mirror == "" && len(r.Debs) == 0 {
		return Kernel{}, fmt.Errorf("suite %s is no longer on ordinary mirrors; give an archive of past releases with --mirror URL, "+
			"or a package of it with --deb FILE", entry.Suite)
	}
	s, err := c.scratch()
	if err != nil {
		return Kernel{}, err
	}
	defer func() { err = errors.Join(err, s.close()) }()

	debs, origin, err := c.packages(ctx, s, entry, architecture, r)
	if err != nil {
		return Kernel{}, err
	}
	t := tree{dir: filepath.Join(s.dir, "tree")}
	if err := t.build(ctx, debs, architecture, r.tell); err != nil {
		return Kernel{}, err
	}
	if err := entry.accepts(t.release); err != nil {
		return Kernel{}, err
	}
	k = Kernel{Release: t.release, Architecture: architecture, Packages: t.packages, Origin: origin}
	if k, err = c.publish(t.dir, cmp.Or(r.Name, t.release), k); errors.Is(err, fs.ErrExist) && len(r.Debs) == 0 {
		k, _, err = c.present(r) // another process was faster, with the same kernel
	}
	return k, err
}

func (r Request) tell(step string) {
	if r.Progress != nil {
		r.Progress(step)
	}
}

// check returns an error for a request that cannot work, before anything is done. The entry
// is empty for a name that the catalogue does not have.
func (c Cache) check(r Request) (Entry, error) {
	if r.Mirror != "" && len(r.Debs) > 0 {
		return Entry{}, errors.New("either a mirror or packages, not both")
	}
	if r.Name != "" || len(r.Debs) == 0 {
		if err := checkName(r.Name); err != nil {
			return Entry{}, err
		}
	}
	entry, known := Lookup(r.Name)
	switch {
	case len(r.Debs) > 0:
		return entry, nil
	case !known:
		return Entry{}, c.unknown()
	case r.Mirror != "":
		return entry, checkMirror(r.Mirror)
	default:
		return entry, nil
	}
}

// present returns the kernel when it need not be fetched, and an error when its name is
// taken.
func (c Cache) present(r Request) (Kernel, bool, error) {
	if r.Name == "" {
		return Kernel{}, false, nil
	}
	k, present, err := c.load(r.Name)
	if present && len(r.Debs) > 0 {
		return Kernel{}, false, taken(r.Name)
	}
	return k, present, err
}

func taken(name string) error {
	return fmt.Errorf("%w: there is a kernel of that name; run hack/twlab kernels remove %s, or choose another name", fs.ErrExist, name)
}

// packages returns the paths of the packages to unpack, and their origin.
func (c Cache) packages(ctx context.Context, s scratch, e Entry, architecture string, r Request) ([]string, string, error) {
	if len(r.Debs) == 0 {
		if err := enoughRoom(c.Dir, roomForFetch); err != nil {
			return nil, "", err
		}
		return fromMirror(ctx, s, e, architecture, r)
	}
	var absolute []string
	for _, deb := range r.Debs {
		path, err := filepath.Abs(deb)
		if err != nil {
			return nil, "", err
		}
		absolute = append(absolute, path)
	}
	return r.Debs, strings.Join(absolute, ", "), nil
}

// fromMirror downloads the packages of an entry and returns their origin.
func fromMirror(ctx context.Context, s scratch, e Entry, architecture string, r Request) ([]string, string, error) {
	mirrors := []string{r.Mirror}
	a, err := newApt(filepath.Join(s.dir, "apt"), architecture, debianKeyrings)
	if err != nil {
		return nil, "", err
	}
	// Check this before a download, not after it.
	if err := errors.Join(haveUnpacker(), haveDepmod()); err != nil {
		return nil, "", err
	}
	if r.Mirror == "" {
		if mirrors, err = a.systemMirrors(ctx); err != nil {
			return nil, "", err
		}
	}
	var failures []error
	for _, mirror := range mirrors {
		debs, err := a.fetchFrom(ctx, mirror, e, r.tell)
		if err == nil {
			return debs, redacted(mirror) + " " + e.Suite, nil
		}
		failures = append(failures, err)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, "", errors.Join(failures...)
}

func (a apt) fetchFrom(ctx context.Context, mirror string, e Entry, tell func(string)) ([]string, error) {
	tell(fmt.Sprintf("reading suite %s of %s", e.Suite, redacted(mirror)))
	err := a.use(ctx, mirror, e.Suite)
	if err != nil && e.Archived {
		return nil, fmt.Errorf("%w (keys of old releases may have expired; check a package yourself and give it with --deb FILE)", err)
	}
	if err != nil {
		return nil, err
	}
	names, size, err := a.kernelPackages(ctx, e.packageFor(a.architecture))
	if err != nil {
		return nil, fmt.Errorf("suite %s of %s: %w", e.Suite, redacted(mirror), err)
	}
	tell(fmt.Sprintf("downloading %s (%d MB)", strings.Join(names, ", "), (size+999_999)/1_000_000))
	return a.download(ctx, names)
}

func (t *tree) build(ctx context.Context, debs []string, architecture string, tell func(string)) error {
	if err := os.Mkdir(t.dir, 0o755); err != nil {
		return err
	}
	for _, deb := range debs {
		tell("unpacking " + filepath.Base(deb))
		if err := t.unpack(ctx, deb, architecture); err != nil {
			return err
		}
	}
	return t.finish(ctx, architecture)
}

// publish writes the record and renames the finished tree.
func (c Cache) publish(dir, name string, k Kernel) (Kernel, error) {
	size, err := sizeOf(dir)
	if err != nil {
		return Kernel{}, err
	}
	k.Size = size
	raw, err := json.MarshalIndent(k, "", "\t")
	if err != nil {
		return Kernel{}, err
	}
	if err := os.WriteFile(filepath.Join(dir, recordFile), append(raw, '\n'), 0o644); err != nil {
		return Kernel{}, err
	}
	// The content must be on disk before the name, in case the machine loses power.
	if err := flush(dir); err != nil {
		return Kernel{}, err
	}
	err = os.Rename(dir, filepath.Join(c.Dir, name))
	if errors.Is(err, unix.EEXIST) || errors.Is(err, unix.ENOTEMPTY) {
		return Kernel{}, taken(name)
	}
	if err != nil {
		return Kernel{}, err
	}
	k, _, err = c.load(name)
	return k, err
}

func flush(dir string) error {
	file, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := unix.Syncfs(int(file.Fd())); err != nil {
		return fmt.Errorf("write %s to disk: %w", dir, err)
	}
	return nil
}

func sizeOf(dir string) (int64, error) {
	var size int64
	err := filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		size += info.Size()
		return nil
	})
	return size, err
}

// enoughRoom checks the free space first, because on a full disk apt reports invalid
// signatures.
func enoughRoom(dir string, want uint64) error {
	var system unix.Statfs_t
	if err := unix.Statfs(dir, &system); err != nil {
		return fmt.Errorf("read the free space of %s: %w", dir, err)
	}
	if free := system.Bavail * uint64(system.Bsize); free < want {
		return fmt.Errorf("%s has %d MB left and this takes up to %d MB: %w", dir, free>>20, want>>20, unix.ENOSPC)
	}
	return nil
}
