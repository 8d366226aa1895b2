//go:build linux

package tcp

import (
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// Outcome is the kernel's answer to one connect(2), or to the bind(2) before it when a
// source was asked for; for a listener, to bind(2) and listen(2).
type Outcome string

// Step is the system call that gave an outcome.
type Step string

// The steps.
const (
	StepBind    Step = "bind"
	StepListen  Step = "listen"
	StepConnect Step = "connect"
)

// The outcomes. All but Undecided come from the kernel.
const (
	// Connected: the three-way handshake was completed.
	Connected Outcome = "Connected"
	// Listening: bind(2) and listen(2) have succeeded.
	Listening Outcome = "Listening"
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
	// PortInUse: EADDRINUSE, the port given to bind(2) was taken (inet_csk_get_port), or
	// another socket has begun to listen since then (inet_csk_listen_start).
	PortInUse Outcome = "PortInUse"
	// NoAddress: EADDRNOTAVAIL, the address given to bind(2) is none of the node's, or an
	// IPv6 address whose duplicate address detection is not over (__inet_bind,
	// __inet6_bind). From connect(2) the same errno is NoPort.
	NoAddress Outcome = "NoAddress"
	// Denied: EACCES, bind(2) wanted a port below net.ipv4.ip_unprivileged_port_start
	// without CAP_NET_BIND_SERVICE (__inet_bind), or connect(2) met a route of type
	// prohibit (fib_props).
	Denied Outcome = "Denied"
	// Unreachable: ENETUNREACH or EHOSTUNREACH, no route or an ICMP error.
	Unreachable Outcome = "Unreachable"
	// Undecided: our own budget ended while the kernel was still trying. It says nothing
	// about the kernel and matches no expectation.
	Undecided Outcome = "Undecided"
)

// outcomes are those of all steps, except of success and of EADDRNOTAVAIL.
var outcomes = map[syscall.Errno]Outcome{
	unix.ECONNREFUSED: Refused,
	unix.ECONNRESET:   Reset,
	unix.ETIMEDOUT:    TimedOut,
	unix.EADDRINUSE:   PortInUse,
	unix.EACCES:       Denied,
	unix.ENETUNREACH:  Unreachable,
	unix.EHOSTUNREACH: Unreachable,
}

// outcomeOf turns the result of a bind(2), listen(2) or connect(2) into an outcome. An error
// that says nothing about a connection (EPERM, EMFILE, EINVAL) is returned as an error: the
// caller has to repair its cause.
func outcomeOf(step Step, err error) (Outcome, syscall.Errno, error) {
	if err == nil {
		if step == StepConnect {
			return Connected, 0, nil
		}
		return Listening, 0, nil
	}
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return "", 0, fmt.Errorf("%s: %w", step, err)
	}
	o, known := outcomes[errno]
	if errno == unix.EADDRNOTAVAIL {
		o, known = NoAddress, true
		if step == StepConnect {
			o = NoPort
		}
	}
	if !known {
		return "", errno, fmt.Errorf("%s: %w", step, err)
	}
	return o, errno, nil
}
