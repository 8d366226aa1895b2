package situation

import (
	"context"
	"errors"
	"time"

	"twlab/harness/kernel"
	"twlab/harness/node"
)

// HasSysctl tells whether the node's network namespace shows the sysctl.
func HasSysctl(ctx context.Context, n node.Node, name string) (kernel.Fact, error) {
	_, err := n.Sysctl(ctx, name)
	for _, absent := range []error{kernel.ErrSysctlGone, kernel.ErrSysctlNotYet, kernel.ErrSysctlGlobal, kernel.ErrSysctlUnknown} {
		if errors.Is(err, absent) {
			return kernel.No, nil
		}
	}
	if err != nil {
		return kernel.Unknown, err
	}
	return kernel.Yes, nil
}

// The states of a sysctl in a namespace.
const (
	SysctlThere    = "there"
	SysctlGone     = "gone"
	SysctlNotYet   = "not yet"
	SysctlNotHere  = "not in this namespace"
	sysctlReadOnly = "read only"
	sysctlUnknown  = "unknown"
)

// SysctlState is the state of a sysctl, from the result of reading or setting it. It
// returns an error if the result says nothing about the kernel.
func SysctlState(answer error) (state string, err error) {
	for _, known := range []struct {
		reason error
		state  string
	}{
		{kernel.ErrSysctlGone, SysctlGone},
		{kernel.ErrSysctlNotYet, SysctlNotYet},
		{kernel.ErrSysctlGlobal, SysctlNotHere},
		{kernel.ErrSysctlReadOnly, sysctlReadOnly},
		{kernel.ErrSysctlUnknown, sysctlUnknown},
	} {
		if errors.Is(answer, known.reason) {
			return known.state, nil
		}
	}
	if answer != nil {
		return "", answer
	}
	return SysctlThere, nil
}

// ReuseDelay is the age in milliseconds from which tcp_tw_reuse takes a
// TIME_WAIT, since Linux 6.14.
const ReuseDelay = "net.ipv4.tcp_tw_reuse_delay"

// The age from which tcp_tw_reuse takes a TIME_WAIT (tcp_twsk_unique).
const (
	// DefaultReuseDelay is the default of tcp_tw_reuse_delay, 1 s. On Linux 4.19 to 6.13
	// it is how long a TIME_WAIT waits if it began at the beginning of a second.
	DefaultReuseDelay = time.Second
	// OldReuseDelay is enough on kernels without that sysctl: up to 2 s is needed until
	// Linux 4.18, and up to 1 s until 6.13.
	OldReuseDelay = 2 * time.Second
	// AgingSlack is more than the possible difference between the timer in the socket
	// table, in jiffies of up to 10 ms, and the clock.
	AgingSlack = 100 * time.Millisecond
)
