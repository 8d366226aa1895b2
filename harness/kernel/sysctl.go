package kernel

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// The reasons why a sysctl could not be read or set. A [SysctlError] wraps one of them.
var (
	// ErrSysctlGone: this kernel no longer has it; a release removed it.
	ErrSysctlGone = errors.New("no longer in the kernel")
	// ErrSysctlNotYet: this kernel does not have it yet; a later release introduced it.
	ErrSysctlNotYet = errors.New("not yet in this kernel")
	// ErrSysctlGlobal: the kernel has one value for the whole machine, not one per network
	// namespace.
	ErrSysctlGlobal = errors.New("not per network namespace on this kernel")
	// ErrSysctlReadOnly: it is visible in the namespace, but writable only in the initial
	// one.
	ErrSysctlReadOnly = errors.New("read-only outside the initial network namespace")
	// ErrSysctlUnknown: this kernel has no sysctl of this name, and its history is not
	// known.
	ErrSysctlUnknown = errors.New("no such sysctl")
	// ErrSysctlValue: the kernel rejects the value.
	ErrSysctlValue = errors.New("value refused by the kernel")
)

// SysctlError says which sysctl could not be read or set, and what to do instead.
type SysctlError struct {
	Name    string  // dotted, such as "net.ipv4.tcp_tw_recycle"
	Value   string  // the value to write; empty for a read
	Release Release // the kernel that refused
	Reason  error   // one of the ErrSysctl values, or the error of the file system
	Detail  string  // since when, and what to do
}

// Error returns one sentence.
func (e *SysctlError) Error() string {
	what := "sysctl " + e.Name
	if e.Value != "" {
		what += "=" + e.Value
	}
	what += fmt.Sprintf(": %v (kernel %v)", e.Reason, e.Release)
	if e.Detail != "" {
		what += ": " + e.Detail
	}
	return what
}

// Unwrap returns the reason, for errors.Is.
func (e *SysctlError) Unwrap() error { return e.Reason }

// ReadSysctl reads a sysctl of the calling thread's network namespace. White space between
// numbers is returned as one space ("32768 60999"). The error is a *SysctlError.
func ReadSysctl(name string) (string, error) {
	raw, err := os.ReadFile(sysctlPath(name))
	if err != nil {
		return "", explain(name, "", err)
	}
	return normal(string(raw)), nil
}

// WriteSysctl sets a sysctl of the calling thread's network namespace and reads it back: it
// is also an error when the kernel silently stored another value. The error is a
// *SysctlError.
func WriteSysctl(name, value string) error {
	path := sysctlPath(name)
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return explain(name, value, err)
	}
	defer file.Close()
	if _, err := file.WriteString(value); err != nil {
		return explain(name, value, err)
	}
	kept := make([]byte, 4096)
	n, err := file.ReadAt(kept, 0)
	if n == 0 && err != nil {
		return explain(name, value, err)
	}
	if got := normal(string(kept[:n])); got != normal(value) {
		release, _ := Running()
		return &SysctlError{
			Name: name, Value: value, Release: release, Reason: ErrSysctlValue,
			Detail: fmt.Sprintf("it keeps %q instead", got),
		}
	}
	return nil
}

func sysctlPath(name string) string {
	return "/proc/sys/" + strings.ReplaceAll(name, ".", "/")
}

func normal(value string) string { return strings.Join(strings.Fields(value), " ") }

// explain turns a failed file operation below /proc/sys into a reason. The failure comes
// from the file; the known history of the sysctl only explains it.
func explain(name, value string, err error) error {
	release, _ := Running() // an unknown release only makes the message less precise
	return explainOn(release, name, value, err)
}

func explainOn(release Release, name, value string, err error) error {
	e := &SysctlError{Name: name, Value: value, Release: release, Reason: err}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		e.Detail, e.Reason = absence(name, release)
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ERANGE):
		e.Reason, e.Detail = ErrSysctlValue, err.Error()
	case errors.Is(err, fs.ErrPermission) && value != "":
		e.Reason = ErrSysctlReadOnly
		e.Detail = "set it on the machine itself, or make the node a guest (--kernel)"
		if os.Geteuid() != 0 {
			e.Detail = "or no privilege over this namespace: run as root, or in the sandbox"
		}
	}
	return e
}

// absence says why a file below /proc/sys does not exist.
func absence(name string, release Release) (detail string, reason error) {
	if h, known := SysctlNamed(name); known {
		switch {
		case h.Removed != (Release{}) && !release.Before(h.Removed.Major, h.Removed.Minor):
			return fmt.Sprintf("removed in Linux %v (%s)", h.Removed, h.Source), ErrSysctlGone
		case release.Before(h.Introduced.Major, h.Introduced.Minor):
			return fmt.Sprintf("introduced in Linux %v (%s)", h.Introduced, h.Source), ErrSysctlNotYet
		case h.Namespaced == (Release{}):
			return "one value for the whole machine: make the node a guest (--kernel)", ErrSysctlGlobal
		case release.Before(h.Namespaced.Major, h.Namespaced.Minor):
			return fmt.Sprintf("per namespace since Linux %v: make the node a guest (--kernel)", h.Namespaced), ErrSysctlGlobal
		}
	}
	return "misspelt, of another kernel, of a module that is not loaded, or one value for the whole machine", ErrSysctlUnknown
}
