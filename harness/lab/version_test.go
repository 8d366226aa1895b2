//go:build linux

package lab_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"twlab/harness/internal/labtest"
	"twlab/harness/internal/nstest"
	"twlab/harness/lab"
	"twlab/harness/observe"
	"twlab/harness/topo"
)

// versions are the versions of IP that a network can have.
var versions = []topo.IPVersion{topo.IPv4, topo.IPv6, topo.DualStack}

// eachVersion runs a test in a network of each version, for each version that it has.
func eachVersion(t *testing.T, test func(t *testing.T, network, v topo.IPVersion)) {
	privileged(t)
	for _, network := range versions {
		for _, v := range network.Versions() {
			t.Run(fmt.Sprintf("%s in %s", v, network), func(t *testing.T) { test(t, network, v) })
		}
	}
}

// write writes an address of 10.0.0.0/8, 192.0.2.0/24 or 198.51.100.0/24 as one of version v: 10.1.0.2 as
// fd00::10:1:0:2.
func write(v topo.IPVersion, addr string) netip.Addr {
	four := netip.MustParseAddr(addr)
	if v != topo.IPv6 {
		return four
	}
	n := four.As4()
	return netip.MustParseAddr(fmt.Sprintf("fd00::%d:%d:%d:%d", n[0], n[1], n[2], n[3]))
}

// sockaddr is what system calls want of an address.
func sockaddr(at netip.AddrPort) (family int, sa unix.Sockaddr) {
	if at.Addr().Is4() {
		return unix.AF_INET, &unix.SockaddrInet4{Addr: at.Addr().As4(), Port: int(at.Port())}
	}
	return unix.AF_INET6, &unix.SockaddrInet6{Addr: at.Addr().As16(), Port: int(at.Port())}
}

func addrPort(sa unix.Sockaddr) netip.AddrPort {
	switch in := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(in.Addr), uint16(in.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(in.Addr), uint16(in.Port))
	}
	return netip.AddrPort{}
}

// openAt opens a blocking TCP socket at a node, which resets its connection when the test
// ends.
func openAt(t *testing.T, l *lab.Lab, name string, family int) (fd int) {
	t.Helper()
	inside, err := l.Inside(name)
	if err != nil {
		t.Fatal(err)
	}
	err = inside(func() (err error) {
		fd, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) }) // nothing is written to it that could be lost
	err = errors.Join(
		unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 20}))
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

// listenAt opens a listener at a node.
func listenAt(t *testing.T, l *lab.Lab, name string, at netip.AddrPort) (fd int) {
	t.Helper()
	family, sa := sockaddr(at)
	fd = openAt(t, l, name, family)
	if err := errors.Join(unix.Bind(fd, sa), unix.Listen(fd, 16)); err != nil {
		t.Fatalf("listen on %v at %s: %v", at, name, err)
	}
	return fd
}

// dial makes one connect from a node and returns what connect(2) says.
func dial(t *testing.T, l *lab.Lab, from string, to netip.AddrPort) (fd int, err error) {
	t.Helper()
	return dialFrom(t, l, from, 0, to)
}

// dialFrom makes one connect from a port of a node; with 0 the kernel chooses one.
func dialFrom(t *testing.T, l *lab.Lab, from string, port uint16, to netip.AddrPort) (fd int, err error) {
	t.Helper()
	family, sa := sockaddr(to)
	fd = openAt(t, l, from, family)
	if port != 0 {
		_, own := sockaddr(netip.AddrPortFrom(anyAddr(to.Addr()), port))
		if err := unix.Bind(fd, own); err != nil {
			t.Fatalf("bind to port %d at %s: %v", port, from, err)
		}
	}
	return fd, unix.Connect(fd, sa)
}

// anyAddr is the address that binds to every address of a's version.
func anyAddr(a netip.Addr) netip.Addr {
	if a.Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

// acceptFrom accepts a connection, and returns it and whose it is.
func acceptFrom(t *testing.T, listener int) (fd int, peer netip.Addr) {
	t.Helper()
	fd, sa, err := unix.Accept4(listener, unix.SOCK_CLOEXEC)
	if err != nil {
		t.Fatalf("accept: %v", err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) }) // it is reset
	return fd, addrPort(sa).Addr()
}

// Each topology carries connections of each version, and the end sees the right source.
func TestEveryTopologyCarriesEveryVersion(t *testing.T) {
	client := map[topo.IPVersion]string{topo.IPv4: "10.10.0.3", topo.IPv6: "fd74:776c:6162:0:10:10:0:3"}
	gateway := map[topo.IPVersion]string{topo.IPv4: "10.20.0.1", topo.IPv6: "fd74:776c:6162:0:10:20:0:1"}
	for name, c := range map[string]struct {
		topology lab.Topology
		seen     map[topo.IPVersion]string
	}{
		"direct":         {lab.Topology{}, client},
		"routed":         {lab.Topology{Gateway: lab.GatewaySpec{Kind: lab.Routed}}, client},
		"masquerade":     {lab.Topology{Gateway: lab.GatewaySpec{Kind: lab.Masquerade}}, gateway},
		"ports of each":  {lab.Topology{Gateway: lab.GatewaySpec{Kind: lab.Masquerade, Ports: lab.PortRange{First: 1024, Last: 2047}, PerClient: 100}}, gateway},
		"DNAT":           {lab.Topology{Servers: 1, Balancer: lab.BalancerSpec{Kind: lab.DNAT}}, client},
		"gateway, DNAT ": {lab.Topology{Servers: 1, Balancer: lab.BalancerSpec{Kind: lab.DNAT}, Gateway: lab.GatewaySpec{Kind: lab.Masquerade}}, gateway},
	} {
		t.Run(name, func(t *testing.T) {
			eachVersion(t, func(t *testing.T, network, v topo.IPVersion) {
				topology := c.topology
				topology.Clients, topology.IP, topology.Sysctls = 2, network, lab.On(lab.Client, "net.ipv4.tcp_syn_retries=2")
				l := labtest.Build(t, topology)
				at, end := topology.VIPOf(v), "balancer"
				if topology.Servers > 0 {
					at, end = topology.BehindOf(v)[0], "server0"
				}
				listener := listenAt(t, l, end, at)
				for range 3 {
					if _, err := dial(t, l, "client1", topology.VIPOf(v)); err != nil {
						t.Fatalf("client1 to %v: %v", topology.VIPOf(v), err)
					}
					if _, peer := acceptFrom(t, listener); peer != netip.MustParseAddr(c.seen[v]) {
						t.Errorf("%s sees %v, want %s", end, peer, c.seen[v])
					}
				}
				id := get(t, l, "client1").Identity()
				if id.AddrOf(v) != netip.MustParseAddr(client[v]) || id.Addr != id.AddrOf(network.Versions()[0]) {
					t.Errorf("the client is %+v", id)
				}
			})
		})
	}
}

// Of a version that the network does not have, nothing is there: no address, no route.
func TestOtherVersionIsNotThere(t *testing.T) {
	for network, other := range map[topo.IPVersion]topo.IPVersion{topo.IPv4: topo.IPv6, topo.IPv6: topo.IPv4} {
		t.Run(string(network), func(t *testing.T) {
			l := labtest.Build(t, lab.Topology{Clients: 1, IP: network})
			if _, err := dial(t, l, "client0", netip.AddrPortFrom(write(other, "10.20.0.2"), 80)); !errors.Is(err, unix.ENETUNREACH) && !errors.Is(err, unix.EADDRNOTAVAIL) {
				t.Errorf("connect by %s: %v, want ENETUNREACH", other, err)
			}
		})
	}
}

// counters6 reads the IPv6 counters of a node, which count from the birth of its namespace
// (/proc/net/snmp6).
func counters6(t *testing.T, inside func(func() error) error) map[string]int {
	t.Helper()
	counters := map[string]int{}
	err := inside(func() error {
		text, err := os.ReadFile("/proc/thread-self/net/snmp6")
		for line := range strings.Lines(string(text)) {
			var name string
			var n int
			if _, err := fmt.Sscan(line, &name, &n); err != nil {
				return err
			}
			counters[name] = n
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return counters
}

// A lab sends no packet of the kernel's own by IPv6: no multicast listener reports, no
// router solicitations, no duplicate address detection. Links that were made later have
// sent all that meanwhile.
func TestLabsAreQuiet(t *testing.T) {
	privileged(t)
	labs := map[string]*lab.Lab{}
	for _, network := range versions {
		for _, without := range []bool{false, true} {
			labs[fmt.Sprintf("%s, no baseline %v", network, without)] = labtest.Build(t, lab.Topology{
				Clients: 2, Servers: 1, IP: network, NoBaseline: without,
				Gateway: lab.GatewaySpec{Kind: lab.Routed}, Balancer: lab.BalancerSpec{Kind: lab.DNAT},
			})
		}
	}
	noisy := nstest.New(t)
	err := noisy.Do(func() error {
		one := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "one"}, PeerName: "other"}
		other := &netlink.Device{LinkAttrs: netlink.LinkAttrs{Name: "other"}}
		return errors.Join(netlink.LinkAdd(one), netlink.LinkSetUp(one), netlink.LinkSetUp(other))
	})
	if err != nil {
		t.Fatal(err)
	}
	within, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	err = observe.Await(within, "what a link sends by itself", func() (bool, error) {
		sent := counters6(t, noisy.Do)
		return sent["Icmp6OutMLDv2Reports"] >= 4 && sent["Icmp6OutRouterSolicits"] >= 2 && sent["Icmp6OutNeighborSolicits"] >= 2, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, l := range labs {
		for _, node := range []string{"client0", "client1", "gateway", "balancer", "server0"} {
			inside, err := l.Inside(node)
			if err != nil {
				t.Fatal(err)
			}
			if sent := counters6(t, inside); sent["Ip6OutRequests"]+sent["Icmp6OutMsgs"] > 0 {
				t.Errorf("%s: %s sent %d packets by IPv6: %v", name, node, sent["Ip6OutRequests"], sent)
			}
		}
	}
}

// A machine without ip6tables is one error that names it, and only networks with IPv6 need
// it.
func TestBuildSaysThatIP6TablesIsMissing(t *testing.T) {
	privileged(t)
	dir := t.TempDir()
	program, err := exec.LookPath("iptables")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(program, filepath.Join(dir, "iptables")); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
	for _, network := range versions {
		l, err := lab.Build(t.Context(), lab.Topology{Clients: 1, IP: network, Gateway: lab.GatewaySpec{Kind: lab.Masquerade}})
		if err == nil {
			err = l.Close()
		}
		if network == topo.IPv4 && err != nil || network != topo.IPv4 && (err == nil || !strings.Contains(err.Error(), "ip6tables is not installed") || !strings.Contains(err.Error(), "hack/bootstrap")) {
			t.Errorf("%s: %v", network, err)
		}
	}
}

// A kernel without IPv6 is one error that says so, and only networks with IPv6 need it.
func TestBuildSaysThatIPv6IsMissing(t *testing.T) {
	privileged(t)
	const at = "/proc/sys/net" // without the entries of every namespace
	if err := unix.Mount("none", at, "tmpfs", 0, ""); err != nil {
		t.Skip("needs a mount namespace of its own: run it with hack/test: ", err)
	}
	defer func() {
		if err := unix.Unmount(at, 0); err != nil {
			t.Error(err)
		}
	}()
	for _, network := range versions {
		l, err := lab.Build(t.Context(), lab.Topology{Clients: 1, IP: network})
		if err == nil {
			err = l.Close()
		}
		if network == topo.IPv4 && err != nil || network != topo.IPv4 && (!errors.Is(err, lab.ErrNoIPv6) || !strings.Contains(err.Error(), "ipv6.disable=1")) {
			t.Errorf("%s: %v", network, err)
		}
	}
}
