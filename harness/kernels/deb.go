//go:build linux

package kernels

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// tree is a kernel that is being assembled in a directory, from one package or several.
type tree struct {
	dir      string
	release  string // once the image is there
	packages []string
}

// The paths of the image and of its configuration in packages: Debian's up to 13 have them
// in /boot, later ones in the directory of the modules.
var (
	bootFile = regexp.MustCompile(`^boot/(vmlinuz|config)-(.+)$`)
	besideIt = regexp.MustCompile(`^lib/modules/([^/]+)/(vmlinuz|config)$`)
)

// destination returns the path of a package's file in the tree, and the release when the
// file is the kernel image; "" means that the file is not needed.
func destination(name string) (to, release string) {
	name = strings.TrimPrefix(path.Clean("/"+name), "/")
	name = strings.TrimPrefix(name, "usr/") // since Debian 13, /lib is there
	for _, place := range []struct {
		syntax          *regexp.Regexp
		file, releaseAt int
	}{{bootFile, 1, 2}, {besideIt, 2, 1}} {
		match := place.syntax.FindStringSubmatch(name)
		switch {
		case match == nil:
		case match[place.file] == "vmlinuz":
			return imageFile, match[place.releaseAt]
		default:
			return configFile, ""
		}
	}
	if strings.HasPrefix(name, modulesDir+"/") {
		return name, ""
	}
	return "", ""
}

// unpack adds the kernel files of a package. It ignores all other files: it runs nothing of
// the package, and writes nothing outside of the tree.
func (t *tree) unpack(ctx context.Context, deb, architecture string) error {
	if err := t.readControl(ctx, deb, architecture); err != nil {
		return err
	}
	root, err := os.OpenRoot(t.dir)
	if err != nil {
		return err
	}
	defer root.Close()

	cmd := exec.CommandContext(ctx, "dpkg-deb", "--fsys-tarfile", deb)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	extracted := t.extract(root, stdout)
	// Read to the end of the archive, so that dpkg-deb does not fail.
	_, drained := io.Copy(io.Discard, stdout)
	ended := cmd.Wait()
	var ours *fs.PathError
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.As(extracted, &ours), errors.Is(extracted, errTwoKernels):
		return extracted
	case ended != nil:
		return fmt.Errorf("%s is damaged: %w: %s", deb, ended, complaints(stderr.String()))
	case extracted != nil || drained != nil:
		return fmt.Errorf("%s is damaged: %w", deb, errors.Join(extracted, drained))
	}
	return nil
}

var errTwoKernels = errors.New("give the packages of one kernel")

func (t *tree) extract(root *os.Root, archive io.Reader) error {
	files := tar.NewReader(archive)
	for {
		header, err := files.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		to, release := destination(header.Name)
		if to == "" || header.Typeflag != tar.TypeReg {
			continue
		}
		if release != "" {
			if t.release != "" && t.release != release {
				return fmt.Errorf("%s and %s at once: %w", t.release, release, errTwoKernels)
			}
			t.release = release
		}
		if err := writeFile(root, to, files); err != nil {
			return err
		}
	}
}

func writeFile(root *os.Root, name string, content io.Reader) error {
	if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	file, err := root.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(file, content)
	return errors.Join(err, file.Close())
}

// readControl reads the name, version and architecture of a package.
func (t *tree) readControl(ctx context.Context, deb, architecture string) error {
	if err := haveUnpacker(); err != nil {
		return err
	}
	if _, err := ImageArchitecture(deb); err == nil {
		return fmt.Errorf("%s is a kernel image, not a package: labs take it by its path, without fetching", deb)
	} else if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return err
	}
	said, err := command(ctx, "", "dpkg-deb", "--show", "--showformat", "${Package}\n${Version}\n${Architecture}\n", deb)
	if ctx.Err() != nil {
		return err
	}
	if err != nil {
		return fmt.Errorf("%s is not a Debian package, or not a whole one: %w", deb, err)
	}
	fields := strings.Split(said, "\n")
	if len(fields) < 3 {
		return fmt.Errorf("%s has no name, version and architecture: %q", deb, said)
	}
	if got := fields[2]; got != architecture && got != "all" {
		return fmt.Errorf("%s is for %s, and this machine is %s", deb, got, architecture)
	}
	t.packages = append(t.packages, fields[0]+" "+fields[1])
	return nil
}

// finish checks the assembled kernel, and makes modules.dep, which packages leave to their
// installation.
func (t *tree) finish(ctx context.Context, architecture string) error {
	image := filepath.Join(t.dir, imageFile)
	if t.release == "" {
		return fmt.Errorf("no kernel image (boot/vmlinuz-*) in %s; a package that it depends on may have one",
			strings.Join(t.packages, ", "))
	}
	got, err := ImageArchitecture(image)
	if err != nil {
		return err
	}
	if got != architecture {
		return fmt.Errorf("the image in %s is for %s, and this machine is %s", strings.Join(t.packages, ", "), got, architecture)
	}
	found, err := os.ReadDir(filepath.Join(t.dir, modulesDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	releases := slices.DeleteFunc(found, func(e fs.DirEntry) bool { return e.Name() == t.release })
	if len(releases) > 0 {
		return fmt.Errorf("modules of %s do not belong to kernel %s", releases[0].Name(), t.release)
	}
	if len(found) == 0 {
		return nil
	}
	return t.listDependencies(ctx)
}

func (t *tree) listDependencies(ctx context.Context) error {
	list := filepath.Join(t.dir, modulesDir, t.release, "modules.dep")
	if _, err := os.Stat(list); err == nil {
		return nil
	}
	// So that every depmod finds them: some are built to look below /usr/lib.
	if err := os.Symlink(".", filepath.Join(t.dir, "usr")); err != nil {
		return err
	}
	if err := haveDepmod(); err != nil {
		return err
	}
	if _, err := command(ctx, "", "depmod", "-b", t.dir, t.release); err != nil {
		return fmt.Errorf("find out which modules need which: %w", err)
	}
	if _, err := os.Stat(list); err != nil {
		return fmt.Errorf("depmod made no list: %w", err)
	}
	return nil
}

func haveUnpacker() error {
	if _, err := exec.LookPath("dpkg-deb"); err != nil {
		return errors.New("dpkg-deb, which unpacks packages, is not installed; install dpkg (hack/bootstrap --with-qemu)")
	}
	return nil
}

func haveDepmod() error {
	if _, err := exec.LookPath("depmod"); err != nil {
		return errors.New("depmod, which finds out which modules need which, is not installed; install kmod (hack/bootstrap --with-qemu)")
	}
	return nil
}
