package topo

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
)

// IPVersion says which version of IP something is of.
type IPVersion string

// The versions. The zero value of a network is IPv4. The zero value of a rule is every
// version that the network has.
const (
	IPv4 IPVersion = "ipv4"
	IPv6 IPVersion = "ipv6"
	// DualStack is both: every node, and both ends of every link, have an address of each.
	DualStack IPVersion = "dual stack"
)

// Versions lists the versions: one, or IPv4 and IPv6.
func (v IPVersion) Versions() []IPVersion {
	switch v {
	case IPv6:
		return []IPVersion{IPv6}
	case DualStack:
		return []IPVersion{IPv4, IPv6}
	default:
		return []IPVersion{IPv4}
	}
}

// Has reports whether a network of version v has addresses of one version, IPv4 or IPv6.
func (v IPVersion) Has(one IPVersion) bool { return slices.Contains(v.Versions(), one) }

// lacks is the error for something of a version that a network does not have.
func (v IPVersion) lacks(one IPVersion) error {
	return fmt.Errorf("the network has no %s: set its IP to %q or %q", one, one, DualStack)
}

// versionOf returns the version of an address.
func versionOf(a netip.Addr) IPVersion {
	if a.Is6() {
		return IPv6
	}
	return IPv4
}

// validate returns an error when v is no version of a network.
func (v IPVersion) validate() error {
	switch v {
	case "", IPv4, IPv6, DualStack:
		return nil
	default:
		return fmt.Errorf("unknown version of IP %q: want %q, %q, %q or none", v, IPv4, IPv6, DualStack)
	}
}

// primary is the version of Identity.Addr and of End.Addr.
func (v IPVersion) primary() IPVersion { return v.Versions()[0] }

// site has the IPv6 addresses that a plan assigns: unique local ones (RFC 4193), whose
// Global ID is the word "twlab". It is not random, because no lab is connected to another
// site.
var site = netip.MustParsePrefix("fd74:776c:6162::/48")

// as6 is the IPv6 address of a node whose IPv4 address would be a, with the same numbers:
// that of 10.10.0.2 is fd74:776c:6162:0:10:10:0:2.
func as6(a netip.Addr) netip.Addr {
	numbers, groups := a.As4(), site.Addr().As16()
	for i, n := range numbers {
		digits := uint16(n/100)<<8 | uint16(n/10%10)<<4 | uint16(n%10)
		binary.BigEndian.PutUint16(groups[8+2*i:], digits)
	}
	return netip.AddrFrom16(groups)
}

// addrs are the addresses of a node whose IPv4 address would be a: its primary one, and its
// IPv6 address when it has both.
func (v IPVersion) addrs(a netip.Addr) (addr, addr6 netip.Addr) {
	switch v {
	case IPv6:
		return as6(a), netip.Addr{}
	case DualStack:
		return a, as6(a)
	default:
		return a, netip.Addr{}
	}
}

// addr is the address, of one version, of a node whose IPv4 address would be a.
func (v IPVersion) addr(of IPVersion, a netip.Addr) netip.Addr {
	switch {
	case !v.Has(of):
		return netip.Addr{}
	case of == IPv6:
		return as6(a)
	default:
		return a
	}
}
