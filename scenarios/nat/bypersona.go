package nat

import (
	"context"
	"fmt"
	"slices"
	"time"

	"twlab/harness/load"
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
// small load uses them up.
const (
	personaClients = 4
	personaBlock   = 24                             // ports of each client, with PerClient
	personaPorts   = personaClients * personaBlock  // ports of all
	personaGreedy  = personaBlock + personaBlock/2  // attempts of one client
	personaOthers  = personaPorts - personaGreedy/2 // attempts of the others, more than what is left
)

// ByPersona is the family of loads that come through different gateways.
func ByPersona() situation.Family {
	unpublished := personasThat(func(p Persona) bool { return p.Hold == 0 })
	return situation.Family{
		Family: claim.Family{
			Name:     "persona",
			Evidence: personaEvidence(),
			About: fmt.Sprintf("Loads of %d clients come through gateways of many kinds, each with the hold time and choice of the real one and a pool "+
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
	clients, gateway, balancer := l.Nodes(lab.Client), l.Gateway(), l.Balancer()
	door, err := balancer.Listen(ctx, tcp.ListenSpec{})
	if err != nil {
		return seen, err
	}
	plan := load.Plan{
		Clients: clients[:1], Watched: []node.Node{gateway, balancer}, Each: personaGreedy, Seed: shareSeed,
		Attempt: tcp.Attempt{To: door.Addr, ISN: p.isn()},
	}
	greedy, err := load.Run(ctx, plan)
	if err != nil {
		return seen, fmt.Errorf("one client: %w", err)
	}
	plan.Clients, plan.Each = clients[1:], personaOthers/(personaClients-1)
	others, err := load.Run(ctx, plan)
	if err != nil {
		return seen, fmt.Errorf("the others: %w", err)
	}
	seen.Count("greedy connected", int64(greedy.Outcomes[tcp.Connected]))
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
		return seen, fmt.Errorf("first load: %w", err)
	}
	early, err := load.Run(ctx, load.Plan{
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
		return seen, fmt.Errorf("second load: %w", err)
	}
	f := situation.FatesOf(again)
	f.Note(&seen, again)
	seen.Count("refused after the hold", f.Clock+f.Number)
	seen.Count("connected within the hold", int64(early.Outcomes[tcp.Connected]))
	seen.Count("time-waits", int64(full.TimeWait))
	return seen, nil
}

// personaEvidence is what family persona notes beside the account of its last load.
func personaEvidence() []claim.Evidence {
	return append(situation.LoadEvidence(),
		claim.Evidence{Name: "greedy connected", Unit: situation.Attempts, Means: "attempts that connected of the one client that wants more than its share"},
		claim.Evidence{Name: "greedy unaccounted", Unit: situation.SYNs, Means: "SYNs of that client of which it is not known what became of them"},
		claim.Evidence{Name: "refused after the hold", Unit: situation.SYNs, Means: "what TIME_WAITs rejected when the gateway's hold time was over"},
		claim.Evidence{Name: "connected within the hold", Unit: situation.Attempts, Means: "attempts that connected before the gateway's hold time was over"},
		situation.LoadTimeWaits,
	)
}
