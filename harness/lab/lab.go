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

// Lab is a topology that has been built. Its methods may be called from any goroutine. The
// caller of [Build] must Close it.
type Lab struct {
	topology Topology // the zero value when it was built from a network
	ip       topo.IPVersion
	machines []*machine // in the order of the network's nodes
	byName   map[string]*machine
	programs map[string]topo.Running // those that balance, by their node

	mu       sync.Mutex
	taps     map[string]link // by the outer node of the link
	added    []Rule          // by AddRules
	drops    int             // how many Drop has made
	attached []io.Closer     // by CloseWith
}

// machine is a node: a namespace of the running kernel, or a guest of another kind.
type machine struct {
	topo.Planned
	space *ns.Namespace // nil for a guest, and until it is made
	links *links        // open while the lab is being built
	local *node.Local   // nil until space is made
	ready bool          // packets to all its IPv6 addresses arrive

	cards []Card // of a guest that has not been made yet
	own   Made   // of a guest; nil until it is made
}

func (m *machine) node() node.Node {
	if m.IsGuest() {
		return m.own
	}
	return m.local
}

// Topology returns the topology of the lab, with the rules added since Build.
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

// Nodes lists the nodes of a role, in order; none when the topology does not have the role.
func (l *Lab) Nodes(role Role) []node.Node {
	var nodes []node.Node
	for _, m := range l.machines {
		if m.Role == role {
			nodes = append(nodes, m.node())
		}
	}
	return nodes
}

// Client returns the i-th client. It panics when i is out of range.
func (l *Lab) Client(i int) node.Node { return l.Nodes(Client)[i] }

// Gateway returns the gateway; nil when the topology has none.
func (l *Lab) Gateway() node.Node { return l.only(Gateway) }

// Balancer returns the balancer.
func (l *Lab) Balancer() node.Node { return l.only(Balancer) }

// Servers returns the servers behind the balancer, in order.
func (l *Lab) Servers() []node.Node { return l.Nodes(Server) }

func (l *Lab) only(role Role) node.Node {
	for _, m := range l.machines {
		if m.Role == role {
			return m.node()
		}
	}
	return nil
}

// Watch adds the lab's namespaces to w. After Close, w reports when nothing holds the last
// of them any more and the kernel removes it.
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

// ErrGuest means that a node has no namespace here, because it has its own kernel.
var ErrGuest = errors.New("a guest, which has a kernel of its own")

// Inside returns a function that runs functions in the namespace of a node, for packages
// that attach something to the node. The error wraps [ErrGuest] when the node is a guest.
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

// Descriptor returns the number of the descriptor by which this process holds the namespace
// of a node: /proc/PID/fd/NUMBER is a way in until Close. The error wraps [ErrGuest] when the
// node is a guest.
func (l *Lab) Descriptor(name string) (number int, err error) {
	m, found := l.byName[name]
	switch {
	case !found:
		return 0, fmt.Errorf("no node %q in this lab", name)
	case m.IsGuest():
		return 0, fmt.Errorf("%s: %w", name, ErrGuest)
	}
	err = m.space.Use(func(fd int) error {
		number = fd
		return nil
	})
	return number, err
}

// CloseWith attaches something to the lab, which Close then closes right after the
// captures, in the order of attachment.
func (l *Lab) CloseWith(attached io.Closer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.attached = append(l.attached, attached)
}

// detach closes what is attached.
func (l *Lab) detach() error {
	l.mu.Lock()
	attached := l.attached
	l.attached = nil
	l.mu.Unlock() // what is closed may need the lab
	var errs []error
	for _, a := range attached {
		errs = append(errs, a.Close())
	}
	return errors.Join(errs...)
}

// Consoles returns what the guests have printed so far, by name of the node.
func (l *Lab) Consoles() map[string]string {
	printed := map[string]string{}
	for _, m := range l.machines {
		if m.own != nil {
			printed[m.Name] = m.own.Console()
		}
	}
	return printed
}

// Path returns the machines between a client and the balancer, for observe.AccountSYNs: the
// client, and the first node of the roles Gateway and Balancer. It names only machines at
// which [Lab.Capture] can record their end of a link, so no guest.
func (l *Lab) Path(client string) observe.Path {
	recorded := func(is func(*machine) bool) string {
		if i := slices.IndexFunc(l.machines, is); i >= 0 && !l.machines[i].IsGuest() {
			return l.machines[i].Name
		}
		return ""
	}
	has := func(role Role) func(*machine) bool { return func(m *machine) bool { return m.Role == role } }
	path := observe.Path{
		Client: recorded(func(m *machine) bool { return m.Name == client }), Server: recorded(has(Balancer)),
	}
	if gateway := recorded(has(Gateway)); gateway != "" {
		path.Gateways = []string{gateway}
	}
	return path
}

// Close removes everything: captures, what is attached, the balancer's program, sockets,
// guests, namespaces, and with them links, routes and rules. It continues after a failure
// and joins the errors. A second Close does nothing.
func (l *Lab) Close() error {
	errs := []error{l.stopCaptures(), l.detach()}
	// First, while the program can still send something to its peers.
	for _, name := range slices.Sorted(maps.Keys(l.programs)) {
		errs = append(errs, l.programs[name].Close())
	}
	l.programs = nil
	// Guests next, in parallel: each shuts down by itself.
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
