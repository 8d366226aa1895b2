//go:build linux

package lab_test

import (
	"errors"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"twlab/harness/guest"
	"twlab/harness/internal/labtest"
	"twlab/harness/topo"
)

// A guest has its addresses, those of its own, its default route and its further routes, of
// each version: it answers whoever asks, and its answers find their way.
func TestGuestOfEachVersion(t *testing.T) {
	privileged(t)
	kernel := labtest.Kernel(t)
	host, err := machines()
	if err != nil {
		t.Fatal(err)
	}
	for _, network := range versions {
		t.Run(string(network), func(t *testing.T) { testGuestOf(t, network, guest.Kind{Host: host, Kernel: kernel}) })
	}
}

func testGuestOf(t *testing.T, network topo.IPVersion, kind guest.Kind) {
	var own, far []netip.Addr
	for _, v := range network.Versions() {
		own, far = append(own, write(v, "192.0.2.1")), append(far, write(v, "198.51.100.1"))
	}
	to := func(all []netip.Addr, via string) (routes []topo.Route) {
		for _, a := range all {
			routes = append(routes, topo.Route{To: netip.PrefixFrom(a, a.BitLen()), Via: via})
		}
		return routes
	}
	l := labtest.BuildNetwork(t, topo.Network{
		IP: network,
		Nodes: []topo.Node{
			{Identity: topo.Identity{Name: "client0", Role: topo.Client}},
			{Identity: topo.Identity{Name: "router"}, Forwards: true, Routes: to(own, "server")},
			{Identity: topo.Identity{Name: "server", Role: topo.Server}, Kind: kind, Own: own, Routes: append(to(far, "far"), topo.Route{Via: "router"})},
			{Identity: topo.Identity{Name: "far"}, Own: far, Routes: to(own, "server")},
		},
		Links:   []topo.Link{{Outer: "client0", Inner: "router"}, {Outer: "server", Inner: "router"}, {Outer: "far", Inner: "server"}},
		Sysctls: topo.On(topo.Client, "net.ipv4.tcp_syn_retries=3").OnNode("far", "net.ipv4.tcp_syn_retries=3"),
	})
	for i, v := range network.Versions() {
		for _, at := range []netip.Addr{get(t, l, "server").Identity().AddrOf(v), own[i]} {
			if _, err := dial(t, l, "client0", netip.AddrPortFrom(at, 9)); !errors.Is(err, unix.ECONNREFUSED) {
				t.Errorf("client0 to %v: %v, want ECONNREFUSED", at, err)
			}
		}
		family, sa := sockaddr(netip.AddrPortFrom(own[i], 9))
		_, from := sockaddr(netip.AddrPortFrom(far[i], 0))
		fd := openAt(t, l, "far", family)
		if err := errors.Join(unix.Bind(fd, from), unix.Connect(fd, sa)); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("%v to %v: %v, want ECONNREFUSED", far[i], own[i], err)
		}
	}
}
