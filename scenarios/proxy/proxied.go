package proxy

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"twlab/harness/http"
	"twlab/harness/kernel"
	"twlab/harness/lab"
	"twlab/harness/node"
	"twlab/harness/observe"
	"twlab/harness/tcp"
	"twlab/harness/topo"
	"twlab/scenarios/claim"
	"twlab/scenarios/situation"
)

// Proxied is a client that makes requests through the balancer, each on its own
// connection.
type Proxied struct {
	// Requests is the number of requests, AtOnce how many of them run at once; 0 means
	// one. Requests that run at once end before the next ones begin, so their ports are
	// free then.
	Requests, AtOnce int
	// Each is one request; the lab sets its destination.
	Each http.Exchange
	// Server is what every server does with its connections; the lab sets where it
	// listens.
	Server http.ListenSpec
	// Again, if it is not 0, is the number of further requests, after a pause in which
	// the balancer's TIME_WAITs become old enough for its tcp_tw_reuse.
	Again int
}

// Drive makes the requests in a lab with one client, and waits until all connections are
// closed, kept or in TIME_WAIT. [proxiedEvidence] lists what it notes.
//
// "Frontend" is the side of the balancer's listener, "backend" the side towards the servers.
// Of ports in TIME_WAIT it notes only whether they are all, some or none: it is chance which
// port a connection gets, but not that each one leaves a TIME_WAIT. The counters of the
// server are those of the first server.
func (p Proxied) Drive(ctx context.Context, l *lab.Lab) (claim.Seen, error) {
	r := proxiedRun{
		Proxied: p, client: l.Client(0), balancer: l.Balancer(),
		servers: l.Servers(), listener: l.VIP(),
	}
	if l.Topology().Balancer.IsEndpoint() {
		r.servers = []node.Node{r.balancer}
	}
	if l.Topology().Balancer.Program != nil {
		program, err := l.Program()
		if err != nil {
			return claim.Seen{}, err
		}
		r.program = program
	}
	return r.drive(ctx, l)
}

// proxiedRun is Proxied in a lab.
type proxiedRun struct {
	Proxied
	client, balancer node.Node
	servers          []node.Node
	program          topo.Running // nil if the balancer is not a program
	listener         netip.AddrPort

	at        []netip.AddrPort // where the servers listen
	listening []tcp.Handle
	done      []http.Exchanged
}

func (r *proxiedRun) drive(ctx context.Context, l *lab.Lab) (seen claim.Seen, err error) {
	r.at = l.Behind()
	if l.Topology().Balancer.IsEndpoint() {
		r.at = []netip.AddrPort{r.listener}
	}
	for i, n := range r.servers {
		spec := r.Server
		spec.At = r.at[i]
		listening, err := n.Serve(ctx, spec)
		if err != nil {
			return seen, err
		}
		r.listening = append(r.listening, listening.Handle)
	}
	nodes := slices.Concat([]node.Node{r.client, r.balancer}, l.Servers())
	count, err := situation.CountMoves(ctx, nodes...)
	if err != nil {
		return seen, err
	}
	before, err := r.stats(ctx)
	if err != nil {
		return seen, err
	}
	if err := r.request(ctx, r.Requests); err != nil {
		return seen, err
	}
	if r.Again > 0 {
		if err := r.awaitRest(ctx); err != nil {
			return seen, err
		}
		if err := r.awaitAge(ctx); err != nil {
			return seen, err
		}
		if err := r.request(ctx, r.Again); err != nil {
			return seen, err
		}
	}
	if err := r.awaitRest(ctx); err != nil {
		return seen, err
	}
	moved, err := count(ctx)
	if err != nil {
		return seen, err
	}
	seen.Moved = map[lab.Role]kernel.Counters{lab.Client: moved[0], lab.Balancer: moved[1], lab.Server: moved[2]}
	if err := r.countReplies(&seen); err != nil {
		return seen, err
	}
	if err := r.countSockets(ctx, &seen); err != nil {
		return seen, err
	}
	return seen, r.askProgram(ctx, &seen, before)
}

// request makes n requests: one after the other, or AtOnce at once.
func (r *proxiedRun) request(ctx context.Context, n int) error {
	if r.AtOnce <= 1 {
		return r.exchange(ctx, n, 1)
	}
	for ; n > r.AtOnce; n -= r.AtOnce {
		if err := r.exchange(ctx, r.AtOnce, r.AtOnce); err != nil {
			return err
		}
		if err := r.awaitRest(ctx); err != nil {
			return err
		}
	}
	return r.exchange(ctx, n, n)
}

// exchange makes n requests, at most so many at once.
func (r *proxiedRun) exchange(ctx context.Context, n, atOnce int) error {
	each := r.Each
	each.To = r.listener
	done, err := r.client.Exchange(ctx, slices.Repeat([]http.Exchange{each}, n), atOnce)
	r.done = append(r.done, done...)
	for _, x := range done {
		if x.Conn.IsZero() || x.Replies[0].Disposition == http.Whole {
			continue
		}
		// The client closes a connection on which no complete response came.
		if err := r.client.End(ctx, x.Conn, tcp.CloseNow); err != nil {
			return err
		}
	}
	return err
}

// awaitRest waits until no connection changes its state any more: HAProxy has no session
// except those of open client connections, and every socket listens, is in TIME_WAIT, or
// belongs to a connection that is established at both ends.
func (r *proxiedRun) awaitRest(ctx context.Context) error {
	var restless error
	err := observe.Await(ctx, "the connections to come to rest", func() (bool, error) {
		var err error
		restless, err = r.restless(ctx)
		return restless == nil, err
	})
	if err != nil && restless != nil {
		return fmt.Errorf("%w: %w", err, restless)
	}
	return err
}

// restless says what still changes; nil means nothing.
func (r *proxiedRun) restless(ctx context.Context) (why, err error) {
	stats, err := r.stats(ctx)
	if err != nil {
		return nil, err
	}
	here, err := r.balancer.Sockets(ctx)
	if err != nil {
		return nil, err
	}
	front, back := r.sides(here)
	client, err := r.client.Sockets(ctx)
	if err != nil {
		return nil, err
	}
	open := len(client.In(observe.Established))
	if r.program != nil && (int(stats["frontend.scur"]) != open || len(front.In(observe.Established)) != open) {
		return fmt.Errorf("HAProxy has %d sessions, and the client has %d connections", stats["frontend.scur"], open), nil
	}
	half := len(back.In(observe.Established))
	all := slices.Concat(here, client)
	for _, n := range r.servers {
		there, err := n.Sockets(ctx)
		if err != nil {
			return nil, err
		}
		half -= len(there.In(observe.Established))
		all = append(all, there...)
	}
	for _, s := range all {
		switch s.State {
		case observe.Listen, observe.TimeWait, observe.Established:
		default:
			return errors.New(s.String()), nil
		}
	}
	if half != 0 {
		return errors.New("a connection to a server is established on one side only"), nil
	}
	return nil, nil
}

// awaitAge waits until the balancer's TIME_WAITs are old enough for tcp_tw_reuse.
func (r *proxiedRun) awaitAge(ctx context.Context) error {
	age := situation.OldReuseDelay
	value, err := r.balancer.Sysctl(ctx, situation.ReuseDelay)
	switch {
	case err == nil:
		if age, err = time.ParseDuration(value + "ms"); err != nil {
			return fmt.Errorf("%s: %w", situation.ReuseDelay, err)
		}
	case !errors.Is(err, kernel.ErrSysctlNotYet):
		return err
	}
	return observe.Await(ctx, "the balancer's TIME_WAITs to be old", func() (bool, error) {
		all, err := r.balancer.Sockets(ctx)
		young := slices.ContainsFunc(all.In(observe.TimeWait), func(s observe.Socket) bool {
			return s.Expires > situation.TimeWaitLength-age-situation.AgingSlack
		})
		return !young, err
	})
}
