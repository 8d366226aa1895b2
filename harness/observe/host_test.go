//go:build linux

package observe_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"twlab/harness/internal/nstest"
	"twlab/harness/ns"
	"twlab/harness/observe"
	"twlab/harness/sandbox"
)

func try(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func snapshot(t *testing.T, space *ns.Namespace) observe.Snapshot {
	t.Helper()
	var s observe.Snapshot
	try(t, space.Do(func() error {
		var err error
		s, err = observe.SnapshotHost(t.Context())
		return err
	}))
	return s
}

func mustParse(t *testing.T, prefix string) *net.IPNet {
	t.Helper()
	ip, network, err := net.ParseCIDR(prefix)
	try(t, err)
	network.IP = ip
	return network
}

// command runs a tool in the calling thread's namespace.
func command(t *testing.T, name string, arguments ...string) error {
	t.Helper()
	output, err := exec.CommandContext(t.Context(), name, arguments...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %v: %w: %s", name, arguments, err, output)
	}
	return nil
}

func TestSnapshotSeesEveryChange(t *testing.T) {
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "one"}, PeerName: "other"}
	for _, c := range []struct {
		name   string
		change func() error
		want   []string // beginnings of lines; no others may be there
	}{
		{"link", func() error {
			return netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "new"}, PeerName: "peer"})
		}, []string{"+ link new index", "+ link peer index"}},
		{"mtu", func() error {
			return netlink.LinkSetMTU(veth, 1400)
		}, []string{"- link one index 3 type veth mtu 1500", "- sysctl net.ipv6.conf.one.mtu = 1500", "+ link one index 3 type veth mtu 1400", "+ sysctl net.ipv6.conf.one.mtu = 1400"}},
		{"link down", func() error {
			return netlink.LinkSetDown(veth)
		}, []string{"- link one index", "+ link one index"}},
		{"address", func() error {
			return netlink.AddrAdd(veth, &netlink.Addr{IPNet: mustParse(t, "10.0.1.1/24")})
		}, []string{"+ address 10.0.1.1/24 dev one scope universe", "+ route 10.0.1."}},
		{"route", func() error {
			return netlink.RouteAdd(&netlink.Route{Dst: mustParse(t, "10.9.0.0/16"), LinkIndex: veth.Index, Table: 77})
		}, []string{"+ route 10.9.0.0/16 table 77 type 1 protocol 3 scope universe dev one"}},
		{"IPv6 route", func() error {
			return netlink.RouteAdd(&netlink.Route{Dst: mustParse(t, "fd00:9::/64"), LinkIndex: 1, Priority: 5})
		}, []string{"+ route fd00:9::/64 table 254 type 1 protocol 3 scope universe dev lo metric 5"}},
		{"rule", func() error {
			rule := netlink.NewRule()
			rule.Priority, rule.Mark, rule.Table, rule.Family = 7, 0x20, 77, netlink.FAMILY_V4
			return netlink.RuleAdd(rule)
		}, []string{"+ rule inet 7 fwmark 0x20/0xffffffff table 77"}},
		{"sysctl", func() error {
			return os.WriteFile("/proc/sys/net/ipv4/ip_default_ttl", []byte("99"), 0)
		}, []string{"- sysctl net.ipv4.ip_default_ttl = 64", "+ sysctl net.ipv4.ip_default_ttl = 99"}},
		{"iptables rule", func() error {
			return command(t, "iptables", "-w", "-t", "nat", "-A", "POSTROUTING", "-s", "10.0.1.0/24", "-j", "MASQUERADE")
		}, []string{"+ firewall iptables-save: nat: -A POSTROUTING -s 10.0.1.0/24 -j MASQUERADE", "+ firewall nft: table ip nat:"}},
		{"iptables policy", func() error {
			return command(t, "iptables", "-w", "-P", "FORWARD", "DROP")
		}, []string{"+ firewall iptables-save: filter: :FORWARD DROP", "+ firewall nft: table ip filter:"}},
		{"IPv6 iptables rule", func() error {
			return command(t, "ip6tables", "-w", "-A", "INPUT", "-p", "tcp", "--dport", "80", "-j", "DROP")
		}, []string{"+ firewall ip6tables-save: filter: -A INPUT -p tcp -m tcp --dport 80 -j DROP", "+ firewall nft: table ip6 filter:"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			space := nstest.New(t)
			try(t, space.Do(func() error {
				// Without it the links get addresses some time after they are up.
				if err := os.WriteFile("/proc/sys/net/ipv6/conf/default/disable_ipv6", []byte("1"), 0); err != nil {
					return err
				}
				link := *veth
				err := netlink.LinkAdd(&link)
				veth.Index = link.Index
				for _, name := range []string{"lo", "one", "other"} {
					err = errors.Join(err, netlink.LinkSetUp(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Name: name}}))
				}
				return err
			}))
			before := snapshot(t, space)
			try(t, space.Do(c.change))
			difference := observe.Diff(before, snapshot(t, space))
			for _, want := range c.want {
				if _, err := exec.LookPath("nft"); err != nil && strings.HasPrefix(want, "+ firewall nft:") {
					continue // the snapshot says that it is not installed, and goes by the others
				}
				if !slices.ContainsFunc(difference, func(line string) bool { return strings.HasPrefix(line, want) }) {
					t.Errorf("no line begins with %q", want)
				}
			}
			for _, line := range difference {
				if !slices.ContainsFunc(c.want, func(want string) bool { return strings.HasPrefix(line, want) }) {
					t.Errorf("line %q is of something else", line)
				}
			}
		})
	}
}

func TestSnapshotSeesLegacyRules(t *testing.T) {
	space := nstest.New(t)
	if os.Getenv(sandbox.Variable) == "" {
		t.Skip("the legacy tools leave a lock file in /run: run it with hack/test")
	}
	if _, err := exec.LookPath("iptables-legacy"); err != nil {
		t.Skip(err)
	}
	before := snapshot(t, space)
	try(t, space.Do(func() error { return command(t, "iptables-legacy", "-A", "INPUT", "-p", "icmp", "-j", "DROP") }))
	want := []string{"+ firewall iptables-legacy-save: filter: -A INPUT -p icmp -j DROP"}
	if got := observe.Diff(before, snapshot(t, space)); !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestSnapshotSeesNamedNamespaces(t *testing.T) {
	space := nstest.New(t)
	if os.Getenv(sandbox.Variable) == "" {
		t.Skip("it would change /run/netns: run it with hack/test")
	}
	before := snapshot(t, space)
	const directory = "/run/netns"
	try(t, os.MkdirAll(directory, 0o755))
	file, err := os.Create(filepath.Join(directory, "twlab-test"))
	try(t, errors.Join(err, file.Close()))
	after := snapshot(t, space)
	try(t, os.Remove(file.Name()))
	if got, want := observe.Diff(before, after), []string{"+ namespace twlab-test"}; !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// Reading the firewall must not make the tables that it reads, for these come
// with connection tracking.
func TestSnapshotChangesNothing(t *testing.T) {
	space := nstest.New(t)
	tables := func() string {
		var all []string
		try(t, space.Do(func() error {
			for _, file := range []string{"ip_tables_names", "ip6_tables_names"} {
				text, err := os.ReadFile("/proc/thread-self/net/" + file)
				if err != nil && !errors.Is(err, os.ErrNotExist) {
					return err
				}
				all = append(all, string(text))
			}
			return nil
		}))
		return strings.Join(all, "|")
	}
	legacy := tables()
	first := snapshot(t, space)
	began := time.Now()
	second := snapshot(t, space)
	if took := time.Since(began); took > time.Second {
		t.Errorf("a snapshot takes %v", took)
	}
	if difference := observe.Diff(first, second); len(difference) > 0 {
		t.Errorf("the first snapshot changed what the second one sees: %q", difference)
	}
	if now := tables(); now != legacy {
		t.Errorf("legacy tables: %q before, %q after", legacy, now)
	}
	for _, line := range second {
		if strings.HasPrefix(line, "firewall ") && !strings.HasSuffix(line, "not installed") {
			t.Errorf("a new namespace has: %s", line)
		}
	}
	if len(second) < 100 {
		t.Errorf("a snapshot of %d lines cannot be all", len(second))
	}
}

// Traffic is no change: counters, connections and caches are left out.
func TestSnapshotIgnoresTraffic(t *testing.T) {
	space := nstest.New(t)
	try(t, space.Do(func() error {
		return errors.Join(
			netlink.LinkSetUp(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Name: "lo"}}),
			command(t, "iptables", "-w", "-A", "INPUT", "-m", "conntrack", "--ctstate", "NEW", "-p", "udp", "--dport", "1005:1010", "-j", "ACCEPT"),
			command(t, "iptables", "-w", "-P", "INPUT", "DROP"))
	}))
	before := snapshot(t, space)
	try(t, space.Do(func() error {
		socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		for port := 1000; port < 1010 && err == nil; port++ {
			err = unix.Sendto(socket, []byte("x"), 0, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}})
			if errors.Is(err, unix.ECONNREFUSED) {
				err = nil // the answer to the one before
			}
		}
		return errors.Join(err, unix.Close(socket))
	}))
	if difference := observe.Diff(before, snapshot(t, space)); len(difference) > 0 {
		t.Errorf("traffic changed: %q", difference)
	}
}

func TestSnapshotWhileLinksComeAndGo(t *testing.T) {
	space := nstest.New(t)
	var handle *netlink.Handle
	try(t, space.Do(func() error {
		var err error
		handle, err = netlink.NewHandle(unix.NETLINK_ROUTE)
		return err
	}))
	defer handle.Close()
	stop, churned := make(chan struct{}), make(chan error, 1)
	go func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				churned <- nil
				return
			default:
			}
			link := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: fmt.Sprintf("a%d", i)}, PeerName: fmt.Sprintf("b%d", i)}
			if err := errors.Join(handle.LinkAdd(link), handle.LinkSetUp(link), handle.LinkDel(link)); err != nil {
				churned <- err
				return
			}
		}
	}()
	for range 10 {
		snapshot(t, space)
	}
	close(stop)
	try(t, <-churned)
}

func TestSnapshotWithoutPrivilegeSaysSo(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("is about ordinary users")
	}
	s, err := observe.SnapshotHost(t.Context())
	try(t, err)
	if !slices.ContainsFunc(s, func(line string) bool { return strings.HasPrefix(line, "firewall ") }) {
		t.Error("no line says what is with the firewall")
	}
	again, err := observe.SnapshotHost(t.Context())
	try(t, err)
	for _, line := range observe.Diff(s, again) {
		if strings.Contains(line, "firewall") {
			t.Errorf("the same answer twice differs: %s", line)
		}
	}
}

func TestDiff(t *testing.T) {
	before := observe.Snapshot{"link a", "link b", "link b", "sysctl net.gone = 1", "sysctl net.set = 1", "sysctl net.same = 1"}
	after := observe.Snapshot{"link b", "link c", "sysctl net.new = 1", "sysctl net.same = 1", "sysctl net.set = 2"}
	want := []string{"- link a", "- link b", "+ link c", "- sysctl net.set = 1", "+ sysctl net.set = 2"}
	if got := observe.Diff(before, after); !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if got := observe.Diff(before, before); len(got) > 0 {
		t.Errorf("differs from itself: %q", got)
	}
}
