package e2e

import (
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"twlab/harness/kernel"
	"twlab/harness/lab"
	"twlab/harness/observe"
	"twlab/harness/tcp"
	"twlab/scenarios/situation"
)

// The document: "某五元组还是 time_wait 状态 ... 会丢弃该 syn 包", a SYN for a
// five-tuple in TIME_WAIT is dropped when its timestamp is older.
var _ = Describe("The balancer has a five-tuple in TIME_WAIT when the gateway gives it to a second client:", func() {
	// Two clients whose clocks can be compared, behind one address.
	phones := lab.Topology{
		Clients: 2, Names: []string{"phone-a", "phone-b"},
		Gateway: lab.GatewaySpec{Kind: lab.Masquerade},
		Sysctls: lab.On(lab.Client, "net.ipv4.tcp_timestamps=2", "net.ipv4.tcp_syn_retries=1"),
	}
	// Nothing of this is anybody else's fault.
	otherCauses := []string{"TcpExt.ListenDrops", "TcpExt.ListenOverflows"}

	It("a SYN with an older timestamp is not dropped but answered by an ACK, and the client gets in", func(ctx SpecContext) {
		seen := up(ctx, phones).meet(ctx, situation.FiveTuple{Clock: situation.Older})

		Expect(seen.Second).To(HaveField("Outcome", tcp.Connected))
		Expect(seen.SYNs).To(HaveAnswers(observe.AnswerACK, observe.AnswerSYNACK))
		Expect(seen.SYNs.SYNs[0]).To(And(HaveField("ResetSent", true), HaveField("Reset.Reached", true)))
		Expect(seen.Balancer).To(Rise(kernel.PAWSReject(seen.Balancer)))
		Expect(seen.Balancer).To(StayStill(otherCauses...))
		Expect(seen.Client).To(Rise("TcpExt.TCPSynRetrans", "Tcp.OutRsts"))
		Expect(seen.Gateway).To(StayStill("Conntrack.insert_failed", "Conntrack.drop"))
	})

	It("a SYN with a newer timestamp is accepted at once", func(ctx SpecContext) {
		seen := up(ctx, phones).meet(ctx, situation.FiveTuple{Clock: situation.Newer})

		Expect(seen.Second).To(HaveField("Outcome", tcp.Connected))
		Expect(seen.SYNs).To(HaveAnswers(observe.AnswerSYNACK))
		Expect(seen.Balancer).To(StayStill(append(otherCauses, kernel.PAWSReject(seen.Balancer))...))
		Expect(seen.Client).To(StayStill("TcpExt.TCPSynRetrans", "Tcp.OutRsts"))
	})
})
