//go:build linux

package play

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"twlab/harness/http"
	"twlab/harness/node"
	"twlab/harness/recorded"
	"twlab/harness/script"
	"twlab/harness/tcp"
)

// exchange makes HTTP requests on new connections, or on those that were kept.
func (p *player) exchange(ctx context.Context, id string, a script.Exchange) (r Result, err error) {
	since, to := p.lab.Mark(), p.addr(a.To)
	request := http.Request{Connection: a.Connection, Body: a.Body}
	x := http.Exchange{Requests: slices.Repeat([]http.Request{request}, max(1, a.Requests))}
	var got []exchanged
	if a.Conn == "" {
		from := p.node(p.firstOf(a.From))
		if x.Attempt, err = p.attempt(ctx, from, a.From, a.To, a.Then, a.Options); err != nil {
			return Result{}, err
		}
		atOnce := max(1, a.Count)
		if a.InTurn {
			atOnce = 1
		}
		x.Budget = cmp.Or(a.GiveUp, x.Budget)
		got, err = exchangeAll(ctx, from, slices.Repeat([]http.Exchange{x}, max(1, a.Count)), atOnce)
	} else {
		var conns []*connection
		if conns, err = p.connsOf(a.Conn); err != nil {
			return Result{}, err
		}
		id, to, since = a.Conn, conns[0].to, conns[0].since
		x.Ending = endings[a.Then]
		got, err = onEach(ctx, conns, x)
	}
	if err != nil {
		return Result{}, err
	}
	var kept []tcp.Result
	for _, one := range got {
		r.Attempts = append(r.Attempts, recorded.Attempt(one.by, to, one.Result, one.Replies))
		kept = append(kept, one.Result)
	}
	p.connected(id, &r, kept, since)
	if len(r.Attempts) > 1 {
		return r, nil
	}
	for _, reply := range r.Attempts[0].Replies {
		r.Sent += reply.Written
		r.Received += reply.Bytes
		r.Errno = cmp.Or(reply.WriteErrno, reply.Errno)
	}
	return r, nil
}

// exchanged is what became of the exchange of a node.
type exchanged struct {
	by string
	http.Exchanged
}

// exchangeAll makes exchanges of one client, so many at once.
func exchangeAll(ctx context.Context, from node.Node, all []http.Exchange, atOnce int) (done []exchanged, err error) {
	got, err := from.Exchange(ctx, all, atOnce)
	for _, one := range got {
		done = append(done, exchanged{from.Identity().Name, one})
	}
	return done, err
}

// onEach makes an exchange on each connection, all at once.
func onEach(ctx context.Context, conns []*connection, x http.Exchange) ([]exchanged, error) {
	done := make([]exchanged, len(conns))
	var all errgroup.Group
	for i, c := range conns {
		one := x
		one.Conn = c.handle
		all.Go(func() error {
			got, err := exchangeAll(ctx, c.node, []http.Exchange{one}, 1)
			if err == nil {
				done[i] = got[0]
			}
			return err
		})
	}
	return done, all.Wait()
}

// connsOf finds the connections of a step that were kept.
func (p *player) connsOf(id string) ([]*connection, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.conns[id]) == 0 {
		return nil, fmt.Errorf("there is no connection %q: its step was left out, or it did not connect", id)
	}
	return p.conns[id], nil
}

// conn finds a connection that was kept.
func (p *player) conn(id string) (*connection, error) {
	all, err := p.connsOf(id)
	if err != nil {
		return nil, err
	}
	return all[0], nil
}
