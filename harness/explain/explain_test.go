//go:build linux

package explain_test

import (
	"maps"
	"net/netip"
	"slices"
	"testing"

	"twlab/harness/explain"
	"twlab/harness/internal/labtest"
	"twlab/harness/lab"
	"twlab/harness/load"
	"twlab/harness/node"
	"twlab/harness/recorded"
	"twlab/harness/recording"
	"twlab/harness/tcp"
)

// behind is a lab of two clients behind a gateway with some ports, and a recording of its nodes.
func behind(t *testing.T, ports lab.PortRange) (*lab.Lab, recording.Recording) {
	t.Helper()
	topology := lab.Topology{
		Clients: 2, Gateway: lab.GatewaySpec{Kind: lab.Masquerade, Ports: ports}, Sysctls: lab.On(lab.Client, "net.ipv4.tcp_syn_retries=1"),
	}
	plan, err := topology.Network().Plan()
	if err != nil {
		t.Fatal(err)
	}
	l := labtest.Build(t, topology)
	r := recording.Recording{Nodes: map[string]recording.Node{}}
	for _, n := range plan.Nodes {
		r.Nodes[n.Name] = recording.Node{Role: string(n.Role), Addresses: recorded.Addresses(n)}
	}
	if err := l.Capture("client0", "client1", "balancer"); err != nil {
		t.Fatal(err)
	}
	return l, r
}

// states are the counters and sockets of all nodes, and the entries and rules of the gateway.
func states(t *testing.T, l *lab.Lab) map[string]recording.State {
	t.Helper()
	all := map[string]recording.State{}
	for _, n := range slices.Concat(l.Nodes(lab.Client), l.Nodes(lab.Gateway), l.Nodes(lab.Balancer)) {
		s, err := recorded.State(t.Context(), n, n.Identity().Role == lab.Gateway, n.Identity().Role == lab.Gateway)
		if err != nil {
			t.Fatal(err)
		}
		all[n.Identity().Name] = s
	}
	return all
}

// explained runs a load and explains it.
func explained(t *testing.T, l *lab.Lab, r recording.Recording, plan load.Plan) ([]recording.LoadCause, int) {
	t.Helper()
	plan.Clients, plan.Watched = l.Nodes(lab.Client), []node.Node{l.Gateway(), l.Balancer()}
	why := explain.Begin(l, nil, r, &plan)
	before := states(t, l)
	if _, err := load.Run(t.Context(), plan); err != nil {
		t.Fatal(err)
	}
	causes, atOnce, err := why.Causes(before, states(t, l))
	if err != nil {
		t.Fatal(err)
	}
	return causes, atOnce
}

// counts are the attempts by cause.
func counts(causes []recording.LoadCause) map[string]int {
	all := map[string]int{}
	for _, c := range causes {
		all[c.Short()] += c.Attempts
	}
	return all
}

// The attempts of a load too large to keep its packets are explained like those of a small one,
// and leave no packets behind.
func TestRefused(t *testing.T) {
	for _, each := range []int{200, explain.MostWhole} {
		l, r := behind(t, lab.PortRange{})
		to := netip.AddrPortFrom(l.VIP().Addr(), 81)
		causes, atOnce := explained(t, l, r, load.Plan{Attempt: tcp.Attempt{To: to}, Each: each, InFlight: 20})
		if got, want := counts(causes), map[string]int{"no-listener (proved)": 2 * each}; !maps.Equal(got, want) || atOnce != 0 {
			t.Errorf("%d attempts of each client: %v and %d at once, want %v\n%v", each, got, atOnce, want, causes)
		}
		packets, err := l.Packets()
		if err != nil {
			t.Fatal(err)
		}
		// A SYN and its RST at six interfaces, four of them on the way.
		if whole := 2 * each * 8; 2*each <= explain.MostWhole && len(packets) != whole || 2*each > explain.MostWhole && len(packets) > whole/2 {
			t.Errorf("%d attempts of each client have left %d packets of %d", each, len(packets), whole)
		}
	}
}

// Of attempts that find no port and of those that do not, each is counted, and the packets of one
// are shown.
func TestFewPorts(t *testing.T) {
	l, r := behind(t, lab.PortRange{First: 40001, Last: 40010})
	if _, err := l.Balancer().Listen(t.Context(), tcp.ListenSpec{At: l.VIP()}); err != nil {
		t.Fatal(err)
	}
	causes, atOnce := explained(t, l, r, load.Plan{Attempt: tcp.Attempt{To: l.VIP(), Ending: tcp.KeepOpen}, Each: 8})
	if got, want := counts(causes), map[string]int{"snat-exhausted (proved)": 6}; !maps.Equal(got, want) || atOnce != 10 {
		t.Fatalf("%v and %d at once, want %v and 10", got, atOnce, want)
	}
	if c := causes[0]; c.Example.Outcome != string(tcp.TimedOut) || len(c.Why) < 3 || len(c.Ladder) < 4 {
		t.Errorf("the example is %+v", c)
	}
}
