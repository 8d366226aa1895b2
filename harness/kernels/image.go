//go:build linux

package kernels

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
)

// The bytes that identify a kernel image, and its architecture.
var signatures = []struct {
	architecture string
	offset       int
	bytes        string
}{
	{architecture: "amd64", offset: 0x202, bytes: "HdrS"},       // Documentation/arch/x86/boot.rst
	{architecture: "arm64", offset: 0x38, bytes: "ARM\x64"},     // Documentation/arch/arm64/booting.rst
	{architecture: "arm64", offset: 0x4, bytes: "zimg"},         // EFI zboot, drivers/firmware/efi/libstub/zboot-header.S
	{architecture: "arm64", offset: 0x0, bytes: "\x1f\x8b\x08"}, // the same, compressed as a whole
}

// ImageArchitecture returns Debian's name of the architecture that a kernel image is for.
// It returns an error when the file is not a kernel image.
func ImageArchitecture(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	head := make([]byte, 1024)
	n, err := io.ReadFull(file, head)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	for _, s := range signatures {
		if end := s.offset + len(s.bytes); end <= n && bytes.Equal(head[s.offset:end], []byte(s.bytes)) {
			return s.architecture, nil
		}
	}
	return "", fmt.Errorf("%s is not a kernel image for amd64 or arm64 (bzImage, Image)", path)
}
