//go:build linux

package play

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"twlab/harness/node"
	"twlab/harness/recorded"
	"twlab/harness/recording"
	"twlab/harness/script"
	"twlab/harness/tcp"
)

// end is the server's end of a connection. Local and remote are its addresses, as its own
// kernel has them; those of a client's end are in its connection.
type end struct {
	node          node.Node
	handle        tcp.Handle
	local, remote netip.AddrPort
}

// endOf finds one end of a connection.
func (p *player) endOf(ctx context.Context, of script.Conn) (end, error) {
	c, err := p.conn(of.Step)
	if err != nil {
		return end{}, err
	}
	if !of.Server {
		return end{node: c.node, handle: c.handle}, nil
	}
	if c.server == nil {
		if c.server, err = p.accepted(ctx, c); err != nil {
			return end{}, fmt.Errorf("the server's end of %q: %w", of.Step, err)
		}
	}
	return *c.server, nil
}

// arrives is how long a connection may take to come out of the accept queue: its client is
// connected already.
const arrives = 10 * time.Second

// accepted finds the server's end of a connection: where its SYN arrived last.
func (p *player) accepted(ctx context.Context, c *connection) (*end, error) {
	at, peer, listens, err := p.arrival(c)
	if err != nil {
		return nil, err
	}
	for _, l := range p.listeners {
		if !l.holds || l.node.Identity().Name != at || l.port != listens.Port() {
			continue
		}
		soon, stop := context.WithTimeout(ctx, arrives)
		defer stop()
		handle, err := l.node.Accept(soon, l.handle, peer)
		if err != nil {
			return nil, fmt.Errorf("the connection from %v to be accepted: %w", peer, err)
		}
		return &end{l.node, handle, listens, peer}, nil
	}
	return nil, fmt.Errorf("%s has no listener on port %d that says \"serve: hold\"", at, listens.Port())
}

func (p *player) send(ctx context.Context, a script.Send) (Result, error) {
	e, err := p.endOf(ctx, a.Conn)
	if err != nil {
		return Result{}, err
	}
	sent, err := e.node.TrySend(ctx, e.handle, a.Bytes)
	return Result{Sent: int64(sent.Bytes), Errno: recorded.Errno(sent.Errno), On: p.on(a.Conn)}, err
}

func (p *player) receive(ctx context.Context, a script.Receive) (Result, error) {
	e, err := p.endOf(ctx, a.Conn)
	if err != nil {
		return Result{}, err
	}
	got, err := e.node.ReceiveUpTo(ctx, e.handle, tcp.Limit{Bytes: a.Bytes, Within: a.Within})
	on := p.on(a.Conn)
	on.Waited = got.Open && (a.Bytes == 0 || got.Bytes < a.Bytes)
	return Result{Received: int64(got.Bytes), Errno: recorded.Errno(got.Errno), On: on}, err
}

// on is the connection that a step has used.
func (p *player) on(of script.Conn) *recording.On {
	c, err := p.conn(of.Step)
	if err != nil {
		return nil // its end was found, so it is there
	}
	return &recording.On{Node: c.node.Identity().Name, Local: c.local, Remote: c.to, AtServer: of.Server}
}

// endConn ends one end of a connection.
func (p *player) endConn(ctx context.Context, of script.Conn, how tcp.Ending) (Result, error) {
	e, err := p.endOf(ctx, of)
	if err == nil {
		err = e.node.End(ctx, e.handle, how)
	}
	return Result{}, err
}

func (p *player) halfClose(ctx context.Context, a script.HalfClose) (Result, error) {
	e, err := p.endOf(ctx, a.Conn)
	if err != nil {
		return Result{}, err
	}
	errno, err := e.node.HalfClose(ctx, e.handle)
	return Result{Errno: recorded.Errno(errno)}, err
}

var errNoPacket = errors.New("no packet shows where its SYN arrived")
