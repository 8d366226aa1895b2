package script

import (
	"slices"

	"twlab/harness/topo"
)

// id checks the ID of a step.
func (c *checker) id(s Step) {
	switch {
	case s.ID == "" && s.Background:
		c.wrong("background", "a step in the background needs an id, so that a later step can await it")
	case s.ID == "":
	case !validName(s.ID):
		c.wrong("id", "%q: an id has letters, digits, - and _, begins with a letter, and has at most 30", s.ID)
	case slices.Contains(c.ids, s.ID):
		c.wrong("id", "%q is the id of an earlier step", s.ID)
	}
}

// validName reports whether a name can be an ID.
func validName(name string) bool {
	for i, r := range name {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
		if !letter && (i == 0 || (r < '0' || r > '9') && r != '-' && r != '_') {
			return false
		}
	}
	return name != "" && len(name) <= 30
}

// node checks the name of a node.
func (c *checker) node(key, name string) {
	if name == "" {
		c.wrong(key, "which node? There are %s", list(c.nodes(), "and"))
		return
	}
	if _, found := c.plan.Node(name); !found {
		c.wrong(key, "no node %q: there are %s", name, list(c.nodes(), "and"))
	}
}

// neighbour checks the name of a node at the other end of a link of a node.
func (c *checker) neighbour(key, node, name string) {
	planned, found := c.plan.Node(node)
	if !found {
		return // said already
	}
	if _, found := planned.Toward(name); !found {
		var all []string
		for _, e := range planned.Ends {
			all = append(all, e.Peer)
		}
		c.wrong(key, "%s has no link to %q: its neighbours are %s", node, name, list(all, "and"))
	}
}

// nodes lists the names of the nodes.
func (c *checker) nodes() (all []string) {
	for _, n := range c.plan.Nodes {
		all = append(all, n.Name)
	}
	return all
}

// endpoint checks an endpoint, which must be a node or a group of nodes if here is set, and
// otherwise anything that has an address.
func (c *checker) endpoint(key string, e Endpoint, here bool) {
	_, node := c.plan.Node(e.Name)
	_, group := c.scenario.Groups[e.Name]
	_, address := c.scenario.Addresses[e.Name]
	switch {
	case e.Six && c.scenario.Network.IP != topo.DualStack:
		c.wrong(key, "%q: only a network with \"ip: both\" has names with two addresses", e)
	case node, here && group, !here && address, !here && !group && e.Name == Loopback:
	case here && address:
		c.wrong(key, "%q is an address, not a node", e.Name)
	case group:
		c.wrong(key, "%q is a group of nodes: name one of %s", e.Name, list(c.scenario.Groups[e.Name], "or"))
	default:
		all := c.nodes()
		for name := range sorted(c.scenario.Addresses) {
			all = append(all, name)
		}
		c.wrong(key, "no node or address %q: there are %s", e.Name, list(all, "and"))
	}
}

// everywhere reports whether an endpoint is all addresses of one version of IP.
func (c *checker) everywhere(e Endpoint) bool {
	_, node := c.plan.Node(e.Name)
	_, address := c.scenario.Addresses[e.Name]
	return e.Name == Everywhere && !node && !address && (!e.Six || c.scenario.Network.IP == topo.DualStack)
}

// conn checks that one connection is there.
func (c *checker) conn(key string, to Conn, ends string) {
	if m := c.made[to.Step]; m.what == "connection" && m.several {
		c.wrong(key, "%q makes several connections: only an exchange can be on all of them", to.Step)
		return
	}
	c.conns(key, to, ends)
}

// conns checks that connections are there: one, or those of a step that makes several.
func (c *checker) conns(key string, to Conn, ends string) {
	m, found := c.made[to.Step]
	switch {
	case !found && slices.ContainsFunc(c.scenario.Steps, func(s Step) bool { return s.ID == to.Step }):
		c.wrong(key, "%q comes later", to.Step)
	case !found:
		c.wrong(key, "no step %q: %s", to.Step, c.known("connection"))
	case m.what != "connection":
		c.wrong(key, "%q makes no connection: %s", to.Step, c.known("connection"))
	case m.background && !m.awaited:
		c.wrong(key, "%q runs in the background: await it first", to.Step)
	case to.Server && !c.holds:
		c.wrong(key, "no listener leaves its connections to steps: say \"serve: hold\" where it listens")
	case !to.Server && m.ended != "":
		c.wrong(key, "%q was ended by %s", to.Step, m.ended)
	case ends != "" && !to.Server:
		m.ended = ends
		c.made[to.Step] = m
	}
}

// known lists the IDs of the steps so far that made this.
func (c *checker) known(what string) string {
	var all []string
	for _, id := range c.ids {
		if c.made[id].what == what {
			all = append(all, id)
		}
	}
	if len(all) == 0 {
		return "no step so far makes a " + what + " and has an id"
	}
	return "there are " + list(all, "and")
}
