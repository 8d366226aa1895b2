//go:build linux

package play

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"twlab/harness/haproxy"
	"twlab/harness/ipvs"
	"twlab/harness/nginx"
	"twlab/harness/recording"
	"twlab/harness/script"
	"twlab/harness/topo"
)

// program does what a step does to a balancer's program.
func (p *player) program(ctx context.Context, do script.Action) error {
	switch a := do.(type) {
	case script.Stop:
		how := topo.HardStop
		if a.Soft {
			how = topo.SoftStop
		}
		return p.lab.StopProgram(ctx, a.Node, how)
	case script.Start:
		return p.lab.StartProgram(ctx, a.Node)
	case script.Reload:
		return p.reload(ctx, a)
	default:
		return fmt.Errorf("%s: nothing is known of this verb", do.Verb())
	}
}

// reload makes a program read its configuration again, or gives IPVS another one.
func (p *player) reload(ctx context.Context, a script.Reload) error {
	program := p.scenario.Programs[a.Node]
	if program.Kind != script.IPVS {
		return p.lab.ReloadProgram(ctx, a.Node, nil)
	}
	b := ipvs.Balancer{Scheduler: program.Scheduler, Weights: map[netip.AddrPort]uint32{}}
	for _, w := range a.Weights {
		b.Weights[p.addr(w.Server)] = uint32(w.Weight) //nolint:gosec // it was checked
	}
	for _, s := range a.Without {
		b.Without = append(b.Without, p.addr(s))
	}
	return p.lab.ReloadProgram(ctx, a.Node, b)
}

// programs notes what all programs have said.
func (p *player) programs() error {
	for name := range p.scenario.Programs {
		running, err := p.lab.ProgramAt(name)
		if err != nil {
			return err
		}
		log, err := running.Log()
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if p.recording.Programs == nil {
			p.recording.Programs = map[string]recording.Program{}
		}
		p.recording.Programs[name] = recording.Program{Configuration: running.Configuration(), Log: strings.ToValidUTF8(log, "\ufffd")}
	}
	return nil
}

// network is the scenario's network with its programs.
func network(s script.Scenario, plan topo.Plan) topo.Network {
	n := s.Network
	n.Nodes = slices.Clone(n.Nodes)
	for i := range n.Nodes {
		p, balances := s.Programs[n.Nodes[i].Name]
		if !balances {
			continue
		}
		at, _ := plan.Node(n.Nodes[i].Name)
		place := topo.Place{At: netip.AddrPortFrom(at.Addr, cmp.Or(p.Port, 80)), Own: at.Addr}
		for _, to := range p.Servers {
			place.Servers = append(place.Servers, netip.AddrPortFrom(s.Addr(plan, to), to.Port))
		}
		n.Nodes[i].Program, n.Nodes[i].Place = balancer(p), place
	}
	return n
}

// balancer is a program as its package has it.
func balancer(p script.Program) topo.Program {
	switch p.Kind {
	case script.Nginx:
		return nginx.Balancer{}
	case script.IPVS:
		return ipvs.Balancer{Scheduler: p.Scheduler}
	case script.HAProxy:
	}
	c := haproxy.Config{
		IdleCloseOnResponse: p.IdleCloseOnResponse, NoLingerClients: p.NoLinger, Takeover: haproxy.Takeover(p.Takeover),
		Timeouts: haproxy.Timeouts{Connect: p.ConnectTimeout, Client: p.ClientTimeout, Server: p.ServerTimeout, KeepAlive: p.KeepAliveTimeout},
	}
	if p.HTTP {
		c.Mode = haproxy.HTTP
	}
	switch {
	case p.ServerClose:
		c.Connections = haproxy.ServerClose
	case p.CloseBoth:
		c.Connections = haproxy.CloseBoth
	}
	c.NoLingerServers, c.Reuse = p.NoLingerServers, haproxy.Reuse(p.Reuse)
	c.Source = haproxy.Source{First: p.Source.First, Last: p.Source.Last}
	if p.Retries != nil {
		if c.Retries = *p.Retries; c.Retries == 0 {
			c.Retries = -1 // never
		}
	}
	if p.PurgeDelay > 0 {
		c.BackendLines = append(c.BackendLines, fmt.Sprintf("default-server pool-purge-delay %dms", p.PurgeDelay.Milliseconds()))
	}
	return haproxy.Balancer{Config: c}
}
