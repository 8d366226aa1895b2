//go:build linux

package observe

import (
	"fmt"
	"net/netip"
	"strconv"
	"time"
)

// State is a TCP state, with the kernel's name (include/net/tcp_states.h).
type State string

// The states. NewSynRecv is internal to the kernel since Linux 4.1; both
// sock_diag and /proc/net/tcp report such a request as SynRecv.
const (
	Established State = "ESTABLISHED"
	SynSent     State = "SYN_SENT"
	SynRecv     State = "SYN_RECV"
	FinWait1    State = "FIN_WAIT1"
	FinWait2    State = "FIN_WAIT2"
	TimeWait    State = "TIME_WAIT"
	Close       State = "CLOSE"
	CloseWait   State = "CLOSE_WAIT"
	LastAck     State = "LAST_ACK"
	Listen      State = "LISTEN"
	Closing     State = "CLOSING"
	NewSynRecv  State = "NEW_SYN_RECV"
)

// Timer is the timer that a socket waits for (idiag_timer in sock_diag(7)).
type Timer string

// The timers.
const (
	TimerNone       Timer = "none"
	TimerRetransmit Timer = "retransmit" // a segment, or the SYN-ACK of a request
	TimerKeepalive  Timer = "keepalive"  // keepalive, or the end of a full socket's FIN_WAIT2
	TimerTimeWait   Timer = "timewait"   // the end of a minisocket, see Socket.Mini
	TimerProbe      Timer = "probe"      // zero window probe
)

// Socket is one row of the kernel's TCP socket table.
type Socket struct {
	State  State          `json:"state"`
	Local  netip.AddrPort `json:"local"`
	Remote netip.AddrPort `json:"remote"`
	Timer  Timer          `json:"timer"`
	// Expires is the time until the timer fires; its resolution is 1 ms from sock_diag and
	// 10 ms from /proc. It is zero without a timer.
	Expires time.Duration `json:"expires"`
	// RecvQueue is the number of bytes not yet read; for a listener, the number of
	// connections not yet accepted.
	RecvQueue uint32 `json:"recvQueue"`
	// SendQueue is the number of bytes not yet acknowledged; for a listener, the maximum
	// number of connections waiting for accept (zero from /proc, which does not show it).
	SendQueue uint32 `json:"sendQueue"`
	// V6 means that the socket is an IPv6 socket (AF_INET6). With IPv4 addresses it is one
	// that talks IPv4: Local and Remote are what is in the packets, not the IPv4-mapped
	// addresses by which the kernel has them (RFC 4291, section 2.5.5.2).
	V6 bool `json:"v6,omitempty"`
	// V6Only means that an IPv6 listener takes no IPv4 connections: it has IPV6_V6ONLY, which
	// bind sets by itself for every address but :: and IPv4-mapped ones (__inet6_bind). Only
	// sock_diag shows it, on kernels newer than 3.16 (INET_DIAG_SKV6ONLY, commit
	// 8220ea232431); it is false where the kernel does not say.
	V6Only bool `json:"v6Only,omitempty"`
}

// Mini reports whether only a minisocket is left (struct inet_timewait_sock). That is so
// for TIME_WAIT, and also for a connection in FIN_WAIT2 without an owner (tcp_time_wait
// with state TCP_FIN_WAIT2). The state alone does not distinguish the two kinds of
// FIN_WAIT2.
func (s Socket) Mini() bool { return s.Timer == TimerTimeWait }

// String describes the socket in one line:
// "TIME_WAIT 10.0.0.2:40001 > 10.0.0.1:80 timewait 59.98s",
// "LISTEN [::]:80 > [::]:0 (IPv6 only)".
func (s Socket) String() string {
	text := fmt.Sprintf("%s %s > %s", s.State, s.Local, s.Remote)
	if s.Timer != TimerNone {
		text += fmt.Sprintf(" %s %s", s.Timer, s.Expires)
	}
	switch {
	case s.V6Only:
		text += " (IPv6 only)"
	case s.V6 && s.Local.Addr().Is4():
		text += " (IPv6 socket)"
	}
	return text
}

// Sockets is a socket table.
type Sockets []Socket

// In returns the sockets in a state.
func (s Sockets) In(state State) Sockets {
	return s.where(func(one Socket) bool { return one.State == state })
}

// Between returns the sockets with these ends. In each end, an unspecified address of
// either version or an invalid one matches any address, and port 0 any port. Addresses of
// sockets have no zone, so patterns for link-local addresses must have none.
func (s Sockets) Between(local, remote netip.AddrPort) Sockets {
	return s.where(func(one Socket) bool { return covers(local, one.Local) && covers(remote, one.Remote) })
}

func (s Sockets) where(keep func(Socket) bool) Sockets {
	var kept Sockets
	for _, one := range s {
		if keep(one) {
			kept = append(kept, one)
		}
	}
	return kept
}

// covers reports whether the pattern matches the end: an invalid or unspecified address
// matches every address, port 0 every port.
func covers(pattern, end netip.AddrPort) bool {
	address, port := pattern.Addr().Unmap(), pattern.Port()
	return (!address.IsValid() || address.IsUnspecified() || address == end.Addr()) &&
		(port == 0 || port == end.Port())
}

func stateNamed(number uint8) (State, bool) {
	states := [...]State{
		1: Established, SynSent, SynRecv, FinWait1, FinWait2, TimeWait,
		Close, CloseWait, LastAck, Listen, Closing, NewSynRecv,
	}
	if number == 0 || int(number) >= len(states) {
		return "", false
	}
	return states[number], true
}

func timerNamed(number uint8) Timer {
	switch number {
	case 0:
		return TimerNone
	case 1:
		return TimerRetransmit
	case 2:
		return TimerKeepalive
	case 3:
		return TimerTimeWait
	case 4:
		return TimerProbe
	default:
		return Timer("timer " + strconv.Itoa(int(number)))
	}
}

// expires turns into 0 the small negative number that old kernels report for a timer that
// is due but has not run yet.
func expires(timer Timer, count int64, unit time.Duration) time.Duration {
	if timer == TimerNone {
		return 0
	}
	return time.Duration(max(count, 0)) * unit
}
