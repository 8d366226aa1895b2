package nat

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"twlab/harness/kernel"
	"twlab/harness/lab"
	"twlab/harness/node"
	"twlab/harness/observe"
	"twlab/harness/tcp"
	"twlab/scenarios/claim"
	"twlab/scenarios/situation"
)

// giveaway is the situation in which a MASQUERADE gateway gives, or does not
// give, the address and port of earlier connections to a new one. In a lab with
// a second client, that one connects; else it is the first client again.
type giveaway struct {
	lab                              *lab.Lab
	first, second, gateway, balancer node.Node

	// earlier is how many earlier connections there are: as many as the gateway
	// has ports, or one when it has plenty.
	earlier uint16
	// left is what they leave at the balancer: LeftTimeWait, LeftEstablished or
	// LeftNothing.
	left situation.Left
	// forgets has the gateway's entries of them run out before the new one.
	forgets bool
	// hold is how long the gateway keeps the entry of an ended connection.
	hold time.Duration
	// clock is the new connection's timestamp clock against the earlier ones',
	// isn the same for the sequence number: Older or Newer.
	clock, isn situation.Order
	// from is the source port of the new connection. Those of the earlier ones
	// begin at sourcePort.
	from uint16
	// draws says that the gateway draws the port, out of all.
	draws bool
	// listed has somebody list the gateway's entries all the time, so that those
	// which have run out are removed, and not when a garbage collector comes by.
	listed bool

	door node.Listening
	outs []netip.AddrPort // the earlier connections as the balancer saw them
}

// otherPort is a source port that is not among those of the earlier connections.
const otherPort uint16 = 41000

// errUnlucky says that the situation did not come about, but may the next time.
var errUnlucky = errors.New("unlucky")

// giveawaySeen is what was seen of the new connection.
type giveawaySeen struct {
	outcome tcp.Outcome
	syns    observe.SYNAccount
	// sockets are the balancer's of the earlier connections just before the new
	// one, flows the gateway's entries when that had its verdict.
	sockets observe.Sockets
	flows   []observe.Flow
	moved   map[lab.Role]kernel.Counters
}

// drive brings the situation about and has the new connection tried once.
func (g *giveaway) drive(ctx context.Context) (claim.Seen, error) {
	err := g.lab.Capture(g.first.Identity().Name, g.second.Identity().Name, g.balancer.Identity().Name)
	if err != nil {
		return claim.Seen{}, err
	}
	const tries = 12
	var seen giveawaySeen
	for range tries {
		// A door of its own each time, so that nothing is left of the last try.
		if g.door, err = g.balancer.Listen(ctx, tcp.ListenSpec{}); err != nil {
			return claim.Seen{}, err
		}
		seen, err = g.once(ctx)
		// To draw a certain port has one chance in 64512. A gateway that gives it
		// every time will be found out.
		drawn := err == nil && g.draws && g.portGiven(seen.as()) != portNew
		if !drawn && !errors.Is(err, errUnlucky) {
			break
		}
	}
	if err != nil {
		return claim.Seen{}, fmt.Errorf("giveaway: %w", err)
	}
	return g.witnesses(seen), nil
}

func (g *giveaway) once(ctx context.Context) (giveawaySeen, error) {
	conns, err := g.open(ctx)
	if err != nil {
		return giveawaySeen{}, fmt.Errorf("open: %w", err)
	}
	began := time.Now()
	for _, c := range conns {
		if err := g.end(ctx, c); err != nil {
			return giveawaySeen{}, fmt.Errorf("end: %w", err)
		}
	}
	if err := g.settle(ctx); err != nil {
		return giveawaySeen{}, err
	}
	if err := g.age(ctx); err != nil {
		return giveawaySeen{}, err
	}
	seen, err := g.meet(ctx)
	if err != nil {
		return giveawaySeen{}, fmt.Errorf("new connection: %w", err)
	}
	return seen, g.inTime(began, seen)
}

// earlierConn is both ends of an earlier connection.
type earlierConn struct {
	client, balancer tcp.Handle
	outside          netip.AddrPort // the client's as the balancer sees it
}

// open makes the earlier connections and sets their clocks.
func (g *giveaway) open(ctx context.Context) (conns []earlierConn, err error) {
	g.outs = nil
	for i := range g.earlier {
		from := netip.AddrPortFrom(netip.IPv4Unspecified(), situation.SourcePort+i)
		out, err := situation.Connect(ctx, g.first, tcp.Attempt{To: g.door.Addr, From: from, ReuseAddr: true, ISN: situation.FirstISN})
		if err != nil {
			return nil, err
		}
		outside, err := g.outside(ctx, out.Local)
		if err != nil {
			return nil, err
		}
		g.outs = append(g.outs, outside)
		conn, err := situation.Accept(ctx, g.balancer, g.door, outside)
		if err != nil {
			return nil, err
		}
		conns = append(conns, earlierConn{out.Conn, conn, outside})
		if g.clock == situation.Older && out.Timestamps {
			if err := g.first.AdvanceClock(ctx, out.Conn, int32(situation.ClockLead)); err != nil {
				return nil, err
			}
		}
	}
	return conns, nil
}

// outside is what the gateway has made of a client's address and port.
func (g *giveaway) outside(ctx context.Context, inside netip.AddrPort) (netip.AddrPort, error) {
	flows, err := g.flows(ctx)
	if err != nil {
		return netip.AddrPort{}, err
	}
	for _, f := range flows {
		if f.Original.Src == inside {
			return f.Reply.Dst, nil
		}
	}
	return netip.AddrPort{}, fmt.Errorf("the gateway has no entry of the connection from %v", inside)
}

// flows are the gateway's entries of connections to the door.
func (g *giveaway) flows(ctx context.Context) ([]observe.Flow, error) {
	all, err := g.gateway.Flows(ctx)
	return slices.DeleteFunc(all, func(f observe.Flow) bool { return f.Original.Dst != g.door.Addr }), err
}

// end has both sides do what leaves the wanted state.
func (g *giveaway) end(ctx context.Context, c earlierConn) error {
	if g.left != situation.LeftEstablished {
		if err := g.balancer.End(ctx, c.balancer, tcp.CloseNow); err != nil {
			return err
		}
		if err := situation.AwaitFinWait2(ctx, g.balancer, g.door.Addr, c.outside); err != nil {
			return err
		}
		return g.first.End(ctx, c.client, tcp.CloseAfterPeer)
	}
	if g.first == g.second && g.from == situation.SourcePort {
		// The client has lost its memory, or it could not connect again.
		return g.first.End(ctx, c.client, tcp.Vanish)
	}
	return nil
}

// settle waits until the balancer and the gateway are through with the ends of
// the earlier connections.
func (g *giveaway) settle(ctx context.Context) error {
	at, entry := observe.TimeWait, string(observe.TimeWait)
	if g.left == situation.LeftEstablished {
		at, entry = observe.Established, string(observe.Established)
	}
	// A full tick of the timestamp clock passes, so that a newer one is newer.
	tick := time.Now().Add(20 * time.Millisecond)
	return observe.Await(ctx, "the earlier connections to be "+entry, func() (bool, error) {
		if time.Now().Before(tick) {
			return false, nil
		}
		sockets, err := g.balancer.Sockets(ctx)
		if err != nil || len(sockets.Between(g.door.Addr, netip.AddrPort{}).In(at)) != len(g.outs) {
			return false, err
		}
		flows, err := g.flows(ctx)
		if err != nil {
			return false, err
		}
		if len(flows) < len(g.outs) {
			return false, fmt.Errorf("%w: an entry of the gateway is gone already", errUnlucky)
		}
		return !slices.ContainsFunc(flows, func(f observe.Flow) bool { return f.State != entry }), nil
	})
}

// age waits until the balancer's TIME_WAIT and the gateway's entry are over where
// they are to be. To look at all sockets and entries of a machine is dear, so
// that nobody looks before their time.
func (g *giveaway) age(ctx context.Context) error {
	began := time.Now()
	if g.left == situation.LeftNothing {
		err := observe.Await(ctx, "the end of TIME_WAIT", func() (bool, error) {
			if time.Since(began) < situation.TimeWaitLength-time.Second {
				return false, nil
			}
			sockets, err := g.balancer.Sockets(ctx)
			return len(sockets.Between(g.door.Addr, netip.AddrPort{}).In(observe.TimeWait)) == 0, err
		})
		if err != nil {
			return err
		}
	}
	if !g.forgets {
		return nil
	}
	return observe.Await(ctx, "the gateway to forget", func() (bool, error) {
		if time.Since(began) < g.hold { // it began before us
			return false, nil
		}
		flows, err := g.flows(ctx)
		return len(flows) == 0, err
	})
}

// meet has the second client connect.
func (g *giveaway) meet(ctx context.Context) (seen giveawaySeen, err error) {
	count, err := situation.CountMoves(ctx, g.second, g.gateway, g.balancer)
	if err != nil {
		return seen, err
	}
	mark := g.lab.Mark()
	sockets, err := g.balancer.Sockets(ctx)
	if err != nil {
		return seen, err
	}
	seen.sockets = sockets.Between(g.door.Addr, netip.AddrPort{})
	outs, err := g.attempt(ctx)
	if err != nil {
		return seen, err
	}
	seen.outcome = outs[0]
	if seen.flows, err = g.flows(ctx); err != nil {
		return seen, err
	}
	moved, err := count(ctx)
	if err != nil {
		return seen, err
	}
	seen.moved = map[lab.Role]kernel.Counters{lab.Client: moved[0], lab.Gateway: moved[1], lab.Balancer: moved[2]}
	packets, err := g.lab.PacketsSince(mark)
	if err != nil {
		return seen, err
	}
	path := g.lab.Path(g.second.Identity().Name)
	seen.syns = observe.AccountSYNs(packets, path, seen.outcome.Local, g.door.Addr)
	if seen.syns.Sent == 0 {
		return seen, fmt.Errorf("no SYN was seen: %v", seen.outcome)
	}
	return seen, nil
}

// attempt is the new connection's.
func (g *giveaway) attempt(ctx context.Context) ([]tcp.Outcome, error) {
	over, stop := context.WithCancel(ctx)
	defer stop()
	var lister errgroup.Group
	if g.listed {
		lister.Go(func() error {
			return observe.Await(ctx, "the attempt to be over", func() (bool, error) {
				_, err := g.flows(ctx)
				return over.Err() != nil, err
			})
		})
	}
	outs, err := g.second.Attempt(ctx, []tcp.Attempt{{
		To: g.door.Addr, From: netip.AddrPortFrom(netip.IPv4Unspecified(), g.from), ReuseAddr: true, ISN: g.secondISN(),
	}})
	stop()
	return outs, errors.Join(err, lister.Wait())
}

// secondISN is chosen against the number that the balancer expects next: the
// SYN and the FIN of an earlier connection count one each.
func (g *giveaway) secondISN() uint32 {
	if g.isn == situation.Older {
		return situation.FirstISN + 2 - situation.IsnGap
	}
	return situation.FirstISN + 2 + situation.IsnGap
}

// inTime says that the gateway may have forgotten the earlier connections, where
// it was to keep them: too much time has passed since they began to end.
func (g *giveaway) inTime(began time.Time, seen giveawaySeen) error {
	met := time.Now()
	if seen.syns.Sent > 1 {
		met = seen.syns.SYNs[0].Sent
	}
	const margin = 100 * time.Millisecond
	if g.left == situation.LeftTimeWait && !g.forgets && met.Sub(began) > g.hold-margin {
		return fmt.Errorf("%w: the new connection came %v after the earlier ones, whose entries last %v",
			errUnlucky, met.Sub(began), g.hold)
	}
	return nil
}

// as is the source under which the first SYN that left the gateway did so; the
// zero value when none did.
func (s giveawaySeen) as() netip.AddrPort {
	for _, syn := range s.syns.SYNs {
		if syn.LeftGateway {
			return syn.As
		}
	}
	return netip.AddrPort{}
}

// What port the gateway has given.
const (
	portSame = "same" // that of an earlier connection
	portOwn  = "own"  // the client's own, which no earlier connection had
	portNew  = "new"  // another one
	portNone = "none" // no SYN has left the gateway
)

func (g *giveaway) portGiven(as netip.AddrPort) string {
	switch {
	case !as.IsValid():
		return portNone
	case slices.Contains(g.outs, as):
		return portSame
	case as.Port() == g.from:
		return portOwn
	default:
		return portNew
	}
}

// witnesses puts what was seen into the words of the rules.
func (g *giveaway) witnesses(seen giveawaySeen) claim.Seen {
	s := claim.Seen{Moved: seen.moved}
	as := seen.as()
	s.Note("verdict", string(seen.outcome.Verdict))
	s.Note("port", g.portGiven(as))
	s.Note("met", seen.met(as))
	var answers []string
	for _, syn := range seen.syns.SYNs {
		answer := string(syn.Answer)
		if answer == "" {
			answer = "nothing"
		}
		answers = append(answers, answer)
	}
	s.Note("first answer", answers[0])
	s.Note("answers", strings.Join(answers, ", "))
	s.Count("syns", int64(seen.syns.Sent))
	s.Count("syns past the gateway", int64(seen.syns.LeftGateway))
	s.Count("syns at the balancer", int64(seen.syns.Reached))
	s.Count("paws rejects", kernel.PAWSRejects(seen.moved[lab.Balancer]))
	s.Note("owner", g.owner(seen))
	s.Note("way", seen.syns.String())
	return s
}

// met is what the balancer had of the five-tuple that the SYN came with.
func (s giveawaySeen) met(as netip.AddrPort) string {
	if !as.IsValid() {
		return "nobody"
	}
	for _, earlier := range s.sockets.Between(netip.AddrPort{}, as) {
		return string(earlier.State)
	}
	return "nothing"
}

// owner is whose entry at the gateway has the port that the new connection was
// given, or when it was given none, that of the first earlier connection.
func (g *giveaway) owner(seen giveawaySeen) string {
	port := seen.as()
	if !port.IsValid() {
		port = g.outs[0]
	}
	for _, f := range seen.flows {
		switch {
		case f.Reply.Dst != port:
		case f.Original.Src == seen.outcome.Local:
			return "the new connection"
		default:
			return "an earlier connection"
		}
	}
	return "nobody"
}

// giveawayEvidence is what [giveaway.witnesses] notes of the new connection.
func giveawayEvidence() []claim.Evidence {
	return []claim.Evidence{
		situation.VerdictEvidence,
		{Name: "port", Unit: "same, own, new or none", Means: "what port the gateway gave: an earlier connection's, the client's own, another one, or none"},
		{Name: "met", Unit: "a state, nothing or nobody", Means: "what the balancer had of that five-tuple; nobody when no SYN left the gateway"},
		{Name: "first answer", Unit: "a segment", Means: "how the balancer answered the first SYN"},
		situation.AnswersEvidence, situation.SYNsEvidence,
		{Name: "syns past the gateway", Unit: situation.SYNs, Means: "how many SYNs left the gateway"},
		{Name: "syns at the balancer", Unit: situation.SYNs, Means: "how many SYNs arrived at the balancer", Aside: true},
		situation.PAWSRejectsEvidence,
		{Name: "owner", Unit: "whose", Means: "whose entry at the gateway has the port afterwards: the new connection's, an earlier one's or nobody's"},
		{Name: "way", Unit: "text", Means: "every SYN of the attempt, where it got to and how it was answered", Aside: true},
	}
}
