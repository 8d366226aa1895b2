//go:build linux

package kernels

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"twlab/harness/kernel"
)

// bzImage is the header of one, with its version text (Documentation/arch/x86/boot.rst).
func bzImage() []byte {
	image := make([]byte, 0x400)
	binary.LittleEndian.PutUint16(image[0x1fe:], 0xaa55)
	copy(image[0x202:], "HdrS")
	binary.LittleEndian.PutUint16(image[0x206:], 0x20c)
	binary.LittleEndian.PutUint16(image[0x20e:], 0x100)
	image[0x211], image[0x236] = 1, 1
	copy(image[0x300:], "4.9.0-13-amd64 (debian@example) #1 SMP\x00")
	return image
}

func TestFind(t *testing.T) {
	dir := t.TempDir()
	image := filepath.Join(dir, "vmlinuz")
	if err := os.WriteFile(image, bzImage(), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv(CacheVariable, filepath.Join(dir, "cache"))
	for which, c := range map[string]struct {
		is   error
		says string
	}{
		"debian-6.1": {ErrNotFetched, "run hack/twlab kernels fetch debian-6.1"},
		"vmlinuz":    {ErrUnknown, "has a slash"},
		"":           {ErrUnknown, "has a slash"},
		dir + "/no":  {fs.ErrNotExist, dir + "/no"},
		dir + "/":    {kernel.ErrNotImage, "no file"},
	} {
		if _, err := Find(which); !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%q: %v, want %v and %q", which, err, c.is, c.says)
		}
	}
	finds := func(which string, want kernel.Image) {
		t.Helper()
		if got, err := Find(which); err != nil || got != want {
			t.Errorf("%q: %+v, %v, want %+v", which, got, err, want)
		}
	}
	finds(image, kernel.Image{Path: image})
	finds(image+",/lib/x", kernel.Image{Path: image, Modules: "/lib/x"})
	modules := filepath.Join(dir, "lib/modules/4.9.0-13-amd64")
	if err := errors.Join(os.MkdirAll(modules, 0o700), os.WriteFile(filepath.Join(modules, "modules.builtin"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	finds(image, kernel.Image{Path: image, Modules: modules})
}
