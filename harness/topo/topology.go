// Package topo describes a lab: nodes and their roles, the gateway, the balancer, sysctls
// and rules. It is plain data that can be checked on any system; package lab builds it on
// Linux.
package topo

import (
	"errors"
	"fmt"
	"maps"
	"slices"
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
	// IP says which addresses the nodes have; its zero value is IPv4.
	IP IPVersion
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
	errs = append(errs, t.Gateway.validate(t.Clients)...)
	errs = append(errs, t.Balancer.validate()...)
	for _, role := range slices.Sorted(maps.Keys(t.Kinds)) {
		if !slices.ContainsFunc(t.members(), func(m member) bool { return m.Role == role }) {
			bad(fmt.Errorf("kernels: no %s in this topology", role))
		}
	}
	if _, own := t.Kinds[t.Loopback]; own {
		bad(fmt.Errorf("%s: its loopback will be recorded, so it cannot be a guest", t.Loopback))
	}
	_, wrong := t.Network().check()
	errs = append(errs, wrong...)
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("topology: %w", err)
	}
	return nil
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
