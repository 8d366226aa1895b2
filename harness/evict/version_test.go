//go:build linux

package evict_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"twlab/harness/evict"
	"twlab/harness/internal/arrivaltest"
	"twlab/harness/internal/nstest"
	"twlab/harness/kernel"
	"twlab/harness/ns"
	"twlab/harness/observe"
)

// row is a client, a gateway with one port, and a server, over one IP version.
type row struct {
	t                       *testing.T
	client, gateway, server *ns.Namespace
	family                  int
	tables                  string // the program
	at                      netip.Addr
}

func newRow(t *testing.T, family int) *row {
	t.Helper()
	r := &row{t: t, client: nstest.New(t), gateway: nstest.New(t), server: nstest.New(t), family: family, tables: "iptables"}
	prefix, bits := "10.0.%d.%d", 24
	if family == unix.AF_INET6 {
		r.tables, prefix, bits = "ip6tables", "fd00:%d::%d", 64
	}
	for i, outer := range []*ns.Namespace{r.client, r.server} {
		peer := fmt.Sprintf("link%d", i)
		r.check(outer.Use(func(fd int) error {
			return r.gateway.Do(func() error {
				link := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: peer}, PeerName: "eth0", PeerNamespace: netlink.NsFd(fd)}
				return errors.Join(netlink.LinkAdd(link), up(peer, fmt.Sprintf(prefix+"/%d", i, 1, bits)))
			})
		}))
		r.check(outer.Do(func() error { return up("eth0", fmt.Sprintf(prefix+"/%d", i, 2, bits)) }))
	}
	r.at = netip.MustParseAddr(fmt.Sprintf(prefix, 1, 2))
	gateway := netip.MustParseAddr(fmt.Sprintf(prefix, 0, 1))
	everything, err := netlink.ParseIPNet(map[int]string{unix.AF_INET: "0.0.0.0/0", unix.AF_INET6: "::/0"}[family])
	r.check(err)
	r.check(r.client.Do(func() error {
		return errors.Join(
			netlink.RouteAdd(&netlink.Route{Gw: gateway.AsSlice(), Dst: everything}),
			kernel.WriteSysctl("net.ipv4.tcp_timestamps", "2")) // one clock, so that the server's TIME_WAIT refuses nobody
	}))
	r.check(r.gateway.Do(func() error {
		return errors.Join(
			kernel.WriteSysctl("net.ipv4.ip_forward", "1"), kernel.WriteSysctl("net.ipv6.conf.all.forwarding", "1"),
			r.rule("nat", "POSTROUTING", "-o link1 -p tcp -j MASQUERADE --to-ports 2000-2000"))
	}))
	r.await("links up", func() bool {
		return r.up(r.client, "eth0") && r.up(r.server, "eth0") && r.up(r.gateway, "link0") && r.up(r.gateway, "link1")
	})
	for i, n := range []*ns.Namespace{r.client, r.server} {
		arrivaltest.Await(t, n, netip.MustParseAddr(fmt.Sprintf(prefix, i, 2)))
		arrivaltest.Await(t, r.gateway, netip.MustParseAddr(fmt.Sprintf(prefix, i, 1)))
	}
	return r
}

func up(name, address string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	parsed, err := netlink.ParseAddr(address)
	if err != nil {
		return err
	}
	if parsed.IP.To4() == nil {
		parsed.Flags = unix.IFA_F_NODAD
	}
	return errors.Join(netlink.AddrAdd(link, parsed), netlink.LinkSetUp(link))
}

func (r *row) up(n *ns.Namespace, name string) (is bool) {
	r.check(n.Do(func() error {
		link, err := netlink.LinkByName(name)
		is = err == nil && link.Attrs().OperState == netlink.OperUp
		return err
	}))
	return is
}

// rule adds a rule in the calling thread's namespace.
func (r *row) rule(table, chain, spec string) error {
	arguments := append([]string{"-w", "-t", table, "-A", chain}, strings.Fields(spec)...)
	if text, err := exec.CommandContext(r.t.Context(), r.tables, arguments...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", r.tables, err, text)
	}
	return nil
}

func (r *row) check(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *row) await(event string, seen func() bool) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 20*time.Second)
	defer cancel()
	r.check(observe.Await(ctx, event, func() (bool, error) { return seen(), nil }))
}

func (r *row) address(port int) unix.Sockaddr {
	if r.family == unix.AF_INET6 {
		return &unix.SockaddrInet6{Addr: r.at.As16(), Port: port}
	}
	return &unix.SockaddrInet4{Addr: r.at.As4(), Port: port}
}

func (r *row) socket(n *ns.Namespace, then func(fd int) error) (fd int) {
	r.t.Helper()
	r.check(n.Do(func() (err error) {
		fd, err = unix.Socket(r.family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		return errors.Join(err, then(fd))
	}))
	return fd
}

// connect begins a connection from a socket of its own.
func (r *row) connect() (fd int) {
	return r.socket(r.client, func(fd int) error {
		if err := unix.Connect(fd, r.address(80)); !errors.Is(err, unix.EINPROGRESS) {
			return fmt.Errorf("connect: %w", err)
		}
		return nil
	})
}

// The gateway's one port belongs to a connection that has ended, and whoever comes next gets
// it only where nothing prevents eviction.
func TestTheOnlyPortIsKeptInBothVersions(t *testing.T) {
	release, err := kernel.Running()
	if err != nil {
		t.Fatal(err)
	}
	for name, family := range map[string]int{"IPv4": unix.AF_INET, "IPv6": unix.AF_INET6} {
		for _, prevented := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, prevented %v", name, prevented), func(t *testing.T) {
				if !prevented && release.Before(6, 5) {
					t.Skipf("Linux %v does not evict", release)
				}
				tryOnlyPort(t, newRow(t, family), prevented)
			})
		}
	}
}

func tryOnlyPort(t *testing.T, r *row, prevented bool) {
	if prevented {
		p, err := evict.Prevent(r.gateway.Do)
		r.check(err)
		defer func() { r.check(p.Close()) }()
		for _, rule := range evict.Rules() {
			r.check(r.gateway.Do(func() error { return r.rule(rule.Table, rule.Chain, rule.Spec) }))
		}
	}
	var states []string
	failed := func() (n uint64) {
		states = nil
		r.check(r.gateway.Do(func() error {
			counters, err := observe.ReadCounters()
			n = counters["Conntrack.insert_failed"]
			flows, otherErr := observe.ReadFlows()
			for _, f := range flows {
				states = append(states, f.State)
			}
			return errors.Join(err, otherErr)
		}))
		return n
	}
	listener := r.socket(r.server, func(fd int) error { return errors.Join(unix.Bind(fd, r.address(80)), unix.Listen(fd, 5)) })
	var accepted int
	accept := func() bool {
		fd, _, err := unix.Accept(listener)
		accepted = fd
		return err == nil
	}
	first := r.connect()
	r.await("the first connection", accept)
	r.check(errors.Join(unix.Close(accepted), unix.Close(first)))
	r.await("its end", func() bool { failed(); return strings.Join(states, " ") == "TIME_WAIT" })

	// Several, because without prevention the kernel does not evict for each of them.
	const others = 20
	before := failed()
	var waiting [others]int
	for i := range waiting {
		waiting[i] = r.connect()
	}
	if prevented {
		r.await("the gateway to find a port for none", func() bool { return failed() >= before+others })
		if accept() {
			t.Error("one of them got the port")
			r.check(unix.Close(accepted))
		}
	} else {
		r.await("one that gets the port", accept)
		r.check(unix.Close(accepted))
	}
	for _, fd := range waiting {
		r.check(unix.Close(fd))
	}
	r.check(unix.Close(listener))
}
