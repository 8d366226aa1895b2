package topo

import (
	"errors"
	"fmt"
	"net/netip"
)

// validateAddresses checks who has which address. Several ends of one node may have the
// same one, as those of a gateway towards its clients have.
func (p Plan) validateAddresses() (errs []error) {
	ip := p.Network.IP
	if err := ip.validate(); err != nil {
		return []error{err}
	}
	owner := map[netip.Addr]string{}
	for _, d := range p.Nodes {
		bad := func(err error) { errs = append(errs, fmt.Errorf("%s: %w", d.Name, err)) }
		for _, e := range d.Ends {
			if e.Outer {
				errs = append(errs, ip.validateLink(d.Name, e)...)
			}
		}
		if ip == DualStack && d.Addr.Is6() {
			bad(fmt.Errorf("%v: the IPv6 address in a dual-stack network is Addr6", d.Addr))
		}
		switch {
		case !d.Addr6.IsValid():
		case ip != DualStack:
			bad(fmt.Errorf("%v: Addr6 is of a dual-stack network: want it in Addr", d.Addr6))
		case d.Addr6.Is4():
			bad(fmt.Errorf("%v: Addr6 is an IPv6 address", d.Addr6))
		}
		for _, a := range d.Addrs() {
			if !a.IsValid() {
				continue // told of the link
			}
			if other, taken := owner[a]; taken && other != d.Name {
				errs = append(errs, fmt.Errorf("%s and %s both have the address %v", other, d.Name, a))
			}
			if err := ip.validateAddr(a); err != nil {
				bad(fmt.Errorf("%v: %w", a, err))
			}
			owner[a] = d.Name
		}
	}
	return errs
}

// validateAddr returns why no node of the network can have an address.
func (v IPVersion) validateAddr(a netip.Addr) error {
	switch {
	case a.IsUnspecified() || a.IsMulticast():
		return errors.New("want an address of a node")
	case a.Is4In6():
		return errors.New("want the IPv4 address itself")
	case a.Is6() && a.IsLinkLocalUnicast() || a.Zone() != "":
		return errors.New("want an address that is valid beyond one link, and no zone")
	case !v.Has(versionOf(a)):
		return v.lacks(versionOf(a))
	}
	return nil
}

// validateLink checks that a link has both addresses or none, in the fields of their
// version.
func (v IPVersion) validateLink(outer string, e End) (errs []error) {
	bad := func(text string) { errs = append(errs, fmt.Errorf("link of %s and %s: %s", outer, e.Peer, text)) }
	both := func(a, b netip.Addr, text string) { bad(fmt.Sprintf("%v and %v: %s", a, b, text)) }
	if e.Addr.IsValid() != e.PeerAddr.IsValid() || e.Addr6.IsValid() != e.PeerAddr6.IsValid() {
		bad("an address at one end only: give both or none")
		return errs
	}
	switch {
	case !e.Addr.IsValid():
	case versionOf(e.Addr) != versionOf(e.PeerAddr):
		both(e.Addr, e.PeerAddr, "want both of one version of IP")
	case v == DualStack && e.Addr.Is6():
		both(e.Addr, e.PeerAddr, "the IPv6 addresses of a dual-stack network are OuterAddr6 and InnerAddr6")
	}
	switch {
	case !e.Addr6.IsValid():
	case v != DualStack:
		both(e.Addr6, e.PeerAddr6, "OuterAddr6 and InnerAddr6 are of a dual-stack network: want them in OuterAddr and InnerAddr")
	case e.Addr6.Is4() || e.PeerAddr6.Is4():
		both(e.Addr6, e.PeerAddr6, "OuterAddr6 and InnerAddr6 are IPv6 addresses")
	}
	return errs
}
