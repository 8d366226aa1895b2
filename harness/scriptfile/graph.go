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
	if t.six {
		shape.IP = topo.IPv6
	}
	for _, s := range t.sysctls {
		shape.Sysctls = append(shape.Sysctls, topo.Setting{Role: topo.Role(s.role), Name: s.name, Value: s.value})
	}
	if err := shape.Validate(); err != nil {
		t.wrong(t.at["topology"].key, "%s", strings.ReplaceAll(err.Error(), "\n", "; "))
		return
	}
	s := t.scenario
	s.Network = shape.Network()
	s.Groups = map[string][]string{}
	for _, n := range s.Network.Nodes {
		role := string(n.Role) + "s"
		s.Groups[role] = append(s.Groups[role], n.Name)
	}
	s.Addresses = map[string]netip.Addr{}
	if kind := script.ProgramKind(t.short.balancer); kind == script.HAProxy || kind == script.Nginx || kind == script.IPVS {
		p := script.Program{Kind: kind}
		for _, name := range s.Groups["servers"] {
			p.Servers = append(p.Servers, script.Endpoint{Name: name, Port: 80})
		}
		s.Programs = map[string]script.Program{string(topo.Balancer): p}
	}
}

// graph makes the network of nodes and links.
func (t *topology) graph() {
	s := t.scenario
	s.Groups, s.Addresses, s.Programs = map[string][]string{}, map[string]netip.Addr{}, map[string]script.Program{}
	if t.six {
		s.Network.IP = topo.IPv6
	}
	for i, a := range t.addresses {
		s.Addresses[a.name] = t.address(90, i+1)
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
				s.Network.Links = append(s.Network.Links, topo.Link{Outer: a, Inner: b})
			}
		}
	}
	t.ownAddresses()
	plan, err := s.Network.Plan()
	if err != nil {
		return // the check says it
	}
	t.route(plan)
	t.translate(plan)
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
				n.Own = append(n.Own, t.address(90, i+1))
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
			n.Addr, n.Forwards = t.address(80, i+1), true
		}
	}
}

// route gives each node routes to all addresses, over the fewest links.
func (t *topology) route(plan topo.Plan) {
	nodes := t.scenario.Network.Nodes
	for i := range nodes {
		n := &nodes[i]
		from := plan.Nodes[i]
		if len(from.Ends) == 1 {
			if !from.Ends[0].Outer {
				n.Routes = append(n.Routes, topo.Route{Via: from.Ends[0].Peer})
			}
			continue
		}
		next := nextHops(plan, n.Name)
		for _, to := range plan.Nodes {
			via, reachable := next[to.Name]
			if !reachable {
				continue
			}
			for _, addr := range to.Addrs() {
				if !slices.ContainsFunc(from.Ends, func(e topo.End) bool { return e.PeerAddr == addr }) {
					n.Routes = append(n.Routes, topo.Route{To: netip.PrefixFrom(addr, addr.BitLen()), Via: via})
				}
			}
		}
		for k, a := range t.addresses {
			if via := onward(a, n.Name, next); via != "" {
				addr := t.address(90, k+1)
				n.Routes = append(n.Routes, topo.Route{To: netip.PrefixFrom(addr, addr.BitLen()), Via: via})
			}
		}
	}
}

// onward is where a node sends packets to an address that nobody has; empty for nowhere.
func onward(a addressDecl, name string, next map[string]string) string {
	if len(a.via) == 0 {
		return ""
	}
	switch i := slices.Index(a.via, name); {
	case i < 0:
		return next[a.via[0]]
	case i+1 < len(a.via):
		return a.via[i+1]
	default:
		return ""
	}
}

// nextHops finds, for each other node, the neighbour over which it is reached.
func nextHops(plan topo.Plan, from string) map[string]string {
	next := map[string]string{}
	queue := []string{from}
	for len(queue) > 0 {
		at, _ := plan.Node(queue[0])
		queue = queue[1:]
		for _, e := range at.Ends {
			if _, seen := next[e.Peer]; seen || e.Peer == from {
				continue
			}
			next[e.Peer] = next[at.Name]
			if at.Name == from {
				next[e.Peer] = e.Peer
			}
			queue = append(queue, e.Peer)
		}
	}
	return next
}

// translate gives each node its NAT and rules, with addresses for names.
func (t *topology) translate(plan topo.Plan) {
	net := &t.scenario.Network
	addr := func(at *yaml.Node, e script.Endpoint) netip.AddrPort {
		a := t.scenario.Addr(plan, e.Name)
		switch {
		case !a.IsValid():
			t.wrong(at, "no node or address %q", e.Name)
		case e.Port == 0:
			t.wrong(at, "which port of %s? Say %s:80", e.Name, e.Name)
		}
		return netip.AddrPortFrom(a, e.Port)
	}
	for _, d := range t.nodes {
		for _, name := range t.members(d.name, d.key) {
			i := slices.IndexFunc(net.Nodes, func(n topo.Node) bool { return n.Name == name })
			n := &net.Nodes[i]
			for _, one := range d.snat {
				s := topo.SourceNAT{Towards: one.towards, Ports: topo.PortRange{First: one.first, Last: one.last}, Random: one.random}
				if one.from != "" {
					from := t.scenario.Addr(plan, one.from)
					if !from.IsValid() {
						t.wrong(one.at, "no node or address %q", one.from)
						continue
					}
					s.From = netip.PrefixFrom(from, from.BitLen())
				}
				n.SourceNAT = append(n.SourceNAT, s)
			}
			for _, one := range d.dnat {
				to := topo.DestinationNAT{At: addr(one.key, one.at)}
				if d.inTurn {
					to.Statistic = topo.InTurn
				}
				for _, e := range one.all {
					to.To = append(to.To, addr(one.key, e))
				}
				n.DestinationNAT = append(n.DestinationNAT, to)
			}
			for _, one := range d.rules {
				table, chain, spec := t.rule(one.at, one.text)
				spec, wrong := resolve(t.scenario, plan, name, spec)
				if wrong != "" {
					t.wrong(one.at, "%s", wrong)
				}
				net.Rules = append(net.Rules, topo.Rule{Node: name, Table: table, Chain: chain, Spec: spec})
			}
		}
	}
}
