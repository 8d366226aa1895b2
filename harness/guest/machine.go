//go:build linux

package guest

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"twlab/harness/http"
	"twlab/harness/internal/agent"
	"twlab/harness/internal/line"
	"twlab/harness/internal/vm"
	"twlab/harness/kernel"
	"twlab/harness/lab"
	"twlab/harness/node"
	"twlab/harness/observe"
	"twlab/harness/tcp"
	"twlab/harness/topo"
)

// Machine is a guest: a node with its own kernel. Make one with [Boot]; Close ends it. When
// the guest dies or does not respond, calls fail within seconds with a *DeadError that
// wraps line.ErrLost.
type Machine struct {
	id          topo.Identity
	release     kernel.Release // as its image says
	accelerator Accelerator
	boot        time.Duration
	initramfs   int64
	qemu        *vm.Process
	caller      *line.Caller

	closing sync.Once
	closed  error
}

var (
	_ node.Node  = (*Machine)(nil)
	_ lab.Shaper = (*Machine)(nil)
)

// Identity says who the node is.
func (m *Machine) Identity() topo.Identity { return m.id }

// Console returns what the guest has printed so far.
func (m *Machine) Console() string { return m.qemu.Console.String() }

// Accelerator returns how the guest's instructions are executed.
func (m *Machine) Accelerator() Accelerator { return m.accelerator }

// BootTime returns the time from the start of QEMU to the agent's first message.
func (m *Machine) BootTime() time.Duration { return m.boot }

// InitramfsSize returns the size in bytes of the initramfs that the guest unpacked at boot.
func (m *Machine) InitramfsSize() int64 { return m.initramfs }

// farewell is how long a guest has to report the errors of its listeners.
const farewell = 5 * time.Second

// Close closes the sockets of the guest, open connections by RST, and ends it. Its error
// has the errors of listeners, or says how the guest ended before. A second Close does
// nothing.
func (m *Machine) Close() error {
	m.closing.Do(func() {
		ctx, stop := context.WithTimeout(context.Background(), farewell)
		defer stop()
		m.closed = tell(ctx, m, agent.CloseAll, line.None{})
		m.kill()
	})
	return m.closed
}

// kill ends the guest immediately.
func (m *Machine) kill() {
	m.caller.Close()
	m.qemu.End()
}

// Release returns the release of the guest's kernel.
func (m *Machine) Release(ctx context.Context) (kernel.Release, error) {
	return ask(ctx, m, agent.Release, line.None{})
}

// Sysctl reads a sysctl of the guest.
func (m *Machine) Sysctl(ctx context.Context, name string) (string, error) {
	return ask(ctx, m, agent.Sysctl, name)
}

// SetSysctl sets a sysctl of the guest.
func (m *Machine) SetSysctl(ctx context.Context, name, value string) error {
	return tell(ctx, m, agent.SetSysctl, agent.SysctlValue{Name: name, Value: value})
}

// SetMTU sets the MTU of a network card of the guest, in bytes.
func (m *Machine) SetMTU(ctx context.Context, link string, mtu int) error {
	return tell(ctx, m, agent.SetMTU, agent.LinkMTU{Link: link, MTU: mtu})
}

// Impair sets what becomes of packets that leave the guest over a network card. The error wraps
// lab.ErrNoNetem when the guest's kernel lacks it.
func (m *Machine) Impair(ctx context.Context, link string, i topo.Impairment) error {
	return tell(ctx, m, agent.Impair, agent.Impairing{Link: link, Impairment: i})
}

// Counters reads the counters of the guest.
func (m *Machine) Counters(ctx context.Context) (kernel.Counters, error) {
	return ask(ctx, m, agent.Counters, line.None{})
}

// Occupancy counts the entries in the tables of the guest.
func (m *Machine) Occupancy(ctx context.Context) (observe.Occupancy, error) {
	return ask(ctx, m, agent.Occupancy, line.None{})
}

// Sockets reads the TCP sockets of the guest.
func (m *Machine) Sockets(ctx context.Context) (observe.Sockets, error) {
	return ask(ctx, m, agent.Sockets, line.None{})
}

// Flows reads the conntrack table of the guest.
func (m *Machine) Flows(ctx context.Context) ([]observe.Flow, error) {
	return ask(ctx, m, agent.Flows, line.None{})
}

// Rules reads the iptables rules of the guest and their hits.
func (m *Machine) Rules(ctx context.Context) ([]observe.RuleHits, error) {
	return ask(ctx, m, agent.Rules, line.None{})
}

// DeleteFlows deletes conntrack entries of the guest.
func (m *Machine) DeleteFlows(ctx context.Context, match observe.FlowMatch) (int, error) {
	return ask(ctx, m, agent.DeleteFlows, match)
}

// VirtualServices reads the virtual services of the guest. The error wraps ipvs.ErrMissing when
// its kernel has none.
func (m *Machine) VirtualServices(ctx context.Context) ([]topo.VirtualService, error) {
	return ask(ctx, m, agent.VirtualServices, line.None{})
}

// SetVirtualServices makes these the virtual services of the guest.
func (m *Machine) SetVirtualServices(ctx context.Context, all []topo.VirtualService) error {
	return tell(ctx, m, agent.SetVirtualServices, all)
}

// HasSymbol looks for a name in the symbol table of the guest's kernel.
func (m *Machine) HasSymbol(ctx context.Context, name string) (kernel.Fact, error) {
	return ask(ctx, m, agent.HasSymbol, name)
}

// Listen opens a listening socket on the guest.
func (m *Machine) Listen(ctx context.Context, spec tcp.ListenSpec) (node.Listening, error) {
	return ask(ctx, m, agent.Listen, spec.Explicit())
}

// Serve opens a listening socket on the guest that answers HTTP requests.
func (m *Machine) Serve(ctx context.Context, spec http.ListenSpec) (node.Listening, error) {
	spec.ListenSpec = spec.Explicit()
	return ask(ctx, m, agent.Serve, spec)
}

// TryListen opens a listening socket on the guest, and returns what the kernel says of it.
func (m *Machine) TryListen(ctx context.Context, spec tcp.ListenSpec) (tcp.ListenResult, error) {
	return ask(ctx, m, agent.TryListen, spec.Explicit())
}

// TryServe is Serve, and returns what the kernel says of the listening socket.
func (m *Machine) TryServe(ctx context.Context, spec http.ListenSpec) (tcp.ListenResult, error) {
	spec.ListenSpec = spec.Explicit()
	return ask(ctx, m, agent.TryServe, spec)
}

// Connect makes one attempt from the guest.
func (m *Machine) Connect(ctx context.Context, attempt tcp.Attempt) (tcp.Result, error) {
	outcomes, err := m.Attempt(ctx, []tcp.Attempt{attempt})
	if err != nil {
		return tcp.Result{}, err
	}
	return outcomes[0], nil
}

// Attempt makes the attempts from the guest.
func (m *Machine) Attempt(ctx context.Context, attempts []tcp.Attempt) ([]tcp.Result, error) {
	attempts = slices.Clone(attempts)
	for i := range attempts {
		attempts[i] = attempts[i].Explicit()
	}
	return ask(ctx, m, agent.Attempt, attempts)
}

// Exchange makes HTTP exchanges from the guest, at most atOnce at the same time.
func (m *Machine) Exchange(ctx context.Context, exchanges []http.Exchange, atOnce int) ([]http.Exchanged, error) {
	exchanges = slices.Clone(exchanges)
	for i := range exchanges {
		exchanges[i].Attempt = exchanges[i].Explicit()
	}
	return ask(ctx, m, agent.Exchange, agent.Exchanges{All: exchanges, AtOnce: atOnce})
}

// Served reports what an HTTP listener of the guest has done so far.
func (m *Machine) Served(ctx context.Context, listening tcp.Handle) (http.Served, error) {
	return ask(ctx, m, agent.Served, listening)
}

// Accept waits for a connection from peer on a listening socket of the guest.
func (m *Machine) Accept(ctx context.Context, listening tcp.Handle, peer netip.AddrPort) (tcp.Handle, error) {
	return ask(ctx, m, agent.Accept, agent.Acceptance{Listening: listening, Peer: peer})
}

// End ends a connection of the guest.
func (m *Machine) End(ctx context.Context, conn tcp.Handle, how tcp.Ending) error {
	return tell(ctx, m, agent.End, agent.Termination{Conn: conn, How: how})
}

// Clock reads the timestamp clock of one connection of the guest.
func (m *Machine) Clock(ctx context.Context, conn tcp.Handle) (tcp.ClockReading, error) {
	return ask(ctx, m, agent.Clock, conn)
}

// AdvanceClock advances the timestamp clock of one connection of the guest.
func (m *Machine) AdvanceClock(ctx context.Context, conn tcp.Handle, ticks int32) error {
	return tell(ctx, m, agent.Advance, agent.Advancement{Conn: conn, Ticks: ticks})
}

// RTO reads the retransmission timeout of one connection of the guest.
func (m *Machine) RTO(ctx context.Context, conn tcp.Handle) (time.Duration, error) {
	return ask(ctx, m, agent.RTO, conn)
}

func tell[In any](ctx context.Context, m *Machine, method line.Method[In, line.None], in In) error {
	_, err := ask(ctx, m, method, in)
	return err
}

// ask makes a call. Errors from the agent already name the node; errors of the line do not.
func ask[In, Out any](ctx context.Context, m *Machine, method line.Method[In, Out], in In) (Out, error) {
	out, err := method.Call(ctx, m.caller, in)
	var remote *line.RemoteError
	if err != nil && !errors.As(err, &remote) {
		err = fmt.Errorf("%s: %w", m.id.Name, err)
	}
	if errors.Is(err, line.ErrLost) {
		err = m.postMortem(err)
	}
	return out, err
}

// postMortem adds to an error how the guest ended.
func (m *Machine) postMortem(err error) error {
	return m.qemu.PostMortem(err, m.release, m.accelerator)
}
