// Package topo describes a lab: nodes and their roles, the gateway, the balancer, sysctls
// and rules. It is plain data that can be checked on any system; package lab builds it on
// Linux.
package topo

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Topology describes a lab. It needs at least one client; everything else may be left out.
type Topology struct {
	// Clients is the number of clients, named client0, client1, ...
	Clients int
	// Names gives the first clients, in order, names of their own, where a spec reads
	// better with them.
	Names []string
	// Gateway is between the clients and the balancer; its zero value means none.
	Gateway GatewaySpec
	// Balancer is what clients connect to; its zero value is an endpoint.
	Balancer BalancerSpec
	// Servers is the number of servers behind the balancer.
	Servers int
	// Sysctls are the differences from [Baseline]; later ones override earlier ones. A
	// sysctl that the kernel has only for the whole machine (kernel.ErrSysctlGlobal) may be
	// listed when the machine has that value.
	Sysctls Settings
	// NoBaseline leaves every node as the kernel creates a new namespace, except for
	// Sysctls: the sysctls of a node are then the kernel's own defaults.
	NoBaseline bool
	// Rules are iptables rules in addition to those that the gateway and the
	// balancer need.
	Rules []Rule
	// Loopback is the role whose loopback will be recorded, if any: its nodes must be on
	// the running kernel (see lab.Lab.Capture).
	Loopback Role
	// Kinds makes all nodes of a role something else than namespaces of the running kernel,
	// such as guests with another kernel (package guest). Of two nodes with a link between
	// them, at least one must be a namespace; a node with rules must be one, too.
	Kinds map[Role]NodeKind
	// BootGap gives clients that are guests different ages: each boots this long after the
	// previous one is up, so that its clocks are behind by at least that much. Zero boots
	// all guests at the same time. Clients on the running kernel share one clock, whatever
	// BootGap says.
	BootGap time.Duration
}

// Validate returns everything that is wrong with the description. It needs no privileges
// and reads only t.
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
	errs = append(errs, t.Balancer.validate(t.Place())...)
	if t.BootGap < 0 {
		bad(fmt.Errorf("boot gap %v: want 0 or more", t.BootGap))
	}

	roles := map[string]Role{}
	for _, n := range t.Members() {
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
	errs = append(errs, t.validateKinds(roles)...)
	if len(errs) > 0 {
		return fmt.Errorf("topology: %w", errors.Join(errs...))
	}
	return nil
}

// validateKinds returns which kinds are not possible for their roles.
func (t Topology) validateKinds(roles map[string]Role) (errs []error) {
	bad := func(err error) { errs = append(errs, fmt.Errorf("kernels: %w", err)) }
	for _, role := range slices.Sorted(maps.Keys(t.Kinds)) {
		if err := target(role, "", roles); err != nil {
			bad(err)
		}
		if err := t.Kinds[role].Validate(); err != nil {
			bad(fmt.Errorf("%s: %w", role, err))
		}
	}
	if len(t.Kinds) == 0 {
		return errs
	}
	guests := map[string]NodeKind{}
	cards := map[string]int{}
	for _, m := range t.Members() {
		if m.IsGuest() {
			guests[m.Name] = m.Kind
		}
		if m.Inner == "" {
			continue
		}
		if m.IsGuest() && guests[m.Inner] != nil {
			bad(fmt.Errorf("%s and %s are both guests and share a link: put a gateway between them", m.Name, m.Inner))
		}
		cards[m.Inner]++
		cards[m.Name]++
	}
	for _, name := range slices.Sorted(maps.Keys(cards)) {
		if kind := guests[name]; kind != nil && cards[name] > kind.MostLinks() {
			bad(fmt.Errorf("%s has %d links: a guest has at most %d", name, cards[name], kind.MostLinks()))
		}
	}
	if _, own := t.Kinds[t.Loopback]; own {
		bad(fmt.Errorf("%s: its loopback will be recorded, so it cannot be a guest", t.Loopback))
	}
	if p := t.Balancer.Program; p != nil && guests[string(Balancer)] != nil {
		bad(fmt.Errorf("%s: a guest runs no programs, so %s cannot run there", Balancer, p.Name()))
	}
	for _, r := range t.AllRules() {
		for name, role := range roles {
			if guests[name] != nil && r.On(name, role) {
				bad(fmt.Errorf("%s: no iptables rules there: %q", name, r.Spec))
			}
		}
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
	there := slices.Compact(slices.Sorted(maps.Values(roles)))
	if slices.Contains(there, role) {
		return nil
	}
	return fmt.Errorf("no %s in this topology; it has %v", role, there)
}
