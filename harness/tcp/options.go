//go:build linux

package tcp

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Options are socket options that decide how a connection sends, and when the kernel gives
// it up. Connections that a listener accepts inherit those of the listener. The zero value
// leaves all as the kernel has them.
type Options struct {
	// KeepAlive is SO_KEEPALIVE with its timers.
	KeepAlive KeepAlive
	// UserTimeout is how long sent data may be without acknowledgement, or a window closed,
	// before the kernel ends the connection with ETIMEDOUT (TCP_USER_TIMEOUT, Linux 2.6.37;
	// RFC 5482, tcp_write_timeout, tcp_probe_timer), in whole milliseconds. For keep-alive
	// it replaces the count of probes (tcp_keepalive_timer).
	UserTimeout time.Duration
	// NoDelay sends each write at once, in segments of its own (TCP_NODELAY; tcp_nagle_check).
	NoDelay bool
	// ReceiveBuffer, when it is not 0, is the value of SO_RCVBUF in bytes. The kernel
	// doubles it, keeps it between SOCK_MIN_RCVBUF and twice net.core.rmem_max, and does not
	// let it grow any more (__sock_set_rcvbuf): the window closes when nobody reads that
	// much.
	ReceiveBuffer int
	// SendBuffer, when it is not 0, is the value of SO_SNDBUF in bytes, doubled as well.
	SendBuffer int
}

// KeepAlive is the probing of an idle connection (tcp_keepalive_timer). Times are whole
// seconds; 0 leaves the value of the sysctl.
type KeepAlive struct {
	// On sets SO_KEEPALIVE.
	On bool
	// Idle is the idle time before the first probe (TCP_KEEPIDLE,
	// net.ipv4.tcp_keepalive_time).
	Idle time.Duration
	// Interval is the time between probes (TCP_KEEPINTVL, net.ipv4.tcp_keepalive_intvl).
	Interval time.Duration
	// Count is the number of probes without an answer after which the connection ends with
	// ETIMEDOUT (TCP_KEEPCNT, net.ipv4.tcp_keepalive_probes).
	Count int
}

// The largest values that the kernel takes (include/net/tcp.h).
const (
	maxKeepIdle  = 32767 * time.Second
	maxKeepCount = 127
)

// Validate returns all that is wrong with the options, whatever the kernel.
func (o *Options) Validate() error {
	var errs []error
	for name, d := range map[string]time.Duration{"idle time": o.KeepAlive.Idle, "interval": o.KeepAlive.Interval} {
		if d < 0 || d%time.Second != 0 || d > maxKeepIdle {
			errs = append(errs, fmt.Errorf("keep-alive %s %v: want whole seconds, at most %v", name, d, maxKeepIdle))
		}
	}
	if o.KeepAlive.Count < 0 || o.KeepAlive.Count > maxKeepCount {
		errs = append(errs, fmt.Errorf("keep-alive count %d: want at most %d", o.KeepAlive.Count, maxKeepCount))
	}
	if !o.KeepAlive.On && o.KeepAlive != (KeepAlive{}) {
		errs = append(errs, errors.New("keep-alive has timers and is off: set On"))
	}
	if o.UserTimeout < 0 || o.UserTimeout%time.Millisecond != 0 || o.UserTimeout > 1<<31*time.Millisecond {
		errs = append(errs, fmt.Errorf("user timeout %v: want whole milliseconds, at most 24 days", o.UserTimeout))
	}
	if o.ReceiveBuffer < 0 || o.SendBuffer < 0 {
		errs = append(errs, fmt.Errorf("buffers of %d and %d bytes: want none below 0", o.ReceiveBuffer, o.SendBuffer))
	}
	return errors.Join(errs...)
}

// list returns the options that differ from the kernel's defaults.
func (o *Options) list() (options []option) {
	add := func(name string, level, number, value int, since string) {
		if value != 0 {
			options = append(options, option{name, level, number, value, since})
		}
	}
	add("SO_KEEPALIVE", unix.SOL_SOCKET, unix.SO_KEEPALIVE, flag(o.KeepAlive.On), "")
	add("TCP_KEEPIDLE", unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, int(o.KeepAlive.Idle/time.Second), "")
	add("TCP_KEEPINTVL", unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, int(o.KeepAlive.Interval/time.Second), "")
	add("TCP_KEEPCNT", unix.IPPROTO_TCP, unix.TCP_KEEPCNT, o.KeepAlive.Count, "")
	add("TCP_USER_TIMEOUT", unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(o.UserTimeout/time.Millisecond), "2.6.37")
	add("TCP_NODELAY", unix.IPPROTO_TCP, unix.TCP_NODELAY, flag(o.NoDelay), "")
	add("SO_RCVBUF", unix.SOL_SOCKET, unix.SO_RCVBUF, o.ReceiveBuffer, "")
	add("SO_SNDBUF", unix.SOL_SOCKET, unix.SO_SNDBUF, o.SendBuffer, "")
	return options
}
