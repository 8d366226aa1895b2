//go:build linux

package tcp

import (
	"fmt"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Result describes the result of an Attempt.
type Result struct {
	Outcome Outcome
	// Step is the system call that gave the outcome; empty for Undecided.
	Step Step
	// Errno is the kernel's error number; 0 for Connected and Undecided.
	Errno syscall.Errno
	// Holders are the sockets that have the port of From, when the outcome is PortInUse.
	Holders []Holder
	// Waited is the time from the call of Attempt to that of connect(2): the attempts of
	// one call start one after the other.
	Waited time.Duration
	// Took is the time from the call of connect(2) to the outcome.
	Took time.Duration
	// End describes how the connection of a Connected attempt ended. The connection is
	// reset when the peer did not do what the Ending waits for.
	End End
	// Lasted is the time from the outcome of a Connected attempt to its End; 0 when the
	// connection is kept.
	Lasted time.Duration
	// Local is the address and port that the kernel connected from; zero when there was
	// none.
	Local netip.AddrPort
	// SYNs is the number of SYNs sent until the outcome: 1 + tcpi_total_retrans. It is 0
	// when the kernel refused before it sent one.
	SYNs int
	// Timestamps reports whether the handshake agreed on the TCP timestamps option
	// (TCPI_OPT_TIMESTAMPS, RFC 7323).
	Timestamps bool
	// MPTCP reports whether the connection of an attempt by an MPTCP socket is one of
	// Multipath TCP; it is not when the peer knows only TCP.
	MPTCP bool
	// FastOpen says what became of the data of an attempt by TCP Fast Open.
	FastOpen FastOpen
	// Conn is the open connection of a Connected attempt that keeps it; otherwise zero.
	Conn Handle
}

// String returns one line: outcome, SYNs and time, and the end when it differs from the
// Ending.
func (o Result) String() string {
	s := o.Attempted()
	if err := o.End.Err(); err != nil {
		s += "; " + err.Error()
	}
	return s
}

// Attempted is [Result.String] without the end.
func (o Result) Attempted() string {
	s := fmt.Sprintf("%s from %v after %d SYN(s) in %v", o.Outcome, o.Local, o.SYNs, o.Took.Round(10*time.Microsecond))
	if o.Errno != 0 {
		s += fmt.Sprintf(" (%s)", unix.ErrnoName(o.Errno))
	}
	return s + heldBy(o.Holders)
}
