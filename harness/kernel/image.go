package kernel

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// Image is a kernel to boot. Its zero value means none: the running kernel.
type Image struct {
	// Path is the path of a bzImage for x86-64, such as /boot/vmlinuz-VERSION.
	Path string
	// Modules is the directory of its modules, such as /lib/modules/VERSION; empty when
	// everything needed is built into the image.
	Modules string
}

// String returns the path of the image.
func (k Image) String() string { return k.Path }

// ErrNotImage is wrapped when a file is not a bzImage, or is one for another architecture.
var ErrNotImage = errors.New("not a kernel image that a guest can boot")

// Release reads the release of the kernel from its image, without booting it. The
// error wraps [ErrNotImage] when the file is not a bzImage for x86-64.
func (k Image) Release() (Release, error) {
	image, err := os.Open(k.Path)
	if err != nil {
		return Release{}, fmt.Errorf("kernel image: %w", err)
	}
	defer image.Close()
	header := make([]byte, headerEnd)
	if _, err := io.ReadFull(image, header); err != nil {
		return Release{}, fmt.Errorf("kernel image %s: %w: too short, or no file", k.Path, ErrNotImage)
	}
	if err := checkHeader(header); err != nil {
		return Release{}, fmt.Errorf("kernel image %s: %w", k.Path, err)
	}
	text := make([]byte, 256)
	at := int64(binary.LittleEndian.Uint16(header[versionAt:])) + setupSector
	n, err := image.ReadAt(text, at)
	if err != nil && !errors.Is(err, io.EOF) {
		return Release{}, fmt.Errorf("kernel image %s: %w", k.Path, err)
	}
	version, _, _ := strings.Cut(string(text[:n]), "\x00")
	release, _, _ := strings.Cut(version, " ")
	r, err := ParseRelease(release)
	if err != nil {
		return Release{}, fmt.Errorf("kernel image %s: %w: %w", k.Path, ErrNotImage, err)
	}
	return r, nil
}

// Offsets in a bzImage (Documentation/x86/boot.rst).
const (
	bootFlagAt   = 0x1fe // 0xaa55
	magicAt      = 0x202 // "HdrS"
	protocolAt   = 0x206
	versionAt    = 0x20e // of the version text, less the first sector
	loadFlagsAt  = 0x211
	xloadFlagsAt = 0x236 // since protocol 2.12
	headerEnd    = 0x268
	setupSector  = 0x200

	armMagicAt = 0x38 // "ARM\x64" (Documentation/arch/arm64/booting.rst)
)

func checkHeader(header []byte) error {
	le := binary.LittleEndian
	switch {
	case bytes.Equal(header[armMagicAt:armMagicAt+4], []byte("ARM\x64")):
		return fmt.Errorf("%w: it is for arm64, and guests are x86-64", ErrNotImage)
	case bytes.HasPrefix(header, []byte("\x7fELF")):
		return fmt.Errorf("%w: it is an ELF file; give the bzImage (vmlinuz) of that kernel", ErrNotImage)
	case le.Uint16(header[bootFlagAt:]) != 0xaa55 || string(header[magicAt:magicAt+4]) != "HdrS":
		return fmt.Errorf("%w: it is not a bzImage (vmlinuz)", ErrNotImage)
	case header[loadFlagsAt]&1 == 0:
		return fmt.Errorf("%w: it is a zImage, which is loaded low", ErrNotImage)
	case le.Uint16(header[protocolAt:]) >= 0x20c && le.Uint16(header[xloadFlagsAt:])&1 == 0:
		return fmt.Errorf("%w: it is for 32-bit x86, and guests are x86-64", ErrNotImage)
	}
	return nil
}
