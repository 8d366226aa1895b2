// Package lab turns a Topology, a plain description of machines, links, NAT and
// sysctls, into a Lab: the same thing made of network namespaces, veth pairs and
// iptables rules on the running kernel. A lab owns all that it made and takes it
// down again.
//
//	client0 ─┐
//	client1 ─┼─ gateway ── balancer ─┬─ server0
//	   ...  ─┘                       └─ server1
//
// Without a gateway the clients hang off the balancer. Every link is a veth pair
// of its own, both ends born inside their namespaces; the end at the outer node
// is called eth0, the end at the inner one (gateway or balancer) is named after
// the outer node. Routes are host routes and neighbours are static, so a lab has
// no ARP, and as many clients as there are addresses (a Linux bridge ends at
// 1023 ports, the kernel's neighbour table at 1024 learnt entries for the whole
// machine).
//
// A node may have a kernel of its own ([Topology].Kernels). It then is a machine of
// package guest, and the end of its link at the neighbour is a tap device.
package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"twlab/harness/guest"
	"twlab/harness/kernel"
	"twlab/harness/node"
)

// Topology describes the lab wanted. It needs at least one client; everything
// else may be left out.
type Topology struct {
	// Clients is the number of clients, named client0, client1, ...
	Clients int
	// Names renames the first clients, in order, where a story reads better
	// with names of its own.
	Names []string
	// Gateway stands between the clients and the balancer; its zero value is
	// none.
	Gateway GatewaySpec
	// Balancer is what clients connect to; its zero value is an end point.
	Balancer BalancerSpec
	// Servers is the number of servers behind the balancer.
	Servers int
	// Sysctls are the differences from [Baseline]; later ones win. One that the
	// kernel has for the whole machine only (kernel.ErrSysctlGlobal) may be asked for
	// when the machine has that value.
	Sysctls Settings
	// NoBaseline leaves every node as the kernel makes a new namespace, but for
	// Sysctls: what is read there is the kernel's own default.
	NoBaseline bool
	// Rules are iptables rules in addition to those that the gateway and the
	// balancer need.
	Rules []Rule
	// Loopback is the role whose loopback will be recorded, if any: its nodes need the
	// running kernel (see [Lab.Capture]).
	Loopback Role
	// Kernels gives all nodes of a role a kernel of their own, each in a
	// machine of its own (package guest). Of two nodes with a link between
	// them, one at least has the running kernel; so has a node with rules.
	Kernels map[Role]kernel.Image
	// Machines says how those machines are run; without Kernels it is not used.
	Machines guest.Host
	// BootGap gives clients with a kernel of their own different ages: each is
	// booted that long after the one before it is up, so that its clocks are
	// behind by that much and more. Zero boots all machines side by side. Clients
	// on the running kernel are namespaces and have one clock, whatever it says.
	BootGap time.Duration
}

// Role and the roles are those of package node.
type Role = node.Role

// The roles.
const (
	Client   = node.Client
	Gateway  = node.Gateway
	Balancer = node.Balancer
	Server   = node.Server
)

// GatewayKind is what a gateway does with packets.
type GatewayKind string

// The kinds. The zero value is no gateway at all.
const (
	NoGateway GatewayKind = ""
	// Routed forwards and changes nothing.
	Routed GatewayKind = "routed"
	// Masquerade gives all clients the gateway's own address (iptables
	// MASQUERADE, nf_nat_masquerade_ipv4).
	Masquerade GatewayKind = "masquerade"
)

// RandomMode is how MASQUERADE chooses a source port (nf_nat_l4proto_unique_tuple).
type RandomMode string

// The modes. The zero value keeps the client's port when it is free.
const (
	KeepPort    RandomMode = ""
	Random      RandomMode = "--random"
	FullyRandom RandomMode = "--random-fully"
)

// GatewaySpec describes the gateway.
type GatewaySpec struct {
	Kind GatewayKind
	// Ports, for Masquerade, is the range of source ports (--to-ports); its
	// zero value leaves the choice to the kernel.
	Ports PortRange
	// Random, for Masquerade, is how the port is chosen.
	Random RandomMode
	// PerClient, for Masquerade with Ports, gives each client a block of so
	// many of them that no other client gets, the first block to client0 and so
	// on, as a carrier's NAT does (RFC 7422). It is one rule for each client.
	PerClient int
}

// PortRange is a range of ports, both ends included.
type PortRange struct{ First, Last uint16 }

// Size is the number of ports; the zero value has none.
func (p PortRange) Size() int {
	if p == (PortRange{}) {
		return 0
	}
	return int(p.Last) - int(p.First) + 1
}

// block is the i-th block of so many ports.
func (p PortRange) block(i, size int) PortRange {
	first := int(p.First) + i*size
	return PortRange{uint16(first), uint16(first + size - 1)}
}

// String is "1024-65535", as iptables writes it.
func (p PortRange) String() string { return fmt.Sprintf("%d-%d", p.First, p.Last) }

// Rule is one iptables rule on one node, or on every node of a role.
type Rule struct {
	Role Role   // every node of this role, or
	Node string // the node of this name
	// Table and Chain are iptables' ("raw", "PREROUTING").
	Table, Chain string
	// Spec is the rest of the rule, as after `iptables -A CHAIN`, words
	// separated by spaces. A gateway's interfaces are named after the nodes at
	// the other end; everywhere else the link towards the gateway or the
	// balancer is eth0.
	Spec string
}

// Setting is one sysctl on one node, or on every node of a role.
type Setting struct {
	Role  Role
	Node  string
	Name  string
	Value string
	// IfPresent passes the setting over on a kernel that does not have the
	// sysctl; otherwise that is an error.
	IfPresent bool
}

// Settings is a list of sysctls, made by [On] and [OnNode].
type Settings []Setting

// On sets sysctls, each given as "name=value", on every node of a role.
func On(role Role, assignments ...string) Settings {
	return Settings(nil).On(role, assignments...)
}

// OnNode sets sysctls, each given as "name=value", on the node of that name.
func OnNode(name string, assignments ...string) Settings {
	return Settings(nil).OnNode(name, assignments...)
}

// On adds sysctls for every node of a role.
func (s Settings) On(role Role, assignments ...string) Settings {
	return s.add(Setting{Role: role}, assignments)
}

// OnNode adds sysctls for the node of that name.
func (s Settings) OnNode(name string, assignments ...string) Settings {
	return s.add(Setting{Node: name}, assignments)
}

func (s Settings) add(target Setting, assignments []string) Settings {
	for _, a := range assignments {
		target.Name, target.Value, _ = strings.Cut(a, "=")
		s = append(s, target)
	}
	return s
}

// The addresses of a lab. Every link has host addresses, so the prefixes only
// say how many nodes there is room for.
var (
	clientNet = netip.MustParsePrefix("10.10.0.0/16")
	serverNet = netip.MustParsePrefix("10.30.0.0/16")

	gatewayOutside = netip.MustParseAddr("10.20.0.1")
	balancerAddr   = netip.MustParseAddr("10.20.0.2")
)

// capacity is how many nodes fit into a prefix: all addresses but the network's,
// the broadcast's and the inner node's.
func capacity(p netip.Prefix) int { return 1<<(32-p.Bits()) - 3 }

// leafName is what may name a node: it names an interface at the inner node too
// (IFNAMSIZ is 16, dev_valid_name).
var leafName = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,14}$`)

// Validate says what is wrong with the description, all of it at once. It needs
// no privileges and looks at nothing but t.
func (t Topology) Validate() error {
	var errs []error
	bad := func(err error) { errs = append(errs, err) }

	if t.Clients < 1 {
		bad(fmt.Errorf("%d clients: want at least 1", t.Clients))
	}
	if most := capacity(clientNet); t.Clients > most {
		bad(fmt.Errorf("%d clients: more than the %d addresses of %v", t.Clients, most, clientNet))
	}
	if most := capacity(serverNet); t.Servers < 0 || t.Servers > most {
		bad(fmt.Errorf("%d servers: want 0 to %d (%v)", t.Servers, most, serverNet))
	}
	if len(t.Names) > max(t.Clients, 0) {
		bad(fmt.Errorf("%d names for %d clients", len(t.Names), t.Clients))
	}
	for _, name := range t.Names {
		if !leafName.MatchString(name) {
			bad(fmt.Errorf("client name %q: want 1 to 15 of a-z, 0-9, - and _, a letter first", name))
		}
	}
	errs = append(errs, t.Gateway.validate(t.Clients)...)
	errs = append(errs, t.Balancer.validate(t.behind())...)
	if t.BootGap < 0 {
		bad(fmt.Errorf("boot gap %v: want 0 or more", t.BootGap))
	}

	roles := map[string]Role{}
	for _, n := range t.members() {
		if _, taken := roles[n.Name]; taken {
			bad(fmt.Errorf("two nodes named %q", n.Name))
		}
		roles[n.Name] = n.Role
	}
	for _, s := range t.Sysctls {
		if err := target(s.Role, s.Node, roles); err != nil {
			bad(fmt.Errorf("sysctl %s: %w", s.Name, err))
		}
		if s.Name == "" || s.Value == "" || strings.ContainsAny(s.Name, "/ ") {
			bad(fmt.Errorf("sysctl %q with value %q: want net.some.name=value", s.Name, s.Value))
		}
	}
	for _, r := range t.Rules {
		errs = append(errs, r.validate(roles)...)
	}
	errs = append(errs, t.validateKernels(roles)...)
	if len(errs) > 0 {
		return fmt.Errorf("topology: %w", errors.Join(errs...))
	}
	return nil
}

// validateKernels says which kernels cannot be where they are wanted.
func (t Topology) validateKernels(roles map[string]Role) (errs []error) {
	bad := func(err error) { errs = append(errs, fmt.Errorf("kernels: %w", err)) }
	for _, role := range slices.Sorted(maps.Keys(t.Kernels)) {
		if err := target(role, "", roles); err != nil {
			bad(err)
		}
		if k := t.Kernels[role]; k.Path == "" {
			bad(fmt.Errorf("%s: no kernel image; leave the role out for the running kernel", role))
		}
	}
	if len(t.Kernels) == 0 {
		return errs
	}
	if t.Machines.Agent == "" {
		bad(errors.New("no guest agent: build hack/cmd/agent and give its path in Machines.Agent"))
	}
	apart := map[string]bool{}
	cards := map[string]int{}
	for _, m := range t.members() {
		apart[m.Name] = m.apart()
		if m.inner == "" {
			continue
		}
		if m.apart() && apart[m.inner] {
			bad(fmt.Errorf("%s and %s both have a kernel of their own and a link in between: put a gateway there", m.Name, m.inner))
		}
		cards[m.inner]++
		cards[m.Name]++
	}
	for _, name := range slices.Sorted(maps.Keys(cards)) {
		if n := cards[name]; apart[name] && n > guest.MostCards {
			bad(fmt.Errorf("%s has %d links: a kernel of its own has at most %d", name, n, guest.MostCards))
		}
	}
	if _, own := t.Kernels[t.Loopback]; own {
		bad(fmt.Errorf("%s: its loopback is to be recorded, which nobody else sees when it has a kernel of its own", t.Loopback))
	}
	if t.Balancer.Kind.runs() && apart[string(Balancer)] {
		bad(fmt.Errorf("%s: no %s there: a kernel of its own runs no programs", Balancer, t.Balancer.Kind))
	}
	for _, r := range t.rules() {
		for name, role := range roles {
			if apart[name] && r.on(name, role) {
				bad(fmt.Errorf("%s: no iptables rules there: %q", name, r.Spec))
			}
		}
	}
	return errs
}

// on tells whether the rule is for a node.
func (r Rule) on(name string, role Role) bool { return r.Role == role || r.Node == name }

func (r Rule) validate(roles map[string]Role) (errs []error) {
	if err := target(r.Role, r.Node, roles); err != nil {
		errs = append(errs, fmt.Errorf("rule %q: %w", r.Spec, err))
	}
	if r.Table == "" || r.Chain == "" || strings.TrimSpace(r.Spec) == "" {
		errs = append(errs, fmt.Errorf("rule %q of chain %q in table %q: want all three", r.Spec, r.Chain, r.Table))
	}
	return errs
}

func (g GatewaySpec) validate(clients int) (errs []error) {
	bad := func(err error) { errs = append(errs, fmt.Errorf("gateway: %w", err)) }
	switch g.Kind {
	case NoGateway, Routed, Masquerade:
	default:
		bad(fmt.Errorf("unknown kind %q: want %q, %q or none", g.Kind, Routed, Masquerade))
	}
	switch g.Random {
	case KeepPort, Random, FullyRandom:
	default:
		bad(fmt.Errorf("unknown random mode %q: want %q, %q or none", g.Random, Random, FullyRandom))
	}
	if g.Kind != Masquerade && (g.Ports != PortRange{} || g.Random != KeepPort || g.PerClient != 0) {
		bad(fmt.Errorf("ports and random mode need kind %q", Masquerade))
	}
	switch p := g.Ports; {
	case p == PortRange{}:
	case p.First == 0:
		bad(fmt.Errorf("port range %v: ports begin at 1", p))
	case p.First > p.Last:
		bad(fmt.Errorf("port range %v is reversed: the first port is the smaller one", p))
	}
	switch n := g.PerClient; {
	case n == 0:
	case n < 0:
		bad(fmt.Errorf("%d ports for each client: want at least 1, or 0 to share them all", n))
	case g.Ports == PortRange{}:
		bad(fmt.Errorf("%d ports for each client: out of which range? Give Ports", n))
	case g.Ports.Size() < n*clients:
		bad(fmt.Errorf("%d ports for each of %d clients: the range %v has only %d", n, clients, g.Ports, g.Ports.Size()))
	}
	return errs
}

// target checks that a setting or rule names exactly one existing target.
func target(role Role, name string, roles map[string]Role) error {
	switch {
	case (role == "") == (name == ""):
		return errors.New("want either a role or a node")
	case name != "":
		if _, found := roles[name]; !found {
			return fmt.Errorf("no node %q in this topology", name)
		}
		return nil
	}
	for _, r := range roles {
		if r == role {
			return nil
		}
	}
	return fmt.Errorf("no %s in this topology", role)
}

// member is a node of the lab to be, and where its own link ends.
type member struct {
	node.Identity
	inner     string     // name of the inner node; "" for a node without a link of its own
	innerAddr netip.Addr // the inner node's address on that link
	kernel    kernel.Image
}

// apart tells whether the node has a kernel of its own.
func (m member) apart() bool { return m.kernel != kernel.Image{} }

// members lists who is in the lab, each after the node that its link ends at.
func (t Topology) members() []member {
	balancer := member{Identity: node.Identity{Name: string(Balancer), Role: Balancer, Addr: balancerAddr}}
	all := []member{balancer}
	front := string(Balancer)
	if t.Gateway.Kind != NoGateway {
		front = string(Gateway)
		balancer.inner, balancer.innerAddr = front, gatewayOutside
		gateway := node.Identity{Name: front, Role: Gateway, Addr: gatewayOutside}
		all = []member{{Identity: gateway}, balancer}
	}
	for i := range min(t.Clients, capacity(clientNet)) {
		name := fmt.Sprintf("client%d", i)
		if i < len(t.Names) {
			name = t.Names[i]
		}
		id := node.Identity{Name: name, Role: Client, Addr: outer(clientNet, i)}
		all = append(all, member{Identity: id, inner: front, innerAddr: inner(clientNet)})
	}
	for i := range min(t.Servers, capacity(serverNet)) {
		id := node.Identity{Name: fmt.Sprintf("server%d", i), Role: Server, Addr: outer(serverNet, i)}
		all = append(all, member{Identity: id, inner: string(Balancer), innerAddr: inner(serverNet)})
	}
	for i := range all {
		all[i].kernel = t.Kernels[all[i].Role]
	}
	return all
}

// inner is the inner node's address on a prefix, outer the i-th outer node's.
func inner(p netip.Prefix) netip.Addr { return p.Addr().Next() }

func outer(p netip.Prefix, i int) netip.Addr {
	base := p.Addr().As4()
	binary.BigEndian.PutUint32(base[:], binary.BigEndian.Uint32(base[:])+2+uint32(i))
	return netip.AddrFrom4(base)
}
