package scriptfile

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"twlab/harness/script"
	"twlab/harness/topo"
)

// nodePattern leaves room for the number of a node of a group (IFNAMSIZ).
var nodePattern = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,12}$`)

// usual makes the network of the short form.
func (t *topology) usual() {
	shape := topo.Topology{Clients: t.short.clients, Servers: t.short.servers}
	switch t.short.gateway {
	case "masquerade":
		shape.Gateway.Kind = topo.Masquerade
	case "routed":
		shape.Gateway.Kind = topo.Routed
	}
	if t.short.balancer == "dnat" {
		shape.Balancer.Kind = topo.DNAT
	}
	shape.Gateway.Ports, shape.Gateway.PerClient = topo.PortRange{First: t.short.first, Last: t.short.last}, t.short.each
	shape.Gateway.Random, shape.IP, shape.NoBaseline = t.short.random, t.version, t.defaults
	shape.BootGap = t.bootGap
	for _, s := range t.sysctls {
		shape.Sysctls = append(shape.Sysctls, topo.Setting{Role: topo.Role(s.role), Name: s.name, Value: s.value})
	}
	if err := shape.Validate(); err != nil {
		t.wrong(t.at["topology"].key, "%s", strings.ReplaceAll(err.Error(), "\n", "; "))
		return
	}
	if kind := t.short.balancer; kind != string(script.HAProxy) && t.at["topology.haproxy"].key != nil {
		t.wrong(t.at["topology.haproxy"].key, "the balancer is no haproxy")
		return
	}
	usual := script.Usual(shape)
	t.scenario.Network, t.scenario.Groups = usual.Network, usual.Groups
	t.scenario.Addresses, t.scenario.Addresses6 = usual.Addresses, usual.Addresses6
	if kind := script.ProgramKind(t.short.balancer); kind == script.HAProxy || kind == script.Nginx || kind == script.IPVS {
		p := script.Program{}
		if kind == script.HAProxy {
			p = t.short.haproxy
		}
		p.Kind = kind
		for _, name := range usual.Groups["servers"] {
			p.Servers = append(p.Servers, script.Endpoint{Name: name, Port: 80})
		}
		t.scenario.Programs = map[string]script.Program{string(topo.Balancer): p}
	}
}

// graph makes the network of nodes and links.
func (t *topology) graph() {
	s := t.scenario
	s.Groups, s.Programs = map[string][]string{}, map[string]script.Program{}
	s.Addresses, s.Addresses6 = map[string]netip.Addr{}, map[string]netip.Addr{}
	s.Network.IP, s.Network.NoBaseline = t.version, t.defaults
	s.Network.BootGap = t.bootGap
	for i, a := range t.addresses {
		all := t.assigned(90, i)
		if s.Addresses[a.name] = all[0]; len(all) > 1 {
			s.Addresses6[a.name] = all[1]
		}
	}
	for _, d := range t.nodes {
		t.expand(d)
	}
	if len(s.Network.Nodes) > mostNodes {
		t.wrong(t.at["topology"].key, "more than %d nodes", mostNodes)
		return
	}
	for _, l := range t.links {
		outer, inner := t.members(l.a, l.at), t.members(l.b, l.at)
		if len(s.Network.Links)+len(outer)*len(inner) > mostLinks {
			t.wrong(l.at, "more than %d links", mostLinks)
			return
		}
		for _, a := range outer {
			for _, b := range inner {
				s.Network.Links = append(s.Network.Links, l.between(a, b))
			}
		}
	}
	t.ownAddresses()
	t.checkRoutes()
	plan, err := s.Network.Plan()
	if err != nil {
		return // the check says it
	}
	t.route(plan)
	t.translate(plan)
}

// assigned are the addresses of the i-th thing of a kind: of each version that the network has.
func (t *topology) assigned(kind byte, i int) (all []netip.Addr) {
	for _, v := range t.version.Versions() {
		all = append(all, address(v, kind, i+1))
	}
	return all
}

// between is the link between two of the nodes that are meant.
func (l linkDecl) between(outer, inner string) topo.Link {
	link := topo.Link{Outer: outer, Inner: inner, MTU: l.mtu}
	if l.from == "" || l.from == l.a {
		link.OuterSends = l.sends
	}
	if l.from == "" || l.from == l.b {
		link.InnerSends = l.sends
	}
	return link
}

// expand adds a node, or those of a group.
func (t *topology) expand(d nodeDecl) {
	s := t.scenario
	names := []string{d.name}
	if d.count > 0 {
		names = nil
		for i := range min(d.count, mostNodes+1) {
			names = append(names, fmt.Sprintf("%s%d", d.name, i))
		}
		s.Groups[d.name] = names
	}
	for _, name := range names {
		n := topo.Node{Identity: topo.Identity{Name: name}, Replies: d.replies, Tracking: d.tracking}
		for i, a := range t.addresses {
			if a.owner == name {
				n.Own = append(n.Own, t.assigned(90, i)...)
			}
		}
		s.Network.Nodes = append(s.Network.Nodes, n)
		for _, one := range d.sysctls {
			s.Network.Sysctls = append(s.Network.Sysctls, topo.Setting{Node: name, Name: one.name, Value: one.value})
		}
		if d.program != nil {
			s.Programs[name] = *d.program
		}
	}
}

// members are the nodes that a name stands for.
func (t *topology) members(name string, at *yaml.Node) []string {
	if group := t.scenario.Groups[name]; group != nil {
		return group
	}
	if slices.ContainsFunc(t.scenario.Network.Nodes, func(n topo.Node) bool { return n.Name == name }) {
		return []string{name}
	}
	var all []string
	for _, d := range t.nodes {
		all = append(all, d.name)
	}
	t.wrong(at, "no node %q: %s", name, there(all))
	return nil
}

// ownAddresses gives nodes with several links an address of their own, which is the same over
// all of them, and lets them forward.
func (t *topology) ownAddresses() {
	links := map[string]int{}
	for _, l := range t.scenario.Network.Links {
		links[l.Outer]++
		links[l.Inner]++
	}
	for i := range t.scenario.Network.Nodes {
		if n := &t.scenario.Network.Nodes[i]; links[n.Name] > 1 {
			all := t.assigned(80, i)
			if n.Addr, n.Forwards = all[0], true; len(all) > 1 {
				n.Addr6 = all[1]
			}
		}
	}
}
