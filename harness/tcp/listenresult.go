//go:build linux

package tcp

import (
	"fmt"
	"net/netip"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// ListenResult describes what bind(2) and listen(2) gave.
type ListenResult struct {
	// Outcome is Listening, PortInUse, NoAddress or Denied.
	Outcome Outcome
	// Step is the system call that gave the outcome. Both look for conflicts
	// (inet_csk_get_port): listen(2) again, because two sockets with SO_REUSEADDR may both
	// be bound while none of them listens (inet_csk_listen_start).
	Step Step
	// Errno is the kernel's error number; 0 for Listening.
	Errno syscall.Errno
	// Listener is the listening socket; zero unless the outcome is Listening.
	Listener Handle
	// Addr is the address that the socket really has; zero unless the outcome is Listening.
	Addr netip.AddrPort
	// Holders are the sockets that have the port, when the outcome is PortInUse.
	Holders []Holder
}

// String returns one line: outcome, step, and who holds the port.
func (r ListenResult) String() string {
	if r.Outcome == Listening {
		return fmt.Sprintf("%s at %v", r.Outcome, r.Addr)
	}
	return fmt.Sprintf("%s by %s (%s)%s", r.Outcome, r.Step, unix.ErrnoName(r.Errno), heldBy(r.Holders))
}

// Err returns nil for Listening, and otherwise an error that wraps the kernel's.
func (r ListenResult) Err() error {
	if r.Outcome == Listening {
		return nil
	}
	return fmt.Errorf("%s: %w%s", r.Step, r.Errno, heldBy(r.Holders))
}

// heldBy names the first holders.
func heldBy(holders []Holder) string {
	const enough = 4
	if len(holders) == 0 {
		return ""
	}
	var names []string
	for _, h := range holders[:min(enough, len(holders))] {
		names = append(names, h.String())
	}
	if more := len(holders) - enough; more > 0 {
		names = append(names, fmt.Sprintf("%d more", more))
	}
	return "; the port is held by " + strings.Join(names, ", ")
}
