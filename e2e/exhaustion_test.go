package e2e

import (
	"net/netip"
	"strconv"
	"time"

	"twlab/scenarios/situation"

	. "github.com/onsi/ginkgo/v2"

	. "github.com/onsi/gomega"

	"twlab/harness/kernel"
	"twlab/harness/lab"
	"twlab/harness/node"
	"twlab/harness/observe"
	"twlab/harness/tcp"
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

var _ = Describe("tcp_tw_reuse on the client", func() {
	// One port, so that the second connection needs the first one's.
	profile := func(reuse string) lab.Settings {
		return situation.KeepTimeWaits(lab.Client).On(lab.Client, "net.ipv4.ip_local_port_range=50000 50000", "net.ipv4.tcp_tw_reuse="+reuse)
	}
	// Old enough on every kernel: until Linux 4.18 it takes up to 2 s, since 6.14
	// tcp_tw_reuse_delay, which is 1 s.
	const oldEnough = 2200 * time.Millisecond

	// try leaves a TIME_WAIT on the port, ages it, and connects again.
	try := func(ctx SpecContext, client node.Node, to netip.AddrPort) ([]tcp.Result, kernel.Counters) {
		GinkgoHelper()
		Expect(attempt(ctx, client, 1, tcp.Attempt{To: to, Ending: tcp.CloseFirst})).To(HaveOutcomes(tcp.Connected, 1))
		timeWaitOlderThan(ctx, client, oldEnough)
		moved := watch(ctx, client)
		return attempt(ctx, client, 1, tcp.Attempt{To: to}), moved()
	}

	It("gives the port again, but not before the TIME_WAIT is as old as tcp_tw_reuse_delay", func(ctx SpecContext) {
		// Long enough for a machine that has much else to do. A kernel without the
		// sysctl counts seconds, and what it says late says nothing.
		const delay, second = 5 * time.Second, 800 * time.Millisecond
		settings := append(profile("1"), lab.Setting{
			Role: lab.Client, Name: "net.ipv4.tcp_tw_reuse_delay", Value: strconv.FormatInt(delay.Milliseconds(), 10), IfPresent: true,
		})
		l := up(ctx, lab.Topology{Clients: 1, Sysctls: settings})
		client, listener := l.Client(0), serve(ctx, l.Balancer(), tcp.CloseAfterPeer)
		_, unknown := client.Sysctl(ctx, "net.ipv4.tcp_tw_reuse_delay")
		earlyInASecond(ctx)
		began := time.Now()
		Expect(attempt(ctx, client, 1, tcp.Attempt{To: listener, Ending: tcp.CloseFirst})).To(HaveOutcomes(tcp.Connected, 1))

		moved := watch(ctx, client)
		early := attempt(ctx, client, 1, tcp.Attempt{To: listener})
		if unknown != nil {
			Expect(time.Since(began)).To(BeNumerically("<", second), "tried too late to say anything of this kernel")
		}
		Expect(early).To(HaveOutcomes(tcp.NoPort, 1))
		Expect(moved()).To(StayStill("TcpExt.TWRecycled"))

		timeWaitOlderThan(ctx, client, delay+200*time.Millisecond)
		Expect(attempt(ctx, client, 1, tcp.Attempt{To: listener})).To(HaveOutcomes(tcp.Connected, 1))
		Expect(moved()).To(Rise("TcpExt.TWRecycled"))
		Expect(sockets(ctx, client)).To(HaveTimeWait(0))
	})

	It("gives no port while it is 0", func(ctx SpecContext) {
		l := up(ctx, lab.Topology{Clients: 1, Sysctls: profile("0")})
		outcomes, moved := try(ctx, l.Client(0), serve(ctx, l.Balancer(), tcp.CloseAfterPeer))
		Expect(outcomes).To(HaveOutcomes(tcp.NoPort, 1))
		Expect(moved).To(StayStill("TcpExt.TWRecycled"))
	})

	It("gives no port when the balancer has timestamps off", func(ctx SpecContext) {
		l := up(ctx, lab.Topology{Clients: 1, Sysctls: profile("1").On(lab.Balancer, "net.ipv4.tcp_timestamps=0")})
		outcomes, moved := try(ctx, l.Client(0), serve(ctx, l.Balancer(), tcp.CloseAfterPeer))
		Expect(outcomes).To(HaveOutcomes(tcp.NoPort, 1))
		Expect(moved).To(StayStill("TcpExt.TWRecycled"))
	})

	It("gives the port over loopback while it is 2", func(ctx SpecContext) {
		l := up(ctx, lab.Topology{Clients: 1, Sysctls: profile("2")})
		client := l.Client(0)
		listener := listen(ctx, client, tcp.ListenSpec{At: netip.MustParseAddrPort("127.0.0.1:80"), Ending: tcp.CloseAfterPeer})
		outcomes, moved := try(ctx, client, listener)
		Expect(outcomes).To(HaveOutcomes(tcp.Connected, 1))
		Expect(moved).To(Rise("TcpExt.TWRecycled"))
	})

	It("gives no port to another host while it is 2, nor to the client's own address", func(ctx SpecContext) {
		for _, own := range []bool{false, true} {
			l := up(ctx, lab.Topology{Clients: 1, Sysctls: profile("2")})
			at := map[bool]node.Node{true: l.Client(0), false: l.Balancer()}[own]
			outcomes, moved := try(ctx, l.Client(0), serve(ctx, at, tcp.CloseAfterPeer))
			Expect(outcomes).To(HaveOutcomes(tcp.NoPort, 1))
			Expect(moved).To(StayStill("TcpExt.TWRecycled"))
		}
	})
})

var _ = Describe("TIME_WAIT", func() {
	It("lasts 60 s whatever tcp_fin_timeout says, and then the port is free", Label("slow"), SpecPriority(60), func(ctx SpecContext) {
		l := up(ctx, lab.Topology{Clients: 1, Sysctls: situation.KeepTimeWaits(lab.Client).On(lab.Client,
			"net.ipv4.ip_local_port_range=50000 50000", "net.ipv4.tcp_tw_reuse=0", "net.ipv4.tcp_fin_timeout=5")})
		client, listener := l.Client(0), serve(ctx, l.Balancer(), tcp.CloseAfterPeer)
		before := time.Now()
		Expect(attempt(ctx, client, 1, tcp.Attempt{To: listener, Ending: tcp.CloseFirst})).To(HaveOutcomes(tcp.Connected, 1))
		began := time.Now()
		left := sockets(ctx, client).In(observe.TimeWait)
		Expect(left).To(HaveLen(1))
		const jiffies = 100 * time.Millisecond // to which timers are rounded up
		Expect(left[0].Expires).To(And(
			BeNumerically("<=", situation.TimeWaitLength+jiffies), BeNumerically(">=", situation.TimeWaitLength-time.Since(before)-jiffies)))

		timeWaitOlderThan(ctx, client, 55*time.Second)
		Expect(attempt(ctx, client, 1, tcp.Attempt{To: listener})).To(HaveOutcomes(tcp.NoPort, 1))

		Eventually(sockets).WithArguments(ctx, client).Should(HaveTimeWait(0))
		Expect(time.Since(began)).To(BeNumerically(">", 59*time.Second))
		Expect(attempt(ctx, client, 1, tcp.Attempt{To: listener})).To(HaveOutcomes(tcp.Connected, 1))
	})

	It("is not what tcp_fin_timeout shortens: that is FIN_WAIT2", func(ctx SpecContext) {
		l := up(ctx, lab.Topology{Clients: 1, Sysctls: lab.On(lab.Client, "net.ipv4.tcp_fin_timeout=5")})
		client, listener := l.Client(0), serve(ctx, l.Balancer(), tcp.KeepOpen)
		Expect(attempt(ctx, client, 1, tcp.Attempt{To: listener, Ending: tcp.CloseNow})).To(HaveOutcomes(tcp.Connected, 1))

		Eventually(sockets).WithArguments(ctx, client).Should(HaveSockets(1, observe.FinWait2))
		half := sockets(ctx, client).In(observe.FinWait2)[0]
		Expect(half.Mini()).To(BeTrue())
		Expect(half.Expires).To(BeNumerically("<=", 5*time.Second))
	})
})

var _ = Describe("SO_LINGER with 0 seconds", func() {
	It("ends connections by RST: no TIME_WAIT on either side, and ports are free at once", func(ctx SpecContext) {
		l := up(ctx, lab.Topology{Clients: 1, Sysctls: lab.On(lab.Client,
			"net.ipv4.ip_local_port_range=50000 50000", "net.ipv4.tcp_tw_reuse=0")})
		client, listener := l.Client(0), serve(ctx, l.Balancer(), tcp.CloseAfterPeer)
		here, there := watch(ctx, client), watch(ctx, l.Balancer())

		Expect(attempt(ctx, client, 20, tcp.Attempt{To: listener, Ending: tcp.Abort})).To(HaveOutcomes(tcp.Connected, 20))

		Expect(here()).To(Rise("Tcp.OutRsts", "TcpExt.TCPAbortOnData"))
		Expect(there()).To(Rise("Tcp.EstabResets"))
		for _, side := range []node.Node{client, l.Balancer()} {
			Expect(sockets(ctx, side)).To(HaveTimeWait(0))
		}
	})

	It("is what made the difference: a plain close takes the only port", func(ctx SpecContext) {
		l := up(ctx, lab.Topology{Clients: 1, Sysctls: lab.On(lab.Client,
			"net.ipv4.ip_local_port_range=50000 50000", "net.ipv4.tcp_tw_reuse=0")})
		client, listener := l.Client(0), serve(ctx, l.Balancer(), tcp.CloseAfterPeer)
		here := watch(ctx, client)

		Expect(attempt(ctx, client, 1, tcp.Attempt{To: listener, Ending: tcp.CloseFirst})).To(HaveOutcomes(tcp.Connected, 1))
		Expect(attempt(ctx, client, 1, tcp.Attempt{To: listener})).To(HaveOutcomes(tcp.NoPort, 1))

		Expect(here()).To(StayStill("Tcp.OutRsts", "TcpExt.TCPAbortOnData"))
		Expect(sockets(ctx, client)).To(HaveTimeWait(1))
	})
})
