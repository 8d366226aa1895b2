package e2e

import (
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"twlab/harness/haproxy"
	"twlab/harness/lab"
	"twlab/harness/observe"
	"twlab/harness/tcp"
)

// behind builds a lab of one client and one server with the balancer in between.
// The server ends its connections as said.
func behind(ctx SpecContext, balancer lab.BalancerSpec, ending tcp.Ending) world {
	GinkgoHelper()
	w := up(ctx, lab.Topology{Clients: 1, Servers: 1, Balancer: balancer})
	listen(ctx, w.server(), tcp.ListenSpec{At: w.Behind()[0], Ending: ending})
	return w
}

// hops is how many sockets there are at every hop from the client to the server.
type hops struct{ Client, BalancerToClient, BalancerToServer, Server int }

// timeWaits counts the sockets in TIME_WAIT.
func (w world) timeWaits(ctx SpecContext) (found hops) {
	GinkgoHelper()
	found.Client = len(sockets(ctx, w.client(0)).In(observe.TimeWait))
	found.Server = len(sockets(ctx, w.server()).In(observe.TimeWait))
	for _, s := range sockets(ctx, w.balancer()).In(observe.TimeWait) {
		if s.Local == w.Door() {
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
	clientFirst := tcp.Attempt{Ending: tcp.CloseFirst}
	serverFirst := tcp.Attempt{Ending: tcp.CloseAfterPeer}
	loop := func(ctx SpecContext, w world, example tcp.Attempt) {
		GinkgoHelper()
		example.To = w.Door()
		Expect(attempt(ctx, w.client(0), connects, example)).To(HaveVerdicts(tcp.Connected, connects))
	}

	It("that is HAProxy, a client that closes first makes HAProxy close first towards the server: both have the TIME_WAITs", func(ctx SpecContext) {
		world := behind(ctx, lab.BalancerSpec{Kind: lab.HAProxy}, tcp.CloseAfterPeer)
		loop(ctx, world, clientFirst)
		Eventually(world.timeWaits).WithArguments(ctx).Should(Equal(hops{Client: connects, BalancerToServer: connects}))
	})

	It("that is HAProxy, a server that closes first makes HAProxy close first towards the client", func(ctx SpecContext) {
		world := behind(ctx, lab.BalancerSpec{Kind: lab.HAProxy}, tcp.CloseFirst)
		loop(ctx, world, serverFirst)
		Eventually(world.timeWaits).WithArguments(ctx).Should(Equal(hops{BalancerToClient: connects, Server: connects}))
	})

	It("that is DNAT, a client that closes first has them alone: the balancer has no sockets, only a conntrack table", func(ctx SpecContext) {
		world := behind(ctx, lab.BalancerSpec{Kind: lab.DNAT}, tcp.CloseAfterPeer)
		loop(ctx, world, clientFirst)
		Eventually(world.timeWaits).WithArguments(ctx).Should(Equal(hops{Client: connects}))
		Expect(sockets(ctx, world.balancer())).To(BeEmpty())
		Expect(flows(ctx, world.balancer())).To(HaveLen(connects))
	})

	It("that is DNAT, a server that closes first has them alone, and the client's ports are free", func(ctx SpecContext) {
		world := behind(ctx, lab.BalancerSpec{Kind: lab.DNAT}, tcp.CloseFirst)
		loop(ctx, world, serverFirst)
		Eventually(world.timeWaits).WithArguments(ctx).Should(Equal(hops{Server: connects}))
	})

	It("that is the end itself, a client that closes first has them alone", func(ctx SpecContext) {
		world := up(ctx, lab.Topology{Clients: 1, Servers: 1})
		listen(ctx, world.balancer(), tcp.ListenSpec{At: world.Door(), Ending: tcp.CloseAfterPeer})
		loop(ctx, world, clientFirst)
		Eventually(world.timeWaits).WithArguments(ctx).Should(Equal(hops{Client: connects}))
	})
})

var _ = Describe("A server that does not listen", func() {
	It("is a refusal to the client behind DNAT", func(ctx SpecContext) {
		world := up(ctx, lab.Topology{Clients: 1, Servers: 1, Balancer: lab.BalancerSpec{Kind: lab.DNAT}})
		Expect(attempt(ctx, world.client(0), 1, tcp.Attempt{To: world.Door()})).To(HaveVerdicts(tcp.Refused, 1))
	})

	It("is a connection to the client behind HAProxy, which counts it and hangs up", func(ctx SpecContext) {
		never := haproxy.Config{Retries: -1}
		world := up(ctx, lab.Topology{Clients: 1, Servers: 1, Balancer: lab.BalancerSpec{Kind: lab.HAProxy, HAProxy: never}})
		moved := world.watchProgram(ctx)

		outcomes := attempt(ctx, world.client(0), 1, tcp.Attempt{To: world.Door(), Ending: tcp.CloseAfterPeer})

		Expect(outcomes).To(HaveVerdicts(tcp.Connected, 1))
		Expect(moved()).To(Rise("frontend.conn_tot", "backend.econ", "server0.econ"))
		Expect(moved()).To(StayStill("server0.wretr", "server0.eresp"))
	})
})
