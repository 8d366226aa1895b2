package scriptfile

import (
	"regexp"
	"time"

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
	ip        string // as the file says it
	version   topo.IPVersion
	sysctls   []sysctlDecl
	defaults  bool // of the kernel
	bootGap   time.Duration
}

// shortForm is the usual shape in four words.
type shortForm struct {
	clients, servers  int
	gateway, balancer string
	first, last       uint16 // the ports of masquerade
	each              int    // how many of them are a client's own; 0 if all share them
	random            topo.RandomMode
	haproxy           script.Program // its options
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
	there := r.mapping(n, "\"topology\"", t.fields())
	if r.keys != nil {
		return
	}
	t.version = map[string]topo.IPVersion{"6": topo.IPv6, "both": topo.DualStack}[t.ip]
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

func (t *topology) fields() []field {
	return []field{
		{"ip", "The version of IP: 4, 6 or both; 4 without it. With both, web is the IPv4 address of web, and web.ipv6 the other.", words(&t.ip, "4", "6", "both")},
		{"kernel-defaults", "Whether sysctls that the file does not set are those of the kernel; without it some are the same on every kernel.", truth(&t.defaults)},
		{"boot-gap", "How long after the one before each client that is a guest boots, so that they have different uptimes.", duration(&t.bootGap)},
		{"clients", "Short form: how many clients: client0, client1 and so on.", number(&t.short.clients)},
		{"gateway", "Short form: between clients and balancer: masquerade, routed or none.", words(&t.short.gateway, "masquerade", "routed", "none")},
		{"ports", "Short form: the range of ports of masquerade.", ports(&t.short.first, &t.short.last)},
		{"ports-each", "Short form: how many of these ports each client has for itself; without it, all share them.", number(&t.short.each)},
		{"random", "Short form: how masquerade chooses a port: no, yes or fully.", randomly(&t.short.random)},
		{"balancer", "Short form: what clients connect to, at vip:80: haproxy, nginx, ipvs, dnat, or none for a plain node.",
			words(&t.short.balancer, "haproxy", "nginx", "ipvs", "dnat", "none")},
		{"haproxy", "Short form: options of haproxy.", group("haproxy", haproxyFields(&t.short.haproxy))},
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
		}, t.roleNodes}},
		{"nodes", "The nodes, by name.", value{"mapping", namesOf(mapping), t.readNodes, t.nodeNodes}},
		{"links", "The links: client -- gateway.", value{"list of \"A -- B\", or of mappings", listOf(linkForm), t.readLinks, func() *yaml.Node {
			return listNode(t.links, linkDecl.node)
		}}},
		{"addresses", "Addresses beside those of the nodes, by name.", value{"mapping", namesOf(mapping), t.readAddresses, func() *yaml.Node {
			return namedNodes(t.addresses, func(d addressDecl) (string, *yaml.Node) { return d.name, mappingNode(d.fields()) })
		}}},
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
