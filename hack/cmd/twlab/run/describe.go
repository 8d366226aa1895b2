package run

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"runtime/debug"
)

// describe says which program this is: the version of its module, the Go that built it, and
// the beginning of the program's sum, which tells builds of one tree from others.
func describe() string {
	version, built := "(unknown)", "Go"
	if info, known := debug.ReadBuildInfo(); known {
		version, built = info.Main.Version, info.GoVersion
	}
	text := fmt.Sprintf("twlab %s, built by %s", version, built)
	path, err := os.Executable()
	if err != nil {
		return text
	}
	file, err := os.Open(path)
	if err != nil {
		return text
	}
	defer file.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, file); err != nil {
		return text
	}
	return text + ", sha256 " + hex.EncodeToString(sum.Sum(nil))[:12]
}
