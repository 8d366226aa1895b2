package e2e

import (
	"fmt"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"twlab/harness/lab"
	"twlab/harness/ns"
	"twlab/harness/observe"
	"twlab/harness/tcp"
)

var _ = Describe("Many clients", func() {
	for _, n := range []int{50, 500} {
		It(fmt.Sprintf("are one address to the balancer when %d of them connect through MASQUERADE", n), func(ctx SpecContext) {
			l := up(ctx, lab.Topology{Clients: n, Gateway: lab.GatewaySpec{Kind: lab.Masquerade}})
			listener := serve(ctx, l.Balancer(), tcp.KeepOpen)

			for i := range n {
				outcomes := attempt(ctx, l.Client(i), 1, tcp.Attempt{To: listener})
				Expect(outcomes).To(HaveOutcomes(tcp.Connected, 1))
				Expect(outcomes[0].SYNs).To(Equal(1))
			}

			// To its client a connection is there before the balancer has the last
			// packet of the handshake.
			Eventually(sockets).WithArguments(ctx, l.Balancer()).Should(HaveSockets(n, observe.Established))
			Expect(peers(sockets(ctx, l.Balancer()).In(observe.Established))).To(ConsistOf(l.Gateway().Identity().Addr))
			Expect(flows(ctx, l.Gateway())).To(HaveLen(n))
		})
	}

	It("keep their own addresses when the gateway only routes", func(ctx SpecContext) {
		l := up(ctx, lab.Topology{Clients: 50, Gateway: lab.GatewaySpec{Kind: lab.Routed}})
		listener := serve(ctx, l.Balancer(), tcp.KeepOpen)

		for i := range 50 {
			Expect(attempt(ctx, l.Client(i), 1, tcp.Attempt{To: listener})).To(HaveOutcomes(tcp.Connected, 1))
		}

		Eventually(sockets).WithArguments(ctx, l.Balancer()).Should(HaveSockets(50, observe.Established))
		Expect(peers(sockets(ctx, l.Balancer()).In(observe.Established))).To(HaveLen(50))
		Expect(flows(ctx, l.Gateway())).To(BeEmpty())
	})

	for _, n := range []int{50, 500} {
		It(fmt.Sprintf("leave nothing behind when the lab of %d of them is closed", n), func(ctx SpecContext) {
			watched, err := ns.NewWatch()
			noError(err)
			DeferCleanup(watched.Close)
			l := up(ctx, lab.Topology{Clients: n, Gateway: lab.GatewaySpec{Kind: lab.Masquerade}})
			noError(l.Watch(watched))
			listener := serve(ctx, l.Balancer(), tcp.KeepOpen)
			Expect(attempt(ctx, l.Client(0), 1, tcp.Attempt{To: listener})).To(HaveOutcomes(tcp.Connected, 1))
			Expect(watched.Alive()).To(Equal(n + 2))

			noError(l.Close())

			// Links, routes and rules have no life outside their namespace.
			Eventually(watched.Alive).Should(BeZero())
		})
	}
})
