package lab

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"twlab/harness/microvm"
	"twlab/harness/node"
	"twlab/harness/ns"
	"twlab/harness/observe"
)

// Lab is a topology made real. Its methods may be called from any goroutine.
// The caller of [Build] must Close it.
type Lab struct {
	topology Topology
	machines []*machine // in the order of Topology.members
	byName   map[string]*machine
	program  Program // nil when the balancer is none

	mu         sync.Mutex
	taps       map[string]*link // by the outer node of the link
	emulations []io.Closer
}

// machine is a node: a namespace of the running kernel, or, when it is apart, a
// machine with another one.
type machine struct {
	member
	space *ns.Namespace // nil until it is made, or apart
	links *links        // open while the lab is being built
	local *node.Local   // nil until space is made

	cards []microvm.Card   // of a machine that is not booted yet
	own   *microvm.Machine // nil until it is booted, or not apart
}

func (m *machine) node() node.Node {
	if m.apart() {
		return m.own
	}
	return m.local
}

// Topology is what the lab was built from.
func (l *Lab) Topology() Topology { return l.topology }

// Node finds a node by name.
func (l *Lab) Node(name string) (node.Node, error) {
	m, found := l.byName[name]
	if !found {
		return nil, fmt.Errorf("no node %q in this lab", name)
	}
	return m.node(), nil
}

// Nodes lists the nodes of a role, in order; none for a role that the topology
// does not have.
func (l *Lab) Nodes(role Role) []node.Node {
	var nodes []node.Node
	for _, m := range l.machines {
		if m.Role == role {
			nodes = append(nodes, m.node())
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
		if m.apart() {
			if slices.ContainsFunc(rules, func(r Rule) bool { return r.on(m.Name, m.Role) }) {
				return fmt.Errorf("%s: no iptables rules on a node with a kernel of its own", m.Name)
			}
			continue
		}
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
		if m.apart() {
			continue
		}
		if err := w.Add(m.space); err != nil {
			return fmt.Errorf("%s: %w", m.Name, err)
		}
	}
	return nil
}

// Consoles is what the machines with kernels of their own have printed so far, by
// the name of the node.
func (l *Lab) Consoles() map[string]string {
	printed := map[string]string{}
	for _, m := range l.machines {
		if m.own != nil {
			printed[m.Name] = m.own.Console()
		}
	}
	return printed
}

// Path names the machines between a client and the balancer for
// observe.AccountSYNs: those whose ends of the links [Lab.Capture] can record, and
// so none with a kernel of its own.
func (l *Lab) Path(client string) observe.Path {
	recorded := func(name string) string {
		if m, found := l.byName[name]; found && !m.apart() {
			return name
		}
		return ""
	}
	return observe.Path{Client: recorded(client), Gateway: recorded(string(Gateway)), Server: recorded(string(Balancer))}
}

// Close takes everything down: captures, emulations, the balancer's program, sockets,
// machines, namespaces, and with them links, routes and rules. It tries all of it
// whatever fails, and joins the errors. A second Close does nothing.
func (l *Lab) Close() error {
	errs := []error{l.stopCaptures(), l.stopEmulations()}
	// Before anybody whom it could still have something to say to.
	if l.program != nil {
		errs = append(errs, l.program.Close())
	}
	// Machines first, side by side: each says good-bye.
	goodbyes := make([]error, len(l.machines))
	var leaving sync.WaitGroup
	for i, m := range l.machines {
		if m.own != nil {
			leaving.Go(func() { goodbyes[i] = m.own.Close() })
		}
	}
	leaving.Wait()
	errs = append(errs, goodbyes...)
	for _, m := range l.machines {
		errs = append(errs, m.close())
	}
	return errors.Join(errs...)
}

func (m *machine) close() error {
	var errs []error
	m.closeLinks()
	for _, c := range m.cards {
		errs = append(errs, c.Tap.Close())
	}
	m.cards = nil
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
		_ = m.links.Close() // nothing is written to it that could be lost
		m.links = nil
	}
}
