package lab

import (
	"errors"
	"fmt"
	"sync"

	"twlab/harness/node"
	"twlab/harness/ns"
)

// Lab is a topology made real. Its methods may be called from any goroutine.
// The caller of [Build] must Close it.
type Lab struct {
	topology Topology
	machines []*machine // in the order of Topology.members
	byName   map[string]*machine

	mu   sync.Mutex
	taps map[string]*link // by the outer node of the link
}

// machine is a node that is a namespace of the running kernel.
type machine struct {
	member
	space *ns.Namespace // nil until it is made
	links *links        // open while the lab is being built
	local *node.Local   // nil until space is made
}

// Topology is what the lab was built from.
func (l *Lab) Topology() Topology { return l.topology }

// Node finds a node by name.
func (l *Lab) Node(name string) (node.Node, error) {
	m, found := l.byName[name]
	if !found {
		return nil, fmt.Errorf("no node %q in this lab", name)
	}
	return m.local, nil
}

// Nodes lists the nodes of a role, in order; none for a role that the topology
// does not have.
func (l *Lab) Nodes(role Role) []node.Node {
	var nodes []node.Node
	for _, m := range l.machines {
		if m.Role == role {
			nodes = append(nodes, m.local)
		}
	}
	return nodes
}

// AddRules adds iptables rules to the running lab, as if the topology asked for
// them from now on. The next packet meets them.
func (l *Lab) AddRules(rules ...Rule) error {
	roles := map[string]Role{}
	for _, m := range l.machines {
		roles[m.Name] = m.Role
	}
	for _, r := range rules {
		if err := errors.Join(r.validate(roles)...); err != nil {
			return fmt.Errorf("add rules: %w", err)
		}
	}
	wall, err := newFirewall(rules)
	if err != nil {
		return err
	}
	for _, m := range l.machines {
		if err := m.space.Do(func() error { return wall.apply(m.member) }); err != nil {
			return fmt.Errorf("%s: %w", m.Name, err)
		}
	}
	return nil
}

// Watch counts the lab's namespaces in w, which can tell, after Close, when
// nothing holds the last of them any more and the kernel takes it down.
func (l *Lab) Watch(w *ns.Watch) error {
	for _, m := range l.machines {
		if err := w.Add(m.space); err != nil {
			return fmt.Errorf("%s: %w", m.Name, err)
		}
	}
	return nil
}

// Close takes everything down: captures, sockets, namespaces, and with them
// links, routes and rules. It tries all of it whatever fails, and joins the
// errors. A second Close does nothing.
func (l *Lab) Close() error {
	errs := []error{l.stopCaptures()}
	for _, m := range l.machines {
		errs = append(errs, m.close())
	}
	return errors.Join(errs...)
}

func (m *machine) close() error {
	var errs []error
	m.closeLinks()
	if m.local != nil {
		errs = append(errs, m.local.Close())
	}
	if m.space != nil {
		errs = append(errs, m.space.Close())
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("%s: %w", m.Name, err)
	}
	return nil
}

func (m *machine) closeLinks() {
	if m.links != nil {
		m.links.Close()
		m.links = nil
	}
}
