//go:build linux

package observe

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"twlab/harness/internal/nstest"
	"twlab/harness/ns"
)

// chain is a client, three gateways that translate the source, and a server, in a row. The
// link after node i has the prefixes 10.0.i.0/24 and fd00:i::/64; its near end is .1, its
// far end .2.
type chain struct {
	*network
	nodes []*ns.Namespace
	names []string
}

func newChain(t *testing.T, v version) *chain {
	c := &chain{
		network: &network{t: t, version: v},
		names:   []string{"client0", "near", "middle", "far", "server"},
	}
	for range c.names {
		c.nodes = append(c.nodes, nstest.New(t))
	}
	for i := range len(c.nodes) - 1 {
		c.gateway = c.nodes[i] // the end to which wire gives the second pair
		c.wire(c.nodes[i+1], "toClient", fmt.Sprintf("10.0.%d.2/24 fd00:%d::2/64", i, i), "toServer", fmt.Sprintf("10.0.%d.1/24 fd00:%d::1/64", i, i))
	}
	for i, n := range c.nodes {
		if i < len(c.nodes)-1 {
			c.in(n, func() error {
				return errors.Join(
					netlink.RouteAdd(&netlink.Route{Gw: net.ParseIP(fmt.Sprintf("10.0.%d.2", i)), Dst: &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}}),
					netlink.RouteAdd(&netlink.Route{Gw: net.ParseIP(fmt.Sprintf("fd00:%d::2", i)), Dst: &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}}))
			})
		}
		if i > 0 && i < len(c.nodes)-1 {
			c.sysctl(n, "net/ipv4/ip_forward", "1")
			c.sysctl(n, "net/ipv6/conf/all/forwarding", "1")
			c.gateway = n
			c.rule("nat", "POSTROUTING", "-o", "toServer", "-j", "MASQUERADE")
		}
	}
	c.await("links up", func() bool {
		up := true
		for i, n := range c.nodes {
			up = up && (i == 0 || isUp(n, "toClient")) && (i == len(c.nodes)-1 || isUp(n, "toServer"))
		}
		return up
	})
	for i, n := range c.nodes {
		if i > 0 {
			c.tap(n, c.names[i], "toClient")
		}
		if i < len(c.nodes)-1 {
			c.tap(n, c.names[i], "toServer")
		}
	}
	return c
}

// addr is the address of one end of the link after node i.
func (c *chain) addr(i, end int) netip.Addr {
	if c.number == 6 {
		return netip.MustParseAddr(fmt.Sprintf("fd00:%d::%d", i, end))
	}
	return netip.MustParseAddr(fmt.Sprintf("10.0.%d.%d", i, end))
}

// A connection through three NATs is followed to the server, and where a gateway drops its
// SYN the account says which.
func TestAccountOverThreeNATs(t *testing.T) {
	for _, v := range []version{ipv4, ipv6} {
		t.Run(fmt.Sprintf("IPv%d", v.number), func(t *testing.T) { tryThreeNATs(t, newChain(t, v)) })
	}
}

func tryThreeNATs(t *testing.T, c *chain) {
	c.private = netip.AddrPortFrom(c.addr(0, 1), 40001)
	c.endpoint = netip.AddrPortFrom(c.addr(3, 2), 80)
	c.client, c.balancer = c.nodes[0], c.nodes[4]
	path := Path{Client: c.names[0], Gateways: c.names[1:4], Server: c.names[4]}
	account := func(client netip.AddrPort) SYNAccount {
		var packets []Packet
		for _, tap := range c.taps {
			packets = append(packets, tap.Since(0)...)
		}
		return AccountSYNs(packets, path, client, c.endpoint)
	}

	client, server := c.connect(c.listen(), 40001, 0)
	want := "1 sent"
	for i, name := range path.Gateways {
		want += fmt.Sprintf(", 1 entered and 1 left %s as %v", name, netip.AddrPortFrom(c.addr(i+1, 1), 40001))
	}
	want += ", 1 reached server: 1 answered by SYN-ACK"
	if got := account(c.private); got.String() != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}

	c.gateway = c.nodes[2]
	c.rule("filter", "FORWARD", "-p", "tcp", "--syn", "-j", "DROP")
	second := c.socket(40002, 0, unix.SOCK_NONBLOCK)
	if err := c.toEndpoint(second); !errors.Is(err, unix.EINPROGRESS) {
		t.Fatalf("connect: got %v, want EINPROGRESS", err)
	}
	from := netip.AddrPortFrom(c.private.Addr(), 40002)
	c.await("the SYN in the middle", func() bool { a := account(from); return a.Sent > 0 && a.SYNs[0].Hops[1].Entered })
	dropped := account(from).SYNs[0]
	if ended := path.Ended(dropped.Way); ended != "dropped by middle" || dropped.As.Addr() != c.addr(1, 1) {
		t.Errorf("%s as %v, want dropped by middle as %v", ended, dropped.As, c.addr(1, 1))
	}
	c.check(errors.Join(unix.Close(second), unix.Close(client), unix.Close(server)))
}
