package client

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"syscall"
	"time"

	"twlab/harness/kernel"
	"twlab/harness/lab"
	"twlab/harness/node"
	"twlab/harness/observe"
	"twlab/harness/tcp"
	"twlab/scenarios/claim"
	"twlab/scenarios/situation"
)

// Closer is who ends the first connection, and how.
type Closer string

// The closers. At a listener on the client itself, BalancerCloses is the side that
// accepted.
const (
	ClientCloses   Closer = "client"
	BalancerCloses Closer = "balancer"
	// ClientResets: close(2) with SO_LINGER and 0 seconds.
	ClientResets Closer = "client-rst"
)

// Binding is how a socket gets its local port.
type Binding string

// The bindings.
const (
	// AutoPort: connect(2) chooses it.
	AutoPort Binding = "auto"
	// FixedPort: bind(2) to the number, on all addresses.
	FixedPort Binding = "bind"
	// SharedPort: the same with SO_REUSEADDR.
	SharedPort Binding = "bind-reuseaddr"
	// EarlyPortOf: bind(2) to an address and port 0, which chooses the port
	// before the destination is known.
	EarlyPortOf Binding = "address"
	// LatePortOf: the same with IP_BIND_ADDRESS_NO_PORT, which leaves the port
	// to connect(2). A kernel without that option refuses it (ENOPROTOOPT), and
	// nothing is connected.
	LatePortOf Binding = "late"
)

// ListenerAt is where the listener is.
type ListenerAt string

// Where listeners are.
const (
	AtBalancer ListenerAt = "remote"
	// AtLoopback: on the client itself, at 127.0.0.1, in an IPv6 lab at ::1.
	AtLoopback ListenerAt = "loopback"
	// AtMappedLoopback: on the client itself, at 127.0.0.1, to which an IPv6 socket connects
	// (::ffff:127.0.0.1).
	AtMappedLoopback ListenerAt = "mapped-loopback"
	// AtOwnAddress: on the client itself, at the address of its link. Packets
	// go by lo too, but the address is not a loopback one.
	AtOwnAddress ListenerAt = "own-address"
)

// errLate says that the TIME_WAIT, which had to be young, has become too old.
var errLate = errors.New("the second attempt came too late for a young TIME_WAIT")

// SamePort is the situation of a client that has one local port
// (net.ipv4.ip_local_port_range) and needs it twice for the same destination: it
// connects, the connection ends, and it connects again.
type SamePort struct {
	Listener ListenerAt
	Closer   Closer
	Binding  Binding // of both connections
	// Older waits until the TIME_WAIT, if there is one, is old enough for
	// tcp_tw_reuse. Otherwise it is too young, but older than a second if
	// tcp_tw_reuse_delay is more than that.
	Older bool
}

// Drive creates the situation and returns what was seen. The counters are those that
// moved after the end of the first connection began.
func (p SamePort) Drive(ctx context.Context, l *lab.Lab) (claim.Seen, error) {
	r := samePort{SamePort: p, lab: l}
	for _, role := range []lab.Role{lab.Client, lab.Balancer, lab.Gateway} {
		r.nodes = append(r.nodes, l.Nodes(role)...)
	}
	r.client, r.server = r.nodes[0], r.nodes[1]
	seen, err := r.drive(ctx)
	if err != nil {
		return seen, fmt.Errorf("same port again: %w", err)
	}
	return seen, nil
}

// samePort is the situation with its nodes.
type samePort struct {
	SamePort
	lab            *lab.Lab
	nodes          []node.Node
	client, server node.Node  // server is where the listener is
	from, outside  netip.Addr // the client's address as the client and as the server see it
	path           observe.Path
	listener       node.Listening
	delay          time.Duration // the client's tcp_tw_reuse_delay; 0 on a kernel without it
	port           uint16
}

func (r *samePort) drive(ctx context.Context) (seen claim.Seen, err error) {
	if err := r.prepare(ctx); err != nil {
		return seen, err
	}
	// The TIME_WAIT may become too old when this process has to wait.
	const tries = 12
	for try := range uint16(tries) {
		r.port = situation.SourcePort + try
		seen, err = r.once(ctx)
		if !errors.Is(err, errLate) {
			break
		}
	}
	return seen, err
}

// prepare opens the listener, starts the packet captures, and reads the client's
// tcp_tw_reuse_delay.
func (r *samePort) prepare(ctx context.Context) (err error) {
	if err := r.readDelay(ctx); err != nil {
		return err
	}
	listen := tcp.ListenSpec{At: netip.AddrPortFrom(netip.Addr{}, 80)}
	client := r.client.Identity()
	r.from, r.outside = client.Addr, client.Addr
	links := []string{client.Name}
	if r.Listener != AtBalancer {
		r.server = r.client
		links[0] += "/lo"
	}
	switch r.Listener {
	case AtBalancer, AtOwnAddress: // the address is the client's
	case AtLoopback, AtMappedLoopback:
		r.from = netip.AddrFrom4([4]byte{127, 0, 0, 1})
		if r.Listener == AtLoopback && client.Addr.Is6() {
			r.from = netip.IPv6Loopback()
		}
		r.outside = r.from
		listen.At = netip.AddrPortFrom(r.from, listen.At.Port())
	}
	server := r.server.Identity()
	r.path = r.lab.Path(client.Name)
	if r.Listener != AtBalancer {
		r.path = observe.Path{Client: client.Name, Server: server.Name}
	}
	for _, gateway := range r.lab.Nodes(lab.Gateway) {
		r.outside = gateway.Identity().Addr
		links = append(links, server.Name)
	}
	if err := r.lab.Capture(links...); err != nil {
		return err
	}
	r.listener, err = r.server.Listen(ctx, listen)
	return err
}

func (r *samePort) readDelay(ctx context.Context) error {
	fact, err := situation.HasSysctl(ctx, r.client, situation.ReuseDelay)
	if err != nil || fact != kernel.Yes {
		return err
	}
	value, err := r.client.Sysctl(ctx, situation.ReuseDelay)
	if err != nil {
		return err
	}
	r.delay, err = time.ParseDuration(value + "ms")
	return err
}

// once creates the situation on one port.
func (r *samePort) once(ctx context.Context) (seen claim.Seen, err error) {
	only := fmt.Sprintf("%d %d", r.port, r.port)
	if err := r.client.SetSysctl(ctx, "net.ipv4.ip_local_port_range", only); err != nil {
		return seen, err
	}
	first, err := situation.Connect(ctx, r.client, r.attempt())
	if r.Binding == LatePortOf && errors.Is(err, syscall.ENOPROTOOPT) {
		seen.Note("outcome", noSuchOption)
		return seen, nil
	}
	if err == nil {
		err = r.checkSource(first)
	}
	if err != nil {
		return seen, fmt.Errorf("first connection: %w", err)
	}
	accepted, err := situation.Accept(ctx, r.server, r.listener, r.seenFrom())
	if err != nil {
		return seen, fmt.Errorf("first connection: %w", err)
	}
	clock, err := r.clock(ctx, first.Conn)
	if err != nil {
		return seen, err
	}
	count, err := situation.CountMoves(ctx, r.nodes...)
	if err != nil {
		return seen, err
	}
	began := time.Now()
	seen.Note("timestamps", claim.YesNo(first.Timestamps))
	if err := r.end(ctx, first.Conn, accepted, &seen); err != nil {
		return seen, fmt.Errorf("end of the first connection: %w", err)
	}
	if err := r.grow(ctx, &seen); err != nil {
		return seen, err
	}
	mark := r.lab.Mark()
	outs, err := r.client.Attempt(ctx, []tcp.Attempt{r.attempt()})
	if err != nil {
		return seen, fmt.Errorf("second connection: %w", err)
	}
	if err := r.checkSource(outs[0]); err != nil {
		return seen, fmt.Errorf("second connection: %w", err)
	}
	took := time.Since(began)
	if !r.Older && !r.young(clock, took) {
		return seen, fmt.Errorf("%w: after %v", errLate, took)
	}
	seen.Note("outcome", string(outs[0].Outcome))
	seen.Count("syns", int64(outs[0].SYNs))
	if err := r.after(ctx, outs[0], &seen); err != nil {
		return seen, err
	}
	packets, err := r.lab.PacketsSince(mark)
	if err != nil {
		return seen, err
	}
	r.wire(packets, &seen)
	moved, err := count(ctx)
	if err != nil {
		return seen, err
	}
	r.moves(moved, &seen)
	return seen, nil
}

// noSuchOption is the outcome on a kernel without the socket option that the binding
// needs.
const noSuchOption = "ENOPROTOOPT"

// checkSource checks that an attempt, if it was sent, came from the client's only port.
func (r *samePort) checkSource(out tcp.Result) error {
	if out.Local.IsValid() && out.Local != r.source() {
		return fmt.Errorf("%s: connected from %v, want %v", r.client.Identity().Name, out.Local, r.source())
	}
	return nil
}

// attempt is one connection from the client's only port.
func (r *samePort) attempt() tcp.Attempt {
	a := tcp.Attempt{To: r.listener.Addr, IPv4Mapped: r.Listener == AtMappedLoopback}
	switch r.Binding {
	case AutoPort:
	case FixedPort, SharedPort:
		a.From = netip.AddrPortFrom(netip.Addr{}, r.port)
		a.ReuseAddr = r.Binding == SharedPort
	case EarlyPortOf, LatePortOf:
		a.From = netip.AddrPortFrom(r.from, 0)
		a.LatePort = r.Binding == LatePortOf
	}
	return a
}

// source is the address and port from which the client connects; seenFrom is the same
// as the listener sees it.
func (r *samePort) source() netip.AddrPort   { return netip.AddrPortFrom(r.from, r.port) }
func (r *samePort) seenFrom() netip.AddrPort { return netip.AddrPortFrom(r.outside, r.port) }

// clock reads the machine's clock on kernels that count the age of a TIME_WAIT in
// whole seconds.
func (r *samePort) clock(ctx context.Context, conn tcp.Handle) (at time.Duration, err error) {
	if r.delay > 0 {
		return 0, nil
	}
	reading, err := r.client.Clock(ctx, conn)
	return reading.At, err
}

// young tells whether a TIME_WAIT is certainly too young for tcp_tw_reuse. clock is a
// reading from before the TIME_WAIT began, and passed is the time since that reading.
// The kernel counts seconds by ticks (ktime_get_seconds), and may be one tick behind
// the clock.
func (r *samePort) young(clock, passed time.Duration) bool {
	if r.delay > 0 {
		return passed < r.delay
	}
	return (clock - situation.TickAtMost).Truncate(time.Second) == (clock + passed).Truncate(time.Second)
}
