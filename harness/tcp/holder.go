//go:build linux

package tcp

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"twlab/harness/internal/sockdiag"
)

// Holder is a socket that has a port which another socket did not get.
type Holder struct {
	// State is the kernel's name of its state: "LISTEN", "TIME_WAIT"; "CLOSE" for a socket
	// that is bound and neither listens nor is connected, which sock_diag lists since Linux
	// 6.8 (inet_diag_dump_icsk).
	State string
	// Local and Remote are its ends; Remote is unspecified when there is none.
	Local, Remote netip.AddrPort
	// Use says what the socket is for.
	Use Use
	// Handle is the socket when it is an open one of the host; zero for others, such as a
	// TIME_WAIT or an orphan, which has no owner any more.
	Handle Handle
	// ReuseAddr and ReusePort are its SO_REUSEADDR and SO_REUSEPORT. They are known only
	// when Handle is not zero, because sock_diag reports neither (inet_diag_msg_attrs_fill).
	ReuseAddr, ReusePort bool
}

// Use is what a socket is for.
type Use string

// The uses. The zero value is that of a socket that is none of the host's, and does not
// listen: nobody knows which side began it.
const (
	Unknown  Use = ""
	Listener Use = "listener"
	Outgoing Use = "outgoing connection"
	Accepted Use = "accepted connection"
)

// String returns one line: use, state, ends and options.
func (h Holder) String() string {
	s := fmt.Sprintf("%s %v > %v", h.State, h.Local, h.Remote)
	if h.Use != Unknown {
		s = string(h.Use) + " " + s
	}
	switch {
	case h.Handle.IsZero():
		return s
	case h.ReuseAddr && h.ReusePort:
		return s + " with SO_REUSEADDR and SO_REUSEPORT"
	case h.ReuseAddr:
		return s + " with SO_REUSEADDR"
	case h.ReusePort:
		return s + " with SO_REUSEPORT"
	default:
		return s + " without SO_REUSEADDR"
	}
}

// mostHolders is how many holders a result has: a server with many connections has as many
// sockets on its port.
const mostHolders = 32

// holders lists the sockets that have the port at an address that overlaps with at
// (inet_rcv_saddr_equal): listeners first, at most mostHolders. It is evidence of the moment
// after the failure: a holder may be gone by then. There are none for port 0, for which the
// kernel has tried all ports, and none on a kernel that cannot be asked.
func (h *Host) holders(at netip.AddrPort, v6Only bool) ([]Holder, error) {
	if at.Port() == 0 {
		return nil, nil
	}
	lookup, err := h.openLookup()
	if err != nil {
		return nil, err
	}
	found, err := lookup.OnPort(at.Port())
	if sockdiag.Missing(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look who holds port %d: %w", at.Port(), err)
	}
	own := h.ownSockets()
	var holders []Holder
	for _, f := range found {
		if !overlap(at.Addr(), f.Local.Addr()) || f.V6Only && !isIPv6(at.Addr()) || v6Only && !isIPv6(f.Local.Addr()) {
			continue
		}
		one := Holder{State: f.State, Local: f.Local, Remote: f.Remote}
		if f.State == "LISTEN" {
			one.Use = Listener
		}
		of := ends{f.Local, f.Remote}
		if known := own[of]; len(known) > 0 {
			// Listeners with SO_REUSEPORT have the same ends.
			one.Use, one.Handle, one.ReuseAddr, one.ReusePort = known[0].Use, known[0].Handle, known[0].ReuseAddr, known[0].ReusePort
			own[of] = known[1:]
		}
		holders = append(holders, one)
	}
	slices.SortStableFunc(holders, func(a, b Holder) int {
		return cmp.Compare(flag(a.Use != Listener), flag(b.Use != Listener))
	})
	return holders[:min(mostHolders, len(holders))], nil
}

// overlap reports whether sockets at both addresses, without IPV6_V6ONLY, can get the same
// packet.
func overlap(a, b netip.Addr) bool {
	if !a.IsValid() {
		a = netip.IPv4Unspecified()
	}
	switch {
	case a == b, a == netip.IPv6Unspecified(), b == netip.IPv6Unspecified():
		return true // without IPV6_V6ONLY, "::" has IPv4 too
	default:
		return a.Is4() == b.Is4() && (a.IsUnspecified() || b.IsUnspecified())
	}
}

// ends are the two ends of a socket.
type ends struct{ local, remote netip.AddrPort }

// ownSockets describes the open sockets of the host by their ends.
func (h *Host) ownSockets() map[ends][]Holder {
	h.mu.Lock()
	defer h.mu.Unlock()
	own := map[ends][]Holder{}
	for _, sockets := range []map[Handle]*socket{h.sockets, h.taken} {
		for handle, s := range sockets {
			if of, one, err := s.describe(); err == nil { // else it is being closed
				one.Handle = handle
				own[of] = append(own[of], one)
			}
		}
	}
	return own
}

// describe returns a socket's ends, what it is for, and its options.
func (s *socket) describe() (of ends, one Holder, err error) {
	local, errLocal := s.local()
	remote, errRemote := s.remote()
	var addr, port int
	err = s.control(func(fd int) (err error) {
		var other error
		addr, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR)
		port, other = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT)
		return errors.Join(err, other)
	})
	if remote == (netip.AddrPort{}) { // as sock_diag has it
		remote = netip.AddrPortFrom(netip.IPv4Unspecified(), 0)
		if isIPv6(local.Addr()) {
			remote = netip.AddrPortFrom(netip.IPv6Unspecified(), 0)
		}
	}
	one = Holder{Use: Outgoing, ReuseAddr: addr != 0, ReusePort: port != 0}
	switch {
	case s.listener != nil:
		one.Use = Listener
	case s.accepted:
		one.Use = Accepted
	}
	return ends{local, remote}, one, errors.Join(errLocal, errRemote, err)
}
