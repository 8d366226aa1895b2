package nat

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"twlab/harness/lab"
	"twlab/harness/load"
	"twlab/harness/node"
	"twlab/harness/observe"
	"twlab/harness/tcp"
	"twlab/scenarios/claim"
	"twlab/scenarios/situation"
)

// The family's only axis, and those of its values that are not one who refuses.
const (
	refusalBy = "by"

	byNobody = "nobody"
	byThree  = "client-gateway-clock"
)

const (
	refusalClients = 4
	refusalEach    = 15 // attempts of each client
	refusalPool    = 40 // ports of a gateway that has too few, or of all clients together
	refusalSpare   = 48 // ports of all clients together that leave some for the gateway to refuse
	refusalQueue   = 10 // connections in a full queue
)

// Refusal is the family of who refuses a connection. Each attempt and each SYN of a load
// has exactly one disposition, and each disposition has its own evidence.
func Refusal() situation.Family {
	return situation.Family{
		Family: claim.Family{
			Name:     "refusal",
			Evidence: situation.LoadEvidence(),
			About: fmt.Sprintf("%d clients make %d connections each through a gateway, and keep them open: who refuses how many attempts and SYNs, "+
				"and is every SYN accounted for?", refusalClients, refusalEach),
			Axes: []claim.Axis{{
				Name: refusalBy, Values: []string{byNobody, situation.ByClient, situation.ByGateway, situation.ByClock, situation.ByNumber, situation.ByQueue, situation.ByEndpoint, byThree}, Product: true,
				Means: "who refuses: nobody; clients with too few ports; a gateway with too few ports; the balancer's TIME_WAITs, half of them because of the " +
					"timestamp, or all because of the sequence number; a full accept queue; a port without a listener; or three of these at once",
			}},
			Waits: []claim.Wait{{Cells: claim.Cells{{refusalBy: {byThree}}}, About: 20 * time.Second}},
			Rules: refusalRules(),
		},
		Topology: refusalTopology,
		Drive:    driveRefusal,
		Tell:     refusalTell,
	}
}

// refusalRules has one rule for each value of the axis.
func refusalRules() []claim.Rule {
	const all = refusalClients * refusalEach
	const resent = 2 // SYNs, at least, of an attempt that gets no answer
	// account expects a value for every count: exactly 0 if by does not name it. While all
	// ports of the gateway are in use or just becoming free, two SYNs may clash over a
	// port: then the gateway's refusals are not expected, but count in the sum.
	account := func(connected int64, by ...claim.Expectation) []claim.Expectation {
		want := append([]claim.Expectation{claim.Exactly("connected", connected)}, by...)
		crowded := slices.ContainsFunc(by, func(e claim.Expectation) bool {
			return e.What == situation.RefusedBy(situation.ByClock) || e.What == situation.RefusedBy(situation.ByNumber)
		})
		for _, who := range []string{situation.ByClient, situation.ByGateway, situation.ByClock, situation.ByNumber, situation.ByQueue, situation.ByEndpoint} {
			if crowded && who == situation.ByGateway {
				continue
			}
			if !slices.ContainsFunc(by, func(e claim.Expectation) bool { return e.What == situation.RefusedBy(who) }) {
				want = append(want, claim.Exactly(situation.RefusedBy(who), 0))
			}
		}
		return append(want, claim.Exactly("unaccounted", 0))
	}
	rule := func(by, cause string, want []claim.Expectation, because, source string) claim.Rule {
		return claim.Rule{Name: "refusal-" + by, Cells: claim.Cells{{refusalBy: {by}}}, Want: want, Cause: cause, Because: because, Source: source}
	}

	three := rule(byThree, "", account(refusalPool,
		claim.Exactly(situation.RefusedBy(situation.ByClient), all-refusalSpare), claim.AtLeast(situation.RefusedBy(situation.ByGateway), (refusalSpare-refusalPool)*resent),
		claim.Exactly(situation.RefusedBy(situation.ByClock), refusalPool/2), claim.Exactly("timed out", refusalSpare-refusalPool)),
		"the client, the gateway and the TIME_WAITs (clock) refuse at different points of the path, so their counts do not mix: what "+
			"the client refuses is never sent, and what the gateway refuses never arrives", "the sources of the three")
	three.Uncaused = "the three refuse side by side, each for a cause of its own"

	return []claim.Rule{
		rule(byNobody, "", account(all, claim.Exactly("late", 0)), "every SYN is accepted", "RFC 9293 section 3.5"),
		rule(situation.ByClient, "ports-exhausted", account(refusalPool, claim.Exactly(situation.RefusedBy(situation.ByClient), all-refusalPool), claim.Exactly("late", 0)),
			"connect without a free local port fails with EADDRNOTAVAIL at once and sends nothing", "__inet_hash_connect"),
		rule(situation.ByGateway, "snat-exhausted", account(refusalPool, claim.AtLeast(situation.RefusedBy(situation.ByGateway), (all-refusalPool)*resent), claim.Exactly("timed out", all-refusalPool)),
			"a gateway without a free port drops each SYN of the attempt and counts it in insert_failed; established connections are not "+
				"evicted",
			"__nf_conntrack_confirm; nf_nat_used_tuple_harder"),
		rule(situation.ByClock, "time-wait-older-timestamp", account(all, claim.Exactly(situation.RefusedBy(situation.ByClock), all/2), claim.AtLeast("late", 1)),
			"each TIME_WAIT whose last timestamp is newer rejects one SYN with an ACK, the client's RST removes the TIME_WAIT, and the "+
				"next SYN is accepted",
			"tcp_timewait_state_process, RFC 7323 section 5"),
		rule(situation.ByNumber, "time-wait-older-number", account(all, claim.Exactly(situation.RefusedBy(situation.ByNumber), all), claim.AtLeast("late", 1)),
			"without timestamps each TIME_WAIT that has seen a newer sequence number rejects one SYN in the same way; no counter shows "+
				"this, only the client's RSTs do", "tcp_timewait_state_process, RFC 1122 section 4.2.2.13"),
		rule(situation.ByQueue, "accept-queue-full", account(0, claim.AtLeast(situation.RefusedBy(situation.ByQueue), all*resent), claim.Exactly("timed out", all)),
			"when the accept queue is full, every SYN is dropped and counted in ListenOverflows", "tcp_conn_request, sk_acceptq_is_full"),
		rule(situation.ByEndpoint, "no-listener", account(0, claim.Exactly(situation.RefusedBy(situation.ByEndpoint), all)),
			"a SYN to a port without a listener is answered with a RST (ECONNREFUSED)", "tcp_v4_send_reset; RFC 9293 section 3.10.7.1"),
		three,
	}
}

func refusalTopology(c claim.Cell) lab.Topology {
	t := lab.Topology{
		Clients: refusalClients,
		Gateway: lab.GatewaySpec{Kind: lab.Masquerade},
		Sysctls: lab.On(lab.Client, "net.ipv4.tcp_timestamps=2").
			On(lab.Gateway, "net.netfilter.nf_conntrack_tcp_be_liberal=1"), // see gatewayTopology
	}
	// shareOut gives each client its part of so many local ports, so that no two
	// of them ask the gateway for the same. Of an odd number connect does not always
	// find the last (__inet_hash_connect takes an even number of steps).
	shareOut := func(ports int) {
		each := ports / refusalClients
		for i := range refusalClients {
			first := int(situation.SourcePort) + 1000 + i*each
			t.Sysctls = t.Sysctls.OnNode(fmt.Sprintf("client%d", i), fmt.Sprintf("net.ipv4.ip_local_port_range=%d %d", first, first+each-1))
		}
	}
	// retries makes attempts without an answer give up soon. An attempt that is rejected for
	// its timestamp or sequence number may be rejected on several ports, and needs its
	// retries.
	retries := func(n int) { t.Sysctls = t.Sysctls.On(lab.Client, fmt.Sprintf("net.ipv4.tcp_syn_retries=%d", n)) }
	switch c.Value(refusalBy) {
	case byNobody, situation.ByEndpoint: // nothing is short
	case situation.ByClient:
		shareOut(refusalPool)
	case situation.ByQueue:
		retries(1)
	case situation.ByGateway:
		retries(1)
		t.Gateway.Ports = poolOf(refusalPool)
	case situation.ByClock:
		t.Gateway.Ports = poolOf(refusalClients * refusalEach)
	case situation.ByNumber:
		t.Gateway.Ports = poolOf(refusalClients * refusalEach)
		t.Sysctls = t.Sysctls.On(lab.Client, "net.ipv4.tcp_timestamps=0")
	case byThree:
		retries(3)
		t.Gateway.Ports = poolOf(refusalPool)
		shareOut(refusalSpare)
	}
	return t
}

func driveRefusal(ctx context.Context, c claim.Cell, l *lab.Lab) (seen claim.Seen, err error) {
	gateway, balancer := l.Gateway(), l.Balancer()
	plan := load.Plan{
		Clients: l.Nodes(lab.Client), Watched: []node.Node{gateway, balancer}, Each: refusalEach, Seed: shareSeed,
		// Attempts start one after the other, so that none finds a queue full or a port
		// taken for a moment only; but all may wait for an answer at the same time.
		InFlight: refusalClients * refusalEach,
	}
	switch by := c.Value(refusalBy); by {
	case situation.ByClock, situation.ByNumber, byThree:
		ports := l.Topology().Gateway.Ports.Size()
		u, err := useUp(ctx, l, ports, situation.FirstISN)
		if err != nil {
			return seen, err
		}
		if by != situation.ByNumber {
			for i := range refusalClients / 2 {
				if err := u.putAhead(ctx, i); err != nil {
					return seen, err
				}
			}
		}
		if err := u.end(ctx); err != nil {
			return seen, fmt.Errorf("first load: %w", err)
		}
		if _, err := gateway.DeleteFlows(ctx, observe.FlowMatch{Original: observe.Tuple{Dst: u.listener.Addr}}); err != nil {
			return seen, err
		}
		plan.Attempt.To = u.listener.Addr
		if by == situation.ByNumber {
			plan.Attempt.ISN = situation.FirstISN - situation.IsnGap
		}
	case situation.ByEndpoint:
		plan.Attempt.To = netip.AddrPortFrom(balancer.Identity().Addr, 80)
	case situation.ByQueue:
		listener, err := balancer.Listen(ctx, tcp.ListenSpec{NeverAccepts: true, Backlog: new(refusalQueue - 1)})
		if err != nil {
			return seen, err
		}
		if err := fillQueue(ctx, plan.Clients[0], balancer, listener); err != nil {
			return seen, err
		}
		plan.Attempt.To = listener.Addr
	case byNobody, situation.ByClient, situation.ByGateway:
		listener, err := balancer.Listen(ctx, tcp.ListenSpec{})
		if err != nil {
			return seen, err
		}
		plan.Attempt.To = listener.Addr
	}
	r, err := load.Run(ctx, plan)
	if err != nil {
		return seen, err
	}
	situation.DispositionsOf(r).Note(&seen, r)
	return seen, nil
}

// fillQueue fills the accept queue one connection after the other. A SYN that comes before
// the last ACK of another handshake finds room that the other one will take
// (tcp_conn_request checks the queue, but tcp_v4_syn_recv_sock fills it). So if many
// clients filled the queue at the same time, the number of connections would be chance.
func fillQueue(ctx context.Context, client, balancer node.Node, listener node.Listening) error {
	for i := range refusalQueue {
		outs, err := client.Attempt(ctx, []tcp.Attempt{{To: listener.Addr}})
		if err != nil {
			return fmt.Errorf("fill the accept queue: %w", err)
		}
		if outs[0].Outcome != tcp.Connected {
			return fmt.Errorf("fill the accept queue: connection %d of %d: %v", i+1, refusalQueue, outs[0])
		}
		err = observe.Await(ctx, fmt.Sprintf("%d connections in the accept queue", i+1), func() (bool, error) {
			all, err := balancer.Sockets(ctx)
			if err != nil {
				return false, err
			}
			return len(all.In(observe.Established).Between(listener.Addr, netip.AddrPort{})) == i+1, nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
