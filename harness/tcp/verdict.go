//go:build linux

package tcp

import (
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// Verdict is what the kernel answered to one connect(2), bind(2) included when
// a source was asked for.
type Verdict string

// The verdicts. All but Undecided are the kernel's own words.
const (
	// Connected: the three-way handshake was completed.
	Connected Verdict = "Connected"
	// Refused: ECONNREFUSED, a RST answered the SYN.
	Refused Verdict = "Refused"
	// Reset: ECONNRESET, a RST came after the handshake and before we looked.
	Reset Verdict = "Reset"
	// TimedOut: ETIMEDOUT, the kernel gave up after its own retransmissions
	// (net.ipv4.tcp_syn_retries).
	TimedOut Verdict = "TimedOut"
	// NoPort: EADDRNOTAVAIL, connect(2) found no free local port for this
	// destination (__inet_hash_connect).
	NoPort Verdict = "NoPort"
	// PortInUse: EADDRINUSE, bind(2) found the asked port taken
	// (inet_csk_get_port).
	PortInUse Verdict = "PortInUse"
	// Unreachable: ENETUNREACH or EHOSTUNREACH, no route or an ICMP error.
	Unreachable Verdict = "Unreachable"
	// Undecided: our own budget ended while the kernel was still trying. It
	// says nothing about the kernel and equals no expectation.
	Undecided Verdict = "Undecided"
)

var verdicts = map[syscall.Errno]Verdict{
	0:                  Connected,
	unix.ECONNREFUSED:  Refused,
	unix.ECONNRESET:    Reset,
	unix.ETIMEDOUT:     TimedOut,
	unix.EADDRNOTAVAIL: NoPort,
	unix.EADDRINUSE:    PortInUse,
	unix.ENETUNREACH:   Unreachable,
	unix.EHOSTUNREACH:  Unreachable,
}

// verdictOf turns the outcome of a bind(2) or connect(2) into a verdict. An
// error that is no verdict about a connection (EPERM, EMFILE, EINVAL) comes
// back as an error: it is ours to mend.
func verdictOf(step string, err error) (Verdict, syscall.Errno, error) {
	var errno syscall.Errno
	if err != nil && !errors.As(err, &errno) {
		return "", 0, fmt.Errorf("%s: %w", step, err)
	}
	v, known := verdicts[errno]
	if !known {
		return "", errno, fmt.Errorf("%s: %w", step, err)
	}
	return v, errno, nil
}
