package nat

import (
	"context"
	"fmt"
	"slices"
	"time"

	"twlab/harness/crowd"
	"twlab/harness/kernel"
	"twlab/harness/lab"
	"twlab/harness/node"
	"twlab/harness/tcp"
	"twlab/scenarios/claim"
	"twlab/scenarios/situation"
)

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
func ByPersona() situation.Family {
	unpublished := personasThat(func(p Persona) bool { return p.Hold == 0 })
	return situation.Family{
		Family: claim.Family{
			Name:     "persona",
			Evidence: personaEvidence(),
			About: fmt.Sprintf("Crowds of %d clients come through gateways of many kinds, each with the hold time and choice of the real one and a pool "+
				"cut down to %d ports: who refuses connections when the ports are used up, and who when they come back?", personaClients, personaPorts),
			Axes: personaAxes(),
			Impossible: []claim.Impossible{
				{Cells: claim.Cells{{personaAxis: unpublished, personaPhase: {phaseAgain}}}, Because: "nobody has published how long it holds a port"},
			},
			Waits: []claim.Wait{{Cells: claim.Cells{{personaPhase: {phaseAgain}}}, About: 120 * time.Second}, {Cells: claim.Cells{{}}, About: 7 * time.Second}},
			Rules: slices.Concat(personaStandingRules(), personaAgainRules()),
			Needs: []claim.Knob{
				{Role: lab.Gateway, Sysctl: "net.netfilter.nf_conntrack_tcp_timeout_time_wait"}, {Role: lab.Client, Sysctl: "net.ipv4.tcp_syn_retries"},
			},
		},
		Topology: personaTopology,
		Drive:    personaDrive,
	}
}

func personaAxes() []claim.Axis {
	names := personasThat(func(Persona) bool { return true })
	return []claim.Axis{
		{Name: personaAxis, Values: names, Product: true, Means: "what stands between the clients and the balancer; see the personas below"},
		{Name: personaPhase, Values: []string{phaseStanding, phaseAgain}, Product: true,
			Means: "one client makes more connections than its share, then the others, and all stay; or all ports are used, the balancer closes first, " +
				"a client tries within the hold time, and all ports are used again after it"},
	}
}

// personasThat are the names of some personas.
func personasThat(keep func(Persona) bool) (names []string) {
	for _, p := range Personas() {
		if keep(p) {
			names = append(names, p.Name)
		}
	}
	return names
}

// havingBlocks are the personas that give each client ports of its own.
func havingBlocks() []string { return personasThat(func(p Persona) bool { return p.PerClient }) }

// personaStandingRules are about ports that are used up by connections that stand.
func personaStandingRules() []claim.Rule {
	standing := func(greedy, refused int64) []claim.Expectation {
		return []claim.Expectation{
			claim.Exactly("greedy connected", greedy), claim.Exactly("timed out", refused), claim.AtLeast(situation.RefusedBy(situation.ByGateway), 1), claim.Exactly(situation.RefusedBy(situation.ByClient), 0),
			claim.Exactly(situation.RefusedBy(situation.ByClock), 0), claim.Exactly(situation.RefusedBy(situation.ByNumber), 0), claim.Exactly("unaccounted", 0), claim.Exactly("greedy unaccounted", 0),
		}
	}

	return []claim.Rule{
		{
			Name: "persona-block-full", Cells: claim.Cells{{personaAxis: havingBlocks(), personaPhase: {phaseStanding}}}, Want: standing(personaBlock, personaOthers-(personaClients-1)*personaBlock),
			Because: "a client that has used up its block is refused by the gateway, though the blocks of others have ports to spare",
			Source:  "RFC 7422; __nf_conntrack_confirm, insert_failed",
		},
		{
			Name: "persona-pool-full", Cells: claim.Cells{{personaPhase: {phaseStanding}}},
			Want: standing(personaGreedy, personaGreedy+personaOthers-personaPorts),
			Because: "a shared pool serves whoever comes first; when it is used up, the gateway refuses everybody, and the balancer never sees it. " +
				"Connections that stand are not evicted",
			Source: "__nf_conntrack_confirm, insert_failed; nf_nat_used_tuple_harder",
		},
	}
}

// personaAgainRules are about ports that come back: within the hold time and after it.
func personaAgainRules() []claim.Rule {
	evicting := personasThat(func(p Persona) bool { return p.Evicts })
	short := personasThat(func(p Persona) bool { return 0 < p.Hold && p.Hold < situation.TimeWaitLength })
	again := claim.Where{personaPhase: {phaseAgain}}
	const after, within = "refused after the hold", "connected within the hold"
	all := []claim.Expectation{claim.Exactly(within, 0), claim.Exactly("connected", personaPorts), claim.Exactly("time-waits", personaPorts), claim.Exactly("unaccounted", 0)}
	nothing := []claim.Expectation{claim.Exactly(after, 0), claim.Exactly("connected", personaPorts), claim.Exactly("time-waits", 0), claim.Exactly("unaccounted", 0)}
	shortHold := claim.Cells{again}.And(claim.Where{personaAxis: short})
	ownBlock := claim.Both(shortHold, claim.Cells{{personaAxis: havingBlocks()}})

	return []claim.Rule{
		{
			Name: "persona-evicts", Cells: claim.Cells{again}.And(claim.Where{personaAxis: evicting}), Kernels: []claim.Condition{claim.Has(lab.Gateway, kernel.EvictsClosing)},
			Want: append([]claim.Expectation{claim.Exactly(within, personaClients)}, nothing...),
			Because: "Linux gives a port away before its hold time is over when it has no other, and the balancer may refuse that at first; after the " +
				"hold time, which is longer than the balancer's 60 s, nobody refuses anything",
			Source: "commit 4589725502871; TCP_TIMEWAIT_LEN",
		},
		{
			Name: "persona-short-hold-one-clock", Cells: shortHold, Kernels: []claim.Condition{claim.Lacks(lab.Client, kernel.TimestampsMode2)},
			Want:    append([]claim.Expectation{claim.Exactly(after, 0)}, all...),
			Because: "without random offsets all namespaces of one kernel have one clock; hosts with different uptimes do not",
			Source:  "tcp_time_stamp before commit 95a22caee396",
		},
		{
			Name: "persona-short-hold-own-block", Cells: ownBlock, Kernels: []claim.Condition{claim.Lacks(lab.Client, kernel.OffsetPerPort)},
			Want:    append([]claim.Expectation{claim.Exactly(after, 0)}, all...),
			Because: "the ports of a block are met by the client that had them before, whose clock only goes forward",
			Source:  "commit 28ee1b746f49, secure_seq: downgrade to per-host timestamp offsets",
		},
		{
			Name: "persona-short-hold-hosts", Cells: shortHold, Kernels: []claim.Condition{claim.Lacks(lab.Client, kernel.OffsetPerPort)},
			Want: append([]claim.Expectation{claim.Between(after, 1, personaPorts-1)}, all...),
			Because: "after a hold time that is shorter than 60 s, the balancer's TIME_WAITs refuse at first the SYNs of hosts whose clocks are behind " +
				"that of the host before",
			Source: "tcp_timewait_state_process, RFC 7323 section 5.4; TCP_TIMEWAIT_LEN",
		},
		{
			Name: "persona-short-hold", Cells: shortHold,
			Want: append([]claim.Expectation{claim.About(after, personaPorts, 0.5)}, all...),
			Because: "within the hold time the gateway refuses; after it, when that is shorter than 60 s, the balancer's TIME_WAITs refuse half of " +
				"the SYNs at first, even where a client meets only its own: each of its connections has a clock of its own",
			Source: "tcp_timewait_state_process, RFC 7323 section 5.4; TCP_TIMEWAIT_LEN; commit 165573e41f2f",
		},
		{
			Name: "persona-long-hold", Cells: claim.Cells{again},
			Want:    append([]claim.Expectation{claim.Exactly(within, 0)}, nothing...),
			Because: "within the hold time the gateway refuses; after it, when that is longer than the balancer's 60 s, nobody does",
			Source:  "TCP_TIMEWAIT_LEN; nf_conntrack_tcp_timeout_time_wait",
		},
	}
}

func personaTopology(c claim.Cell) lab.Topology { return personaOf(c).small() }

func personaDrive(ctx context.Context, c claim.Cell, l *lab.Lab) (claim.Seen, error) {
	p := personaOf(c)
	if c.Is(personaPhase, phaseStanding) {
		return p.driveStanding(ctx, l)
	}
	return p.driveAgain(ctx, l)
}

// personaOf is the persona of a cell.
func personaOf(c claim.Cell) Persona {
	p, err := PersonaNamed(c.Value(personaAxis))
	if err != nil {
		panic(err) // the axis has the names of personas
	}
	return p
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

// isn is the sequence number of the connections that come through the persona: the
// same for all where nothing is to be evicted, which takes a newer one.
func (p Persona) isn() uint32 {
	if p.Evicts {
		return 0
	}
	return situation.FirstISN
}

// driveStanding has one client and then the others make connections that stay.
func (p Persona) driveStanding(ctx context.Context, l *lab.Lab) (seen claim.Seen, err error) {
	clients, gateway, balancer := l.Nodes(lab.Client), l.Nodes(lab.Gateway)[0], l.Nodes(lab.Balancer)[0]
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
	seen.Count("greedy unaccounted", situation.FatesOf(greedy).Unaccounted())
	situation.FatesOf(others).Note(&seen, others)
	return seen, nil
}

// driveAgain uses up all ports, tries within the hold time, and uses them up again.
func (p Persona) driveAgain(ctx context.Context, l *lab.Lab) (seen claim.Seen, err error) {
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
	f := situation.FatesOf(again)
	f.Note(&seen, again)
	seen.Count("refused after the hold", f.Clock+f.Number)
	seen.Count("connected within the hold", int64(early.Verdicts[tcp.Connected]))
	seen.Count("time-waits", int64(full.TimeWait))
	return seen, nil
}

// personaEvidence is what family persona notes beside the account of its last crowd.
func personaEvidence() []claim.Evidence {
	return append(situation.CrowdEvidence(),
		claim.Evidence{Name: "greedy connected", Unit: situation.Attempts, Means: "attempts that connected of the one client that wants more than its share"},
		claim.Evidence{Name: "greedy unaccounted", Unit: situation.SYNs, Means: "SYNs of that client of which it is not known what became of them"},
		claim.Evidence{Name: "refused after the hold", Unit: situation.SYNs, Means: "what TIME_WAITs rejected when the gateway's hold time was over"},
		claim.Evidence{Name: "connected within the hold", Unit: situation.Attempts, Means: "attempts that connected before the gateway's hold time was over"},
		situation.CrowdTimeWaits,
	)
}
