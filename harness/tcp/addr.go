//go:build linux

package tcp

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// checkAddress returns an error when no socket of this package can use the address.
func checkAddress(what string, addr netip.Addr) error {
	switch {
	case addr.Is4In6():
		return fmt.Errorf("%s %v is an IPv4-mapped address: give it as %v, and set IPv4Mapped for an AF_INET6 socket", what, addr, addr.Unmap())
	case addr.Zone() != "":
		return fmt.Errorf("%s %v is link-local: only addresses without a zone are supported", what, addr)
	default:
		return nil
	}
}

// isIPv6 reports whether the address is one of IPv6; the invalid address is one of IPv4.
func isIPv6(addr netip.Addr) bool { return addr.IsValid() && !addr.Is4() }

// sockaddr makes the address for a socket of this kind: an IPv4 address becomes an
// IPv4-mapped one for AF_INET6 (RFC 4291, 2.5.5.2). The invalid address means any.
func (k kind) sockaddr(at netip.AddrPort) unix.Sockaddr {
	if !k.six {
		in := &unix.SockaddrInet4{Port: int(at.Port())}
		if at.Addr().IsValid() {
			in.Addr = at.Addr().As4()
		}
		return in
	}
	in := &unix.SockaddrInet6{Port: int(at.Port())}
	if at.Addr().IsValid() {
		in.Addr = at.Addr().As16()
	}
	return in
}

// fromSockaddr returns an address as packets have it: an IPv4-mapped one is IPv4.
func fromSockaddr(sa unix.Sockaddr) netip.AddrPort {
	switch in := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(in.Addr), uint16(in.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(in.Addr).Unmap(), uint16(in.Port))
	default:
		return netip.AddrPort{}
	}
}

// Explicit is the attempt with the unspecified address of the destination's version for a
// source that has only a port. The meaning is the same, and it survives being written as
// text, where a port without an address is nothing (netip.AddrPort.MarshalText).
func (a Attempt) Explicit() Attempt {
	if a.From.Port() != 0 && !a.From.Addr().IsValid() {
		a.From = netip.AddrPortFrom(netip.IPv4Unspecified(), a.From.Port())
		if isIPv6(a.To.Addr()) {
			a.From = netip.AddrPortFrom(netip.IPv6Unspecified(), a.From.Port())
		}
	}
	return a
}

// Explicit is the spec with the address 0.0.0.0 for an endpoint that has only a port, for
// the same reason as [Attempt.Explicit].
func (spec ListenSpec) Explicit() ListenSpec {
	if spec.At.Port() != 0 && !spec.At.Addr().IsValid() {
		spec.At = netip.AddrPortFrom(netip.IPv4Unspecified(), spec.At.Port())
	}
	return spec
}
