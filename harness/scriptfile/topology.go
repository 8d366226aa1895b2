package scriptfile

import (
	"regexp"

	"go.yaml.in/yaml/v3"

	"twlab/harness/script"
	"twlab/harness/topo"
)

// topology is the network as the file has it, with names instead of addresses.
type topology struct {
	*reader
	scenario  *script.Scenario
	short     shortForm
	nodes     []nodeDecl
	links     []linkDecl
	addresses []addressDecl
	version   topo.IPVersion
	sysctls   []sysctlDecl
}

// shortForm is the usual shape in four words.
type shortForm struct {
	clients, servers  int
	gateway, balancer string
}

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

type linkDecl struct {
	a, b  string
	at    *yaml.Node
	mtu   int
	from  string // whose packets are impaired; empty for both
	sends topo.Impairment
}

type addressDecl struct {
	name, owner string
	via         []string
	at          *yaml.Node
}

// read reads the topology and makes the network of it.
func (t *topology) read(r *reader, n *yaml.Node) {
	before := len(r.mistakes.All)
	ip := ""
	there := r.mapping(n, "\"topology\"", []field{
		{"ip", "The version of IP: 4, 6 or both; 4 without it. With both, web is the IPv4 address of web, and web.ipv6 the other.", words(&ip, "4", "6", "both")},
		{"clients", "Short form: how many clients: client0, client1 and so on.", number(&t.short.clients)},
		{"gateway", "Short form: between clients and balancer: masquerade, routed or none.", words(&t.short.gateway, "masquerade", "routed", "none")},
		{"balancer", "Short form: what clients connect to, at vip:80: haproxy, nginx, ipvs, dnat, or none for a plain node.",
			words(&t.short.balancer, "haproxy", "nginx", "ipvs", "dnat", "none")},
		{"servers", "Short form: how many servers: server0, server1 and so on.", number(&t.short.servers)},
		{"sysctls", "Short form: sysctls by role: client, gateway, balancer, server.", value{"mapping of roles to sysctls", namesOf(namesOf(anyText)), func(r *reader, n *yaml.Node) {
			if n == nil {
				return
			}
			r.entries(n, "sysctls", func(role, all *yaml.Node) {
				for _, s := range r.readSysctls(all) {
					s.role = role.Value
					t.sysctls = append(t.sysctls, s)
				}
			})
		}}},
		{"nodes", "The nodes, by name.", value{"mapping", namesOf(mapping), t.readNodes}},
		{"links", "The links: client -- gateway.", value{"list of \"A -- B\", or of mappings", listOf(linkForm), t.readLinks}},
		{"addresses", "Addresses beside those of the nodes, by name.", value{"mapping", namesOf(mapping), t.readAddresses}},
	})
	if r.keys != nil {
		return
	}
	t.version = map[string]topo.IPVersion{"6": topo.IPv6, "both": topo.DualStack}[ip]
	switch usual := there["clients"] != nil; {
	case usual && there["nodes"] != nil:
		r.wrong(there["nodes"], "either clients, gateway, balancer and servers, or nodes and links")
	case !usual && there["nodes"] == nil:
		r.wrong(n, "which network? Give nodes and links, or clients, gateway, balancer and servers")
	case len(r.mistakes.All) > before:
	case usual:
		t.usual()
	default:
		t.graph()
	}
}

var sysctlName = regexp.MustCompile(`^net\.[a-zA-Z0-9_./-]+$`)

func (r *reader) readSysctls(n *yaml.Node) (all []sysctlDecl) {
	r.entries(n, "sysctls", func(key, val *yaml.Node) {
		if !sysctlName.MatchString(key.Value) {
			r.wrong(key, "%q: only sysctls below net. belong to a node", key.Value)
		}
		if t, ok := r.scalar(val, "a value"); ok {
			all = append(all, sysctlDecl{name: key.Value, value: t, at: place{key, val}})
		}
	})
	return all
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
	var h, x, v script.Program
	track, replies := "", ""
	fields := []field{
		{"count", "How many nodes like this there are: NAME0, NAME1 and so on. NAME stands for all of them.", number(&d.count)},
		{"sysctls", "net.some.name: value.", value{"mapping of names to values", namesOf(anyText), func(r *reader, n *yaml.Node) {
			if n != nil {
				d.sysctls = r.readSysctls(n)
			}
		}}},
		{"rules", "iptables rules: table, chain and rule. {NAME} is an address; -i and -o take neighbours.", value{"list of texts", listOf(anyText), func(r *reader, n *yaml.Node) {
			if n == nil {
				return
			}
			r.list(n, "rules", false, func(_ int, one *yaml.Node) {
				if text, ok := r.scalar(one, "text"); ok {
					d.rules = append(d.rules, ruleDecl{text, one})
				}
			})
		}}},
		{"snat", "Gives connections that leave for a neighbour another source.", value{"mapping", mapping, func(r *reader, n *yaml.Node) {
			s := snatDecl{at: n}
			r.mapping(n, "\"snat\"", []field{
				{"towards", "The neighbour.", text(&s.towards)},
				{"from", "Whose connections; without it, everybody's.", text(&s.from)},
				{"ports", "The range of ports.", ports(&s.first, &s.last)},
				{"random", "How a port is chosen: no, yes or fully.", named(&s.random, []string{"no", "yes", "fully"},
					[]topo.RandomMode{topo.KeepPort, topo.Random, topo.FullyRandom})},
			})
			d.snat = append(d.snat, s)
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
		}}},
		{"in-turn", "Whether dnat takes destinations in turn; without it, by chance.", truth(&d.inTurn)},
		{"haproxy", "HAProxy balances here; with both versions of IP, at the IPv4 address. The node's tcp_orphan_retries is 1 unless it is set.", value{"mapping", mapping, func(r *reader, n *yaml.Node) { r.program(n, script.HAProxy, &h, &d) }}},
		{"nginx", "nginx balances here; with both versions of IP, at the IPv4 address. The node's tcp_orphan_retries is 1 unless it is set.", value{"mapping", mapping, func(r *reader, n *yaml.Node) { r.program(n, script.Nginx, &x, &d) }}},
		{"ipvs", "The node's kernel balances here (module ip_vs, NAT); with both versions of IP, at the IPv4 address.", value{"mapping", mapping, func(r *reader, n *yaml.Node) { r.program(n, script.IPVS, &v, &d) }}},
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
			}}},
		{"replies", "Which way replies go: by-route, the-way-they-came or by-accept-mark.", words(&replies, "by-route", "the-way-they-came", "by-accept-mark")},
		{"track", "Which packets connection tracking sees: always, never or arriving.", words(&track, "always", "never", "arriving")},
	}
	r.mapping(n, "a node", fields)
	d.tracking = topo.Tracking(track)
	d.replies = map[string]topo.Replies{"the-way-they-came": topo.AsTheyCame, "by-accept-mark": topo.ByAcceptMark}[replies]
	t.nodes = append(t.nodes, d)
}

// program reads what a program that balances is to do.
func (r *reader) program(n *yaml.Node, kind script.ProgramKind, p *script.Program, d *nodeDecl) {
	p.Kind = kind
	mode := ""
	fields := []field{
		{"port", "The port that clients connect to; 80 without it.", port(&p.Port)},
		{"servers", "Where connections go.", endpoints(&p.Servers)},
	}
	if kind == script.HAProxy {
		fields = append(fields, []field{
			{"mode", "tcp or http; tcp without it.", words(&mode, "tcp", "http")},
			{"idle-close-on-response", "option idle-close-on-response.", truth(&p.IdleCloseOnResponse)},
			{"server-close", "option http-server-close.", truth(&p.ServerClose)},
			{"no-linger", "option nolinger towards clients.", truth(&p.NoLinger)},
			{"takeover", "How a reload passes the listening sockets on: rebind or master-worker; without it, by hand-over.",
				words(&p.Takeover, "rebind", "master-worker")},
			{"connect-timeout", "timeout connect.", duration(&p.ConnectTimeout)},
			{"client-timeout", "timeout client.", duration(&p.ClientTimeout)},
			{"server-timeout", "timeout server.", duration(&p.ServerTimeout)},
			{"keep-alive-timeout", "timeout http-keep-alive.", duration(&p.KeepAliveTimeout)},
		}...)
	}
	if kind == script.IPVS {
		fields = append(fields, field{"scheduler", "How a server is chosen: rr, without it; wrr, lc, wlc or sh.",
			words(&p.Scheduler, "rr", "wrr", "lc", "wlc", "sh")})
	}
	r.mapping(n, string(kind), fields)
	p.HTTP = mode == "http"
	d.program = p
}
