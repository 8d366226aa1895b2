package kernel

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Release is a kernel's version. The zero value means "unknown" and counts as older than
// every other.
type Release struct {
	Major, Minor, Patch int
	// Text is the full release as uname(2) returns it, for people to read.
	Text string
}

// ParseRelease parses the release of uname(2), such as "6.18.44-fc" or
// "3.10.0-1160.el7.x86_64". The part after the numbers is kept in Text only.
func ParseRelease(text string) (Release, error) {
	r := Release{Text: text}
	if n, _ := fmt.Sscanf(text, "%d.%d.%d", &r.Major, &r.Minor, &r.Patch); n < 2 {
		return Release{}, fmt.Errorf("kernel release %q: want MAJOR.MINOR[.PATCH] and more", text)
	}
	return r, nil
}

// Running returns the release of the kernel that this process runs on.
func Running() (Release, error) {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return Release{}, fmt.Errorf("uname: %w", err)
	}
	return ParseRelease(unix.ByteSliceToString(name.Release[:]))
}

// Before reports whether r is older than MAJOR.MINOR of the mainline kernel.
func (r Release) Before(major, minor int) bool {
	return r.Major < major || r.Major == major && r.Minor < minor
}

// String returns the full release, or MAJOR.MINOR when there is no text.
func (r Release) String() string {
	switch {
	case r.Text != "":
		return r.Text
	case r == Release{}:
		return "unknown"
	default:
		return fmt.Sprintf("%d.%d", r.Major, r.Minor)
	}
}
