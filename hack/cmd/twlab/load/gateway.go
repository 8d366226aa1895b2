package load

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"twlab/harness/evict"
	"twlab/harness/kernel"
	"twlab/harness/lab"
	"twlab/harness/load"
	"twlab/harness/tcp"
	"twlab/scenarios/roles"
	"twlab/scenarios/situation"
)

// gateway is the NAT of a load: what it must do, and what this kernel does.
type gateway struct {
	profile string // "" is none
	clients int
	ports   int // of all clients, or of each
	each    bool
	// timeout is how long a port is kept after the end of a connection; 0 if connections
	// do not end.
	timeout time.Duration
	offered float64 // attempts per second; 0 where they are made at once

	kernel kernel.Release
	evicts bool  // the kernel takes ports of ended connections before the timeout
	wanted bool  // the gateway must keep them
	failed error // why eviction could not be prevented
}

// gateway finds out about the lab's gateway, and prevents eviction if the gateway that it
// represents does not evict.
func (o options) gateway(ctx context.Context, l *lab.Lab) (g gateway, err error) {
	n := l.Nodes(lab.Gateway)[0]
	facts, err := roles.Probe(ctx, n)
	if err != nil {
		return g, err
	}
	spec := o.topology.Gateway
	g = gateway{
		profile: o.profile, clients: o.topology.Clients, offered: o.plan.Rate,
		ports: spec.Ports.Size(), each: spec.PerClient > 0, wanted: o.keeps,
		kernel: facts.Release, evicts: facts.Features[kernel.EvictsClosing] == kernel.Yes,
	}
	if g.each {
		g.ports = spec.PerClient
	}
	if g.ports == 0 {
		g.ports = 1<<16 - firstPort
	}
	if o.closes != "never" {
		timer := "time_wait"
		if o.closes == "rst" {
			timer = "close"
		}
		text, err := n.Sysctl(ctx, "net.netfilter.nf_conntrack_tcp_timeout_"+timer)
		if err != nil {
			return g, err
		}
		seconds, err := strconv.Atoi(text)
		if err != nil {
			return g, fmt.Errorf("conntrack timeout: %w", err)
		}
		g.timeout = time.Duration(seconds) * time.Second
	}
	if g.wanted {
		g.failed = evict.Attach(ctx, l)
	}
	return g, nil
}

// kept tells whether a port is really kept until the timeout.
func (g gateway) kept() bool { return !g.evicts || g.wanted && g.failed == nil }

// atOnce is how many ports there are for all clients together.
func (g gateway) atOnce() int {
	if g.each {
		return g.ports * g.clients
	}
	return g.ports
}

// ceiling is the most connections per second.
func (g gateway) ceiling() float64 { return float64(g.atOnce()) / g.timeout.Seconds() }

// String is a line: what the gateway is, what the ceiling is, and what differs.
func (g gateway) String() string {
	ports := fmt.Sprintf("%d ports for all clients", g.ports)
	if g.each {
		ports = fmt.Sprintf("%d ports for each client", g.ports)
	}
	name := g.profile
	if name == "" {
		name = "these flags"
	}
	offered := ""
	if g.offered > 0 {
		offered = fmt.Sprintf("; offered %s/s", rate(g.offered))
	}
	limit := ""
	if g.timeout > 0 {
		limit = fmt.Sprintf("%d/%.0f s = %s/s", g.ports, g.timeout.Seconds(), rate(float64(g.ports)/g.timeout.Seconds()))
		if g.each {
			limit += fmt.Sprintf(" for each client, %s/s for all %d", rate(g.ceiling()), g.clients)
		}
	}
	switch {
	case g.timeout == 0:
		return fmt.Sprintf("gateway: %s. No connection ends, so there is room for %d in all%s", ports, g.atOnce(), offered)
	case g.kept():
		return fmt.Sprintf("gateway: %s, each kept for %v after the end of a connection. Ceiling: %s%s", ports, seconds(g.timeout), limit, offered)
	case g.wanted:
		return fmt.Sprintf("gateway: Linux %v takes ports of ended connections before their %v are over (since 6.5). The gateway of %s does not, but this "+
			"could not be prevented here (%v). Ceiling without it: %s%s", g.kernel, seconds(g.timeout), name, g.failed, limit, offered)
	default:
		return fmt.Sprintf("gateway: %s. Like Linux since 6.5, it takes ports of ended connections before their %v are over if no other port is free: "+
			"no ceiling, except for ports in use at the same time. A gateway that does not (--profile of another make, or --conntrack-timeout) has: %s%s",
			ports, seconds(g.timeout), limit, offered)
	}
}

// reached compares the ceiling with what was measured.
func (g gateway) reached(r load.Result, f situation.Dispositions) string {
	text := ""
	if g.timeout > 0 && g.kept() {
		most := r.MostConnectedWithin(g.timeout)
		text = fmt.Sprintf("at most %d connected within any %s; the ceiling is %d\n", most, seconds(g.timeout), g.atOnce())
		if most > g.atOnce() {
			text += "(a client that uses its own port again by chance replaces its own entry, and needs no other port)\n"
		}
	}
	if f.Gateway > 0 {
		text += fmt.Sprintf("too few ports: %d attempts connected at once, ", r.Outcomes[tcp.Connected]-r.Late)
		if r.Late > 0 {
			text += fmt.Sprintf("%d by repeating their SYN, after up to %s, ", r.Late, seconds(r.Latency.Max().Round(100*time.Millisecond)))
		}
		text += fmt.Sprintf("%d not at all\n", r.Failed())
	}
	return text
}

// seconds is "131 s", and not "2m11s".
func seconds(d time.Duration) string {
	return strconv.FormatFloat(d.Seconds(), 'f', -1, 64) + " s"
}

// rate is a number of connections per second, with three digits where it is small.
func rate(perSecond float64) string {
	if perSecond < 10 {
		return strconv.FormatFloat(perSecond, 'f', 2, 64)
	}
	return strconv.FormatFloat(perSecond, 'f', 0, 64)
}
