package line

import (
	"context"
	"errors"
	"maps"
	"slices"
	"syscall"

	"twlab/harness/kernel"
)

// Sentinels are the errors that errors.Is finds on the caller's side as it would
// have on the server's, by the name under which they travel.
type Sentinels map[string]error

// common are those of every line.
var common = Sentinels{
	"context.Canceled":         context.Canceled,
	"context.DeadlineExceeded": context.DeadlineExceeded,
	"kernel.ErrSysctlGone":     kernel.ErrSysctlGone,
	"kernel.ErrSysctlNotYet":   kernel.ErrSysctlNotYet,
	"kernel.ErrSysctlGlobal":   kernel.ErrSysctlGlobal,
	"kernel.ErrSysctlReadOnly": kernel.ErrSysctlReadOnly,
	"kernel.ErrSysctlUnknown":  kernel.ErrSysctlUnknown,
	"kernel.ErrSysctlValue":    kernel.ErrSysctlValue,
}

// and is both lists.
func (s Sentinels) and(more Sentinels) Sentinels {
	all := maps.Clone(s)
	maps.Copy(all, more)
	return all
}

// failure is an error on its way.
type failure struct {
	Text  string        `json:"text"`
	Is    []string      `json:"is,omitempty"`    // names of Sentinels
	Errno syscall.Errno `json:"errno,omitempty"` // the kernel's error number, if it was one
	// Sysctl is the *kernel.SysctlError in it, if there is one, without its Reason.
	Sysctl *kernel.SysctlError `json:"sysctl,omitempty"`
	// Reason is the name of the sysctl error's reason, or empty: then it is Errno.
	Reason string `json:"reason,omitempty"`
}

func (s Sentinels) pack(err error) *failure {
	f := &failure{Text: err.Error()}
	for _, name := range slices.Sorted(maps.Keys(s)) {
		if errors.Is(err, s[name]) {
			f.Is = append(f.Is, name)
		}
	}
	errors.As(err, &f.Errno)
	var sysctl *kernel.SysctlError
	if errors.As(err, &sysctl) {
		bare := *sysctl
		bare.Reason = nil
		f.Sysctl = &bare
		for name, sentinel := range s {
			if sysctl.Reason == sentinel { //nolint:errorlint // which of them it is, not which it wraps
				f.Reason = name
			}
		}
	}
	return f
}

func (s Sentinels) unpack(f *failure) error {
	e := &RemoteError{text: f.Text}
	for _, name := range f.Is {
		if sentinel, known := s[name]; known {
			e.causes = append(e.causes, sentinel)
		}
	}
	if f.Errno != 0 {
		e.causes = append(e.causes, f.Errno)
	}
	if f.Sysctl != nil {
		f.Sysctl.Reason = f.Errno
		if sentinel, known := s[f.Reason]; known {
			f.Sysctl.Reason = sentinel
		}
		e.causes = append(e.causes, f.Sysctl)
	}
	return e
}

// RemoteError is an error of the other side. It has the same text as there, and
// errors.Is and errors.As find the [Sentinels], the error number of the kernel
// and the *kernel.SysctlError that they would find there.
type RemoteError struct {
	text   string
	causes []error
}

// Error is the text of the other side.
func (e *RemoteError) Error() string { return e.text }

// Unwrap gives the causes to errors.Is and errors.As.
func (e *RemoteError) Unwrap() []error { return e.causes }
