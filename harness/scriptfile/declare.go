package scriptfile

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"twlab/harness/script"
	"twlab/harness/topo"
)

// declared finds what a file must declare so that its network, names and programs are those of
// the scenario. It is the other way of usual and graph; what neither of them makes, it leaves
// out, and whoever reads the file again sees that.
func declared(s script.Scenario) *topology {
	t := &topology{reader: &reader{mistakes: &MistakesError{}}, scenario: &s, version: s.Network.IP, defaults: s.Network.NoBaseline, bootGap: s.Network.BootGap}
	t.ip = map[topo.IPVersion]string{topo.IPv6: "6", topo.DualStack: "both"}[t.version]
	if slices.ContainsFunc(s.Network.Nodes, func(n topo.Node) bool { return n.Role != "" }) {
		t.declareUsual()
		return t
	}
	plan, err := s.Network.Plan()
	if err != nil {
		return t
	}
	t.declareAddresses(plan)
	t.declareNodes(plan)
	t.declareLinks()
	t.declareRoutes()
	return t
}

// declareUsual declares the short form.
func (t *topology) declareUsual() {
	t.short.balancer, t.short.gateway = "none", "none"
	for _, n := range t.scenario.Network.Nodes {
		switch n.Role {
		case topo.Client:
			t.short.clients++
		case topo.Server:
			t.short.servers++
		case topo.Balancer:
			if len(n.DestinationNAT) > 0 {
				t.short.balancer = "dnat"
			}
			if p, balances := t.scenario.Programs[n.Name]; balances {
				t.short.balancer, t.short.haproxy = string(p.Kind), p
			}
		case topo.Gateway:
			t.short.gateway = "routed"
			if len(n.SourceNAT) > 0 {
				t.short.gateway, t.short.random = "masquerade", n.SourceNAT[0].Random
				t.short.first, t.short.last = n.SourceNAT[0].Ports.First, n.SourceNAT[0].Ports.Last
			}
			if last := len(n.SourceNAT) - 1; last >= 0 && n.SourceNAT[0].From.IsValid() { // each client has a block
				t.short.each, t.short.last = int(t.short.last-t.short.first)+1, n.SourceNAT[last].Ports.Last
			}
		}
	}
	for _, one := range t.scenario.Network.Sysctls {
		t.sysctls = append(t.sysctls, sysctlDecl{name: one.Name, value: one.Value, role: string(one.Role)})
	}
}

// declareNodes declares nodes, and groups of nodes once.
func (t *topology) declareNodes(plan topo.Plan) {
	s := t.scenario
	seen := map[string]bool{}
	for _, n := range s.Network.Nodes {
		d := nodeDecl{name: t.groupOf(n.Name), replies: n.Replies, tracking: n.Tracking}
		if seen[d.name] {
			continue
		}
		seen[d.name], d.count = true, len(s.Groups[d.name])
		if p, balances := s.Programs[n.Name]; balances {
			d.program = &p
		}
		for _, one := range s.Network.Sysctls {
			if one.Node == n.Name {
				d.sysctls = append(d.sysctls, sysctlDecl{name: one.Name, value: one.Value})
			}
		}
		for _, one := range s.Network.Rules {
			if one.Node == n.Name {
				d.rules = append(d.rules, ruleDecl{text: one.Table + " " + one.Chain + " " + t.unresolve(plan, n.Name, one.Spec)})
			}
		}
		if len(n.SourceNAT) > 0 {
			one := n.SourceNAT[0]
			d.snat = []snatDecl{{towards: one.Towards, from: t.endpoint(plan, netip.AddrPortFrom(one.From.Addr(), 0)).Name,
				first: one.Ports.First, last: one.Ports.Last, random: one.Random}}
		}
		for _, one := range n.DestinationNAT {
			at := t.endpoint(plan, one.At)
			if at.Six { // the name stands for both
				continue
			}
			var to []script.Endpoint
			for _, a := range one.To {
				to = append(to, t.endpoint(plan, a))
			}
			d.dnat, d.inTurn = append(d.dnat, dnatDecl{at: at, all: to}), one.Statistic == topo.InTurn
		}
		t.nodes = append(t.nodes, d)
	}
}

// groupOf is the group of a node, or the node itself.
func (t *topology) groupOf(name string) string {
	for group, all := range t.scenario.Groups {
		if slices.Contains(all, name) {
			return group
		}
	}
	return name
}

// declareLinks declares links, and those of a group once.
func (t *topology) declareLinks() {
	for _, l := range t.scenario.Network.Links {
		d := linkDecl{a: t.groupOf(l.Outer), b: t.groupOf(l.Inner), mtu: l.MTU, sends: l.OuterSends}
		switch {
		case l.OuterSends == l.InnerSends:
		case l.InnerSends == topo.Impairment{}:
			d.from = d.a
		default:
			d.from, d.sends = d.b, l.InnerSends
		}
		if !slices.Contains(t.links, d) {
			t.links = append(t.links, d)
		}
	}
}

// declareAddresses declares addresses beside those of the nodes, in the order in which they were
// assigned.
func (t *topology) declareAddresses(plan topo.Plan) {
	s := t.scenario
	for name := range s.Addresses {
		t.addresses = append(t.addresses, addressDecl{name: name})
	}
	slices.SortFunc(t.addresses, func(a, b addressDecl) int { return s.Addresses[a.name].Compare(s.Addresses[b.name]) })
	for i := range t.addresses {
		d := &t.addresses[i]
		addr := s.Addresses[d.name]
		for _, n := range s.Network.Nodes {
			if slices.Contains(n.Own, addr) {
				d.owner = n.Name
			}
		}
		if d.owner == "" {
			d.via = ways(plan, d.name, addr)
		}
	}
}

// ways are the nodes over which an address that nobody has is routed: the shortest list of which
// its routes are made.
func ways(plan topo.Plan, name string, addr netip.Addr) []string {
	next := map[string]string{} // of the nodes that have a choice
	for _, n := range plan.Nodes {
		for _, r := range n.Routes {
			if r.To.IsValid() && r.To.Addr() == addr {
				next[n.Name] = r.Via
			}
		}
	}
	var found []string
	for _, n := range plan.Nodes {
		via := []string{n.Name}
		for at := next[n.Name]; at != "" && !slices.Contains(via, at); at = next[at] {
			via = append(via, at)
		}
		right := !slices.ContainsFunc(plan.Nodes, func(n topo.Planned) bool {
			return len(n.Ends) > 1 && onward(addressDecl{name: name, via: via}, n.Name, nextHops(plan, n.Name)) != next[n.Name]
		})
		if right && (found == nil || len(via) < len(found)) {
			found = via
		}
	}
	return found
}

// declareRoutes declares the routes that are not the shortest ways.
func (t *topology) declareRoutes() {
	usual := script.Scenario{}
	plain := *t
	plain.scenario = &usual
	plain.graph()
	plan, err := usual.Network.Plan()
	if err != nil {
		return
	}
	for i, n := range t.scenario.Network.Nodes {
		at := slices.IndexFunc(t.nodes, func(d nodeDecl) bool { return d.name == t.groupOf(n.Name) })
		d := &t.nodes[at]
		for _, r := range n.Routes {
			to := t.endpoint(plan, netip.AddrPortFrom(r.To.Addr(), 0)).Name
			if i := slices.IndexFunc(plan.Nodes, func(n topo.Planned) bool { return slices.Contains(n.Addrs(), r.To.Addr()) }); i >= 0 && to == "" {
				to = plan.Nodes[i].Name
			}
			if to == "" || slices.Contains(usual.Network.Nodes[i].Routes, r) || slices.ContainsFunc(d.routes, func(o routeDecl) bool { return o.to == to }) {
				continue
			}
			d.routes = append(d.routes, routeDecl{to: to, via: r.Via})
		}
	}
}

// endpoint names an address: by its node, or by its entry of the addresses.
func (t *topology) endpoint(plan topo.Plan, a netip.AddrPort) script.Endpoint {
	six := t.version == topo.DualStack && a.Addr().Is6()
	for _, all := range []map[string]netip.Addr{t.scenario.Addresses, t.scenario.Addresses6} {
		for name, addr := range all {
			if addr == a.Addr() {
				return script.Endpoint{Name: name, Port: a.Port(), Six: six}
			}
		}
	}
	for _, n := range plan.Nodes {
		if a.IsValid() && (n.Addr == a.Addr() || n.Addr6 == a.Addr()) {
			return script.Endpoint{Name: n.Name, Port: a.Port(), Six: six}
		}
	}
	return script.Endpoint{}
}

// unresolved is the scenario with names in the rules of its steps.
func unresolved(s script.Scenario) (script.Scenario, error) {
	plan, err := s.Network.Plan()
	if err != nil {
		return s, err
	}
	t := &topology{scenario: &s, version: s.Network.IP}
	s.Steps = slices.Clone(s.Steps)
	for i, step := range s.Steps {
		if add, ok := step.Do.(script.AddRule); ok {
			add.Spec = t.unresolve(plan, add.Node, add.Spec)
			s.Steps[i].Do = add
		}
	}
	return s, nil
}

// unresolve writes names into a rule for addresses and interfaces.
func (t *topology) unresolve(plan topo.Plan, at, spec string) string {
	n, _ := plan.Node(at)
	words := strings.Fields(spec)
	for i := range words {
		if i > 0 && slices.Contains([]string{"-i", "-o", "--in-interface", "--out-interface"}, words[i-1]) {
			if e := slices.IndexFunc(n.Ends, func(e topo.End) bool { return e.Interface == words[i] }); e >= 0 {
				words[i] = n.Ends[e].Peer
			}
			continue
		}
		words[i] = t.unresolveWord(plan, words[i])
	}
	return strings.Join(words, " ")
}

// unresolveWord writes names into a word for an address, and for one with a port.
func (t *topology) unresolveWord(plan topo.Plan, word string) string {
	addr, after := word, ""
	if a, err := netip.ParseAddrPort(word); err == nil {
		addr, after = a.Addr().String(), fmt.Sprintf(":%d", a.Port())
	}
	a, err := netip.ParseAddr(addr)
	if err != nil {
		return word
	}
	e := t.endpoint(plan, netip.AddrPortFrom(a, 0))
	if e.Name == "" {
		return word
	}
	return "{" + e.String() + "}" + after
}
