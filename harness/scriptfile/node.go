package scriptfile

import (
	"go.yaml.in/yaml/v3"

	"twlab/harness/script"
	"twlab/harness/topo"
)

// nodeDecl is a node, or a group of nodes that are alike.
type nodeDecl struct {
	name     string
	key      *yaml.Node
	count    int // 0 for one node
	sysctls  []sysctlDecl
	rules    []ruleDecl
	snat     []snatDecl
	dnat     []dnatDecl
	inTurn   bool
	program  *script.Program
	replies  topo.Replies
	tracking topo.Tracking
	routes   []routeDecl
}

// routeDecl sends what is for a node or an address over a neighbour.
type routeDecl struct {
	to, via string
	at      place
}

type sysctlDecl struct {
	name, value string
	at          place
	role        string // of the short form
}

// sysctlNodes writes the sysctls of a node or of a role.
func sysctlNodes(all []sysctlDecl) *yaml.Node {
	return namedNodes(all, func(s sysctlDecl) (string, *yaml.Node) { return s.name, textNode(s.value) })
}

func (s *snatDecl) fields() []field {
	return []field{
		{"towards", "The neighbour.", text(&s.towards)},
		{"from", "Whose connections; without it, everybody's.", text(&s.from)},
		{"ports", "The range of ports.", ports(&s.first, &s.last)},
		{"random", "How a port is chosen: no, yes or fully.", randomly(&s.random)},
	}
}

func randomly(to *topo.RandomMode) value {
	return named(to, []string{"no", "yes", "fully"}, []topo.RandomMode{topo.KeepPort, topo.Random, topo.FullyRandom})
}

type ruleDecl struct {
	text string
	at   *yaml.Node
}

type snatDecl struct {
	towards     string
	from        string
	first, last uint16
	random      topo.RandomMode
	at          *yaml.Node
}

type dnatDecl struct {
	at  script.Endpoint
	key *yaml.Node
	all []script.Endpoint
}

func (t *topology) readNodes(r *reader, n *yaml.Node) {
	if n == nil {
		r.below("NAME", place{}, func() { t.node(nil, nil) })
		return
	}
	r.entries(n, "nodes", func(key, val *yaml.Node) {
		if !nodePattern.MatchString(key.Value) {
			r.wrong(key, "%q: the name of a node has small letters, digits, - and _, begins with a letter, and has at most 13", key.Value)
			return
		}
		t.node(key, val)
	})
}

// node reads a node.
func (t *topology) node(key, n *yaml.Node) {
	r := t.reader
	d := nodeDecl{key: key}
	if key != nil {
		d.name = key.Value
	}
	r.mapping(n, "a node", r.nodeFields(&d))
	t.nodes = append(t.nodes, d)
}

// nodeFields are the fields of a node.
func (r *reader) nodeFields(d *nodeDecl) []field {
	return []field{
		{"count", "How many nodes like this there are: NAME0, NAME1 and so on. NAME stands for all of them.", number(&d.count)},
		{"sysctls", "net.some.name: value.", value{"mapping of names to values", namesOf(anyText), func(r *reader, n *yaml.Node) {
			if n != nil {
				d.sysctls = r.readSysctls(n)
			}
		}, func() *yaml.Node { return sysctlNodes(d.sysctls) }}},
		{"rules", "iptables rules: table, chain and rule. {NAME} is an address; -i and -o take neighbours.", value{"list of texts", listOf(anyText), func(r *reader, n *yaml.Node) {
			if n == nil {
				return
			}
			r.list(n, "rules", false, func(_ int, one *yaml.Node) {
				if text, ok := r.scalar(one, "text"); ok {
					d.rules = append(d.rules, ruleDecl{text, one})
				}
			})
		}, func() *yaml.Node {
			return listNode(d.rules, func(one ruleDecl) *yaml.Node { return scalarNode(one.text) })
		}}},
		{"snat", "Gives connections that leave for a neighbour another source.", value{"mapping", mapping, func(r *reader, n *yaml.Node) {
			s := snatDecl{at: n}
			r.mapping(n, "\"snat\"", s.fields())
			d.snat = append(d.snat, s)
		}, func() *yaml.Node {
			if len(d.snat) == 0 {
				return nil
			}
			return mappingNode(d.snat[0].fields())
		}}},
		{"dnat", "Gives connections to an address other destinations: {\"vip:80\": [\"web:80\"]}.", value{"mapping of NAME:PORT to lists", namesOf(oneOrListOf(endpointForm)), func(r *reader, n *yaml.Node) {
			if n == nil {
				return
			}
			r.entries(n, "dnat", func(key, val *yaml.Node) {
				one := dnatDecl{key: key}
				endpoint(&one.at).read(r, key)
				endpoints(&one.all).read(r, val)
				d.dnat = append(d.dnat, one)
			})
		}, func() *yaml.Node {
			return namedNodes(d.dnat, func(one dnatDecl) (string, *yaml.Node) { return one.at.String(), endpoints(&one.all).write() })
		}}},
		{"in-turn", "Whether dnat takes destinations in turn; without it, by chance.", truth(&d.inTurn)},
		{"haproxy", "HAProxy balances here; with both versions of IP, at the IPv4 address. The node's tcp_orphan_retries is 1 unless it is set.", programOf(script.HAProxy, d)},
		{"nginx", "nginx balances here; with both versions of IP, at the IPv4 address. The node's tcp_orphan_retries is 1 unless it is set.", programOf(script.Nginx, d)},
		{"ipvs", "The node's kernel balances here (module ip_vs, NAT); with both versions of IP, at the IPv4 address.", programOf(script.IPVS, d)},
		{"routes", "Over which neighbour packets for a node or an address go, where that is not the shortest way: {web: lb2}.",
			value{"mapping of names to neighbours", namesOf(anyText), func(r *reader, n *yaml.Node) {
				if n == nil {
					return
				}
				r.entries(n, "routes", func(key, val *yaml.Node) {
					if via, ok := r.scalar(val, "the name of a neighbour"); ok {
						d.routes = append(d.routes, routeDecl{key.Value, via, place{key, val}})
					}
				})
			}, func() *yaml.Node {
				return namedNodes(d.routes, func(one routeDecl) (string, *yaml.Node) { return one.to, scalarNode(one.via) })
			}}},
		{"replies", "Which way replies go: by-route, the-way-they-came or by-accept-mark.", named(&d.replies, []string{"by-route", "the-way-they-came", "by-accept-mark"},
			[]topo.Replies{topo.ByRoute, topo.AsTheyCame, topo.ByAcceptMark})},
		{"track", "Which packets connection tracking sees: always, never or arriving.", words(&d.tracking, "always", "never", "arriving")},
	}
}

// nodeNodes writes the nodes.
func (t *topology) nodeNodes() *yaml.Node {
	return namedNodes(t.nodes, func(d nodeDecl) (string, *yaml.Node) { return d.name, mappingNode(t.nodeFields(&d)) })
}

// roleNodes writes the sysctls of roles.
func (t *topology) roleNodes() *yaml.Node {
	var roles []string
	of := map[string][]sysctlDecl{}
	for _, s := range t.sysctls {
		if len(of[s.role]) == 0 {
			roles = append(roles, s.role)
		}
		of[s.role] = append(of[s.role], s)
	}
	return namedNodes(roles, func(role string) (string, *yaml.Node) { return role, sysctlNodes(of[role]) })
}

// programOf is the value of a program's key: what it is to do at the node.
func programOf(kind script.ProgramKind, d *nodeDecl) value {
	return value{"mapping", mapping, func(r *reader, n *yaml.Node) {
		p := script.Program{Kind: kind}
		r.mapping(n, string(kind), programFields(&p))
		d.program = &p
	}, func() *yaml.Node {
		if d.program == nil || d.program.Kind != kind {
			return nil
		}
		return mappingNode(programFields(d.program))
	}}
}

// programFields are the fields of a program.
func programFields(p *script.Program) []field {
	fields := []field{
		{"port", "The port that clients connect to; 80 without it.", port(&p.Port)},
		{"servers", "Where connections go.", endpoints(&p.Servers)},
	}
	if p.Kind == script.HAProxy {
		fields = append(fields, haproxyFields(p)...)
	}
	if p.Kind == script.IPVS {
		fields = append(fields, field{"scheduler", "How a server is chosen: rr, without it; wrr, lc, wlc or sh.",
			words(&p.Scheduler, "rr", "wrr", "lc", "wlc", "sh")})
	}
	return fields
}

// haproxyFields are the options of HAProxy.
func haproxyFields(p *script.Program) []field {
	return []field{
		{"mode", "tcp or http; tcp without it.", named(&p.HTTP, []string{"tcp", "http"}, []bool{false, true})},
		{"idle-close-on-response", "option idle-close-on-response.", truth(&p.IdleCloseOnResponse)},
		{"server-close", "option http-server-close.", truth(&p.ServerClose)},
		{"no-linger", "option nolinger towards clients.", truth(&p.NoLinger)},
		{"takeover", "How a reload passes the listening sockets on: rebind or master-worker; without it, by hand-over.",
			words(&p.Takeover, "rebind", "master-worker")},
		{"connect-timeout", "timeout connect.", duration(&p.ConnectTimeout)},
		{"client-timeout", "timeout client.", duration(&p.ClientTimeout)},
		{"server-timeout", "timeout server.", duration(&p.ServerTimeout)},
		{"keep-alive-timeout", "timeout http-keep-alive.", duration(&p.KeepAliveTimeout)},
		{"no-linger-servers", "option nolinger towards servers.", truth(&p.NoLingerServers)},
		{"close", "option httpclose.", truth(&p.CloseBoth)},
		{"reuse", "http-reuse: never, safe, aggressive or always.", words(&p.Reuse, "never", "safe", "aggressive", "always")},
		{"pool-purge-delay", "How often idle connections to servers are closed.", duration(&p.PurgeDelay)},
		{"retries", "How often a failed connect to a server is repeated.", numberOrNil(&p.Retries)},
		{"source", "The range of ports that HAProxy itself gives to connections to servers.", ports(&p.Source.First, &p.Source.Last)},
	}
}
