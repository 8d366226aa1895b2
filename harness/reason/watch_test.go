//go:build linux

package reason_test

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"twlab/harness/internal/labtest"
	"twlab/harness/lab"
	"twlab/harness/node"
	"twlab/harness/observe"
	"twlab/harness/reason"
	"twlab/harness/tcp"
	"twlab/harness/topo"
)

// watch watches all nodes of a lab, or leaves the test out where nobody may trace.
func watch(t *testing.T, l *lab.Lab) *reason.Watch {
	t.Helper()
	w, _, err := reason.Attach(l)
	if errors.Is(err, reason.ErrUnknown) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// brief is what a case wants of an event.
type brief struct {
	node, reason string
	kind         reason.Kind
	unasked      bool
	flags        observe.Flags
	places       string // those that are right, with spaces
}

func checkEvents(t *testing.T, w *reason.Watch, want []brief) {
	t.Helper()
	all, err := w.Events()
	if err != nil {
		t.Fatal(err)
	}
	if lost, err := w.Lost(); lost != 0 || err != nil {
		t.Errorf("%d lost, %v", lost, err)
	}
	all = slices.DeleteFunc(all, func(e reason.Event) bool { return e.Kind == reason.Drop && e.Flags.Has(observe.FlagFIN) })
	for i, e := range all {
		if i >= len(want) {
			t.Errorf("too much: %v", e)
			continue
		}
		b := want[i]
		if e.Node != b.node || e.Reason != b.reason || e.Kind != b.kind || e.Unasked != b.unasked || e.Flags != b.flags ||
			(e.Place == "") != (b.places == "") || e.Place != "" && !strings.Contains(" "+b.places+" ", " "+e.Place+" ") {
			t.Errorf("%v, want %+v", e, b)
		}
	}
	for _, b := range want[min(len(want), len(all)):] {
		t.Errorf("no event %+v", b)
	}
}

func try(t *testing.T, n node.Node, a tcp.Attempt) tcp.Result {
	t.Helper()
	out, err := n.Connect(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func listen(t *testing.T, n node.Node, spec tcp.ListenSpec) node.Listening {
	t.Helper()
	l, err := n.Listen(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// Look-alikes that the kernel tells apart, and what it says nothing of.
func TestReasonsOfEachEnd(t *testing.T) {
	const (
		syn    = observe.FlagSYN
		chains = "nft_do_chain ipt_do_table ip6t_do_table"
	)
	for name, c := range map[string]struct {
		rules []lab.Rule
		ports lab.PortRange
		drive func(t *testing.T, l *lab.Lab, at netip.AddrPort)
		want  []brief
	}{
		"nothing, of connections that are closed in order": { // but for FINs; see Event
			drive: func(t *testing.T, l *lab.Lab, at netip.AddrPort) {
				try(t, l.Client(0), tcp.Attempt{To: at, Ending: tcp.CloseAfterPeer})
			},
		},
		"the SYN that a rule drops at the gateway": {
			rules: []lab.Rule{{Role: lab.Gateway, Table: "filter", Chain: "FORWARD", Spec: "-p tcp --syn -j DROP"}},
			drive: func(t *testing.T, l *lab.Lab, at netip.AddrPort) { try(t, l.Client(0), tcp.Attempt{To: at}) },
			want: []brief{
				{"gateway", "NETFILTER_DROP", reason.Drop, false, syn, chains}, {"gateway", "NETFILTER_DROP", reason.Drop, false, syn, chains},
			},
		},
		"no reset of a listener, when a rule rejects": {
			rules: []lab.Rule{{Role: lab.Gateway, Table: "filter", Chain: "FORWARD", Spec: "-p tcp --syn -j REJECT --reject-with tcp-reset"}},
			drive: func(t *testing.T, l *lab.Lab, at netip.AddrPort) { try(t, l.Client(0), tcp.Attempt{To: at}) },
			want:  []brief{{"gateway", "NETFILTER_DROP", reason.Drop, false, syn, chains + " nf_hook_slow"}},
		},
		"the reset of a node that nobody listens on": {
			drive: func(t *testing.T, l *lab.Lab, at netip.AddrPort) {
				try(t, l.Client(0), tcp.Attempt{To: netip.AddrPortFrom(at.Addr(), 9)})
			},
			want: []brief{
				{"balancer", "NO_SOCKET", reason.Reset, false, syn, ""}, {"balancer", "NO_SOCKET", reason.Drop, false, syn, "tcp_v4_rcv tcp_v6_rcv"},
			},
		},
		"a gateway that has no port left": {
			ports: lab.PortRange{First: 2000, Last: 2000},
			drive: func(t *testing.T, l *lab.Lab, at netip.AddrPort) {
				try(t, l.Client(0), tcp.Attempt{To: at, Ending: tcp.KeepOpen})
				try(t, l.Client(0), tcp.Attempt{To: at})
			},
			want: []brief{
				{"gateway", "NETFILTER_DROP", reason.Drop, false, syn, "nf_hook_slow"}, {"gateway", "NETFILTER_DROP", reason.Drop, false, syn, "nf_hook_slow"},
			},
		},
		"a reset by a close that leaves data unread": {
			drive: func(t *testing.T, l *lab.Lab, _ netip.AddrPort) {
				at := listen(t, l.Balancer(), tcp.ListenSpec{})
				out := try(t, l.Client(0), tcp.Attempt{To: at.Addr, Ending: tcp.KeepOpen})
				translated := netip.AddrPortFrom(l.Gateway().Identity().AddrOf(l.Topology().IP), out.Local.Port())
				conn, err := l.Balancer().Accept(t.Context(), at.Handle, translated)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := l.Client(0).Send(t.Context(), out.Conn, 100); err != nil {
					t.Fatal(err)
				}
				arrived(t, l, at.Addr)
				if err := l.Balancer().End(t.Context(), conn, tcp.CloseNow); err != nil {
					t.Fatal(err)
				}
			},
			want: []brief{{"balancer", "TCP_ABORT_ON_CLOSE", reason.Reset, true, 0, ""}},
		},
	} {
		for _, v := range []topo.IPVersion{topo.IPv4, topo.IPv6} {
			t.Run(name+" over "+string(v), func(t *testing.T) {
				l := labtest.Build(t, lab.Topology{
					IP: v, Clients: 1, Gateway: lab.GatewaySpec{Kind: lab.Masquerade, Ports: c.ports}, Rules: c.rules,
					Sysctls: lab.On(lab.Client, "net.ipv4.tcp_syn_retries=1", "net.ipv4.tcp_syn_linear_timeouts=0"),
				})
				at := listen(t, l.Balancer(), tcp.ListenSpec{Ending: tcp.CloseNow}).Addr
				w := watch(t, l)
				c.drive(t, l, at)
				checkEvents(t, w, c.want)
			})
		}
	}
}

// arrived waits until bytes wait at the balancer.
func arrived(t *testing.T, l *lab.Lab, at netip.AddrPort) {
	t.Helper()
	err := observe.Await(t.Context(), "the bytes to arrive", func() (bool, error) {
		all, err := l.Balancer().Sockets(t.Context())
		for _, s := range all.Between(at, netip.AddrPort{}).In(observe.Established) {
			if s.RecvQueue > 0 {
				return true, err
			}
		}
		return false, err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Another lab on the same machine, with the same addresses, is not seen.
func TestOnlyItsOwnLab(t *testing.T) {
	topology := lab.Topology{Clients: 1, Gateway: lab.GatewaySpec{Kind: lab.Routed}}
	mine, other := labtest.Build(t, topology), labtest.Build(t, topology)
	w := watch(t, mine)
	nobody := netip.AddrPortFrom(other.Balancer().Identity().Addr, 9)
	try(t, other.Client(0), tcp.Attempt{To: nobody})
	checkEvents(t, w, nil)
	try(t, mine.Client(0), tcp.Attempt{To: nobody})
	if all, err := w.Events(); err != nil || len(all) == 0 {
		t.Errorf("%v, %v, want those of its own", all, err)
	}
}

// What was read stays, and two callers at once read the same.
func TestReadAfterClose(t *testing.T) {
	l := labtest.Build(t, lab.Topology{Clients: 1, Gateway: lab.GatewaySpec{Kind: lab.Routed}})
	w := watch(t, l)
	try(t, l.Client(0), tcp.Attempt{To: netip.AddrPortFrom(l.Balancer().Identity().Addr, 9)})
	both := make(chan int, 2)
	for range 2 {
		go func() {
			all, err := w.Events()
			if err != nil {
				t.Error(err)
			}
			both <- len(all)
		}()
	}
	one, two := <-both, <-both
	if err := errors.Join(w.Close(), w.Close()); err != nil {
		t.Fatal(err)
	}
	if all, err := w.Events(); err != nil || one == 0 || one != two || len(all) != one {
		t.Errorf("%d and %d events, %d after the end, %v", one, two, len(all), err)
	}
}
