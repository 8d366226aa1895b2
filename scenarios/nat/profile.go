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
	"twlab/harness/tcp"
	"twlab/scenarios/claim"
	"twlab/scenarios/situation"
)

// The axes of the family of profiles.
const (
	profileAxis  = "profile"
	profilePhase = "phase"

	phaseStanding = "standing"
	phaseAgain    = "again"
)

// A profile in the lab has the real conntrack timeout and way to choose a port, but few
// ports, so that a small load uses them up.
const (
	profileClients = 4
	profileBlock   = 24                             // ports of each client, with PerClient
	profilePorts   = profileClients * profileBlock  // ports of all
	profileGreedy  = profileBlock + profileBlock/2  // attempts of one client
	profileOthers  = profilePorts - profileGreedy/2 // attempts of the others, more than there are ports left
	profileNewPort = 20000                          // no connection had it before: it is not in ip_local_port_range
)

// ByProfile is the family of loads through different gateways.
func ByProfile() situation.Family {
	unpublished := profilesThat(func(p Profile) bool { return p.Timeout == 0 })
	return situation.Family{
		Family: claim.Family{
			Name:     "profile",
			Evidence: profileEvidence(),
			About: fmt.Sprintf("Loads of %d clients come through gateways of several kinds. Each has the same conntrack timeout as the real one and chooses "+
				"ports in the same way, but has only %d ports: who refuses connections when the ports are used up, and who when they are free again?", profileClients, profilePorts),
			Axes: profileAxes(),
			Impossible: []claim.Impossible{
				{Cells: claim.Cells{{profileAxis: unpublished, profilePhase: {phaseAgain}}}, Because: "it is not published how long it keeps a port"},
			},
			Waits: []claim.Wait{{Cells: claim.Cells{{profilePhase: {phaseAgain}}}, About: 120 * time.Second}, {Cells: claim.Cells{{}}, About: 7 * time.Second}},
			Rules: slices.Concat(profileStandingRules(), profileAgainRules()),
			Needs: []claim.RoleSysctl{
				{Role: lab.Gateway, Sysctl: "net.netfilter.nf_conntrack_tcp_timeout_time_wait"}, {Role: lab.Client, Sysctl: "net.ipv4.tcp_syn_retries"},
			},
		},
		Topology: profileTopology,
		Drive:    profileDrive,
		Tell:     profileTell,
	}
}

func profileAxes() []claim.Axis {
	names := profilesThat(func(Profile) bool { return true })
	return []claim.Axis{
		{Name: profileAxis, Values: names, Product: true, Means: "the gateway between the clients and the balancer; see the profiles below"},
		{Name: profilePhase, Values: []string{phaseStanding, phaseAgain}, Product: true,
			Means: "one client makes more connections than its share, then the others connect, and all connections stay open; or all ports are " +
				"used, the balancer closes first, a client tries within the conntrack timeout, and all ports are used again after it"},
	}
}

// profilesThat are the names of the profiles that keep selects.
func profilesThat(keep func(Profile) bool) (names []string) {
	for _, p := range Profiles() {
		if keep(p) {
			names = append(names, p.Name)
		}
	}
	return names
}

// havingBlocks are the profiles that give each client ports of its own.
func havingBlocks() []string { return profilesThat(func(p Profile) bool { return p.PerClient }) }

func profileTopology(c claim.Cell) lab.Topology { return profileOf(c).small() }

func profileDrive(ctx context.Context, c claim.Cell, l *lab.Lab) (claim.Seen, error) {
	p := profileOf(c)
	if c.Either(profilePhase, phaseStanding, phaseAgain) {
		return p.driveStanding(ctx, l)
	}
	return p.driveAgain(ctx, l)
}

// profileOf is the profile of a cell.
func profileOf(c claim.Cell) Profile {
	p, err := ProfileNamed(c.Value(profileAxis))
	if err != nil {
		panic(err) // the axis has the names of profiles
	}
	return p
}

// small is a lab with the profile, but with few ports.
func (p Profile) small() lab.Topology {
	block := 0
	if p.PerClient {
		block = profileBlock
	}
	t := p.behind(profileClients, poolOf(profilePorts), block)
	// Enough retries for SYNs that are rejected twice for their timestamp, but so few
	// that attempts that the gateway refuses give up within the shortest conntrack timeout.
	t.Sysctls = t.Sysctls.On(lab.Client, "net.ipv4.tcp_syn_retries=2").
		On(lab.Gateway, "net.netfilter.nf_conntrack_tcp_be_liberal=1") // see gatewayTopology
	return t
}

// isn is the initial sequence number of the connections. It is the same for all if no entry
// may be evicted, because only a newer sequence number evicts an entry.
func (p Profile) isn() uint32 {
	if p.Evicts {
		return 0
	}
	return situation.FirstISN
}

// driveStanding lets one client and then the others make connections that stay open.
func (p Profile) driveStanding(ctx context.Context, l *lab.Lab) (seen claim.Seen, err error) {
	clients, gateway, balancer := l.Nodes(lab.Client), l.Gateway(), l.Balancer()
	listener, err := balancer.Listen(ctx, tcp.ListenSpec{})
	if err != nil {
		return seen, err
	}
	plan := load.Plan{
		Clients: clients[:1], Watched: []node.Node{gateway, balancer}, Each: profileGreedy, Seed: shareSeed,
		Attempt: tcp.Attempt{To: listener.Addr, ISN: p.isn()},
	}
	greedy, err := load.Run(ctx, plan)
	if err != nil {
		return seen, fmt.Errorf("one client: %w", err)
	}
	plan.Clients, plan.Each = clients[1:], profileOthers/(profileClients-1)
	others, err := load.Run(ctx, plan)
	if err != nil {
		return seen, fmt.Errorf("the others: %w", err)
	}
	seen.Count("greedy connected", int64(greedy.Outcomes[tcp.Connected]))
	seen.Count("greedy unaccounted", situation.DispositionsOf(greedy).Unaccounted())
	situation.DispositionsOf(others).Note(&seen, others)
	return seen, nil
}

// driveAgain uses up all ports, tries within the conntrack timeout, and uses them up again.
func (p Profile) driveAgain(ctx context.Context, l *lab.Lab) (seen claim.Seen, err error) {
	u, err := useUp(ctx, l, profilePorts, p.isn())
	if err != nil {
		return seen, err
	}
	if err := u.end(ctx); err != nil {
		return seen, fmt.Errorf("first load: %w", err)
	}
	// Not from the port of an earlier connection: the gateway would delete that entry
	// (nf_conntrack_tcp_packet), and the client would connect.
	early, err := load.Run(ctx, load.Plan{
		Clients: u.clients, Each: 1, Seed: shareSeed, Attempt: tcp.Attempt{
			To: u.listener.Addr, From: netip.AddrPortFrom(netip.Addr{}, profileNewPort), ISN: p.isn(), Ending: tcp.Abort,
		},
	})
	if err != nil {
		return seen, fmt.Errorf("within the conntrack timeout: %w", err)
	}
	if took := time.Since(u.ended); took > p.Timeout {
		return seen, fmt.Errorf("within the conntrack timeout of %v: took %v", p.Timeout, took)
	}
	if err := u.awaitExpired(ctx); err != nil {
		return seen, err
	}
	full, err := u.balancer.Occupancy(ctx)
	if err != nil {
		return seen, err
	}
	again, err := u.again(ctx, profileBlock)
	if err != nil {
		return seen, fmt.Errorf("second load: %w", err)
	}
	f := situation.DispositionsOf(again)
	f.Note(&seen, again)
	seen.Count("refused after the timeout", f.Clock+f.Number)
	seen.Count("connected within the timeout", int64(early.Outcomes[tcp.Connected]))
	seen.Count("time-waits", int64(full.TimeWait))
	return seen, nil
}

// profileEvidence is what family profile notes beside the account of its last load.
func profileEvidence() []claim.Evidence {
	return append(situation.LoadEvidence(),
		claim.Evidence{Name: "greedy connected", Unit: situation.Attempts, Means: "attempts that connected, of the one client that makes more than its share"},
		claim.Evidence{Name: "greedy unaccounted", Unit: situation.SYNs, Means: "the difference between that client's SYNs and the SYNs that the counters explain"},
		claim.Evidence{Name: "refused after the timeout", Unit: situation.SYNs, Means: "SYNs that TIME_WAITs rejected after the gateway's conntrack timeout"},
		claim.Evidence{Name: "connected within the timeout", Unit: situation.Attempts, Means: "attempts that connected before the gateway's conntrack timeout was over"},
		situation.LoadTimeWaits,
	)
}
