package proxy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"twlab/harness/http"
	"twlab/harness/kernel"
	"twlab/harness/lab"
	"twlab/harness/node"
	"twlab/harness/observe"
	"twlab/harness/tcp"
	"twlab/scenarios/claim"
	"twlab/scenarios/situation"
)

// Proxied is a client that makes requests through the balancer, each on a
// connection of its own.
type Proxied struct {
	// Requests is how many, AtOnce how many of them at once; 0 is one. Those that
	// are made at once end before the next begin: their ports are free then.
	Requests, AtOnce int
	// Each is one of them; where it goes is for the lab to say.
	Each http.Exchange
	// Server is what every server does with its connections. Where it listens is
	// for the lab to say.
	Server http.ListenSpec
	// Again, when it is not 0, is how many requests there are after a pause in
	// which the TIME_WAITs of the balancer have become old enough for its
	// tcp_tw_reuse.
	Again int
}

// Drive makes the requests in a lab with one client, and waits until nothing is on
// its way any more. Its witnesses are
//
//	whole                  responses of status 200 that came in full, as far as
//	                       the client can know
//	truncated, broken      those that a FIN ended too early, or a RST
//	unanswered             requests that a FIN or RST answered
//	given up               requests that the client gave up
//	errors                 responses of another status
//	no port                requests whose client found no local port
//	bytes lost             what is missing of the bodies of all that connected
//	client TIME_WAIT, frontend TIME_WAIT, backend TIME_WAIT, server TIME_WAIT
//	                       by side: of the balancer's own, those at its door are
//	                       the frontend's
//	client ports, backend ports
//	                       how many ports the client has used, and how many the
//	                       servers have seen
//	client ports in frontend TIME_WAIT
//	backend ports in backend TIME_WAIT
//	backend ports in server TIME_WAIT
//	                       "all", "some" or "none" of them: which of several ports a
//	                       connection gets is chance, and that each leaves a
//	                       TIME_WAIT is not
//	kept                   connections to servers that are still open
//	log                    HAProxy's termination states (configuration manual,
//	                       "Session state at disconnection")
//	longest session        by its log, in milliseconds
//	econ, wretr, eresp, cli_abrt, srv_abrt
//	                       of HAProxy's statistics
//
// The counters of the server are those of the first.
func (p Proxied) Drive(ctx context.Context, l *lab.Lab) (claim.Seen, error) {
	r := proxiedRun{
		Proxied: p, client: l.Nodes(lab.Client)[0], balancer: l.Nodes(lab.Balancer)[0],
		servers: l.Nodes(lab.Server), door: l.Door(),
	}
	if l.Topology().Balancer.Kind == lab.Endpoint {
		r.servers = []node.Node{r.balancer}
	}
	if l.Topology().Balancer.Kind == lab.HAProxy {
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
	program          lab.Program // nil when the balancer is none
	door             netip.AddrPort

	at        []netip.AddrPort // where the servers listen
	listening []tcp.Handle
	done      []http.Exchanged
}

func (r *proxiedRun) drive(ctx context.Context, l *lab.Lab) (seen claim.Seen, err error) {
	r.at = l.Behind()
	if l.Topology().Balancer.Kind == lab.Endpoint {
		r.at = []netip.AddrPort{r.door}
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
	nodes := slices.Concat([]node.Node{r.client, r.balancer}, l.Nodes(lab.Server))
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

// request makes n requests: one after the other, or as many at once as is said.
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
	each.To = r.door
	done, err := r.client.Exchange(ctx, slices.Repeat([]http.Exchange{each}, n), atOnce)
	r.done = append(r.done, done...)
	for _, x := range done {
		if x.Conn == 0 || x.Replies[0].Fate == http.Whole {
			continue
		}
		// Nobody keeps a connection on which the answer did not come.
		if err := r.client.End(ctx, x.Conn, tcp.CloseNow); err != nil {
			return err
		}
	}
	return err
}

// countReplies tells what the client has got.
func (r *proxiedRun) countReplies(seen *claim.Seen) error {
	var whole, truncated, broken, unanswered, givenUp, failed, noPort, lost int64
	for _, x := range r.done {
		switch x.Verdict {
		case tcp.Connected:
		case tcp.NoPort:
			noPort++
			continue
		default:
			return fmt.Errorf("a request's connection: %v", x.Outcome)
		}
		for _, reply := range x.Replies {
			switch {
			case reply.Fate == http.Malformed:
				return fmt.Errorf("a response: %s", reply.Problem)
			case reply.Fate == http.Pending:
				givenUp++
			case reply.Status == 0:
				unanswered++
			case reply.Status != 200:
				failed++
			case reply.Fate == http.Whole:
				whole++
			case reply.Fate == http.Truncated:
				truncated++
			case reply.Fate == http.Broken:
				broken++
			}
			lost += int64(r.Server.HTTP.Body) - reply.Bytes
		}
	}
	seen.Count("whole", whole)
	seen.Count("truncated", truncated)
	seen.Count("broken", broken)
	seen.Count("unanswered", unanswered)
	seen.Count("given up", givenUp)
	seen.Count("errors", failed)
	seen.Count("no port", noPort)
	seen.Count("bytes lost", lost)
	return nil
}

// countSockets tells who has the TIME_WAITs, and what else is left.
func (r *proxiedRun) countSockets(ctx context.Context, seen *claim.Seen) error {
	client, err := r.client.Sockets(ctx)
	if err != nil {
		return err
	}
	balancer, err := r.balancer.Sockets(ctx)
	if err != nil {
		return err
	}
	front, back := r.sides(balancer)
	seen.Count("client TIME_WAIT", int64(len(client.In(observe.TimeWait))))
	seen.Count("frontend TIME_WAIT", int64(len(front.In(observe.TimeWait))))
	seen.Count("backend TIME_WAIT", int64(len(back.In(observe.TimeWait))))
	clientRoutes := map[situation.Route]bool{}
	for _, x := range r.done {
		if x.Verdict == tcp.Connected {
			clientRoutes[situation.Route{From: x.Local, To: r.door}] = true
		}
	}
	seen.Count("client ports", int64(len(clientRoutes)))
	seen.Note("client ports in frontend TIME_WAIT", situation.HowMany(clientRoutes, situation.Waiting(front, false)))
	atServers, backendRoutes := map[situation.Route]bool{}, map[situation.Route]bool{}
	for i, n := range r.servers {
		if n == r.balancer { // whose sockets are the frontend's
			continue
		}
		all, err := n.Sockets(ctx)
		if err != nil {
			return err
		}
		maps.Copy(atServers, situation.Waiting(all, false))
		served, err := n.Served(ctx, r.listening[i])
		if err != nil {
			return err
		}
		for peer := range served.Peers {
			backendRoutes[situation.Route{From: peer, To: r.at[i]}] = true
		}
	}
	seen.Count("server TIME_WAIT", int64(len(atServers)))
	seen.Count("backend ports", int64(len(backendRoutes)))
	seen.Note("backend ports in backend TIME_WAIT", situation.HowMany(backendRoutes, situation.Waiting(back, true)))
	seen.Note("backend ports in server TIME_WAIT", situation.HowMany(backendRoutes, atServers))
	seen.Count("kept", int64(len(back.In(observe.Established))))
	return nil
}

// sides parts the balancer's sockets: those at its door, and those towards the
// servers.
func (r *proxiedRun) sides(all observe.Sockets) (front, back observe.Sockets) {
	for _, s := range all {
		if s.Local == r.door {
			front = append(front, s)
		} else {
			back = append(back, s)
		}
	}
	return front, back
}

// stats are HAProxy's own; none when the balancer is none.
func (r *proxiedRun) stats(ctx context.Context) (kernel.Counters, error) {
	if r.program == nil {
		return nil, nil
	}
	return r.program.Stats(ctx)
}

// askProgram adds what HAProxy says itself.
func (r *proxiedRun) askProgram(ctx context.Context, seen *claim.Seen, before kernel.Counters) error {
	if r.program == nil {
		return nil
	}
	after, err := r.program.Stats(ctx)
	if err != nil {
		return err
	}
	moved := after.Sub(before)
	for _, name := range []string{"econ", "wretr", "eresp", "cli_abrt", "srv_abrt"} {
		seen.Count(name, int64(moved["backend."+name]))
	}
	log, err := r.program.Log()
	if err != nil {
		return err
	}
	ends := map[string]bool{}
	var longest int64
	for word := range strings.FieldsSeq(log) {
		if end, found := strings.CutPrefix(word, "end="); found {
			ends[end] = true
		}
		if total, found := strings.CutPrefix(word, "total="); found {
			if ms, err := strconv.ParseInt(total, 10, 64); err == nil {
				longest = max(longest, ms)
			}
		}
	}
	seen.Note("log", strings.Join(slices.Sorted(maps.Keys(ends)), " "))
	seen.Count("longest session", longest)
	return nil
}

// awaitRest waits until no connection changes its state any more: HAProxy has no
// session, and every socket listens, is in TIME_WAIT, or belongs to a connection
// that both ends keep.
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

// restless says what is still to come; nil is nothing.
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

// proxiedEvidence is what [Proxied.Drive] notes. The last ones are of a HAProxy only.
func proxiedEvidence() []claim.Evidence {
	return []claim.Evidence{
		{Name: "whole", Unit: situation.Requests, Means: "responses of status 200 that came in full, as far as the client can know"},
		{Name: "truncated", Unit: situation.Requests, Means: "responses that a FIN ended too early"},
		{Name: "broken", Unit: situation.Requests, Means: "responses that a RST ended too early"},
		{Name: "unanswered", Unit: situation.Requests, Means: "requests that a FIN or RST answered"},
		{Name: "given up", Unit: situation.Requests, Means: "requests whose response the client did not wait for"},
		{Name: "errors", Unit: situation.Requests, Means: "responses of another status than 200"},
		situation.NoPortEvidence, situation.BytesLost,
		{Name: "client ports", Unit: "ports", Means: "how many ports the client has used", Aside: true},
		situation.ClientWaits,
		{Name: "frontend TIME_WAIT", Unit: situation.Sockets, Means: "TIME_WAITs of the balancer towards the client"},
		{Name: "client ports in frontend TIME_WAIT", Unit: situation.ShareOfPorts, Means: "how many of the client's five-tuples the balancer has in TIME_WAIT"},
		{Name: "backend TIME_WAIT", Unit: situation.Sockets, Means: "TIME_WAITs of the balancer towards the servers"},
		{Name: "backend ports in backend TIME_WAIT", Unit: situation.ShareOfPorts, Means: "how many of the five-tuples towards the servers the balancer has in TIME_WAIT"},
		{Name: "backend ports in server TIME_WAIT", Unit: situation.ShareOfPorts, Means: "how many of the same the servers have in TIME_WAIT"},
		{Name: "server TIME_WAIT", Unit: situation.Sockets, Means: "TIME_WAITs of the servers"},
		{Name: "backend ports", Unit: "ports", Means: "how many ports the servers have seen connections from"},
		{Name: "kept", Unit: situation.Sockets, Means: "connections to servers that are still open"},
		{Name: "econ", Unit: situation.Requests, Means: "requests for which HAProxy could not connect to a server"},
		{Name: "wretr", Unit: situation.Attempts, Means: "HAProxy's repeated attempts to connect to a server"},
		{Name: "eresp", Unit: situation.Requests, Means: "responses that HAProxy counts as errors"},
		{Name: "cli_abrt", Unit: situation.Requests, Means: "transfers that HAProxy says the client aborted"},
		{Name: "srv_abrt", Unit: situation.Requests, Means: "transfers that HAProxy says the server aborted"},
		{Name: "log", Unit: "termination states", Means: "how the sessions ended by HAProxy's log (configuration manual, Session state at disconnection)"},
		{Name: "longest session", Unit: situation.InMS, Means: "how long the longest session took, by HAProxy's log"},
	}
}
