package kernel

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Why a sysctl could not be read or set. A [SysctlError] wraps one of them.
var (
	// ErrSysctlGone: the kernel once had it and removed it.
	ErrSysctlGone = errors.New("no longer in the kernel")
	// ErrSysctlNotYet: a later kernel introduced it.
	ErrSysctlNotYet = errors.New("not yet in this kernel")
	// ErrSysctlGlobal: the kernel has it, but one value for the whole machine
	// and not one for each network namespace.
	ErrSysctlGlobal = errors.New("not per network namespace on this kernel")
	// ErrSysctlReadOnly: visible in the namespace, writable only in the
	// initial one.
	ErrSysctlReadOnly = errors.New("read-only outside the initial network namespace")
	// ErrSysctlUnknown: there is no such name here, and nothing known about it.
	ErrSysctlUnknown = errors.New("no such sysctl")
	// ErrSysctlValue: the kernel does not take the value.
	ErrSysctlValue = errors.New("value refused by the kernel")
)

// SysctlError says which sysctl could not be used and what to do instead.
type SysctlError struct {
	Name    string  // dotted, such as "net.ipv4.tcp_tw_recycle"
	Value   string  // the value that was to be written; empty for a read
	Release Release // the kernel that said no
	Reason  error   // one of the ErrSysctl values, or the error of the file system
	Detail  string  // since when, and what to do
}

// Error is one sentence.
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

// Unwrap gives the reason to errors.Is.
func (e *SysctlError) Unwrap() error { return e.Reason }

// ReadSysctl reads a sysctl of the calling thread's network namespace. White
// space between numbers is one space ("32768 60999"). The error is a
// *SysctlError.
func ReadSysctl(name string) (string, error) {
	raw, err := os.ReadFile(sysctlPath(name))
	if err != nil {
		return "", explain(name, "", err)
	}
	return normal(string(raw)), nil
}

// WriteSysctl sets a sysctl of the calling thread's network namespace and reads
// it back: a value that the kernel took silently but changed is an error too.
// The error is a *SysctlError.
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

// explain turns a failed file operation below /proc/sys into a reason. The file
// decides that something is wrong, what is known of the name's history only says
// why.
func explain(name, value string, err error) error {
	release, _ := Running() // an unknown release only makes the sentence vaguer
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
		e.Detail = "set it on the machine itself, or give the node a kernel of its own"
		if os.Geteuid() != 0 {
			e.Detail = "or no privilege over this namespace: run as root, or in the sandbox"
		}
	}
	return e
}

// absence says why a file below /proc/sys is not there.
func absence(name string, release Release) (detail string, reason error) {
	if h, known := history[name]; known {
		switch {
		case h.removed != (Release{}) && !release.Before(h.removed.Major, h.removed.Minor):
			return fmt.Sprintf("removed in Linux %v (%s)", h.removed, h.source), ErrSysctlGone
		case release.Before(h.introduced.Major, h.introduced.Minor):
			return fmt.Sprintf("introduced in Linux %v (%s)", h.introduced, h.source), ErrSysctlNotYet
		case h.namespaced == (Release{}):
			return "one value for the whole machine: give the node a kernel of its own", ErrSysctlGlobal
		case release.Before(h.namespaced.Major, h.namespaced.Minor):
			return fmt.Sprintf("per namespace since Linux %v: give the node a kernel of its own", h.namespaced), ErrSysctlGlobal
		}
	}
	return "misspelt, of another kernel, of a module that is not loaded, or one value for the whole machine", ErrSysctlUnknown
}

// lifetime is what is known of a sysctl: the mainline releases that introduced
// it, made it a value of each network namespace, and removed it. A zero
// introduced means "older than Linux 2.6.32", a zero namespaced "never so far",
// a zero removed "still there".
type lifetime struct {
	introduced, namespaced, removed Release
	source                          string
}

func mainline(major, minor int) Release { return Release{Major: major, Minor: minor} }

// history holds the sysctls that the tcp_tw_recycle, TIME_WAIT and NAT stories
// turn on. It is used for wording only. Read in net/ipv4/sysctl_net_ipv4.c of
// the mainline releases named.
var history = map[string]lifetime{
	"net.ipv4.tcp_tw_recycle": {
		namespaced: mainline(4, 11), removed: mainline(4, 12),
		source: "commit 4396e46187ca, tcp: remove tcp_tw_recycle",
	},
	"net.ipv4.tcp_timestamps":     {namespaced: mainline(4, 13)},
	"net.ipv4.tcp_tw_reuse":       {namespaced: mainline(4, 10)},
	"net.ipv4.tcp_tw_reuse_delay": {introduced: mainline(6, 14), namespaced: mainline(6, 14), source: "commit ca6a6f93867a"},
	"net.ipv4.tcp_max_tw_buckets": {namespaced: mainline(4, 11)},
	"net.ipv4.tcp_rfc1337":        {namespaced: mainline(4, 15)},
	"net.ipv4.tcp_fin_timeout":    {namespaced: mainline(4, 5)},
	"net.ipv4.tcp_syn_retries":    {namespaced: mainline(4, 5)},
	"net.ipv4.tcp_syncookies":     {namespaced: mainline(4, 5)},
	"net.ipv4.tcp_invalid_ratelimit": {
		introduced: mainline(4, 0), namespaced: mainline(4, 15), source: "commit 032ee4236954",
	},
	"net.ipv4.tcp_syn_linear_timeouts": {
		introduced: mainline(6, 5), namespaced: mainline(6, 5), source: "commit ccce324dabfe",
	},
	"net.ipv4.ip_local_port_range": {namespaced: mainline(3, 15)},
	"net.ipv4.tcp_mem":             {},
	"net.ipv4.tcp_max_orphans":     {},
	"net.core.netdev_max_backlog":  {},
	"net.core.default_qdisc":       {introduced: mainline(3, 12)},
}
