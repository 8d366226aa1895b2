package timewait

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"twlab/harness/kernel"
	"twlab/harness/lab"
	"twlab/harness/node"
	"twlab/harness/observe"
	"twlab/harness/tcp"
	"twlab/scenarios/claim"
	"twlab/scenarios/situation"
)

// The axes of the family.
const (
	hosts            = "hosts"
	chanceClientTS   = "client-ts"
	chanceBalancerTS = "balancer-ts"
)

// chanceSYNs is how many SYNs meet a TIME_WAIT. Each of them is compared with the
// connection before. The random value, offset or sequence number, is uniform modulo 2^32,
// so each SYN is older with probability 1/2, independently of the others. The probability
// that all or none are rejected is 1 in 8 million.
const chanceSYNs = 24

// Chance is the family in which the driver sets no clock and no sequence number: unrelated
// connections come from the same address and port within a minute, with the clocks and
// sequence numbers of their kernels. How many of their SYNs does the balancer reject at
// first?
func Chance() situation.Family {
	return situation.Family{
		Family: claim.Family{
			Name:     "chance",
			Evidence: chanceEvidence(),
			About: fmt.Sprintf("%d connections, one after the other, come from the same port of a gateway, while the balancer still has "+
				"the connection before in TIME_WAIT: how many of their SYNs does it reject at first? "+
				"The bounds are chosen so that a true claim fails once in a million cells.", chanceSYNs),
			Axes: []claim.Axis{
				{Name: hosts, Values: []string{"many", "one"}, Product: true,
					Means: "whether each connection comes from another client behind the gateway, or all of them from different ports of one client"},
				{Name: chanceClientTS, Values: []string{"1", "2", "0"}, Product: true, Sysctl: claim.RoleSysctl{Role: lab.Client, Sysctl: "net.ipv4.tcp_timestamps"},
					Means: "tcp_timestamps of the clients"},
				{Name: chanceBalancerTS, Values: []string{"1", "0"}, Product: true, Sysctl: claim.RoleSysctl{Role: lab.Balancer, Sysctl: "net.ipv4.tcp_timestamps"},
					Means: "tcp_timestamps of the balancer"},
			},
			Impossible: []claim.Impossible{{
				Cells: claim.Cells{{hosts: {"many"}, chanceClientTS: {"2"}}},
				Because: "without offsets a clock shows the uptime, and all namespaces of one kernel have the same uptime, so they are not like many " +
					"hosts",
			}},
			Rules: chanceRules(),
		},
		Topology: chanceTopology,
		Drive:    driveChance,
		Untold:   "its answer is a number of SYNs of many connections one after the other, and files expect something of one step at a time",
	}
}

// chanceRules are in this order: one host, by its clock; many hosts, by their clocks; any
// host, by the sequence number.
func chanceRules() []claim.Rule {
	timestamps := claim.Where{chanceBalancerTS: {"1"}, chanceClientTS: {"1", "2"}}
	tosses := claim.About("rejected", chanceSYNs, 0.5)
	byClock := tosses
	byClock.What = "paws rejects"
	some := []claim.Expectation{
		tosses, claim.Exactly("failed", 0), claim.Stays(lab.Balancer, "TcpExt.ListenDrops"),
	}
	none := []claim.Expectation{
		claim.Exactly("rejected", 0), claim.Exactly("failed", 0), claim.Exactly("paws rejects", 0), claim.Stays(lab.Balancer, "TcpExt.ListenDrops"),
	}
	return []claim.Rule{
		{
			Name: "chance-one-host-one-clock", Cells: claim.Cells{timestamps}.And(claim.Where{hosts: {"one"}, chanceClientTS: {"2"}}), Want: none,
			Because: "with tcp_timestamps=2 a host has one clock for all its connections, and it only moves forward",
			Source:  "secure_tcp_ts_off is not used; Documentation/networking/ip-sysctl.rst",
		},
		{
			Name: "chance-one-host-one-offset", Cells: claim.Cells{timestamps}.And(claim.Where{hosts: {"one"}}),
			Kernels: []claim.Condition{claim.Lacks(lab.Client, kernel.OffsetPerPort)}, Want: none,
			Because: "the random offset is the same for all connections between two addresses, so the clock only moves forward",
			Source:  "commit 28ee1b746f49, secure_seq: downgrade to per-host timestamp offsets",
		},
		{
			Name: "chance-one-host-many-offsets", Cells: claim.Cells{timestamps}.And(claim.Where{hosts: {"one"}}), Want: claim.With(some, byClock),
			Because: "the random offset depends on the client's port, so even a single host behind a gateway looks like many hosts: the timestamp " +
				"of each SYN is older with probability 1/2",
			Source: "commit 165573e41f2f, tcp: secure_seq: add back ports to TS offset",
		},
		{
			Name: "chance-many-hosts-one-clock", Cells: claim.Cells{timestamps}, Kernels: []claim.Condition{claim.Lacks(lab.Client, kernel.TimestampsMode2)}, Want: none,
			Because: "without random offsets all namespaces of one kernel have one clock; hosts with different uptimes do not",
			Source:  "tcp_time_stamp before commit 95a22caee396",
		},
		{
			Name: "chance-many-hosts", Cells: claim.Cells{timestamps}, Want: claim.With(some, byClock),
			Because: "every host has its own clock, so the timestamp of each SYN is older with probability 1/2",
			Source:  "RFC 7323 section 5.4; tcp_timewait_state_process",
		},
		{
			Name: "chance-by-number", Cells: claim.Cells{{}}, Want: claim.With(some, claim.Exactly("paws rejects", 0)),
			Because: "without timestamps the initial sequence number decides. Between different addresses or ports it is random too, so turning " +
				"timestamps off only replaces one random choice by another",
			Source: "RFC 6528, secure_tcp_seq; tcp_timewait_state_process",
		},
	}
}

func chanceTopology(c claim.Cell) lab.Topology {
	t := lab.Topology{
		Clients: 1,
		Gateway: lab.GatewaySpec{Kind: lab.Masquerade, Ports: lab.PortRange{First: situation.SourcePort, Last: situation.SourcePort}},
	}
	if c.Either(hosts, "many", "one") {
		t.Clients = chanceSYNs + 1
	}
	return t
}

func driveChance(ctx context.Context, _ claim.Cell, l *lab.Lab) (seen claim.Seen, err error) {
	clients, gateway, balancer := l.Nodes(lab.Client), l.Gateway(), l.Balancer()
	listener, err := balancer.Listen(ctx, tcp.ListenSpec{})
	if err != nil {
		return seen, err
	}
	count, err := situation.CountMoves(ctx, gateway, balancer)
	if err != nil {
		return seen, err
	}
	rejected, failed := 0, 0
	for i := range chanceSYNs + 1 {
		from := netip.AddrPortFrom(netip.Addr{}, 50000+uint16(i))
		client := clients[i%len(clients)]
		outs, err := client.Attempt(ctx, []tcp.Attempt{{To: listener.Addr, From: from}})
		if err != nil {
			return seen, fmt.Errorf("connection %d: %w", i, err)
		}
		if outs[0].Outcome != tcp.Connected {
			failed++
			continue
		}
		if outs[0].SYNs > 1 {
			rejected++
		}
		if err := giveAway(ctx, client, outs[0].Conn, gateway, balancer, listener); err != nil {
			return seen, fmt.Errorf("connection %d: %w", i, err)
		}
	}
	moved, err := count(ctx)
	if err != nil {
		return seen, err
	}
	seen.Moved = map[lab.Role]kernel.Counters{lab.Gateway: moved[0], lab.Balancer: moved[1]}
	seen.Count("rejected", int64(rejected))
	seen.Count("failed", int64(failed))
	seen.Count("paws rejects", kernel.PAWSRejects(moved[1]))
	return seen, nil
}

// giveAway closes the connection, at the balancer first, and deletes the gateway's entry, so
// that the next connection gets the port.
func giveAway(ctx context.Context, client node.Node, conn tcp.Handle, gateway, balancer node.Node, listener node.Listening) error {
	outside := netip.AddrPortFrom(gateway.Identity().Addr, situation.SourcePort)
	accepted, err := situation.Accept(ctx, balancer, listener, outside)
	if err != nil {
		return err
	}
	if err := balancer.End(ctx, accepted, tcp.CloseNow); err != nil {
		return err
	}
	if err := situation.AwaitFinWait2(ctx, balancer, listener.Addr, outside); err != nil {
		return err
	}
	if err := client.End(ctx, conn, tcp.CloseAfterPeer); err != nil {
		return err
	}
	tick := time.Now().Add(situation.TickAtMost)
	err = observe.Await(ctx, "the balancer's TIME_WAIT and a tick of the clock", func() (bool, error) {
		all, err := balancer.Sockets(ctx)
		return len(all.In(observe.TimeWait).Between(listener.Addr, outside)) == 1 && time.Now().After(tick), err
	})
	if err != nil {
		return err
	}
	n, err := gateway.DeleteFlows(ctx, observe.FlowMatch{Reply: observe.Tuple{Src: listener.Addr, Dst: outside}})
	if err == nil && n == 0 {
		err = errors.New("the gateway knows nothing of the connection")
	}
	return err
}

// chanceEvidence is what [driveChance] notes.
func chanceEvidence() []claim.Evidence {
	return []claim.Evidence{
		{Name: "rejected", Unit: "connections", Means: "connections that needed more than one SYN"},
		situation.FailedEvidence,
		situation.PAWSRejectsEvidence,
	}
}
