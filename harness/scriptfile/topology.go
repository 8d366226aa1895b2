package scriptfile

import (
	"net/netip"
	"strconv"
	"strings"

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
	six       bool
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
	a, b string
	at   *yaml.Node
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
		{"ip", "4 or 6: the version of IP; 4 without it.", words(&ip, "4", "6")},
		{"clients", "Short form: how many clients: client0, client1 and so on.", number(&t.short.clients)},
		{"gateway", "Short form: between clients and balancer: masquerade, routed or none.", words(&t.short.gateway, "masquerade", "routed", "none")},
		{"balancer", "Short form: what clients connect to, at vip:80: haproxy, nginx, ipvs, dnat, or none for a plain node.",
			words(&t.short.balancer, "haproxy", "nginx", "ipvs", "dnat", "none")},
		{"servers", "Short form: how many servers: server0, server1 and so on.", number(&t.short.servers)},
		{"sysctls", "Short form: sysctls by role: client, gateway, balancer, server.", value{"mapping of roles to sysctls", func(r *reader, n *yaml.Node) {
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
		{"nodes", "The nodes, by name.", value{"mapping", t.readNodes}},
		{"links", "The links: client -- gateway.", value{"list", t.readLinks}},
		{"addresses", "Addresses beside those of the nodes, by name.", value{"mapping", t.readAddresses}},
	})
	if r.keys != nil {
		return
	}
	t.six = ip == "6"
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

func (r *reader) readSysctls(n *yaml.Node) (all []sysctlDecl) {
	r.entries(n, "sysctls", func(key, val *yaml.Node) {
		if !strings.HasPrefix(key.Value, "net.") {
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
		{"sysctls", "net.some.name: value.", value{"mapping of names to values", func(r *reader, n *yaml.Node) {
			if n != nil {
				d.sysctls = r.readSysctls(n)
			}
		}}},
		{"rules", "iptables rules: table, chain and rule. {NAME} is an address; -i and -o take neighbours.", value{"list of texts", func(r *reader, n *yaml.Node) {
			if n == nil {
				return
			}
			r.list(n, "rules", false, func(_ int, one *yaml.Node) {
				if text, ok := r.scalar(one, "text"); ok {
					d.rules = append(d.rules, ruleDecl{text, one})
				}
			})
		}}},
		{"snat", "Gives connections that leave for a neighbour another source.", value{"mapping", func(r *reader, n *yaml.Node) {
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
		{"dnat", "Gives connections to an address other destinations: {\"vip:80\": [\"web:80\"]}.", value{"mapping of NAME:PORT to lists", func(r *reader, n *yaml.Node) {
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
		{"haproxy", "HAProxy balances here.", value{"mapping", func(r *reader, n *yaml.Node) { r.program(n, script.HAProxy, &h, &d) }}},
		{"nginx", "nginx balances here.", value{"mapping", func(r *reader, n *yaml.Node) { r.program(n, script.Nginx, &x, &d) }}},
		{"ipvs", "The node's kernel balances here (module ip_vs, NAT).", value{"mapping", func(r *reader, n *yaml.Node) { r.program(n, script.IPVS, &v, &d) }}},
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

func (t *topology) readLinks(r *reader, n *yaml.Node) {
	if n == nil {
		return
	}
	r.list(n, "links", false, func(_ int, one *yaml.Node) {
		text, ok := r.scalar(one, "A -- B")
		a, b, found := strings.Cut(text, "--")
		l := linkDecl{strings.TrimSpace(a), strings.TrimSpace(b), one}
		if ok && (!found || l.a == "" || l.b == "") {
			r.wrong(one, "%q: want two nodes, such as client -- gateway", text)
		}
		t.links = append(t.links, l)
	})
}

func (t *topology) readAddresses(r *reader, n *yaml.Node) {
	read := func(key, val *yaml.Node) {
		d := addressDecl{at: key}
		if key != nil {
			d.name = key.Value
		}
		r.mapping(val, "an address", []field{
			{"owner", "The node that has it.", text(&d.owner)},
			{"via", "The nodes over which it is routed, if nobody has it.", texts(&d.via)},
		})
		if key != nil && (d.owner == "") == (len(d.via) == 0) {
			r.wrong(key, "%q: want either its owner, or the nodes via which it is routed", d.name)
		}
		t.addresses = append(t.addresses, d)
	}
	if n == nil {
		r.below("NAME", place{}, func() { read(nil, nil) })
		return
	}
	r.entries(n, "addresses", func(key, val *yaml.Node) {
		if !namePattern.MatchString(key.Value) {
			r.wrong(key, "%q: the name of an address has letters, digits, - and _, and begins with a letter", key.Value)
		}
		read(key, val)
	})
}

// address is the i-th address below 10.B.0.0/16, or what stands for it in IPv6.
func (t *topology) address(b byte, i int) netip.Addr {
	if t.six {
		return netip.MustParseAddr("fd74:776c:6162:ffff::" + strconv.FormatInt(int64(b), 16) + ":" + strconv.FormatInt(int64(i), 16))
	}
	return netip.AddrFrom4([4]byte{10, b, byte(i >> 8), byte(i)})
}
