package client

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
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

// The closers. At a door on the client itself, BalancerCloses is the side that
// accepted.
const (
	ClientCloses   Closer = "client"
	BalancerCloses Closer = "lb"
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

// DoorAt is where the door is.
type DoorAt string

// Where doors are.
const (
	AtBalancer DoorAt = "remote"
	// AtLoopback: on the client itself, at 127.0.0.1.
	AtLoopback DoorAt = "loopback"
	// AtOwnAddress: on the client itself, at the address of its link. Packets
	// go by lo too, but the address is not a loopback one.
	AtOwnAddress DoorAt = "own-address"
)

// errLate says that the TIME_WAIT, which was to be young, grew too old meanwhile.
var errLate = errors.New("the second attempt came too late for a young TIME_WAIT")

// SamePort is the situation of a client that has one local port
// (net.ipv4.ip_local_port_range) and needs it twice for the same door: it
// connects, the connection ends, and it connects again.
type SamePort struct {
	Door    DoorAt
	Closer  Closer
	Binding Binding // of both connections
	// Older lets the TIME_WAIT, if there is one, grow older than tcp_tw_reuse
	// wants it; otherwise it is younger, though older than a second when
	// tcp_tw_reuse_delay is more than that.
	Older bool
}

// Drive brings the situation about and returns what was seen: of the counters,
// all that moved from the end of the first connection on.
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

// samePort is the situation with its cast.
type samePort struct {
	SamePort
	lab            *lab.Lab
	nodes          []node.Node
	client, server node.Node  // server is where the door is
	from, outside  netip.Addr // the client's address as itself and the server know it
	path           observe.Path
	door           node.Listening
	delay          time.Duration // the client's tcp_tw_reuse_delay; 0 on a kernel without it
	port           uint16
}

func (r *samePort) drive(ctx context.Context) (seen claim.Seen, err error) {
	if err := r.prepare(ctx); err != nil {
		return seen, err
	}
	// Youth can be missed, when this process is kept waiting.
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

// prepare opens the door and the recordings, and finds out about the client's
// kernel.
func (r *samePort) prepare(ctx context.Context) (err error) {
	if err := r.readDelay(ctx); err != nil {
		return err
	}
	listen := tcp.ListenSpec{At: netip.AddrPortFrom(netip.Addr{}, 80)}
	client := r.client.Identity()
	r.from, r.outside = client.Addr, client.Addr
	links := []string{client.Name}
	if r.Door != AtBalancer {
		r.server = r.client
		links[0] += "/lo"
	}
	if r.Door == AtLoopback {
		r.from = netip.AddrFrom4([4]byte{127, 0, 0, 1})
		r.outside = r.from
		listen.At = netip.AddrPortFrom(r.from, listen.At.Port())
	}
	server := r.server.Identity()
	r.path = r.lab.Path(client.Name)
	if r.Door != AtBalancer {
		r.path = observe.Path{Client: client.Name, Server: server.Name}
	}
	for _, gateway := range r.lab.Nodes(lab.Gateway) {
		r.outside = gateway.Identity().Addr
		links = append(links, server.Name)
	}
	if err := r.lab.Capture(links...); err != nil {
		return err
	}
	r.door, err = r.server.Listen(ctx, listen)
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

// once brings the situation about on one port.
func (r *samePort) once(ctx context.Context) (seen claim.Seen, err error) {
	only := fmt.Sprintf("%d %d", r.port, r.port)
	if err := r.client.SetSysctl(ctx, "net.ipv4.ip_local_port_range", only); err != nil {
		return seen, err
	}
	first, err := situation.Connect(ctx, r.client, r.attempt())
	if r.Binding == LatePortOf && errors.Is(err, syscall.ENOPROTOOPT) {
		seen.Note("verdict", noSuchOption)
		return seen, nil
	}
	if err == nil {
		err = r.checkSource(first)
	}
	if err != nil {
		return seen, fmt.Errorf("first connection: %w", err)
	}
	accepted, err := situation.Accept(ctx, r.server, r.door, r.seenFrom())
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
	seen.Note("verdict", string(outs[0].Verdict))
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

// noSuchOption is the verdict of a kernel that does not know the socket option
// which the binding needs.
const noSuchOption = "ENOPROTOOPT"

// checkSource wants that an attempt left from the client's only port, if it left.
func (r *samePort) checkSource(out tcp.Outcome) error {
	if out.Local.IsValid() && out.Local != r.source() {
		return fmt.Errorf("%s: connected from %v, want %v", r.client.Identity().Name, out.Local, r.source())
	}
	return nil
}

// attempt is one connection from the client's only port.
func (r *samePort) attempt() tcp.Attempt {
	a := tcp.Attempt{To: r.door.Addr}
	switch r.Binding {
	case AutoPort:
	case FixedPort, SharedPort:
		a.From = netip.AddrPortFrom(netip.IPv4Unspecified(), r.port)
		a.ReuseAddr = r.Binding == SharedPort
	case EarlyPortOf, LatePortOf:
		a.From = netip.AddrPortFrom(r.from, 0)
		a.LatePort = r.Binding == LatePortOf
	}
	return a
}

// source is where the client connects from, seenFrom the same at the door.
func (r *samePort) source() netip.AddrPort   { return netip.AddrPortFrom(r.from, r.port) }
func (r *samePort) seenFrom() netip.AddrPort { return netip.AddrPortFrom(r.outside, r.port) }

// clock reads the machine's clock where the age of a TIME_WAIT is counted in
// whole seconds.
func (r *samePort) clock(ctx context.Context, conn tcp.Handle) (at time.Duration, err error) {
	if r.delay > 0 {
		return 0, nil
	}
	reading, err := r.client.Clock(ctx, conn)
	return reading.At, err
}

// young tells whether a TIME_WAIT is certainly too young for tcp_tw_reuse so much
// time after the clock stood at a moment before its beginning. The kernel counts
// seconds by ticks (ktime_get_seconds), and may be one tick behind the clock.
func (r *samePort) young(clock, passed time.Duration) bool {
	if r.delay > 0 {
		return passed < r.delay
	}
	return (clock - situation.TickAtMost).Truncate(time.Second) == (clock + passed).Truncate(time.Second)
}

// end has one side end the connection first, and then the other.
func (r *samePort) end(ctx context.Context, atClient, atServer tcp.Handle, seen *claim.Seen) error {
	closing, closed, how := r.client, r.server, tcp.CloseFirst
	one, other := atClient, atServer
	switch r.Closer {
	case ClientCloses:
	case BalancerCloses:
		closing, closed, one, other = closed, closing, other, one
	case ClientResets:
		how = tcp.Abort
	}
	done := make(chan error, 1)
	go func() { done <- closing.End(ctx, one, how) }()
	ending, err := r.follow(ctx, closed, other)
	seen.Note("end", ending)
	return errors.Join(err, <-done)
}

// follow waits for the peer's end of a connection, says what it was, and closes.
//
// A FIN is acknowledged by a timer, which may run on another processor than the
// FIN that follows it. An ACK that arrives after that FIN is answered by the
// TIME_WAIT, and the answer by a RST, because nothing is left of the connection;
// the RST ends the TIME_WAIT (RFC 1337). So the ACK has to be there first.
func (r *samePort) follow(ctx context.Context, closed node.Node, conn tcp.Handle) (ending string, err error) {
	got, err := closed.Receive(ctx, conn)
	if err != nil {
		return "", err
	}
	ending = "RST"
	if got.Errno == 0 {
		ending = "FIN"
		err = observe.Await(ctx, "the FIN to be acknowledged", func() (bool, error) {
			e, err := r.ends(ctx)
			return len(append(e.client, e.server...).In(observe.FinWait2)) == 1, err
		})
	}
	if err != nil {
		return ending, err
	}
	return ending, closed.End(ctx, conn, tcp.CloseNow)
}

// bothEnds are the sockets of the two ends of the connection.
type bothEnds struct{ client, server observe.Sockets }

func (r *samePort) ends(ctx context.Context) (e bothEnds, err error) {
	at, err := r.client.Sockets(ctx)
	if err != nil {
		return e, err
	}
	there, err := r.server.Sockets(ctx)
	if err != nil {
		return e, err
	}
	return bothEnds{at.Between(r.source(), r.door.Addr), there.Between(r.door.Addr, r.seenFrom())}, nil
}

// longest is the time that the youngest of the sockets still has.
func (e bothEnds) longest() (left time.Duration) {
	for _, s := range append(e.client, e.server...) {
		left = max(left, s.Expires)
	}
	return left
}

// timeWaits notes how many TIME_WAITs there are at each end.
func (e bothEnds) timeWaits(seen *claim.Seen, when string) {
	seen.Count("client time-wait"+when, int64(len(e.client.In(observe.TimeWait))))
	seen.Count("balancer time-wait"+when, int64(len(e.server.In(observe.TimeWait))))
}

// grow waits until both ends are at rest, and then until the TIME_WAIT, if one
// was left, has its age.
func (r *samePort) grow(ctx context.Context, seen *claim.Seen) error {
	var left bothEnds
	err := observe.Await(ctx, "both ends to be closed or in TIME_WAIT", func() (rest bool, err error) {
		left, err = r.ends(ctx)
		all := len(left.client) + len(left.server)
		return len(left.client.In(observe.TimeWait))+len(left.server.In(observe.TimeWait)) == all, err
	})
	if err != nil {
		return err
	}
	left.timeWaits(seen, "")
	age := r.age()
	if age == 0 || len(left.client)+len(left.server) == 0 {
		return nil
	}
	for {
		early := left.longest() - (situation.TimeWaitLength - age)
		if early <= 0 {
			return nil
		}
		if err := observe.Pass(ctx, early, fmt.Sprintf("the TIME_WAIT to be %v old", age)); err != nil {
			return err
		}
		if left, err = r.ends(ctx); err != nil {
			return err
		}
	}
}

// age is how old the TIME_WAIT has to be at least when the client comes again.
func (r *samePort) age() time.Duration {
	switch {
	case r.Older && r.delay > 0:
		return r.delay + situation.AgingSlack
	case r.Older:
		return situation.OldReuseDelay + situation.AgingSlack
	case r.delay > situation.DefaultReuseDelay:
		return situation.DefaultReuseDelay + situation.AgingSlack
	default:
		return 0
	}
}

// after looks at what the second attempt has left. What the client takes for a
// connection is one at the door only when that has its last ACK.
func (r *samePort) after(ctx context.Context, second tcp.Outcome, seen *claim.Seen) error {
	if second.Verdict == tcp.Connected {
		if _, err := situation.Accept(ctx, r.server, r.door, r.seenFrom()); err != nil {
			return fmt.Errorf("second connection: %w", err)
		}
	}
	left, err := r.ends(ctx)
	if err != nil {
		return err
	}
	left.timeWaits(seen, " after")
	return nil
}

// wire notes what was seen of the second attempt on the links.
func (r *samePort) wire(packets []observe.Packet, seen *claim.Seen) {
	account := observe.AccountSYNs(packets, r.path, r.source(), r.door.Addr)
	var answers []string
	echo := "none"
	for _, syn := range account.SYNs {
		answers = append(answers, string(syn.Answer))
		switch {
		case !syn.Timestamp.Present:
		case syn.Timestamp.Echo == 0:
			echo = "zero"
		default:
			echo = "set"
		}
	}
	seen.Count("syns seen", int64(account.Reached))
	seen.Note("answers", strings.Join(answers, ", "))
	seen.Note("echo", echo)
}

// moves notes how the counters of the nodes have moved.
func (r *samePort) moves(moved []kernel.Counters, seen *claim.Seen) {
	seen.Moved = map[lab.Role]kernel.Counters{}
	for i, n := range r.nodes {
		seen.Moved[n.Identity().Role] = moved[i]
	}
	there := seen.Moved[r.server.Identity().Role]
	seen.Count("accepted", kernel.PassiveOpens.Of(there))
	seen.Count("paws rejects", kernel.PAWSRejects(there))
	seen.Count("nat clashes", kernel.NATClashes.Of(seen.Moved[lab.Gateway]))
}

// samePortEvidence is what [samePort.Drive] notes.
func samePortEvidence() []claim.Evidence {
	return []claim.Evidence{
		situation.TimestampsEvidence,
		{Name: "end", Unit: "FIN or RST", Means: "by what the closing side ended the first connection"},
		{Name: "client time-wait", Unit: situation.Sockets, Means: "TIME_WAITs that the first connection left at the client"},
		{Name: "balancer time-wait", Unit: situation.Sockets, Means: "TIME_WAITs that the first connection left at the balancer"},
		situation.VerdictEvidence, situation.SYNsEvidence,
		{Name: "client time-wait after", Unit: situation.Sockets, Means: "TIME_WAITs between the same ports at the client after the second attempt"},
		{Name: "balancer time-wait after", Unit: situation.Sockets, Means: "TIME_WAITs between the same ports at the balancer after the second attempt"},
		{Name: "syns seen", Unit: situation.SYNs, Means: "how many SYNs of the second attempt arrived at the balancer"},
		situation.AnswersEvidence,
		{Name: "echo", Unit: "none, zero or set", Means: "the echo reply in the second SYN: set only where the port of a TIME_WAIT was taken over"},
		{Name: "accepted", Unit: "connections", Means: "how many connections came about at the balancer: PassiveOpens"},
		situation.PAWSRejectsEvidence,
		{Name: "nat clashes", Unit: "packets", Means: "how many packets the gateway dropped for want of a port: insert_failed"},
	}
}
