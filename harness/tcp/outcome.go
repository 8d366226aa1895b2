//go:build linux

package tcp

import (
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// Outcome is the kernel's answer to one connect(2), or to the bind(2) before it when a
// source was asked for.
type Outcome string

// The outcomes. All but Undecided come from the kernel.
const (
	// Connected: the three-way handshake was completed.
	Connected Outcome = "Connected"
	// Refused: ECONNREFUSED, a RST answered the SYN.
	Refused Outcome = "Refused"
	// Reset: ECONNRESET, a RST came after the handshake and before we looked at the socket.
	Reset Outcome = "Reset"
	// TimedOut: ETIMEDOUT, the kernel gave up after its own retransmissions
	// (net.ipv4.tcp_syn_retries).
	TimedOut Outcome = "TimedOut"
	// NoPort: EADDRNOTAVAIL, connect(2) found no free local port for this
	// destination (__inet_hash_connect).
	NoPort Outcome = "NoPort"
	// PortInUse: EADDRINUSE, the port given to bind(2) was taken (inet_csk_get_port).
	PortInUse Outcome = "PortInUse"
	// Unreachable: ENETUNREACH or EHOSTUNREACH, no route or an ICMP error.
	Unreachable Outcome = "Unreachable"
	// Undecided: our own budget ended while the kernel was still trying. It says nothing
	// about the kernel and matches no expectation.
	Undecided Outcome = "Undecided"
)

var outcomes = map[syscall.Errno]Outcome{
	0:                  Connected,
	unix.ECONNREFUSED:  Refused,
	unix.ECONNRESET:    Reset,
	unix.ETIMEDOUT:     TimedOut,
	unix.EADDRNOTAVAIL: NoPort,
	unix.EADDRINUSE:    PortInUse,
	unix.ENETUNREACH:   Unreachable,
	unix.EHOSTUNREACH:  Unreachable,
}

// outcomeOf turns the result of a bind(2) or connect(2) into an outcome. An error that says
// nothing about a connection (EPERM, EMFILE, EINVAL) is returned as an error: the caller
// has to repair its cause.
func outcomeOf(step string, err error) (Outcome, syscall.Errno, error) {
	var errno syscall.Errno
	if err != nil && !errors.As(err, &errno) {
		return "", 0, fmt.Errorf("%s: %w", step, err)
	}
	v, known := outcomes[errno]
	if !known {
		return "", errno, fmt.Errorf("%s: %w", step, err)
	}
	return v, errno, nil
}
