package scenarios

import (
	"context"
	"fmt"
	"strings"
	"time"

	"twlab/harness/crowd"
	"twlab/harness/lab"
	"twlab/harness/node"
	"twlab/harness/tcp"
)

// Persona is a kind of gateway that clients come through.
type Persona struct {
	// Name is one word, About what it is.
	Name, About string
	// Ports is how many ports there are towards one destination: of one public
	// address, or, with PerClient, of each client alone.
	Ports     int
	PerClient bool
	// Hold is how long a port is not given away after both sides have closed; 0
	// where nobody says.
	Hold time.Duration
	// Random is how it chooses among the free ports.
	Random lab.RandomMode
	// Evicts says that it is a Linux NAT, which takes the port of a closing
	// connection when it has no other, on kernels that do (EvictsClosing).
	Evicts bool
	// Source is where the numbers are from; Assumed, what of them nobody says.
	Source, Assumed string
}

// Ceiling is how many connections per second the persona can make to one
// destination, or, with PerClient, each client: Ports/Hold. It is 0 where the hold
// time is not known.
func (p Persona) Ceiling() float64 {
	if p.Hold == 0 {
		return 0
	}
	return float64(p.Ports) / p.Hold.Seconds()
}

// The numbers of Linux itself: MASQUERADE gives ports from 1024 on to a client
// whose own is at least that (nf_nat_l4proto_unique_tuple).
const (
	linuxPorts = 1<<16 - 1024
	linuxHold  = 120 * time.Second
)

// Personas are those known, as data. None is the product itself: a gateway of the
// lab is given its port range, blocks, choice and hold time.
func Personas() []Persona {
	return []Persona{
		{
			Name: "linux", About: "a Linux gateway with MASQUERADE and the kernel's defaults",
			Ports: linuxPorts, Hold: linuxHold, Evicts: true,
			Source: "nf_nat_l4proto_unique_tuple, nf_conntrack_proto_tcp.c: tcp_timeouts",
		},
		{
			Name: "home-router", About: "a home router with OpenWrt",
			Ports: linuxPorts, Hold: linuxHold, Evicts: true,
			Source: "openwrt: package/kernel/linux/files/sysctl-nf-conntrack.conf shortens ESTABLISHED to 7440 s and leaves TIME_WAIT alone",
		},
		{
			Name: "kube-proxy", About: "a Kubernetes node whose kube-proxy masquerades with --random-fully",
			Ports: linuxPorts, Hold: linuxHold, Random: lab.FullyRandom, Evicts: true,
			Source:  "kubernetes: pkg/proxy/iptables; --conntrack-tcp-timeout-* set ESTABLISHED and CLOSE_WAIT only",
			Assumed: "the node's kernel has its default hold time",
		},
		{
			Name: "cilium", About: "a Kubernetes node whose Cilium masquerades in BPF",
			Ports: linuxPorts, Hold: 10 * time.Second, Random: lab.FullyRandom,
			Source:  "cilium: bpf-ct-timeout-regular-tcp-fin, 10 s by default",
			Assumed: "all ports from 1024 on; none taken from a closing connection",
		},
		{
			Name: "carrier", About: "a carrier's NAT with a block of ports for each subscriber",
			Ports: 1008, PerClient: true, Hold: 120 * time.Second,
			Source:  "RFC 7422 (blocks), RFC 6888 REQ-8 (120 s; ports of a block may come back at once, as the RFC allows)",
			Assumed: "64 subscribers to an address, 64512/64 ports each",
		},
		{
			Name: "gcp", About: "a Google Cloud NAT made since 30 September 2026, with the least ports for each VM",
			Ports: 64, PerClient: true, Hold: 30 * time.Second, Random: lab.Random,
			Source:  "https://cloud.google.com/nat/docs/tune-nat-configuration (64 ports; tcp-time-wait-timeout 30 s, before 120 s)",
			Assumed: "how it chooses a port",
		},
		{
			Name: "gcp-before", About: "a Google Cloud NAT made before that",
			Ports: 64, PerClient: true, Hold: 120 * time.Second, Random: lab.Random,
			Source:  "https://cloud.google.com/nat/docs/tune-nat-configuration",
			Assumed: "how it chooses a port",
		},
		{
			Name: "azure", About: "an Azure NAT Gateway with one public address",
			Ports: 64512, Hold: 65 * time.Second, Random: lab.FullyRandom,
			Source: "https://learn.microsoft.com/azure/nat-gateway/nat-gateway-resource (64512 ports, chosen at random, a cool down " +
				"timer before a port goes to the same destination again)",
			Assumed: "the timer is 65 s after FIN, as that page had it",
		},
		{
			Name: "aws", About: "an AWS NAT gateway with one public address",
			Ports: 55000, Random: lab.FullyRandom,
			Source:  "https://docs.aws.amazon.com/vpc/latest/userguide/nat-gateway-basics.html (55000 connections to one destination; idle after 350 s)",
			Assumed: "how it chooses a port; when a port is free again after a close is not published",
		},
	}
}

// PersonaNamed finds a persona. The error says which there are.
func PersonaNamed(name string) (Persona, error) {
	var names []string
	for _, p := range Personas() {
		if p.Name == name {
			return p, nil
		}
		names = append(names, p.Name)
	}
	return Persona{}, fmt.Errorf("no persona %q: want one of %s", name, strings.Join(names, ", "))
}

// personaOf is the persona of a cell.
func personaOf(c Cell) Persona {
	p, err := PersonaNamed(c.Value(personaAxis))
	if err != nil {
		panic(err) // the axis has the names of personas
	}
	return p
}

// The axes of the family of personas.
const (
	personaAxis  = "persona"
	personaPhase = "phase"

	phaseStanding = "standing"
	phaseAgain    = "again"
)

// A persona in the lab has its own hold time and choice, and few ports, so that a
// small crowd uses them up.
const (
	personaClients = 4
	personaBlock   = 24                             // ports of each client, with PerClient
	personaPorts   = personaClients * personaBlock  // ports of all
	personaGreedy  = personaBlock + personaBlock/2  // attempts of one client
	personaOthers  = personaPorts - personaGreedy/2 // attempts of the others, more than what is left
)

// ByPersona is the family of crowds that come through different gateways.
func ByPersona() Family {
	those := func(keep func(Persona) bool) (names []string) {
		for _, p := range Personas() {
			if keep(p) {
				names = append(names, p.Name)
			}
		}
		return names
	}
	names := those(func(Persona) bool { return true })
	blocks := those(func(p Persona) bool { return p.PerClient })
	unknown := those(func(p Persona) bool { return p.Hold == 0 })
	evicting := those(func(p Persona) bool { return p.Evicts })
	short := those(func(p Persona) bool { return 0 < p.Hold && p.Hold < TimeWaitLength })

	standing := func(greedy, refused int64) []Expectation {
		return []Expectation{
			Exactly("greedy connected", greedy), Exactly("timed out", refused), AtLeast(refusedBy(byGateway), 1), Exactly(refusedBy(byClient), 0),
			Exactly(refusedBy(byClock), 0), Exactly(refusedBy(byNumber), 0), Exactly("unaccounted", 0), Exactly("greedy unaccounted", 0),
		}
	}
	again := Where{personaPhase: {phaseAgain}}
	const after, within = "refused after the hold", "connected within the hold"
	all := []Expectation{Exactly(within, 0), Exactly("connected", personaPorts), Exactly("time-waits", personaPorts), Exactly("unaccounted", 0)}
	nothing := []Expectation{Exactly(after, 0), Exactly("connected", personaPorts), Exactly("time-waits", 0), Exactly("unaccounted", 0)}
	shortHold := Cells{again}.And(Where{personaAxis: short})
	ownBlock := both(shortHold, Cells{{personaAxis: blocks}})
	return Family{
		Name:     "persona",
		Evidence: personaEvidence(),
		About: fmt.Sprintf("Crowds of %d clients come through gateways of many kinds, each with the hold time and choice of the real one and a pool "+
			"cut down to %d ports: who refuses connections when the ports are used up, and who when they come back?", personaClients, personaPorts),
		Axes: []Axis{
			{Name: personaAxis, Values: names, Product: true, Means: "what stands between the clients and the balancer; see the personas below"},
			{Name: personaPhase, Values: []string{phaseStanding, phaseAgain}, Product: true,
				Means: "one client makes more connections than its share, then the others, and all stay; or all ports are used, the balancer closes first, " +
					"a client tries within the hold time, and all ports are used again after it"},
		},
		Impossible: []Impossible{
			{Cells{{personaAxis: unknown, personaPhase: {phaseAgain}}}, "nobody has published how long it holds a port"},
		},
		Waits: []Wait{{Cells{again}, 120 * time.Second}, {Cells{{}}, 7 * time.Second}},
		Rules: []Rule{
			{
				Name: "persona-block-full", Cells: Cells{{personaAxis: blocks, personaPhase: {phaseStanding}}}, Want: standing(personaBlock, personaOthers-(personaClients-1)*personaBlock),
				Because: "a client that has used up its block is refused by the gateway, though the blocks of others have ports to spare",
				Source:  "RFC 7422; __nf_conntrack_confirm, insert_failed",
			},
			{
				Name: "persona-pool-full", Cells: Cells{{personaPhase: {phaseStanding}}},
				Want: standing(personaGreedy, personaGreedy+personaOthers-personaPorts),
				Because: "a shared pool serves whoever comes first; when it is used up, the gateway refuses everybody, and the balancer never sees it. " +
					"Connections that stand are not evicted",
				Source: "__nf_conntrack_confirm, insert_failed; nf_nat_used_tuple_harder",
			},
			{
				Name: "persona-evicts", Cells: Cells{again}.And(Where{personaAxis: evicting}), Kernels: []Condition{Has(lab.Gateway, EvictsClosing)},
				Want: append([]Expectation{Exactly(within, personaClients)}, nothing...),
				Because: "Linux gives a port away before its hold time is over when it has no other, and the balancer may refuse that at first; after the " +
					"hold time, which is longer than the balancer's 60 s, nobody refuses anything",
				Source: "commit 4589725502871; TCP_TIMEWAIT_LEN",
			},
			{
				Name: "persona-short-hold-one-clock", Cells: shortHold, Kernels: []Condition{Lacks(lab.Client, TimestampsMode2)},
				Want:    append([]Expectation{Exactly(after, 0)}, all...),
				Because: "without random offsets all namespaces of one kernel have one clock; hosts with different uptimes do not",
				Source:  "tcp_time_stamp before commit 95a22caee396",
			},
			{
				Name: "persona-short-hold-own-block", Cells: ownBlock, Kernels: []Condition{Lacks(lab.Client, OffsetPerPort)},
				Want:    append([]Expectation{Exactly(after, 0)}, all...),
				Because: "the ports of a block are met by the client that had them before, whose clock only goes forward",
				Source:  "commit 28ee1b746f49, secure_seq: downgrade to per-host timestamp offsets",
			},
			{
				Name: "persona-short-hold-hosts", Cells: shortHold, Kernels: []Condition{Lacks(lab.Client, OffsetPerPort)},
				Want: append([]Expectation{Between(after, 1, personaPorts-1)}, all...),
				Because: "after a hold time that is shorter than 60 s, the balancer's TIME_WAITs refuse at first the SYNs of hosts whose clocks are behind " +
					"that of the host before",
				Source: "tcp_timewait_state_process, RFC 7323 section 5.4; TCP_TIMEWAIT_LEN",
			},
			{
				Name: "persona-short-hold", Cells: shortHold,
				Want: append([]Expectation{about(after, personaPorts, 0.5)}, all...),
				Because: "within the hold time the gateway refuses; after it, when that is shorter than 60 s, the balancer's TIME_WAITs refuse half of " +
					"the SYNs at first, even where a client meets only its own: each of its connections has a clock of its own",
				Source: "tcp_timewait_state_process, RFC 7323 section 5.4; TCP_TIMEWAIT_LEN; commit 165573e41f2f",
			},
			{
				Name: "persona-long-hold", Cells: Cells{again},
				Want:    append([]Expectation{Exactly(within, 0)}, nothing...),
				Because: "within the hold time the gateway refuses; after it, when that is longer than the balancer's 60 s, nobody does",
				Source:  "TCP_TIMEWAIT_LEN; nf_conntrack_tcp_timeout_time_wait",
			},
		},
		Needs: []Knob{
			{Role: lab.Gateway, Sysctl: "net.netfilter.nf_conntrack_tcp_timeout_time_wait"}, {Role: lab.Client, Sysctl: "net.ipv4.tcp_syn_retries"},
		},
		Topology: func(c Cell) lab.Topology { return personaOf(c).small() },
		Drive: func(ctx context.Context, c Cell, l *lab.Lab) (Seen, error) {
			p := personaOf(c)
			if c.Is(personaPhase, phaseStanding) {
				return p.driveStanding(ctx, l)
			}
			return p.driveAgain(ctx, l)
		},
	}
}

// Topology is a lab of so many clients behind the persona, with all its ports. It
// has no room for more clients with blocks of their own than fit behind one address.
func (p Persona) Topology(clients int) (lab.Topology, error) {
	block := 0
	ports := p.Ports
	if p.PerClient {
		block, ports = p.Ports, p.Ports*clients
	}
	const first = 1<<16 - linuxPorts
	if ports > linuxPorts {
		return lab.Topology{}, fmt.Errorf("persona %s: %d ports for each of %d clients: one address has only %d, enough for %d clients",
			p.Name, p.Ports, clients, linuxPorts, linuxPorts/p.Ports)
	}
	return p.behind(clients, lab.PortRange{First: first, Last: uint16(first + ports - 1)}, block), nil
}

// small is a lab with the persona cut down.
func (p Persona) small() lab.Topology {
	block := 0
	if p.PerClient {
		block = personaBlock
	}
	t := p.behind(personaClients, poolOf(personaPorts), block)
	// Retries for those that the clock refuses twice, and few, so that those
	// whom the gateway refuses give up within the shortest hold time.
	t.Sysctls = t.Sysctls.On(lab.Client, "net.ipv4.tcp_syn_retries=2").
		On(lab.Gateway, "net.netfilter.nf_conntrack_tcp_be_liberal=1") // see gatewayTopology
	return t
}

// behind is a lab of clients behind the persona with such ports.
func (p Persona) behind(clients int, ports lab.PortRange, block int) lab.Topology {
	t := lab.Topology{
		Clients: clients,
		Gateway: lab.GatewaySpec{Kind: lab.Masquerade, Ports: ports, PerClient: block, Random: p.Random},
	}
	if p.Hold > 0 {
		t.Sysctls = lab.On(lab.Gateway, fmt.Sprintf("net.netfilter.nf_conntrack_tcp_timeout_time_wait=%.0f", p.Hold.Seconds()))
	}
	return t
}

// isn is the sequence number of the connections that come through the persona: the
// same for all where nothing is to be evicted, which takes a newer one.
func (p Persona) isn() uint32 {
	if p.Evicts {
		return 0
	}
	return firstISN
}

// driveStanding has one client and then the others make connections that stay.
func (p Persona) driveStanding(ctx context.Context, l *lab.Lab) (seen Seen, err error) {
	clients, gateway, balancer := l.Nodes(lab.Client), l.Gateway(), l.Balancer()
	door, err := balancer.Listen(ctx, tcp.ListenSpec{})
	if err != nil {
		return seen, err
	}
	plan := crowd.Plan{
		Clients: clients[:1], Watched: []node.Node{gateway, balancer}, Each: personaGreedy, Seed: shareSeed,
		Attempt: tcp.Attempt{To: door.Addr, ISN: p.isn()},
	}
	greedy, err := crowd.Run(ctx, plan)
	if err != nil {
		return seen, fmt.Errorf("one client: %w", err)
	}
	plan.Clients, plan.Each = clients[1:], personaOthers/(personaClients-1)
	others, err := crowd.Run(ctx, plan)
	if err != nil {
		return seen, fmt.Errorf("the others: %w", err)
	}
	seen.Count("greedy connected", int64(greedy.Verdicts[tcp.Connected]))
	seen.Count("greedy unaccounted", FatesOf(greedy).Unaccounted())
	FatesOf(others).note(&seen, others)
	return seen, nil
}

// driveAgain uses up all ports, tries within the hold time, and uses them up again.
func (p Persona) driveAgain(ctx context.Context, l *lab.Lab) (seen Seen, err error) {
	u, err := useUp(ctx, l, personaPorts, p.isn())
	if err != nil {
		return seen, err
	}
	if err := u.end(ctx); err != nil {
		return seen, fmt.Errorf("first crowd: %w", err)
	}
	early, err := crowd.Run(ctx, crowd.Plan{
		Clients: u.clients, Each: 1, Seed: shareSeed, Attempt: tcp.Attempt{To: u.door.Addr, ISN: p.isn(), Ending: tcp.Abort},
	})
	if err != nil {
		return seen, fmt.Errorf("within the hold time: %w", err)
	}
	if took := time.Since(u.ended); took > p.Hold {
		return seen, fmt.Errorf("within the hold time of %v: took %v", p.Hold, took)
	}
	if err := u.forget(ctx); err != nil {
		return seen, err
	}
	full, err := u.balancer.Occupancy(ctx)
	if err != nil {
		return seen, err
	}
	again, err := u.again(ctx, personaBlock)
	if err != nil {
		return seen, fmt.Errorf("second crowd: %w", err)
	}
	f := FatesOf(again)
	f.note(&seen, again)
	seen.Count("refused after the hold", f.Clock+f.Number)
	seen.Count("connected within the hold", int64(early.Verdicts[tcp.Connected]))
	seen.Count("time-waits", int64(full.TimeWait))
	return seen, nil
}
