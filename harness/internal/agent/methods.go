//go:build linux

package agent

import (
	"context"
	"errors"
	"net/netip"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"

	"twlab/harness/http"
	"twlab/harness/internal/line"
	"twlab/harness/internal/shape"
	"twlab/harness/kernel"
	"twlab/harness/node"
	"twlab/harness/observe"
	"twlab/harness/tcp"
	"twlab/harness/topo"
)

// The methods of an agent: SetUp first, then those of node.Node, and CloseAll last.
const (
	SetUp              line.Method[Setup, line.None]                  = "set up"
	CloseAll           line.Method[line.None, line.None]              = "close all sockets"
	Release            line.Method[line.None, kernel.Release]         = "release"
	Sysctl             line.Method[string, string]                    = "read sysctl"
	SetSysctl          line.Method[SysctlValue, line.None]            = "set sysctl"
	Counters           line.Method[line.None, kernel.Counters]        = "counters"
	Occupancy          line.Method[line.None, observe.Occupancy]      = "occupancy"
	Sockets            line.Method[line.None, observe.Sockets]        = "sockets"
	Flows              line.Method[line.None, []observe.Flow]         = "flows"
	Rules              line.Method[line.None, []observe.RuleHits]     = "rules"
	DeleteFlows        line.Method[observe.FlowMatch, int]            = "delete flows"
	VirtualServices    line.Method[line.None, []topo.VirtualService]  = "virtual services"
	SetVirtualServices line.Method[[]topo.VirtualService, line.None]  = "set virtual services"
	HasSymbol          line.Method[string, kernel.Fact]               = "has symbol"
	Listen             line.Method[tcp.ListenSpec, node.Listening]    = "listen"
	Serve              line.Method[http.ListenSpec, node.Listening]   = "serve"
	TryListen          line.Method[tcp.ListenSpec, tcp.ListenResult]  = "try to listen"
	TryServe           line.Method[http.ListenSpec, tcp.ListenResult] = "try to serve"
	Attempt            line.Method[[]tcp.Attempt, []tcp.Result]       = "attempt"
	Exchange           line.Method[Exchanges, []http.Exchanged]       = "exchange"
	Served             line.Method[tcp.Handle, http.Served]           = "served"
	Accept             line.Method[Acceptance, tcp.Handle]            = "accept"
	End                line.Method[Termination, line.None]            = "end"
	Send               line.Method[Transmission, int]                 = "send"
	Receive            line.Method[tcp.Handle, tcp.Received]          = "receive"
	TrySend            line.Method[Transmission, tcp.Sent]            = "try to send"
	ReceiveUpTo        line.Method[Reception, tcp.Received]           = "receive up to a limit"
	HalfClose          line.Method[tcp.Handle, syscall.Errno]         = "half-close"
	SocketError        line.Method[tcp.Handle, syscall.Errno]         = "read the pending error"
	Clock              line.Method[tcp.Handle, tcp.ClockReading]      = "read clock"
	SetMTU             line.Method[LinkMTU, line.None]                = "set MTU"
	Impair             line.Method[Impairing, line.None]              = "impair"
	Advance            line.Method[Advancement, line.None]            = "advance clock"
	RTO                line.Method[tcp.Handle, time.Duration]         = "read retransmission timeout"
)

// Setup describes the node that a guest becomes after its boot.
type Setup struct {
	Node topo.Identity
	// Owner is what the handles of its sockets carry.
	Owner tcp.Owner
	// Own are the addresses on lo, Links the links of the guest, Routes its routes in
	// addition to those to its neighbours.
	Own    []netip.Addr
	Links  []Link
	Routes []topo.Hop
	// Modules are the parameters of modules, by name ("nf_conntrack": "hashsize=1024").
	Modules map[string]string
}

// Link is one network card of the guest. The far end is its only neighbour.
type Link struct {
	Name             string // the name of the card: "eth0"
	Hardware         string // its address, as net.HardwareAddr prints it
	Pairs            []topo.Pair
	PeerHardwareAddr string
}

// ErrNoCard is wrapped by the error of [SetUp] when the kernel shows no network card with
// the hardware address of a link, because it has no driver for it.
var ErrNoCard = errors.New("no network card with this address")

// The arguments of those methods of node.Node that have more than one parameter.
type (
	// SysctlValue is a sysctl and the value to set.
	SysctlValue struct{ Name, Value string }
	// LinkMTU is a link of the guest and its MTU.
	LinkMTU struct {
		Link string
		MTU  int
	}
	// Impairing is a link of the guest and what becomes of packets that leave over it.
	Impairing struct {
		Link       string
		Impairment topo.Impairment
	}
	// Exchanges are the arguments of Exchange.
	Exchanges struct {
		All    []http.Exchange
		AtOnce int
	}
	// Acceptance has the arguments of Accept.
	Acceptance struct {
		Listening tcp.Handle
		Peer      netip.AddrPort
	}
	// Termination has the arguments of End.
	Termination struct {
		Conn tcp.Handle
		How  tcp.Ending
	}
	// Transmission has the arguments of Send.
	Transmission struct {
		Conn  tcp.Handle
		Bytes int
	}
	// Reception has the arguments of ReceiveUpTo.
	Reception struct {
		Conn  tcp.Handle
		Limit tcp.Limit
	}
	// Advancement has the arguments of AdvanceClock.
	Advancement struct {
		Conn  tcp.Handle
		Ticks int32
	}
)

// Fingerprint is different for agents of different versions.
func Fingerprint() string { return NewServer(nil).Fingerprint() }

// NewServer makes the server that answers calls for an agent; the node exists after SetUp.
func NewServer(a *Agent) *line.Server {
	s := line.NewServer(Errors())
	SetUp.Serve(s, func(ctx context.Context, in Setup) (none line.None, err error) { return none, a.setUp(ctx, in) })
	CloseAll.Serve(s, tell(a, func(_ context.Context, n *node.Local, _ line.None) error { return n.Close() }))

	Release.Serve(s, ask(a, func(ctx context.Context, n *node.Local, _ line.None) (kernel.Release, error) {
		return n.Release(ctx)
	}))
	Sysctl.Serve(s, ask(a, func(ctx context.Context, n *node.Local, name string) (string, error) {
		return n.Sysctl(ctx, name)
	}))
	SetSysctl.Serve(s, tell(a, func(ctx context.Context, n *node.Local, in SysctlValue) error {
		return n.SetSysctl(ctx, in.Name, in.Value)
	}))
	SetMTU.Serve(s, tell(a, func(_ context.Context, _ *node.Local, in LinkMTU) error {
		return onLink(func(h *netlink.Handle) error { return shape.MTU(h, in.Link, in.MTU) })
	}))
	Impair.Serve(s, tell(a, func(_ context.Context, _ *node.Local, in Impairing) error {
		return onLink(func(h *netlink.Handle) error { return shape.Egress(h, in.Link, in.Impairment) })
	}))
	HasSymbol.Serve(s, ask(a, func(ctx context.Context, n *node.Local, name string) (kernel.Fact, error) {
		return n.HasSymbol(ctx, name)
	}))
	serveEvidence(s, a)
	serveSockets(s, a)
	serveData(s, a)
	return s
}

func serveEvidence(s *line.Server, a *Agent) {
	Counters.Serve(s, ask(a, func(ctx context.Context, n *node.Local, _ line.None) (kernel.Counters, error) {
		return n.Counters(ctx)
	}))
	Occupancy.Serve(s, ask(a, func(ctx context.Context, n *node.Local, _ line.None) (observe.Occupancy, error) {
		return n.Occupancy(ctx)
	}))
	Sockets.Serve(s, ask(a, func(ctx context.Context, n *node.Local, _ line.None) (observe.Sockets, error) {
		return n.Sockets(ctx)
	}))
	Flows.Serve(s, ask(a, func(ctx context.Context, n *node.Local, _ line.None) ([]observe.Flow, error) {
		return n.Flows(ctx)
	}))
	Rules.Serve(s, ask(a, func(ctx context.Context, n *node.Local, _ line.None) ([]observe.RuleHits, error) {
		return n.Rules(ctx)
	}))
	VirtualServices.Serve(s, ask(a, func(ctx context.Context, n *node.Local, _ line.None) ([]topo.VirtualService, error) {
		return n.VirtualServices(ctx)
	}))
	SetVirtualServices.Serve(s, tell(a, func(ctx context.Context, n *node.Local, all []topo.VirtualService) error {
		return n.SetVirtualServices(ctx, all)
	}))
	DeleteFlows.Serve(s, ask(a, func(ctx context.Context, n *node.Local, match observe.FlowMatch) (int, error) {
		return n.DeleteFlows(ctx, match)
	}))
}

func serveSockets(s *line.Server, a *Agent) {
	Listen.Serve(s, ask(a, func(ctx context.Context, n *node.Local, spec tcp.ListenSpec) (node.Listening, error) {
		return n.Listen(ctx, spec)
	}))
	Serve.Serve(s, ask(a, func(ctx context.Context, n *node.Local, spec http.ListenSpec) (node.Listening, error) {
		return n.Serve(ctx, spec)
	}))
	TryListen.Serve(s, ask(a, func(ctx context.Context, n *node.Local, spec tcp.ListenSpec) (tcp.ListenResult, error) {
		return n.TryListen(ctx, spec)
	}))
	TryServe.Serve(s, ask(a, func(ctx context.Context, n *node.Local, spec http.ListenSpec) (tcp.ListenResult, error) {
		return n.TryServe(ctx, spec)
	}))
	Attempt.Serve(s, ask(a, func(ctx context.Context, n *node.Local, attempts []tcp.Attempt) ([]tcp.Result, error) {
		return n.Attempt(ctx, attempts)
	}))
	Exchange.Serve(s, ask(a, func(ctx context.Context, n *node.Local, in Exchanges) ([]http.Exchanged, error) {
		return n.Exchange(ctx, in.All, in.AtOnce)
	}))
	Served.Serve(s, ask(a, func(ctx context.Context, n *node.Local, listening tcp.Handle) (http.Served, error) {
		return n.Served(ctx, listening)
	}))
	Accept.Serve(s, ask(a, func(ctx context.Context, n *node.Local, in Acceptance) (tcp.Handle, error) {
		return n.Accept(ctx, in.Listening, in.Peer)
	}))
	End.Serve(s, tell(a, func(ctx context.Context, n *node.Local, in Termination) error {
		return n.End(ctx, in.Conn, in.How)
	}))
	Clock.Serve(s, ask(a, func(ctx context.Context, n *node.Local, conn tcp.Handle) (tcp.ClockReading, error) {
		return n.Clock(ctx, conn)
	}))
	Advance.Serve(s, tell(a, func(ctx context.Context, n *node.Local, in Advancement) error {
		return n.AdvanceClock(ctx, in.Conn, in.Ticks)
	}))
	RTO.Serve(s, ask(a, func(ctx context.Context, n *node.Local, conn tcp.Handle) (time.Duration, error) {
		return n.RTO(ctx, conn)
	}))
}

func serveData(s *line.Server, a *Agent) {
	Send.Serve(s, ask(a, func(ctx context.Context, n *node.Local, in Transmission) (int, error) {
		return n.Send(ctx, in.Conn, in.Bytes)
	}))
	Receive.Serve(s, ask(a, func(ctx context.Context, n *node.Local, conn tcp.Handle) (tcp.Received, error) {
		return n.Receive(ctx, conn)
	}))
	TrySend.Serve(s, ask(a, func(ctx context.Context, n *node.Local, in Transmission) (tcp.Sent, error) {
		return n.TrySend(ctx, in.Conn, in.Bytes)
	}))
	ReceiveUpTo.Serve(s, ask(a, func(ctx context.Context, n *node.Local, in Reception) (tcp.Received, error) {
		return n.ReceiveUpTo(ctx, in.Conn, in.Limit)
	}))
	HalfClose.Serve(s, ask(a, func(ctx context.Context, n *node.Local, conn tcp.Handle) (syscall.Errno, error) {
		return n.HalfClose(ctx, conn)
	}))
	SocketError.Serve(s, ask(a, func(ctx context.Context, n *node.Local, conn tcp.Handle) (syscall.Errno, error) {
		return n.SocketError(ctx, conn)
	}))
}

// ask makes the function of a method that needs the node.
func ask[In, Out any](a *Agent, f func(context.Context, *node.Local, In) (Out, error)) func(context.Context, In) (Out, error) {
	return func(ctx context.Context, in In) (out Out, err error) {
		n := a.node.Load()
		if n == nil {
			return out, errors.New("the machine is not set up")
		}
		return f(ctx, n, in)
	}
}

// tell is ask for methods that return only an error.
func tell[In any](a *Agent, f func(context.Context, *node.Local, In) error) func(context.Context, In) (line.None, error) {
	return ask(a, func(ctx context.Context, n *node.Local, in In) (line.None, error) {
		return line.None{}, f(ctx, n, in)
	})
}
