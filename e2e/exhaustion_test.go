package e2e

import (
	"net/netip"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"twlab/harness/lab"
	"twlab/harness/observe"
	"twlab/harness/tcp"
	"twlab/scenarios/situation"
)

var _ = Describe("A client that closes first", func() {
	tenPorts := situation.KeepTimeWaits(lab.Client, lab.Balancer).On(lab.Client, "net.ipv4.ip_local_port_range=50000 50009")
	closing := func(to netip.AddrPort) tcp.Attempt { return tcp.Attempt{To: to, Ending: tcp.CloseFirst} }

	It("loses its ports to TIME_WAIT, towards this listener only", func(ctx SpecContext) {
		l := up(ctx, lab.Topology{Clients: 1, Sysctls: tenPorts.On(lab.Client, "net.ipv4.tcp_tw_reuse=0")})
		listener := serve(ctx, l.Balancer(), tcp.CloseAfterPeer)
		next := serve(ctx, l.Balancer(), tcp.CloseAfterPeer, 81)

		Expect(attempt(ctx, l.Client(0), 10, closing(listener))).To(HaveOutcomes(tcp.Connected, 10))
		Eventually(sockets).WithArguments(ctx, l.Balancer()).Should(HaveSockets(0, observe.LastAck), "which the last packet ends")
		moved := watch(ctx, l.Balancer())
		Expect(attempt(ctx, l.Client(0), 1, closing(listener))).To(HaveOutcomes(tcp.NoPort, 1))

		Expect(sockets(ctx, l.Client(0))).To(HaveTimeWait(10))
		Expect(sockets(ctx, l.Balancer())).To(HaveTimeWait(0))
		Expect(moved()).To(StayStill("Tcp.PassiveOpens", "Tcp.InSegs"), "a connect without a port sends nothing")
		Expect(attempt(ctx, l.Client(0), 10, closing(next))).To(HaveOutcomes(tcp.Connected, 10))
	})

	It("keeps its ports when the balancer closes first, which then has the TIME_WAITs", func(ctx SpecContext) {
		l := up(ctx, lab.Topology{Clients: 1, Sysctls: tenPorts.On(lab.Client, "net.ipv4.tcp_tw_reuse=0")})
		listener := serve(ctx, l.Balancer(), tcp.CloseFirst)
		second := tcp.Attempt{To: listener, Ending: tcp.CloseAfterPeer}

		Expect(attemptTogether(ctx, l.Client(0), 10, second)).To(HaveOutcomes(tcp.Connected, 10))
		Eventually(sockets).WithArguments(ctx, l.Balancer()).Should(HaveTimeWait(10))
		Eventually(sockets).WithArguments(ctx, l.Client(0)).Should(BeEmpty())
		Expect(attemptTogether(ctx, l.Client(0), 10, second)).To(HaveOutcomes(tcp.Connected, 10))
	})
})
