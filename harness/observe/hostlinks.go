//go:build linux

package observe

import (
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// linkNames are the names of links by index.
type linkNames map[int]string

func (n linkNames) of(index int) string {
	if name, ok := n[index]; ok {
		return name
	}
	return fmt.Sprintf("#%d", index) // it appeared or disappeared between two lists
}

// linkFlags are the flags that an administrator sets; the others report the state of the
// link (IFF_RUNNING, IFF_LOWER_UP).
var linkFlags = []struct {
	bit  uint32
	name string
}{
	{unix.IFF_UP, "up"},
	{unix.IFF_NOARP, "noarp"},
	{unix.IFF_PROMISC, "promisc"},
	{unix.IFF_ALLMULTI, "allmulti"},
	{unix.IFF_MULTICAST, "multicast"},
}

func (s *Snapshot) addLinks() (linkNames, error) {
	links, err := listed("links", netlink.LinkList)
	if err != nil {
		return nil, err
	}
	names := make(linkNames, len(links))
	for _, l := range links {
		names[l.Attrs().Index] = l.Attrs().Name
	}
	for _, l := range links {
		a := l.Attrs()
		words := []string{"link", a.Name, "index", fmt.Sprint(a.Index), "type", l.Type(), "mtu", fmt.Sprint(a.MTU)}
		if len(a.HardwareAddr) > 0 {
			words = append(words, "address", a.HardwareAddr.String())
		}
		for _, f := range linkFlags {
			if a.RawFlags&f.bit != 0 {
				words = append(words, f.name)
			}
		}
		if a.MasterIndex != 0 {
			words = append(words, "master", names.of(a.MasterIndex))
		}
		s.add(words...)
	}
	return names, nil
}

func (s *Snapshot) addAddresses(names linkNames) error {
	addresses, err := listed("addresses", func() ([]netlink.Addr, error) { return netlink.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return err
	}
	for _, a := range addresses {
		if a.IP.To4() == nil && a.Flags&unix.IFA_F_TEMPORARY != 0 {
			continue // the kernel makes a new one every day (RFC 8981); for IPv4 the same bit means secondary
		}
		words := []string{"address", a.IPNet.String(), "dev", names.of(a.LinkIndex), "scope", netlink.Scope(a.Scope).String()}
		if a.Peer != nil && a.Peer.String() != a.IPNet.String() {
			words = append(words, "peer", a.Peer.String())
		}
		s.add(words...)
	}
	return nil
}
