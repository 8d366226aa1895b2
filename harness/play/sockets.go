//go:build linux

package play

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"twlab/harness/http"
	"twlab/harness/lab"
	"twlab/harness/node"
	"twlab/harness/script"
	"twlab/harness/tcp"
	"twlab/harness/topo"
)

// connection is a connection that a step has made and kept.
type connection struct {
	node   node.Node
	handle tcp.Handle
	local  netip.AddrPort
	to     netip.AddrPort
	since  lab.Mark // before its SYN
	server *end     // nil until a step names the server's end
	clock  reading  // when it was made, if a step compares another one with it
	// timestamps says that the handshake agreed on them.
	timestamps bool
}

// listener is a listening socket.
type listener struct {
	id     string
	node   node.Node
	handle tcp.Handle
	port   uint16
	holds  bool // it leaves its connections to steps
}

var serves = map[script.Service]tcp.Ending{
	script.Drain: tcp.CloseAfterPeer, script.Hold: tcp.KeepOpen, script.CloseFirst: tcp.CloseFirst,
	script.ResetAll: tcp.Abort, script.ServeHTTP: tcp.CloseNow,
}

var endings = map[script.Ending]tcp.Ending{
	script.ThenClose: tcp.CloseNow, script.ThenKeep: tcp.KeepOpen, script.ThenReset: tcp.Abort,
	script.ThenVanish: tcp.Vanish, script.ThenCloseFirst: tcp.CloseFirst, script.ThenCloseAfter: tcp.CloseAfterPeer,
}

var (
	framings   = map[string]http.Framing{"": http.ByLength, "chunked": http.Chunked, "close": http.ToTheEnd}
	webEndings = map[string]tcp.Ending{"": tcp.CloseNow, "reset": tcp.Abort, "close-after-client": tcp.CloseAfterPeer}
)

// listen opens a listening socket.
func (p *player) listen(ctx context.Context, id string, a script.Listen) (Result, error) {
	n := p.node(a.Node)
	spec := tcp.ListenSpec{
		At: netip.AddrPortFrom(p.scenario.Addr(p.plan, a.At), a.Port), Backlog: a.Backlog, AcceptAfter: a.AcceptAfter,
		NoReuseAddr: a.NoReuseAddr, ReusePort: a.ReusePort, V6Only: a.OnlyV6, Ending: serves[a.Serve],
		FastOpen: a.FastOpen, MPTCP: a.MPTCP,
	}
	if p.scenario.Network.IP == topo.DualStack && a.At == (script.Endpoint{}) {
		spec.At = netip.AddrPortFrom(netip.IPv6Unspecified(), a.Port)
	}
	if a.Accept != nil {
		spec.Accepts, spec.NeverAccepts = *a.Accept, *a.Accept == 0
	}
	try := func() (tcp.ListenResult, error) { return n.TryListen(ctx, spec) }
	if a.Serve == script.ServeHTTP {
		spec.Ending = webEndings[a.Web.End]
		web := http.ListenSpec{ListenSpec: spec, HTTP: responder(a.Web)}
		try = func() (tcp.ListenResult, error) { return n.TryServe(ctx, web) }
	}
	got, err := try()
	if err != nil {
		return Result{}, err
	}
	if got.Outcome == tcp.Listening {
		p.mu.Lock()
		p.listeners = append(p.listeners, listener{id, n, got.Listener, a.Port, a.Serve == script.Hold})
		p.mu.Unlock()
	}
	return Result{Outcome: string(got.Outcome), Errno: errnoName(got.Errno), Holders: holders(got.Holders)}, nil
}

// listener finds the listener that a step has opened.
func (p *player) listener(of script.Conn) (listener, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.IndexFunc(p.listeners, func(l listener) bool { return l.id == of.Step })
	if i < 0 || of.Server {
		return listener{}, false
	}
	return p.listeners[i], true
}

// responder describes the responses of a listener.
func responder(w script.Web) *http.Responder {
	return &http.Responder{
		Status: w.Status, Body: w.Body, Last: w.Last, Delay: w.Delay, ReadAtMost: w.Reads,
		Framing: framings[w.Framing], Cut: w.Cut, JoinFIN: w.JoinFIN, Idle: w.Idle,
	}
}

// clients lists the nodes that an endpoint stands for.
func (p *player) clients(from script.Endpoint) []node.Node {
	names := p.scenario.Groups[from.Name]
	if len(names) == 0 {
		names = []string{from.Name}
	}
	var all []node.Node
	for _, name := range names {
		all = append(all, p.node(name))
	}
	return all
}

// attempt is the attempt of one client.
func (p *player) attempt(ctx context.Context, from node.Node, source, to script.Endpoint, then script.Ending, o script.Options) (tcp.Attempt, error) {
	a := tcp.Attempt{
		To: p.addr(to), Ending: endings[then], ReuseAddr: o.ReuseAddr, ReusePort: o.ReusePort, LatePort: o.LatePort, FastOpen: o.FastOpen, MPTCP: o.MPTCP,
		PortRange: tcp.PortRange{Low: o.Ports.First, High: o.Ports.Last},
		Options: tcp.Options{
			NoDelay: o.NoDelay, UserTimeout: o.UserTimeout,
			KeepAlive: tcp.KeepAlive{On: o.KeepIdle > 0 || o.KeepInterval > 0 || o.KeepCount > 0, Idle: o.KeepIdle, Interval: o.KeepInterval, Count: o.KeepCount},
		},
	}
	if source.Port != 0 || o.LatePort || o.EarlyPort {
		version := topo.IPv4
		if a.To.Addr().Is6() {
			version = topo.IPv6
		}
		here := from.Identity().AddrOf(version)
		if a.To.Addr().IsLoopback() {
			here = a.To.Addr()
		}
		a.From = netip.AddrPortFrom(here, source.Port)
	}
	var err error
	a.Budget, err = patience(ctx, from)
	return a, err
}

// patience is longer than the kernel tries to connect, so that every outcome is its own.
func patience(ctx context.Context, n node.Node) (time.Duration, error) {
	text, err := n.Sysctl(ctx, "net.ipv4.tcp_syn_retries")
	if err != nil {
		return 0, err
	}
	retries, err := strconv.Atoi(text)
	if err != nil {
		return 0, fmt.Errorf("net.ipv4.tcp_syn_retries of %s: %w", n.Identity().Name, err)
	}
	// Without linear timeouts the kernel tries for the longest time; timers are up to an eighth
	// late.
	longest := tcp.SYNTimer{Retries: retries}.GivesUp()
	return longest + longest/4 + tcp.DefaultBudget, nil
}

// connect makes the attempts of a step: those of each client at once, and all clients at
// once.
func (p *player) connect(ctx context.Context, id string, a script.Connect) (Result, error) {
	since := p.lab.Mark()
	clients := p.clients(a.From)
	results := make([][]tcp.Result, len(clients))
	var all errgroup.Group
	for i, from := range clients {
		one, err := p.attempt(ctx, from, a.From, a.To, a.Then, a.Options)
		if err != nil {
			return Result{}, err
		}
		one.ISN, one.Budget = a.ISN, cmp.Or(a.GiveUp, one.Budget)
		all.Go(func() (err error) {
			attempts := slices.Repeat([]tcp.Attempt{one}, max(1, a.Count))
			try := func(some []tcp.Attempt) ([]tcp.Result, error) { return from.Attempt(ctx, some) }
			if a.InTurn {
				results[i], err = inTurn(attempts, try)
			} else {
				results[i], err = try(attempts)
			}
			return err
		})
	}
	if err := all.Wait(); err != nil {
		return Result{}, err
	}
	var r Result
	var kept []tcp.Result
	for i, of := range results {
		for _, one := range of {
			r.Attempts = append(r.Attempts, attempted(clients[i].Identity().Name, p.addr(a.To), one, nil))
		}
		kept = append(kept, of...)
	}
	p.connected(id, &r, kept, since)
	if len(kept) == 1 && !kept[0].Conn.IsZero() {
		return r, p.noteClock(ctx, id)
	}
	return r, nil
}

// connected completes the result of the attempts of a step, and keeps its connections. got is
// what is known of each.
func (p *player) connected(id string, r *Result, got []tcp.Result, since lab.Mark) {
	for i := range r.Attempts {
		p.explain(&r.Attempts[i], since)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	before := p.conns[id] // of an exchange on connections that are there
	delete(p.conns, id)
	for i, one := range r.Attempts {
		if got[i].Conn.IsZero() || id == "" {
			continue
		}
		c := &connection{node: p.node(one.Node), handle: got[i].Conn, local: one.Local, to: one.Remote, since: since, timestamps: one.Timestamps}
		if i < len(before) {
			c.clock, c.timestamps = before[i].clock, before[i].timestamps
		}
		p.conns[id] = append(p.conns[id], c)
	}
	if len(r.Attempts) == 1 {
		r.Errno, r.Holders = cmp.Or(r.Attempts[0].Errno, errnoName(got[0].End.Errno)), holders(got[0].Holders)
	}
}

// firstOf is the node of an endpoint; of a group, the first.
func (p *player) firstOf(e script.Endpoint) string {
	if group := p.scenario.Groups[e.Name]; len(group) > 0 {
		return group[0]
	}
	if e.Name == "" {
		return p.plan.Nodes[0].Name // of an exchange on a connection, which has its own
	}
	return e.Name
}
