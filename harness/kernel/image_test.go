package kernel

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// bzImage is the header of one, with its version text.
func bzImage(change func(header []byte)) []byte {
	const versionText = 0x300
	image := make([]byte, 0x400)
	binary.LittleEndian.PutUint16(image[bootFlagAt:], 0xaa55)
	copy(image[magicAt:], "HdrS")
	binary.LittleEndian.PutUint16(image[protocolAt:], 0x20c)
	binary.LittleEndian.PutUint16(image[versionAt:], versionText-setupSector)
	image[loadFlagsAt], image[xloadFlagsAt] = 1, 1
	copy(image[versionText:], "4.9.0-13-amd64 (debian@example) #1 SMP\x00")
	if change != nil {
		change(image)
	}
	return image
}

func TestReleaseOfAnImage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "vmlinuz")
	for name, c := range map[string]struct {
		image []byte
		says  string // empty when it is a kernel
	}{
		"64 bit":         {bzImage(nil), ""},
		"of Linux 3.2":   {bzImage(func(h []byte) { h[protocolAt], h[xloadFlagsAt] = 0x0a, 0 }), ""},
		"32 bit":         {bzImage(func(h []byte) { h[xloadFlagsAt] = 0 }), "32-bit"},
		"zImage":         {bzImage(func(h []byte) { h[loadFlagsAt] = 0 }), "zImage"},
		"arm64":          {bzImage(func(h []byte) { copy(h[armMagicAt:], "ARM\x64") }), "arm64"},
		"ELF":            {bzImage(func(h []byte) { copy(h, "\x7fELF") }), "ELF"},
		"boot sector":    {bzImage(func(h []byte) { h[magicAt] = 0 }), "not a bzImage"},
		"no version":     {bzImage(func(h []byte) { h[0x300] = 0 }), "kernel release"},
		"text":           {[]byte(strings.Repeat("# not a kernel\n", 100)), "not a bzImage"},
		"nothing at all": {nil, "too short"},
	} {
		if err := os.WriteFile(path, c.image, 0o600); err != nil {
			t.Fatal(err)
		}
		release, err := Image{Path: path}.Release()
		if c.says == "" {
			if want := (Release{Major: 4, Minor: 9, Text: "4.9.0-13-amd64"}); err != nil || release != want {
				t.Errorf("%s: %+v, %v, want %+v", name, release, err, want)
			}
			continue
		}
		if !errors.Is(err, ErrNotImage) || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v, want ErrNotImage, the path and %q", name, err, c.says)
		}
	}
	if _, err := (Image{Path: path + "-none"}).Release(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if _, err := (Image{Path: filepath.Dir(path)}).Release(); !errors.Is(err, ErrNotImage) {
		t.Errorf("directory: %v", err)
	}
}
