package topo

import (
	"encoding/binary"
	"net/netip"
	"regexp"
)

// The addresses of a lab. Every link has host addresses, so a prefix only limits the number
// of nodes.
var (
	clientNet = netip.MustParsePrefix("10.10.0.0/16")
	serverNet = netip.MustParsePrefix("10.30.0.0/16")

	gatewayOutside = netip.MustParseAddr("10.20.0.1")
	balancerAddr   = netip.MustParseAddr("10.20.0.2")
)

// capacity is the number of nodes that fit into a prefix: all addresses except the
// network's, the broadcast's and the inner node's.
func capacity(p netip.Prefix) int { return 1<<(32-p.Bits()) - 3 }

// nodeName matches the possible names of a node, which is also the name of an interface on
// the inner node (IFNAMSIZ is 16, dev_valid_name).
var nodeName = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,14}$`)

// inner is the inner node's address on a prefix, outer the i-th outer node's.
func inner(p netip.Prefix) netip.Addr { return p.Addr().Next() }

func outer(p netip.Prefix, i int) netip.Addr {
	base := p.Addr().As4()
	binary.BigEndian.PutUint32(base[:], binary.BigEndian.Uint32(base[:])+2+uint32(i))
	return netip.AddrFrom4(base)
}
