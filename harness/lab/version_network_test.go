//go:build linux

package lab_test

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"twlab/harness/internal/labtest"
	"twlab/harness/lab"
	"twlab/harness/observe"
	"twlab/harness/topo"
)

// Three gateways in a row translate, of each version.
func TestThreeHopsOfNATOfEachVersion(t *testing.T) {
	eachVersion(t, func(t *testing.T, network, v topo.IPVersion) {
		masquerade := func(towards string) []topo.SourceNAT { return []topo.SourceNAT{{Towards: towards}} }
		l := labtest.BuildNetwork(t, topo.Network{
			IP: network,
			Nodes: []topo.Node{
				{Identity: topo.Identity{Name: "phone", Role: topo.Client}},
				{Identity: topo.Identity{Name: "router"}, Forwards: true, SourceNAT: masquerade("carrier")},
				{Identity: topo.Identity{Name: "carrier"}, Forwards: true, SourceNAT: masquerade("cgn")},
				{Identity: topo.Identity{Name: "cgn", Role: topo.Gateway}, Forwards: true, SourceNAT: masquerade("vip")},
				{Identity: topo.Identity{Name: "vip", Role: topo.Balancer}},
			},
			Links: []topo.Link{{Outer: "phone", Inner: "router"}, {Outer: "router", Inner: "carrier"}, {Outer: "carrier", Inner: "cgn"}, {Outer: "vip", Inner: "cgn"}},
		})
		at := netip.AddrPortFrom(l.Balancer().Identity().AddrOf(v), 80)
		listener := listenAt(t, l, "vip", at)
		if _, err := dial(t, l, "phone", at); err != nil {
			t.Fatal(err)
		}
		_, peer := acceptFrom(t, listener)
		flows := flowsAt(t, l, "cgn", v)
		if len(flows) != 1 || peer != addrOf(flows[0].Reverse.DstIP) || addrOf(flows[0].Forward.SrcIP) == l.Client(0).Identity().AddrOf(v) {
			t.Errorf("the last gateway has %v, and the listener sees %v", flows, peer)
		}
	})
}

func addrOf(ip []byte) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}

// flowsAt lists the conntrack entries of a node, of one version.
func flowsAt(t *testing.T, l *lab.Lab, name string, v topo.IPVersion) (flows []*netlink.ConntrackFlow) {
	t.Helper()
	inside, err := l.Inside(name)
	if err != nil {
		t.Fatal(err)
	}
	family := netlink.InetFamily(unix.AF_INET)
	if v == topo.IPv6 {
		family = unix.AF_INET6
	}
	err = inside(func() (err error) {
		flows, err = netlink.ConntrackTableList(netlink.ConntrackTable, family) //nolint:forbidigo // an interrupted dump is an error, which fails the test
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return flows
}

// ofVersion rewrites the addresses of twoBalancers.
func ofVersion(n topo.Network, network, v topo.IPVersion) topo.Network {
	n.IP = network
	if v == topo.IPv4 {
		return n
	}
	rewrite := func(a netip.Addr) netip.Addr { return write(v, a.String()) }
	for i := range n.Nodes {
		d := &n.Nodes[i]
		for k, a := range d.Own {
			d.Own[k] = rewrite(a)
		}
		for k, r := range d.Routes {
			if r.To.IsValid() {
				a := rewrite(r.To.Addr())
				d.Routes[k].To = netip.PrefixFrom(a, a.BitLen())
			}
		}
		for k, nat := range d.DestinationNAT {
			d.DestinationNAT[k].At = netip.AddrPortFrom(rewrite(nat.At.Addr()), nat.At.Port())
			for j, to := range nat.To {
				nat.To[j] = netip.AddrPortFrom(rewrite(to.Addr()), to.Port())
			}
		}
		if d.Addr.IsValid() {
			if d.Addr = rewrite(d.Addr); network == topo.DualStack {
				d.Addr, d.Addr6 = netip.Addr{}, d.Addr
			}
		}
	}
	for i := range n.Links {
		k := &n.Links[i]
		if !k.OuterAddr.IsValid() {
			continue
		}
		k.OuterAddr, k.InnerAddr = rewrite(k.OuterAddr), rewrite(k.InnerAddr)
		if network == topo.DualStack {
			k.OuterAddr6, k.InnerAddr6 = k.OuterAddr, k.InnerAddr
			k.OuterAddr, k.InnerAddr = netip.Addr{}, netip.Addr{}
		}
	}
	return n
}

// Replies go back as they came by a mark, of each version: tcp_fwmark_accept acts on IPv6
// connections too. The marked routes are there again after a link was down.
func TestTwoBalancersOfEachVersion(t *testing.T) {
	t.Parallel() // it waits
	for replies, want := range map[topo.Replies]error{
		topo.ByRoute: unix.ETIMEDOUT, topo.AsTheyCame: nil, topo.ByAcceptMark: nil,
	} {
		t.Run("replies "+string(replies), func(t *testing.T) {
			eachVersion(t, func(t *testing.T, network, v topo.IPVersion) {
				l := labtest.BuildNetwork(t, ofVersion(twoBalancers(replies), network, v))
				listenAt(t, l, "server0", netip.AddrPortFrom(write(v, "10.1.0.2"), 80))
				// Each from a port of its own. The kernel may choose one port for both VIPs, since their
				// addresses differ, and at the server the two connections would be one.
				port := uint16(40000)
				check := func(when string) {
					t.Helper()
					for vip, want := range map[string]error{"192.0.2.1": nil, "192.0.2.2": want} {
						port++
						if _, err := dialFrom(t, l, "client0", port, netip.AddrPortFrom(write(v, vip), 80)); !errors.Is(err, want) {
							t.Errorf("%s, by %s: %v, want %v", when, vip, err, want)
						}
					}
				}
				check("at first")
				for _, link := range []string{"server0", "server0/eth1"} {
					for _, up := range []bool{false, true} {
						if err := l.SetLink(t.Context(), link, up); err != nil {
							t.Fatal(err)
						}
					}
				}
				check("when both links were down")
			})
		})
	}
}

// What connection tracking sees is what a node says, of each version.
func TestTrackingOfEachVersion(t *testing.T) {
	for tracking, want := range map[topo.Tracking]int{topo.AsRulesWant: 0, topo.Always: 1, topo.Never: 0, topo.Arriving: 1} {
		t.Run("tracking "+string(tracking), func(t *testing.T) {
			eachVersion(t, func(t *testing.T, network, v topo.IPVersion) {
				l := labtest.BuildNetwork(t, topo.Network{
					IP: network,
					Nodes: []topo.Node{
						{Identity: topo.Identity{Name: "client0", Role: topo.Client}},
						{Identity: topo.Identity{Name: "router", Role: topo.Gateway}, Forwards: true, Tracking: tracking},
						{Identity: topo.Identity{Name: "server0", Role: topo.Server}},
					},
					Links: []topo.Link{{Outer: "client0", Inner: "router"}, {Outer: "server0", Inner: "router"}},
				})
				at := netip.AddrPortFrom(get(t, l, "server0").Identity().AddrOf(v), 80)
				listenAt(t, l, "server0", at)
				if _, err := dial(t, l, "client0", at); err != nil {
					t.Fatal(err)
				}
				if flows := flowsAt(t, l, "router", v); len(flows) != want {
					t.Errorf("%d entries, want %d", len(flows), want)
				}
			})
		})
	}
}

// Faults end, of each version: a rule is for every version of the network, or the one that it names, and a
// connection goes on when its link comes up again.
func TestFaultsEndOfEachVersion(t *testing.T) {
	t.Parallel() // it waits
	eachVersion(t, func(t *testing.T, network, v topo.IPVersion) {
		l := labtest.BuildNetwork(t, topo.Network{
			IP: network,
			Nodes: []topo.Node{
				{Identity: topo.Identity{Name: "client0", Role: topo.Client}},
				{Identity: topo.Identity{Name: "router", Role: topo.Gateway}, Forwards: true},
				{Identity: topo.Identity{Name: "balancer", Role: topo.Balancer}},
			},
			Links:   []topo.Link{{Outer: "client0", Inner: "router"}, {Outer: "balancer", Inner: "router"}},
			Sysctls: topo.On(topo.Client, "net.ipv4.tcp_syn_retries=1"),
		})
		at := netip.AddrPortFrom(l.Balancer().Identity().AddrOf(v), 80)
		listener := listenAt(t, l, "balancer", at)
		want := func(when string, want error) {
			t.Helper()
			if _, err := dial(t, l, "client0", at); !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", when, err, want)
			}
		}
		try := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		drop := lab.Rule{Role: topo.Gateway, Table: "filter", Chain: "FORWARD", Spec: "-p tcp -j REJECT --reject-with tcp-reset"}
		try(l.AddRules(drop))
		want("with the rule", unix.ECONNREFUSED)
		try(l.RemoveRules(drop))
		want("without it", nil)
		for _, other := range network.Versions() {
			drop.IP = other
			try(l.AddRules(drop))
			if other == v {
				want("with the rule of its version", unix.ECONNREFUSED)
			} else {
				want("with the rule of the other version", nil)
			}
			try(l.RemoveRules(drop))
		}
		open, err := dial(t, l, "client0", at)
		try(err)
		for _, link := range []string{"client0", "balancer"} {
			down := error(unix.ENETUNREACH)
			if link == "balancer" {
				down = unix.ETIMEDOUT
			}
			try(l.SetLink(t.Context(), link, false))
			want("with the link of "+link+" down", down)
			try(l.SetLink(t.Context(), link, true))
			want("with the link of "+link+" up again", nil)
		}
		_, err = unix.Write(open, []byte("x"))
		try(err)
		for range 4 { // the last of these that were connected is it
			fd, _ := acceptFrom(t, listener)
			if name, err := unix.Getpeername(fd); err == nil && addrPort(name) == localOf(t, open) {
				if n, err := unix.Read(fd, make([]byte, 8)); n != 1 || err != nil {
					t.Errorf("the connection from before carries %d bytes, %v", n, err)
				}
				return
			}
		}
		t.Error("the connection from before was not accepted")
	})
}

func localOf(t *testing.T, fd int) netip.AddrPort {
	t.Helper()
	sa, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return addrPort(sa)
}

// A rule that one of two programs refuses is added to neither.
func TestAddRulesOfBothVersionsAddsAllOrNone(t *testing.T) {
	l := labtest.Build(t, lab.Topology{Clients: 1, IP: topo.DualStack})
	rule := lab.Rule{Role: lab.Balancer, Table: "filter", Chain: "INPUT", Spec: "-s 10.10.0.2 -p tcp -j DROP"}
	err := l.AddRules(rule)
	if err == nil || !strings.Contains(err.Error(), "balancer: ip6tables -t filter -A INPUT -s 10.10.0.2") || !strings.Contains(err.Error(), "without IP is one of iptables and of ip6tables") {
		t.Errorf("%v, want what ip6tables refused, and why it was asked", err)
	}
	rules, err := l.Balancer().Rules(t.Context())
	if err != nil || slices.ContainsFunc(rules, func(r observe.RuleHits) bool { return strings.Contains(r.Rule, "DROP") }) {
		t.Errorf("%v, %v, want no rule", rules, err)
	}
	rule.IP = topo.IPv4
	if err := l.AddRules(rule); err != nil {
		t.Error(err)
	}
	rule.IP = topo.DualStack
	if err := l.AddRules(rule); err == nil || !strings.Contains(err.Error(), `unknown version of IP "dual stack"`) {
		t.Errorf("%v, want the versions that a rule can have", err)
	}
}
