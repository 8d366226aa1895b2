//go:build linux

package agent

import (
	"errors"
	"syscall"

	"twlab/harness/internal/line"
	"twlab/harness/internal/shape"
	"twlab/harness/internal/wire"
	"twlab/harness/ipvs"
	"twlab/harness/kernel"
	"twlab/harness/tcp"
)

// Errors returns the errors that errors.Is and errors.As find on both sides of the line.
func Errors() line.Errors {
	known := line.Errors{
		Sentinels: map[string]error{
			"agent.ErrNoCard":    ErrNoCard,
			"ipvs.ErrMissing":    ipvs.ErrMissing,
			"ipvs.ErrScheduler":  ipvs.ErrScheduler,
			"shape.ErrNoNetem":   shape.ErrNoNetem,
			"wire.ErrNoIPv6":     wire.ErrNoIPv6,
			"tcp.ErrNoHandle":    tcp.ErrNoHandle,
			"tcp.ErrForeign":     tcp.ErrForeign,
			"tcp.ErrPeerReset":   tcp.ErrPeerReset,
			"tcp.ErrNoMultipath": tcp.ErrNoMultipath,
		},
		Codecs: map[string]line.Codec{"kernel.SysctlError": line.CodecOf(packSysctl, unpackSysctl)},
	}
	for name, reason := range sysctlReasons {
		known.Sentinels[name] = reason
	}
	return known
}

// sysctlReasons are the reasons of a *kernel.SysctlError that are not error numbers.
var sysctlReasons = map[string]error{
	"kernel.ErrSysctlGone":     kernel.ErrSysctlGone,
	"kernel.ErrSysctlNotYet":   kernel.ErrSysctlNotYet,
	"kernel.ErrSysctlGlobal":   kernel.ErrSysctlGlobal,
	"kernel.ErrSysctlReadOnly": kernel.ErrSysctlReadOnly,
	"kernel.ErrSysctlUnknown":  kernel.ErrSysctlUnknown,
	"kernel.ErrSysctlValue":    kernel.ErrSysctlValue,
}

// sysctlFailure is a *kernel.SysctlError as it crosses the line.
type sysctlFailure struct {
	Error  kernel.SysctlError // without its Reason
	Reason string             // a name of sysctlReasons; empty when it is Errno
	Errno  syscall.Errno
}

func packSysctl(e *kernel.SysctlError) sysctlFailure {
	f := sysctlFailure{Error: *e}
	f.Error.Reason = nil
	for name, reason := range sysctlReasons {
		if e.Reason == reason { //nolint:errorlint // compares the reason itself, not what it wraps
			f.Reason = name
		}
	}
	if f.Reason == "" {
		errors.As(e.Reason, &f.Errno)
	}
	return f
}

func unpackSysctl(f sysctlFailure) *kernel.SysctlError {
	e := f.Error
	e.Reason = f.Errno
	if reason, known := sysctlReasons[f.Reason]; known {
		e.Reason = reason
	}
	return &e
}
