//go:build linux

package lab

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"

	"twlab/harness/node"
	"twlab/harness/ns"
	"twlab/harness/observe"

	"twlab/harness/topo"
)

// Lab is a topology made real. Its methods may be called from any goroutine.
// The caller of [Build] must Close it.
type Lab struct {
	topology Topology // the zero value when it was built from a network
	plan     topo.Plan
	machines []*machine // in the order of the network's nodes
	byName   map[string]*machine
	programs map[string]topo.Running // those that balance, by their node

	mu       sync.Mutex
	taps     map[string]link // by the outer node of the link
	added    []Rule          // by AddRules
	attached []io.Closer     // by CloseWith
}

// machine is a node: a namespace of the running kernel, or, when it is a guest, of
// another kind.
type machine struct {
	topo.Planned
	space *ns.Namespace // nil until it is made, or a guest
	links *links        // open while the lab is being built
	local *node.Local   // nil until space is made

	cards []Card // of a guest that is not made yet
	own   Made   // nil until it is made, or no guest
}

func (m *machine) node() node.Node {
	if m.IsGuest() {
		return m.own
	}
	return m.local
}

// Topology is what the lab was built from, with the rules that were added since.
func (l *Lab) Topology() Topology {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.topology
	t.Rules = slices.Concat(t.Rules, l.added)
	return t
}

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

// Client is the i-th client. As with an index, i must be one of Topology.Clients.
func (l *Lab) Client(i int) node.Node { return l.Nodes(Client)[i] }

// Gateway is the gateway; nil when the topology has none.
func (l *Lab) Gateway() node.Node { return l.only(Gateway) }

// Balancer is the balancer.
func (l *Lab) Balancer() node.Node { return l.only(Balancer) }

// Servers are the servers behind the balancer, in order.
func (l *Lab) Servers() []node.Node { return l.Nodes(Server) }

func (l *Lab) only(role Role) node.Node {
	for _, m := range l.machines {
		if m.Role == role {
			return m.node()
		}
	}
	return nil
}

// AddRules adds iptables rules to the running lab, as if the topology asked for
// them from now on. The next packet meets them. When one of them cannot be added,
// none is: those that other nodes, or this one, had got already are taken away.
func (l *Lab) AddRules(rules ...Rule) error {
	roles := map[string]Role{}
	for _, m := range l.machines {
		roles[m.Name] = m.Role
	}
	for _, r := range rules {
		if err := r.Validate(roles); err != nil {
			return fmt.Errorf("add rules: %w", err)
		}
	}
	for _, m := range l.machines {
		if m.IsGuest() && len(of(rules, m.Identity)) > 0 {
			return fmt.Errorf("%s: no iptables rules on a guest", m.Name)
		}
	}
	wall := firewall{}
	if len(rules) > 0 {
		var err error
		if wall.iptables, err = newIPTables(); err != nil {
			return err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	appended := make([]int, len(l.machines))
	for i, m := range l.machines {
		its := of(rules, m.Identity)
		if len(its) == 0 {
			continue
		}
		err := m.space.Do(func() (err error) {
			appended[i], err = wall.apply(its)
			return err
		})
		if err != nil {
			return errors.Join(fmt.Errorf("%s: %w", m.Name, err), l.undo(wall, rules, appended))
		}
	}
	l.added = append(l.added, rules...)
	return nil
}

// undo takes away what each of the machines has got of the rules.
func (l *Lab) undo(wall firewall, rules []Rule, appended []int) error {
	var errs []error
	for i, m := range l.machines {
		if appended[i] == 0 {
			continue
		}
		if err := m.space.Do(func() error { return wall.undo(of(rules, m.Identity)[:appended[i]]) }); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", m.Name, err))
		}
	}
	return errors.Join(errs...)
}

// Watch counts the lab's namespaces in w, which can tell, after Close, when
// nothing holds the last of them any more and the kernel takes it down.
func (l *Lab) Watch(w *ns.Watch) error {
	for _, m := range l.machines {
		if m.IsGuest() {
			continue
		}
		if err := w.Add(m.space); err != nil {
			return fmt.Errorf("%s: %w", m.Name, err)
		}
	}
	return nil
}

// ErrGuest says that a node has no namespace here, because it has a kernel of
// its own.
var ErrGuest = errors.New("a guest, which has a kernel of its own")

// Inside is what runs functions in the namespace of a node, for what attaches itself to
// it. The error wraps [ErrGuest] when it has none here.
func (l *Lab) Inside(name string) (func(func() error) error, error) {
	m, found := l.byName[name]
	switch {
	case !found:
		return nil, fmt.Errorf("no node %q in this lab", name)
	case m.IsGuest():
		return nil, fmt.Errorf("%s: %w", name, ErrGuest)
	}
	return m.space.Do, nil
}

// CloseWith has Close close what is attached to the lab, before anything else but the
// captures, in the order in which it was attached.
func (l *Lab) CloseWith(attached io.Closer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.attached = append(l.attached, attached)
}

// detach closes what is attached.
func (l *Lab) detach() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var errs []error
	for _, a := range l.attached {
		errs = append(errs, a.Close())
	}
	l.attached = nil
	return errors.Join(errs...)
}

// Consoles is what the guests have printed so far, by
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
// so no guest.
func (l *Lab) Path(client string) observe.Path {
	recorded := func(name string) string {
		if m, found := l.byName[name]; found && !m.IsGuest() {
			return name
		}
		return ""
	}
	return observe.Path{Client: recorded(client), Gateway: recorded(string(Gateway)), Server: recorded(string(Balancer))}
}

// Close takes everything down: captures, what is attached, the balancer's program, sockets,
// machines, namespaces, and with them links, routes and rules. It tries all of it
// whatever fails, and joins the errors. A second Close does nothing.
func (l *Lab) Close() error {
	errs := []error{l.stopCaptures(), l.detach()}
	// Before anybody whom it could still have something to say to.
	for _, name := range slices.Sorted(maps.Keys(l.programs)) {
		errs = append(errs, l.programs[name].Close())
	}
	l.programs = nil
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
