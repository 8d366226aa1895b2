package e2e

import (
	"net/netip"

	"twlab/harness/kernel"
	"twlab/scenarios/situation"

	. "github.com/onsi/ginkgo/v2"

	. "github.com/onsi/gomega"

	"twlab/harness/lab"
	"twlab/harness/observe"
	"twlab/harness/tcp"
)

// The document: "某五元组还是 time_wait 状态 ... 会丢弃该 syn 包", a SYN for a
// five-tuple in TIME_WAIT is dropped when its timestamp is older.
var _ = Describe("The balancer has a five-tuple in TIME_WAIT when the gateway gives it to a second client:", func() {
	// Two clients whose clocks can be compared, behind one address.
	phones := func(balancer ...string) lab.Topology {
		return lab.Topology{
			Clients: 2, Names: []string{"phone-a", "phone-b"},
			Gateway: lab.GatewaySpec{Kind: lab.Masquerade},
			Sysctls: lab.On(lab.Client, "net.ipv4.tcp_timestamps=2", "net.ipv4.tcp_syn_retries=1").On(lab.Balancer, balancer...),
		}
	}
	// Nothing of this is anybody else's fault.
	otherCauses := []string{"TcpExt.ListenDrops", "TcpExt.ListenOverflows"}

	It("a SYN with an older timestamp is not dropped but answered by an ACK, and the client gets in", func(ctx SpecContext) {
		seen := up(ctx, phones()).meet(ctx, situation.FiveTuple{Clock: situation.Older})

		Expect(seen.Second).To(HaveField("Outcome", tcp.Connected))
		Expect(seen.SYNs).To(HaveAnswers(observe.AnswerACK, observe.AnswerSYNACK))
		Expect(seen.SYNs.SYNs[0]).To(And(HaveField("ResetSent", true), HaveField("Reset.Reached", true)))
		Expect(seen.Balancer).To(Rise(kernel.PAWSReject(seen.Balancer)))
		Expect(seen.Balancer).To(StayStill(otherCauses...))
		Expect(seen.Client).To(Rise("TcpExt.TCPSynRetrans", "Tcp.OutRsts"))
		Expect(seen.Gateway).To(StayStill("Conntrack.insert_failed", "Conntrack.drop"))
	})

	It("a SYN with a newer timestamp is accepted at once", func(ctx SpecContext) {
		seen := up(ctx, phones()).meet(ctx, situation.FiveTuple{Clock: situation.Newer})

		Expect(seen.Second).To(HaveField("Outcome", tcp.Connected))
		Expect(seen.SYNs).To(HaveAnswers(observe.AnswerSYNACK))
		Expect(seen.Balancer).To(StayStill(append(otherCauses, kernel.PAWSReject(seen.Balancer))...))
		Expect(seen.Client).To(StayStill("TcpExt.TCPSynRetrans", "Tcp.OutRsts"))
	})

	It("a SYN with a newer timestamp is accepted even when its sequence number is older", func(ctx SpecContext) {
		seen := up(ctx, phones()).meet(ctx, situation.FiveTuple{Clock: situation.Newer, ISN: situation.Older})

		Expect(seen.SYNs).To(HaveAnswers(observe.AnswerSYNACK))
		Expect(seen.Client).To(StayStill("TcpExt.TCPSynRetrans"))
	})

	It("with tcp_rfc1337=1 on the balancer the RST changes nothing, and connect times out", func(ctx SpecContext) {
		l := up(ctx, phones("net.ipv4.tcp_rfc1337=1"))
		seen := l.meet(ctx, situation.FiveTuple{Clock: situation.Older})

		Expect(seen.Second).To(HaveField("Outcome", tcp.TimedOut))
		Expect(seen.SYNs.Reached).To(And(Equal(seen.SYNs.Sent), BeNumerically(">", 1)))
		Expect(seen.SYNs.SYNs[0]).To(And(HaveField("Answer", observe.AnswerACK), HaveField("Reset.Reached", true)))
		Expect(seen.SYNs.SYNACKs).To(BeZero())
		Expect(seen.Balancer).To(Rise(kernel.PAWSReject(seen.Balancer)))
		Expect(seen.Balancer).To(StayStill(otherCauses...))
		Expect(sockets(ctx, l.Balancer())).To(HaveTimeWait(1))
	})

	It("with tcp_rfc1337=1 a newer timestamp still gets in at once", func(ctx SpecContext) {
		seen := up(ctx, phones("net.ipv4.tcp_rfc1337=1")).meet(ctx, situation.FiveTuple{Clock: situation.Newer})
		Expect(seen.SYNs).To(HaveAnswers(observe.AnswerSYNACK))
	})

	It("with timestamps off on the balancer, an older sequence number is rejected all the same", func(ctx SpecContext) {
		seen := up(ctx, phones("net.ipv4.tcp_timestamps=0")).meet(ctx, situation.FiveTuple{ISN: situation.Older})

		Expect(seen.Second).To(And(HaveField("Outcome", tcp.Connected), HaveField("Timestamps", false)))
		Expect(seen.SYNs).To(HaveAnswers(observe.AnswerACK, observe.AnswerSYNACK))
		Expect(seen.Balancer).To(StayStill(append(otherCauses, kernel.PAWSReject(seen.Balancer))...))
		Expect(seen.Client).To(Rise("TcpExt.TCPSynRetrans", "Tcp.OutRsts"))
	})

	It("with timestamps off on the balancer, a newer sequence number is accepted whatever the clocks say", func(ctx SpecContext) {
		seen := up(ctx, phones("net.ipv4.tcp_timestamps=0")).meet(ctx, situation.FiveTuple{Clock: situation.Older, ISN: situation.Newer})

		Expect(seen.Second).To(And(HaveField("Outcome", tcp.Connected), HaveField("Timestamps", false)))
		Expect(seen.SYNs).To(HaveAnswers(observe.AnswerSYNACK))
		Expect(seen.Balancer).To(StayStill(append(otherCauses, kernel.PAWSReject(seen.Balancer))...))
	})

	It("does not come about while the gateway remembers the first connection: it gives another port", func(ctx SpecContext) {
		l := up(ctx, phones())
		listener := serve(ctx, l.Balancer(), tcp.CloseFirst)
		same := tcp.Attempt{To: listener, From: netip.MustParseAddrPort("0.0.0.0:40000"), Ending: tcp.CloseAfterPeer}
		Expect(attempt(ctx, l.Client(0), 1, same)).To(HaveOutcomes(tcp.Connected, 1))
		Eventually(sockets).WithArguments(ctx, l.Balancer()).Should(HaveTimeWait(1))

		outcomes := attempt(ctx, l.Client(1), 1, same)

		Expect(outcomes).To(HaveOutcomes(tcp.Connected, 1))
		account := l.syns(l.Client(1), outcomes[0], listener)
		Expect(account).To(HaveAnswers(observe.AnswerSYNACK))
		Expect(account.SYNs[0].As.Port()).NotTo(Equal(uint16(40000)))
	})
})
