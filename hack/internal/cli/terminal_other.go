//go:build !linux

package cli

import (
	"io"
	"os"
)

// IsTerminal tells whether somebody sees what is written.
func IsTerminal(to io.Writer) bool {
	file, is := to.(*os.File)
	if !is {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// width is how many columns a terminal usually has.
func width(io.Writer) int { return 80 }
