//go:build linux

package tcp

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// option is one setsockopt(2).
type option struct {
	name                 string
	level, number, value int
	since                string // the Linux release that introduced it; empty when all have it
}

// setAll sets options in their order.
func setAll(fd int, options []option) error {
	for _, o := range options {
		if err := unix.SetsockoptInt(fd, o.level, o.number, o.value); err != nil {
			return fmt.Errorf("set %s: %w", o.name, lacking(err, o.since))
		}
	}
	return nil
}

// flag is the value of an option that is on or off.
func flag(on bool) int {
	if on {
		return 1
	}
	return 0
}

// lacking adds to the error of a kernel without a socket option the Linux release that
// introduced it.
func lacking(err error, since string) error {
	if since != "" && errors.Is(err, unix.ENOPROTOOPT) {
		return fmt.Errorf("this kernel lacks it, Linux %s has it: %w", since, err)
	}
	return err
}
