package observe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coreos/go-iptables/iptables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"twlab/harness/internal/nstest"
	"twlab/harness/kernel"
	"twlab/harness/ns"
)

// version is an IP version, with the ends of a connection as the network has them.
type version struct {
	number                    int
	family                    int
	private, public, endpoint netip.AddrPort
}

var (
	ipv4 = version{4, unix.AF_INET, private, public, endpoint}
	ipv6 = version{
		6, unix.AF_INET6, netip.MustParseAddrPort("[fd00:a::2]:40001"),
		netip.MustParseAddrPort("[fd00:14::1]:40001"), netip.MustParseAddrPort("[fd00:14::3]:80"),
	}
)

// eachVersion runs a test in a network of its own for each version.
func eachVersion(t *testing.T, test func(*testing.T, *network)) {
	t.Helper()
	for _, v := range []version{ipv4, ipv6} {
		t.Run(fmt.Sprintf("IPv%d", v.number), func(t *testing.T) {
			w := newNetwork(t)
			w.version = v
			test(t, w)
		})
	}
}

// network is a client (eth0, 10.0.0.2 and fd00:a::2) behind a gateway (interfaces client0
// and balancer) that can reach a balancer (eth0, 10.20.0.3 and fd00:14::3).
type network struct {
	t *testing.T
	version
	client, gateway, balancer *ns.Namespace
	taps                      []*Tap
}

func newNetwork(t *testing.T) *network {
	t.Helper()
	w := &network{t: t, version: ipv4}
	for _, n := range []**ns.Namespace{&w.client, &w.gateway, &w.balancer} {
		*n = nstest.New(t)
	}
	w.sysctl(w.client, "net/ipv6/conf/all/keep_addr_on_down", "1") // for tests that take its link down
	w.wire(w.client, "eth0", "10.0.0.2/24 fd00:a::2/64", "client0", "10.0.0.1/24 fd00:a::1/64")
	w.wire(w.balancer, "eth0", "10.20.0.3/24 fd00:14::3/64", "balancer", "10.20.0.1/24 fd00:14::1/64")
	w.routes()
	w.sysctl(w.gateway, "net/ipv4/ip_forward", "1")
	w.sysctl(w.gateway, "net/ipv6/conf/all/forwarding", "1")
	// Until the kernel has noticed both ends, what is sent on a link is lost.
	w.await("links up", func() bool {
		return isUp(w.client, "eth0") && isUp(w.gateway, "client0") && isUp(w.gateway, "balancer") && isUp(w.balancer, "eth0")
	})
	// The local route of an IPv6 address comes some time after it (addrconf_dad_work).
	w.await("addresses to arrive", func() bool {
		return arrives(w.client, "fd00:a::2") && arrives(w.balancer, "fd00:14::3") && arrives(w.gateway, "fd00:a::1") && arrives(w.gateway, "fd00:14::1")
	})
	return w
}

// arrives reports whether packets to an address of a namespace arrive there.
func arrives(n *ns.Namespace, address string) (local bool) {
	err := n.Do(func() error {
		routes, err := netlink.RouteGet(net.ParseIP(address))
		local = err == nil && len(routes) == 1 && routes[0].Type == unix.RTN_LOCAL
		return nil
	})
	return local && err == nil
}

// wire makes a link from a machine to the gateway, born with both ends in place.
func (w *network) wire(machine *ns.Namespace, name, address, peer, peerAddress string) {
	w.t.Helper()
	w.check(machine.Use(func(fd int) error {
		return w.gateway.Do(func() error {
			link := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: peer}, PeerName: name, PeerNamespace: netlink.NsFd(fd)}
			return errors.Join(netlink.LinkAdd(link), up(peer, peerAddress))
		})
	}))
	w.in(machine, func() error { return up(name, address) })
}

// up gives an interface its addresses, separated by spaces.
func up(name, addresses string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	for address := range strings.FieldsSeq(addresses) {
		parsed, err := netlink.ParseAddr(address)
		if err != nil {
			return err
		}
		if parsed.IP.To4() == nil {
			parsed.Flags = unix.IFA_F_NODAD // so that it can be used at once
		}
		if err := netlink.AddrAdd(link, parsed); err != nil {
			return err
		}
	}
	return netlink.LinkSetUp(link)
}

// run runs a program in the calling thread's namespace.
func run(t *testing.T, name string, arguments ...string) error {
	t.Helper()
	if text, err := exec.CommandContext(t.Context(), name, arguments...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(arguments, " "), err, text)
	}
	return nil
}

// routes makes both ends send everything to the gateway.
func (w *network) routes() {
	w.t.Helper()
	for n, gateways := range map[*ns.Namespace][]net.IP{
		w.client: {net.ParseIP("10.0.0.1"), net.ParseIP("fd00:a::1")}, w.balancer: {net.ParseIP("10.20.0.1"), net.ParseIP("fd00:14::1")},
	} {
		for i, everything := range []*net.IPNet{{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}, {IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}} {
			w.in(n, func() error { return netlink.RouteReplace(&netlink.Route{Gw: gateways[i], Dst: everything}) })
		}
	}
}

func isUp(n *ns.Namespace, name string) bool {
	return n.Do(func() error {
		link, err := netlink.LinkByName(name)
		if err == nil && link.Attrs().OperState != netlink.OperUp {
			err = errors.New("not up yet")
		}
		return err
	}) == nil
}

func (w *network) check(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *network) in(n *ns.Namespace, f func() error) {
	w.t.Helper()
	w.check(n.Do(f))
}

func (w *network) sysctl(n *ns.Namespace, name, value string) {
	w.t.Helper()
	w.in(n, func() error { return os.WriteFile("/proc/sys/"+name, []byte(value), 0) })
}

func (w *network) rule(table, chain string, rule ...string) {
	w.t.Helper()
	w.in(w.gateway, func() error {
		protocol := iptables.ProtocolIPv4
		if w.family == unix.AF_INET6 {
			protocol = iptables.ProtocolIPv6
		}
		ipt, err := iptables.New(iptables.IPFamily(protocol), iptables.Timeout(5))
		if err != nil {
			return err
		}
		return ipt.Append(table, chain, rule...)
	})
}

func (w *network) tap(n *ns.Namespace, point, ifname string) {
	w.t.Helper()
	w.in(n, func() error {
		tap, err := OpenTap(point, ifname)
		if err != nil {
			return err
		}
		w.taps = append(w.taps, tap)
		w.t.Cleanup(func() { _ = tap.Stop() })
		return nil
	})
}

func (w *network) tapAll() {
	w.t.Helper()
	w.tap(w.client, "client0", "eth0")
	w.tap(w.gateway, "gateway", "client0")
	w.tap(w.gateway, "gateway", "balancer")
	w.tap(w.balancer, "balancer", "eth0")
}

func (w *network) account(marks []int, client netip.AddrPort) SYNAccount {
	var packets []Packet
	for i, tap := range w.taps {
		packets = append(packets, tap.Since(marks[i])...)
	}
	return AccountSYNs(packets, throughGateway, client, w.endpoint)
}

func (w *network) marks() []int {
	var marks []int
	for _, tap := range w.taps {
		marks = append(marks, tap.Mark())
	}
	return marks
}

func (w *network) listen() int {
	w.t.Helper()
	var fd int
	w.in(w.balancer, func() error {
		var err error
		fd, err = unix.Socket(w.family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		return errors.Join(
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
			unix.Bind(fd, sockaddr(w.family, w.endpoint.Addr(), int(w.endpoint.Port()))),
			unix.Listen(fd, 5))
	})
	w.t.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}

// socket makes a client socket on a source port, with an ISN unless that is 0.
func (w *network) socket(port int, isn int, flags int) int {
	w.t.Helper()
	var fd int
	w.in(w.client, func() error {
		var err error
		fd, err = unix.Socket(w.family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|flags, 0)
		if err != nil {
			return err
		}
		err = errors.Join(
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
			unix.Bind(fd, sockaddr(w.family, w.private.Addr(), port)))
		if isn != 0 {
			err = errors.Join(err,
				unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_REPAIR, 1),
				unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_REPAIR_QUEUE, 2),
				unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_QUEUE_SEQ, isn),
				unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_REPAIR, 0))
		}
		return err
	})
	return fd
}

func (w *network) toEndpoint(fd int) error {
	return unix.Connect(fd, sockaddr(w.family, w.endpoint.Addr(), int(w.endpoint.Port())))
}

// connect makes a connection and returns both ends.
func (w *network) connect(listener, port, isn int) (client, server int) {
	w.t.Helper()
	client = w.socket(port, isn, 0)
	w.check(w.toEndpoint(client))
	server, _, err := unix.Accept(listener)
	w.check(err)
	return client, server
}

func (w *network) sockets(n *ns.Namespace) Sockets {
	w.t.Helper()
	var sockets Sockets
	w.in(n, func() (err error) { sockets, err = ReadSockets(); return err })
	return sockets
}

func (w *network) counters(n *ns.Namespace) kernel.Counters {
	w.t.Helper()
	var counters kernel.Counters
	w.in(n, func() (err error) { counters, err = ReadCounters(); return err })
	return counters
}

func (w *network) flows() []Flow {
	w.t.Helper()
	var flows []Flow
	w.in(w.gateway, func() (err error) { flows, err = ReadFlows(); return err })
	return flows
}

func (w *network) await(event string, seen func() bool) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 10*time.Second)
	defer cancel()
	w.check(Await(ctx, event, func() (bool, error) { return seen(), nil }))
}

// second is the client's end of its second connection.
func (w *network) second() netip.AddrPort {
	return netip.AddrPortFrom(w.private.Addr(), 40002)
}

var anyEnd netip.AddrPort

// One connection through a MASQUERADE gateway, seen by every evidence.
func TestEvidenceOfOneConnection(t *testing.T) { eachVersion(t, tryEvidence) }

func tryEvidence(t *testing.T, w *network) {
	w.rule("nat", "POSTROUTING", "-o", "balancer", "-j", "MASQUERADE")
	w.tapAll()
	listener := w.listen()
	before := w.counters(w.client)

	client, server := w.connect(listener, 40001, 0)
	account := w.account(make([]int, len(w.taps)), w.private)
	if want := fmt.Sprintf("1 sent, 1 entered and 1 left gateway as %v, 1 reached balancer: 1 answered by SYN-ACK", w.public); account.String() != want {
		t.Errorf("SYNs:\ngot  %s\nwant %s", account, want)
	}
	w.countersOf(before)
	moved := w.counters(w.client).Sub(before)
	if moved["Tcp.ActiveOpens"] != 1 {
		t.Errorf("client's Tcp.ActiveOpens: got +%d, want +1", moved["Tcp.ActiveOpens"])
	}
	if stayed, ok := moved["TcpExt.PAWSEstab"]; !ok || stayed != 0 {
		t.Errorf("client's TcpExt.PAWSEstab: got +%d (present: %v), want +0", stayed, ok)
	}
	if got := w.sockets(w.client); len(got) != 1 || got[0].State != Established {
		t.Errorf("client's sockets: got %v, want one that is ESTABLISHED", got)
	}
	listening := w.sockets(w.balancer).In(Listen)
	if len(listening) != 1 || listening[0].Local != w.endpoint || listening[0].SendQueue != 5 {
		t.Errorf("balancer's listener: got %+v, want %s with room for 5", listening, w.endpoint)
	}
	w.agree(w.balancer)

	flows := w.flows()
	want := Flow{
		Original: Tuple{w.private, w.endpoint}, Reply: Tuple{w.endpoint, w.public},
		State: "ESTABLISHED", SeenReply: true, Assured: true,
	}
	if len(flows) != 1 {
		t.Fatalf("flows: got %v, want one", flows)
	}
	if days := flows[0].Expires; days < 4*24*time.Hour || days > 5*24*time.Hour {
		t.Errorf("established flow expires in %s, want a little less than five days", days)
	}
	if flows[0].Expires = 0; flows[0] != want {
		t.Errorf("flow: got %+v, want %+v", flows[0], want)
	}
	w.rulesHit()

	// The client closes first: FIN_WAIT2 as a minisocket, then TIME_WAIT.
	w.check(unix.Close(client))
	w.await("client in FIN_WAIT2", func() bool { return len(w.sockets(w.client).In(FinWait2)) == 1 })
	if half := w.sockets(w.client); len(half) != 1 || !half[0].Mini() {
		t.Errorf("half closed: got %v, want a minisocket", half)
	}
	w.agree(w.client)
	w.check(unix.Close(server))
	w.await("client in TIME_WAIT", func() bool { return len(w.sockets(w.client).In(TimeWait)) == 1 })
	rest := w.sockets(w.client).Between(w.private, w.endpoint)
	if len(rest) != 1 || !rest[0].Mini() || rest[0].Expires > 60*time.Second || rest[0].Expires < 50*time.Second {
		t.Errorf("after the end: got %v, want TIME_WAIT for about 60 s", rest)
	}
	w.agree(w.client)
	w.deleteFlows()
	w.recording()
}

// countersOf checks which counters of the client count its connection.
func (w *network) countersOf(before kernel.Counters) {
	w.t.Helper()
	moved := w.counters(w.client).Sub(before)
	own, other := "Ip.OutRequests", "Ip6.OutRequests"
	if w.number == 6 {
		own, other = other, own
	}
	if w.number == 6 && moved["Tcp.OutSegs"] == 0 || moved[own] < moved["Tcp.OutSegs"] || moved["Tcp.InSegs"] != 1 {
		w.t.Errorf("client: got Tcp.OutSegs +%d, Tcp.InSegs +%d, %s +%d, want one segment in", moved["Tcp.OutSegs"], moved["Tcp.InSegs"], own, moved[own])
	}
	if w.number == 6 && moved[other] != 0 {
		w.t.Errorf("client's %s: got +%d, want +0", other, moved[other])
	}
}

// agree compares the two sources of the socket table.
func (w *network) agree(n *ns.Namespace) {
	w.t.Helper()
	var diag, proc Sockets
	w.in(n, func() (err error) { diag, err = sockDiag(); return err })
	w.in(n, func() (err error) { proc, err = procSockets(); return err })
	normal := func(s Sockets) []Socket {
		for i := range s {
			if s[i].State == Listen {
				s[i].SendQueue, s[i].V6Only = 0, false // only sock_diag tells
			}
			s[i].Expires = s[i].Expires.Round(10 * time.Second)
		}
		slices.SortFunc(s, func(a, b Socket) int { return strings.Compare(a.String(), b.String()) })
		return s
	}
	if diag, proc := normal(diag), normal(proc); len(diag) == 0 || !slices.Equal(diag, proc) {
		w.t.Errorf("sock_diag and /proc disagree:\n%v\n%v", diag, proc)
	}
}

func (w *network) rulesHit() {
	w.t.Helper()
	w.in(w.gateway, func() error {
		rules, err := ReadRules(w.t.Context(), "")
		want := RuleHits{
			IPVersion: w.number, Table: "nat", Chain: "POSTROUTING", Rule: "-A POSTROUTING -o balancer -j MASQUERADE",
			Packets: 1, Bytes: map[int]uint64{4: 20 + 40, 6: 40 + 40}[w.number], // the headers of a SYN
		}
		if len(rules) != 1 || rules[0] != want {
			w.t.Errorf("gateway's rules: got %v, want %v", rules, want)
		}
		return err
	})
	w.in(w.client, func() error {
		rules, err := ReadRules(w.t.Context(), "")
		if len(rules) != 0 {
			w.t.Errorf("client's rules: got %v, want none", rules)
		}
		return err
	})
}

func (w *network) deleteFlows() {
	w.t.Helper()
	if flows := w.flows(); len(flows) != 1 || flows[0].State != "TIME_WAIT" || flows[0].Expires > 120*time.Second {
		w.t.Errorf("closed flow: got %v, want TIME_WAIT for up to 120 s", flows)
	}
	for _, c := range []struct {
		match FlowMatch
		want  int
	}{
		{FlowMatch{Original: Tuple{w.second(), anyEnd}}, 0},
		{FlowMatch{Original: Tuple{anyEnd, w.private}}, 0},
		{FlowMatch{Original: Tuple{w.second(), w.endpoint}}, 0},
		{FlowMatch{Reply: Tuple{w.endpoint, w.private}}, 0},
		{FlowMatch{Original: Tuple{w.private, w.endpoint}, Reply: Tuple{anyEnd, w.private}}, 0},
		{FlowMatch{Original: Tuple{w.private, w.endpoint}, Reply: Tuple{anyEnd, w.public}}, 1},
		{FlowMatch{}, 0},
	} {
		w.in(w.gateway, func() error {
			deleted, err := DeleteFlows(c.match)
			if deleted != c.want {
				w.t.Errorf("DeleteFlows(%+v): got %d, want %d", c.match, deleted, c.want)
			}
			return err
		})
	}
	if flows := w.flows(); len(flows) != 0 {
		w.t.Errorf("after DeleteFlows: got %v, want none", flows)
	}
}

// recording checks what the taps themselves promise.
func (w *network) recording() {
	w.t.Helper()
	for _, tap := range w.taps {
		w.check(tap.Stop())
		w.check(tap.Stop())
		packets := tap.Since(0)
		if len(packets) == 0 || tap.Lost() != 0 || tap.Mark() != len(packets) || tap.Since(len(packets)) != nil {
			w.t.Errorf("%s: %d packets, %d lost, mark %d", tap.name, len(packets), tap.Lost(), tap.Mark())
		}
		for i, p := range packets {
			if i > 0 && p.Time.Before(packets[i-1].Time.Add(-time.Millisecond)) || time.Since(p.Time) > time.Minute {
				w.t.Errorf("not in order, or not of today: %s", p)
			}
		}
	}
}

// A server in TIME_WAIT is asked again with an older sequence number: its ACK,
// the client's RST and the next SYN are all accounted for.
func TestAccountOfRejectedSYN(t *testing.T) { eachVersion(t, tryRejectedSYN) }

func tryRejectedSYN(t *testing.T, w *network) {
	w.rule("nat", "POSTROUTING", "-o", "balancer", "-j", "MASQUERADE")
	w.sysctl(w.client, "net/ipv4/tcp_timestamps", "0")
	w.tapAll()
	listener := w.listen()

	client, server := w.connect(listener, 40001, 1_000_000_000)
	w.check(unix.Close(server))
	w.await("balancer in FIN_WAIT2", func() bool { return len(w.sockets(w.balancer).In(FinWait2)) == 1 })
	w.check(unix.Close(client))
	w.await("balancer in TIME_WAIT", func() bool { return len(w.sockets(w.balancer).In(TimeWait)) == 1 })

	marks := w.marks()
	client, server = w.connect(listener, 40001, 900_000_000)
	account := w.account(marks, w.private)
	want := fmt.Sprintf("2 sent, 2 entered and 2 left gateway as %[1]v, 2 reached balancer: 1 answered by ACK, 1 by SYN-ACK; "+
		"1 RST sent, 1 entered and 1 left gateway as %[1]v, 1 reached balancer", w.public)
	if account.String() != want {
		t.Errorf("got  %s\nwant %s", account, want)
		for _, tap := range w.taps {
			t.Log(tap.Since(0))
		}
	}
	if syn := account.SYNs[0]; syn.Sequence != 900_000_000 || syn.Timestamp.Present {
		t.Errorf("got %+v, want the ISN that was set and no timestamps", syn)
	}
	w.check(errors.Join(unix.Close(client), unix.Close(server)))
}

// A NAT without a free port drops the SYN itself, and only its own observations say so.
func TestAccountOfSYNThatTheGatewayDrops(t *testing.T) { eachVersion(t, tryDroppedSYN) }

func tryDroppedSYN(t *testing.T, w *network) {
	w.rule("nat", "POSTROUTING", "-o", "balancer", "-p", "tcp", "-j", "MASQUERADE", "--to-ports", "40001-40001")
	w.tapAll()
	listener := w.listen()
	client, server := w.connect(listener, 40001, 0)

	marks, before := w.marks(), w.counters(w.gateway)
	second := w.socket(40002, 0, unix.SOCK_NONBLOCK)
	if err := w.toEndpoint(second); !errors.Is(err, unix.EINPROGRESS) {
		t.Fatalf("connect: got %v, want EINPROGRESS", err)
	}
	var moved kernel.Counters
	w.await("insert_failed", func() bool {
		moved = w.counters(w.gateway).Sub(before)
		return moved["Conntrack.insert_failed"] > 0
	})
	account := w.account(marks, w.second())
	if account.Sent == 0 || account.EnteredGateway != account.Sent || account.LeftGateway != 0 || account.Reached != 0 {
		t.Errorf("got %s, want SYNs that enter the gateway and do not leave it", account)
	}
	t.Logf("gateway: %s", moved.Moved())
	w.check(errors.Join(unix.Close(second), unix.Close(client), unix.Close(server)))
}

// Readers and the tap's own goroutine do not lose or repeat packets.
func TestTapUnderConcurrentReaders(t *testing.T) {
	w := newNetwork(t)
	w.tapAll()
	listener := w.listen()
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					w.taps[0].Since(w.taps[0].Mark() - 1)
				}
			}
		})
	}
	const connections = 20
	for i := range connections {
		client, server := w.connect(listener, 41000+i, 0)
		w.check(errors.Join(unix.Close(client), unix.Close(server)))
	}
	close(stop)
	readers.Wait()
	syns := map[netip.AddrPort]int{}
	for _, p := range w.taps[0].Since(0) {
		if p.kind() == FlagSYN {
			syns[p.Src]++
		}
	}
	if len(syns) != connections {
		t.Errorf("SYNs of %d connections, want %d", len(syns), connections)
	}
	for src, n := range syns {
		if n != 1 {
			t.Errorf("%s: %d SYNs, want 1", src, n)
		}
	}
	if err := w.taps[0].Stop(); err != nil {
		t.Error(err)
	}
}

// A tap that is not read in time says so, and goes on when it is.
func TestTapTellsWhatItLost(t *testing.T) {
	w := newNetwork(t)
	w.tap(w.client, "client0", "eth0")
	tap := w.taps[0]
	// Nobody listens: each connect gives a SYN and a RST.
	knock := func(times int) {
		w.in(w.client, func() error {
			for range times {
				fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
				if err != nil {
					return err
				}
				if err := errors.Join(w.toEndpoint(fd), unix.Close(fd)); !errors.Is(err, unix.ECONNREFUSED) {
					return err
				}
			}
			return nil
		})
	}
	knock(1)
	if lost, seen := tap.Lost(), tap.Mark(); lost != 0 || seen != 2 {
		t.Errorf("at first: %d lost and %d seen, want 0 and 2", lost, seen)
	}
	tap.mu.Lock() // keeps the reader away
	knock(frames/2 + 100)
	tap.mu.Unlock()
	if lost := tap.Lost(); lost != 200 {
		t.Errorf("got %d lost, want the 200 beyond the frames", lost)
	}
	mark := tap.Mark()
	if mark != frames+2 {
		t.Errorf("got %d packets, want %d", mark, frames+2)
	}
	knock(1)
	if after := tap.Since(mark); len(after) != 2 {
		t.Errorf("then: got %v, want a SYN and a RST", after)
	}
	lost := tap.Lost()
	w.check(tap.Stop())
	if again := tap.Lost(); again != lost {
		t.Errorf("lost after Stop: got %d, want %d as before", again, lost)
	}
}

func TestOpenTapRefuses(t *testing.T) {
	w := newNetwork(t)
	w.in(w.client, func() error {
		for name, want := range map[string]error{"eth9": unix.ENODEV, "a-name-that-is-too-long": unix.EINVAL} {
			tap, err := OpenTap("client0", name)
			if !errors.Is(err, want) || !strings.Contains(err.Error(), "tap client0/"+name) {
				t.Errorf("OpenTap(%s): got %v, want %v", name, err, want)
			}
			if tap != nil {
				t.Errorf("OpenTap(%s): got a tap", name)
			}
		}
		return nil
	})
}

// An interface may be tapped before it is up, and go down and up again.
func TestTapOutlivesInterfaceDown(t *testing.T) {
	w := newNetwork(t)
	set := func(change func(netlink.Link) error) {
		t.Helper()
		w.in(w.client, func() error {
			link, err := netlink.LinkByName("eth0")
			return errors.Join(err, change(link))
		})
	}
	set(netlink.LinkSetDown)
	w.tap(w.client, "client0", "eth0")
	set(netlink.LinkSetUp)
	set(netlink.LinkSetDown)
	set(netlink.LinkSetUp)
	w.routes()
	w.await("link up again", func() bool { return isUp(w.client, "eth0") && isUp(w.gateway, "client0") })

	client, server := w.connect(w.listen(), 40001, 0)
	packets := w.taps[0].Since(0)
	if len(packets) < 2 || packets[0].kind() != FlagSYN || packets[1].kind() != FlagSYN|FlagACK {
		t.Errorf("got %v, want a handshake", packets)
	}
	w.check(errors.Join(w.taps[0].Stop(), unix.Close(client), unix.Close(server)))
}

// Each namespace has its own counters, on whatever thread it is asked.
func TestReadCountersOfOwnNamespace(t *testing.T) {
	w := newNetwork(t)
	for name, n := range map[string]*ns.Namespace{"client": w.client, "gateway": w.gateway} {
		counters := w.counters(n)
		if len(counters) < 100 {
			t.Errorf("%s: %d counters, want the kernel's hundreds", name, len(counters))
		}
		for _, known := range []string{"Tcp.ActiveOpens", "TcpExt.TW", "TcpExt.PAWSEstab", "IpExt.InNoRoutes", "Conntrack.insert_failed", "Conntrack.drop", "Ip6.OutNoRoutes", "Icmp6.InMsgs"} {
			if _, ok := counters[known]; !ok {
				t.Errorf("%s: no counter %s", name, known)
			}
		}
		if opens := counters["Tcp.ActiveOpens"]; opens != 0 {
			t.Errorf("%s: Tcp.ActiveOpens is %s before any connect", name, strconv.FormatUint(opens, 10))
		}
	}
}
