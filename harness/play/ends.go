//go:build linux

package play

import (
	"context"
	"errors"
	"fmt"

	"twlab/harness/node"
	"twlab/harness/recording"
	"twlab/harness/script"
	"twlab/harness/tcp"
)

// end is the server's end of a connection.
type end struct {
	node   node.Node
	handle tcp.Handle
}

// endOf finds one end of a connection.
func (p *player) endOf(ctx context.Context, of script.Conn) (end, error) {
	c, err := p.conn(of.Step)
	if err != nil {
		return end{}, err
	}
	if !of.Server {
		return end{c.node, c.handle}, nil
	}
	if c.server == nil {
		if c.server, err = p.accepted(ctx, c); err != nil {
			return end{}, fmt.Errorf("the server's end of %q: %w", of.Step, err)
		}
	}
	return *c.server, nil
}

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
		handle, err := l.node.Accept(ctx, l.handle, peer)
		if err != nil {
			return nil, err
		}
		return &end{l.node, handle}, nil
	}
	return nil, fmt.Errorf("%s has no listener on port %d that says \"serve: hold\"", at, listens.Port())
}

func (p *player) send(ctx context.Context, a script.Send) (Result, error) {
	e, err := p.endOf(ctx, a.Conn)
	if err != nil {
		return Result{}, err
	}
	sent, err := e.node.TrySend(ctx, e.handle, a.Bytes)
	return Result{Sent: int64(sent.Bytes), Errno: errnoName(sent.Errno), On: p.on(a.Conn)}, err
}

func (p *player) receive(ctx context.Context, a script.Receive) (Result, error) {
	e, err := p.endOf(ctx, a.Conn)
	if err != nil {
		return Result{}, err
	}
	got, err := e.node.ReceiveUpTo(ctx, e.handle, tcp.Limit{Bytes: a.Bytes, Within: a.Within})
	on := p.on(a.Conn)
	on.Waited = got.Open && (a.Bytes == 0 || got.Bytes < a.Bytes)
	return Result{Received: int64(got.Bytes), Errno: errnoName(got.Errno), On: on}, err
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
	return Result{Errno: errnoName(errno)}, err
}

// clock advances the timestamp clock of a connection. Its ticks are milliseconds (Linux 4.13).
func (p *player) clock(ctx context.Context, a script.Clock) (Result, error) {
	e, err := p.endOf(ctx, a.Conn)
	if err == nil {
		err = e.node.AdvanceClock(ctx, e.handle, int32(a.Advance.Milliseconds())) //nolint:gosec // at most a day
	}
	return Result{}, err
}

var errNoPacket = errors.New("no packet shows where its SYN arrived")
