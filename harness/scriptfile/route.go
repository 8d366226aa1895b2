package scriptfile

import (
	"cmp"
	"net/netip"
	"slices"

	"twlab/harness/topo"
)

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
			via = cmp.Or(t.chosen(n.Name, to.Name), via)
			for _, addr := range to.Addrs() {
				if t.chosen(n.Name, to.Name) != "" || !slices.ContainsFunc(from.Ends, func(e topo.End) bool { return e.PeerAddr == addr || e.PeerAddr6 == addr }) {
					n.Routes = append(n.Routes, topo.Route{To: netip.PrefixFrom(addr, addr.BitLen()), Via: via})
				}
			}
		}
		for k, a := range t.addresses {
			if via := cmp.Or(t.chosen(n.Name, a.name), onward(a, n.Name, next)); via != "" {
				for _, addr := range t.assigned(90, k) {
					n.Routes = append(n.Routes, topo.Route{To: netip.PrefixFrom(addr, addr.BitLen()), Via: via})
				}
			}
		}
	}
}

// chosen is the neighbour over which the file sends what a node has for a name; empty if it
// leaves that open.
func (t *topology) chosen(node, to string) string {
	for _, d := range t.nodes {
		if !slices.Contains(t.members(d.name, d.key), node) {
			continue
		}
		for _, r := range d.routes {
			if r.to == to {
				return r.via
			}
		}
	}
	return ""
}

// checkRoutes checks the names in routes.
func (t *topology) checkRoutes() {
	for _, d := range t.nodes {
		for _, r := range d.routes {
			known := slices.ContainsFunc(t.scenario.Network.Nodes, func(n topo.Node) bool { return n.Name == r.to })
			if _, address := t.scenario.Addresses[r.to]; !known && !address {
				t.wrong(r.at.key, "no node or address %q", r.to)
			}
			for _, name := range t.members(d.name, d.key) {
				if !slices.ContainsFunc(t.scenario.Network.Links, func(l topo.Link) bool {
					return l.Outer == name && l.Inner == r.via || l.Outer == r.via && l.Inner == name
				}) {
					t.wrong(r.at.value, "%s has no link to %q", name, r.via)
				}
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
