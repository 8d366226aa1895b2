package e2e

import (
	"context"
	"net/netip"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"golang.org/x/sys/unix"

	"twlab/harness/haproxy"
	"twlab/harness/lab"
	"twlab/harness/node"
	"twlab/harness/observe"
	"twlab/harness/tcp"
	"twlab/scenarios/situation"
)

// behind builds a lab of one client and one server with the balancer in between.
func behind(ctx SpecContext, balancer lab.BalancerSpec) specLab {
	GinkgoHelper()
	return up(ctx, lab.Topology{
		Clients: 1, Servers: 1, Balancer: balancer,
		Sysctls: situation.KeepTimeWaits(lab.Client, lab.Balancer, lab.Server),
	})
}

// side is one end of some connections.
type side struct {
	node.Node
	conns []tcp.Handle
}

// through connects the client to the balancer's listener n times, and returns the ends
// of the connections: at the client, and at the node where they come out.
func (l specLab) through(ctx context.Context, end node.Node, n int) (client, server side) {
	GinkgoHelper()
	client, server = side{Node: l.Client(0)}, side{Node: end}
	listening, err := end.Listen(ctx, tcp.ListenSpec{At: netip.AddrPortFrom(end.Identity().Addr, l.VIP().Port())})
	noError(err)
	for range n {
		outcomes, err := client.Attempt(ctx, []tcp.Attempt{{To: l.VIP()}})
		noError(err)
		Expect(outcomes).To(HaveOutcomes(tcp.Connected, 1))
		client.conns = append(client.conns, outcomes[0].Conn)
	}
	Eventually(sockets).WithArguments(ctx, end).Should(HaveSockets(n, observe.Established))
	for _, s := range sockets(ctx, end).In(observe.Established) {
		conn, err := end.Accept(ctx, listening.Handle, s.Remote)
		noError(err)
		server.conns = append(server.conns, conn)
	}
	return client, server
}

// tell sends a byte on each connection, and waits until the other side has it:
// everything in between has both of its connections then.
func (s side) tell(ctx context.Context, other side) {
	GinkgoHelper()
	for _, conn := range s.conns {
		Expect(s.Send(ctx, conn, 1)).To(Equal(1))
	}
	Eventually(sockets).WithArguments(ctx, other.Node).Should(HaveUnread(len(other.conns)))
}

// closeBefore closes the side's ends of the connections, and then the other's.
func (s side) closeBefore(ctx context.Context, other side) {
	GinkgoHelper()
	s.tell(ctx, other)
	for _, conn := range s.conns {
		noError(s.End(ctx, conn, tcp.CloseNow))
	}
	for _, conn := range other.conns {
		Expect(other.Receive(ctx, conn)).To(Equal(tcp.Received{Bytes: 1}))
		noError(other.End(ctx, conn, tcp.CloseNow))
	}
}

// hops is how many sockets there are at every hop from the client to the server.
type hops struct{ Client, BalancerToClient, BalancerToServer, Server int }

// timeWaits counts the sockets in TIME_WAIT.
func (l specLab) timeWaits(ctx SpecContext) (found hops) {
	GinkgoHelper()
	found.Client = len(sockets(ctx, l.Client(0)).In(observe.TimeWait))
	found.Server = len(sockets(ctx, l.server()).In(observe.TimeWait))
	for _, s := range sockets(ctx, l.Balancer()).In(observe.TimeWait) {
		if s.Local == l.VIP() {
			found.BalancerToClient++
		} else {
			found.BalancerToServer++
		}
	}
	return found
}

// The document's client closes first and keeps the TIME_WAITs. What there is
// between it and the server decides who else has some.
var _ = Describe("Behind a balancer", func() {
	const connects = 10

	It("that is HAProxy, a client that closes first makes HAProxy close first towards the server: both have the TIME_WAITs", SpecTimeout(2*timeout), func(ctx SpecContext) {
		l := behind(ctx, lab.BalancerSpec{Program: haproxy.Balancer{}})
		client, server := l.through(ctx, l.server(), connects)
		client.closeBefore(ctx, server)
		Eventually(l.timeWaits).WithArguments(ctx).Should(Equal(hops{Client: connects, BalancerToServer: connects}))
	})

	It("that is DNAT, a client that closes first has them alone: the balancer has no sockets, only a conntrack table", SpecTimeout(2*timeout), func(ctx SpecContext) {
		l := behind(ctx, lab.BalancerSpec{Kind: lab.DNAT})
		client, server := l.through(ctx, l.server(), connects)
		client.closeBefore(ctx, server)
		Eventually(l.timeWaits).WithArguments(ctx).Should(Equal(hops{Client: connects}))
		Expect(sockets(ctx, l.Balancer())).To(BeEmpty())
		Expect(flows(ctx, l.Balancer())).To(HaveLen(connects))
	})

})

var _ = Describe("A server that resets in the middle", func() {
	It("resets the client's connection behind DNAT", SpecTimeout(2*timeout), func(ctx SpecContext) {
		l := behind(ctx, lab.BalancerSpec{Kind: lab.DNAT})
		client, server := l.through(ctx, l.server(), 1)
		client.tell(ctx, server)
		noError(server.End(ctx, server.conns[0], tcp.Abort))
		Expect(client.Receive(ctx, client.conns[0])).To(Equal(tcp.Received{Errno: unix.ECONNRESET}))
	})

	It("is an ordinary end to the client behind HAProxy, whose log knows better", SpecTimeout(2*timeout), func(ctx SpecContext) {
		l := behind(ctx, lab.BalancerSpec{Program: haproxy.Balancer{}})
		moved := l.watchProgram(ctx)
		client, server := l.through(ctx, l.server(), 1)
		client.tell(ctx, server)
		noError(server.End(ctx, server.conns[0], tcp.Abort))
		Expect(client.Receive(ctx, client.conns[0])).To(Equal(tcp.Received{}))
		Eventually(l.programLog).Should(ContainSubstring("end=SD"))
		Expect(moved()).To(Rise("server0.srv_abrt"))
	})
})

var _ = Describe("A server that does not listen", func() {
	It("is a refusal to the client behind DNAT", func(ctx SpecContext) {
		l := behind(ctx, lab.BalancerSpec{Kind: lab.DNAT})
		Expect(attempt(ctx, l.Client(0), 1, tcp.Attempt{To: l.VIP()})).To(HaveOutcomes(tcp.Refused, 1))
	})

	It("is a connection to the client behind HAProxy, which counts it and hangs up", func(ctx SpecContext) {
		l := behind(ctx, lab.BalancerSpec{Program: haproxy.Balancer{Config: haproxy.Config{Retries: -1}}})
		moved := l.watchProgram(ctx)

		outcomes := attempt(ctx, l.Client(0), 1, tcp.Attempt{To: l.VIP(), Ending: tcp.CloseAfterPeer})

		Expect(outcomes).To(HaveOutcomes(tcp.Connected, 1))
		Expect(moved()).To(Rise("frontend.conn_tot", "backend.econ", "server0.econ"))
		Expect(moved()).To(StayStill("server0.wretr", "server0.eresp"))
	})
})
