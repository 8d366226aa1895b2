package scriptfile

import (
	"net/netip"
	"slices"

	"go.yaml.in/yaml/v3"

	"twlab/harness/script"
	"twlab/harness/topo"
)

// translate gives each node its NAT and rules, with addresses for names.
func (t *topology) translate(plan topo.Plan) {
	for _, d := range t.nodes {
		for _, name := range t.members(d.name, d.key) {
			i := slices.IndexFunc(t.scenario.Network.Nodes, func(n topo.Node) bool { return n.Name == name })
			n := &t.scenario.Network.Nodes[i]
			for _, one := range d.snat {
				n.SourceNAT = append(n.SourceNAT, t.sourceNAT(plan, one)...)
			}
			for _, one := range d.dnat {
				n.DestinationNAT = append(n.DestinationNAT, t.destinationNAT(plan, one, d.inTurn)...)
			}
			for _, one := range d.rules {
				table, chain, spec := t.rule(one.at, one.text)
				spec, version, wrong := resolve(t.scenario, plan, name, spec)
				if wrong != "" {
					t.wrong(one.at, "%s", wrong)
				}
				t.scenario.Network.Rules = append(t.scenario.Network.Rules,
					topo.Rule{Node: name, Table: table, Chain: chain, Spec: spec, IP: version})
			}
		}
	}
}

// sourceNAT is one declaration: of each address, if it says whose connections it is for.
func (t *topology) sourceNAT(plan topo.Plan, one snatDecl) (all []topo.SourceNAT) {
	s := topo.SourceNAT{Towards: one.towards, Ports: topo.PortRange{First: one.first, Last: one.last}, Random: one.random}
	if one.from == "" {
		return []topo.SourceNAT{s}
	}
	for _, from := range t.both(script.Endpoint{Name: one.from}) {
		if a := t.addr(plan, one.at, from, false); a.Addr().IsValid() {
			s.From = netip.PrefixFrom(a.Addr(), a.Addr().BitLen())
			all = append(all, s)
		}
	}
	return all
}

// destinationNAT is one declaration: of each address that its name has.
func (t *topology) destinationNAT(plan topo.Plan, one dnatDecl, inTurn bool) (all []topo.DestinationNAT) {
	for _, at := range t.both(one.at) {
		to := topo.DestinationNAT{At: t.addr(plan, one.key, at, true)}
		if inTurn {
			to.Statistic = topo.InTurn
		}
		for _, e := range one.all {
			e.Six = e.Six || at.Six
			to.To = append(to.To, t.addr(plan, one.key, e, true))
		}
		all = append(all, to)
	}
	return all
}

// both are the endpoints that a name stands for: one, or one of each version of IP.
func (t *topology) both(e script.Endpoint) []script.Endpoint {
	if e.Six || t.version != topo.DualStack {
		return []script.Endpoint{e}
	}
	six := e
	six.Six = true
	return []script.Endpoint{e, six}
}

// addr finds the address of an endpoint, which must have a port if it needs one.
func (t *topology) addr(plan topo.Plan, at *yaml.Node, e script.Endpoint, port bool) netip.AddrPort {
	a := t.scenario.Addr(plan, e)
	switch {
	case !a.IsValid():
		t.wrong(at, "no node or address %q", e.Name)
	case port && e.Port == 0:
		t.wrong(at, "which port of %s? Say %s:80", e.Name, e.Name)
	}
	return netip.AddrPortFrom(a, e.Port)
}
