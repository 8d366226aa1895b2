package cli

import (
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// IsTerminal tells whether somebody sees what is written.
func IsTerminal(to io.Writer) bool {
	file, is := to.(*os.File)
	if !is {
		return false
	}
	_, err := unix.IoctlGetTermios(int(file.Fd()), unix.TCGETS)
	return err == nil
}

// width is how many columns a terminal has.
func width(to io.Writer) int {
	const usual = 80
	file, is := to.(*os.File)
	if !is {
		return usual
	}
	size, err := unix.IoctlGetWinsize(int(file.Fd()), unix.TIOCGWINSZ)
	if err != nil || size.Col == 0 {
		return usual
	}
	return int(size.Col)
}
