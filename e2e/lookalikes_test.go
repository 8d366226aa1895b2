package e2e

import (
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"twlab/harness/kernel"
	"twlab/harness/lab"
	"twlab/harness/observe"
	"twlab/harness/tcp"
)

// Failures that look the same to the client, and have another owner.
var _ = Describe("A connect that times out", func() {
	quick := lab.On(lab.Client, "net.ipv4.tcp_syn_retries=1")
	twoClients := func(first, last uint16) lab.Topology {
		ports := lab.PortRange{First: first, Last: last}
		return lab.Topology{Clients: 2, Gateway: lab.GatewaySpec{Kind: lab.Masquerade, Ports: ports}, Sysctls: quick}
	}

	It("is the gateway's doing when its only port is busy: no SYN reaches the balancer", func(ctx SpecContext) {
		l := up(ctx, twoClients(2000, 2000))
		listener := serve(ctx, l.Balancer(), tcp.KeepOpen)
		Expect(attempt(ctx, l.Client(0), 1, tcp.Attempt{To: listener})).To(HaveOutcomes(tcp.Connected, 1))
		Eventually(sockets).WithArguments(ctx, l.Balancer()).Should(HaveSockets(1, observe.Established), "the last packet of the first connection")
		gateway, balancer := watch(ctx, l.Gateway()), watch(ctx, l.Balancer())

		outcomes := attempt(ctx, l.Client(1), 1, tcp.Attempt{To: listener})

		Expect(outcomes).To(HaveOutcomes(tcp.TimedOut, 1))
		account := l.syns(l.Client(1), outcomes[0], listener)
		Expect(account.EnteredGateway).To(And(Equal(account.Sent), Equal(outcomes[0].SYNs), BeNumerically(">", 1)))
		Expect(account.LeftGateway).To(BeZero())
		Expect(gateway()).To(Rise("Conntrack.insert_failed", "Conntrack.drop"))
		moved := balancer()
		Expect(moved).To(StayStill("Tcp.InSegs", "TcpExt.ListenDrops", kernel.PAWSReject(moved)))
	})

	It("does not happen when the gateway has a second port", func(ctx SpecContext) {
		l := up(ctx, twoClients(2000, 2001))
		listener := serve(ctx, l.Balancer(), tcp.KeepOpen)
		Expect(attempt(ctx, l.Client(0), 1, tcp.Attempt{To: listener})).To(HaveOutcomes(tcp.Connected, 1))
		gateway := watch(ctx, l.Gateway())

		Expect(attempt(ctx, l.Client(1), 1, tcp.Attempt{To: listener})).To(HaveOutcomes(tcp.Connected, 1))

		Expect(gateway()).To(StayStill("Conntrack.insert_failed", "Conntrack.drop"))
	})

	It("is the application's doing when the accept queue is full: every SYN arrives and none is answered", func(ctx SpecContext) {
		l := up(ctx, lab.Topology{Clients: 1, Sysctls: quick})
		listener := listen(ctx, l.Balancer(), tcp.ListenSpec{Backlog: new(1), NeverAccepts: true})
		Expect(attempt(ctx, l.Client(0), 2, tcp.Attempt{To: listener})).To(HaveOutcomes(tcp.Connected, 2))
		Eventually(sockets).WithArguments(ctx, l.Balancer()).Should(HaveSockets(2, observe.Established), "which the queue holds")
		balancer := watch(ctx, l.Balancer())

		outcomes := attempt(ctx, l.Client(0), 1, tcp.Attempt{To: listener})

		Expect(outcomes).To(HaveOutcomes(tcp.TimedOut, 1))
		account := l.syns(l.Client(0), outcomes[0], listener)
		Expect(account.Reached).To(And(Equal(account.Sent), BeNumerically(">", 1)))
		Expect([]int{account.SYNACKs, account.ACKs, account.RSTs}).To(HaveEach(0))
		moved := balancer()
		Expect(moved).To(Rise("TcpExt.ListenOverflows", "TcpExt.ListenDrops"))
		Expect(moved).To(StayStill(kernel.PAWSReject(moved)))
	})

	It("does not happen when the accept queue has room for one more", func(ctx SpecContext) {
		l := up(ctx, lab.Topology{Clients: 1, Sysctls: quick})
		listener := listen(ctx, l.Balancer(), tcp.ListenSpec{Backlog: new(2), NeverAccepts: true})
		balancer := watch(ctx, l.Balancer())

		Expect(attempt(ctx, l.Client(0), 3, tcp.Attempt{To: listener})).To(HaveOutcomes(tcp.Connected, 3))

		Expect(balancer()).To(StayStill("TcpExt.ListenOverflows", "TcpExt.ListenDrops"))
	})
})

var _ = Describe("tcp_tw_recycle", func() {
	It("is refused with the release that removed it", func(ctx SpecContext) {
		_, err := lab.Build(ctx, lab.Topology{Clients: 1, Sysctls: lab.On(lab.Balancer, "net.ipv4.tcp_tw_recycle=1")})
		Expect(err).To(MatchError(kernel.ErrSysctlGone))
		Expect(err).To(MatchError(ContainSubstring("balancer: sysctl net.ipv4.tcp_tw_recycle=1: no longer in the kernel")))
		Expect(err).To(MatchError(ContainSubstring("removed in Linux 4.12")))
	})

	It("is refused alone: its neighbour tcp_tw_reuse can be set the same way", func(ctx SpecContext) {
		l := up(ctx, lab.Topology{Clients: 1, Sysctls: lab.On(lab.Balancer, "net.ipv4.tcp_tw_reuse=1")})
		Expect(l.Balancer().Sysctl(ctx, "net.ipv4.tcp_tw_reuse")).To(Equal("1"))
	})
})
