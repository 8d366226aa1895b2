//go:build linux

package node

import (
	"context"
	"syscall"

	"twlab/harness/tcp"
)

// Send writes up to n bytes to a connection of the node.
func (l *Local) Send(_ context.Context, conn tcp.Handle, n int) (int, error) {
	taken, err := l.host.Send(conn, n)
	return taken, l.wrap(err)
}

// TrySend writes up to n bytes to a connection of the node, and returns what the kernel says.
func (l *Local) TrySend(_ context.Context, conn tcp.Handle, n int) (tcp.Sent, error) {
	sent, err := l.host.TrySend(conn, n)
	return sent, l.wrap(err)
}

// Receive reads a connection of the node until its end.
func (l *Local) Receive(ctx context.Context, conn tcp.Handle) (tcp.Received, error) {
	got, err := l.host.Receive(ctx, conn)
	return got, l.wrap(err)
}

// ReceiveUpTo reads a connection of the node until its end or the limit.
func (l *Local) ReceiveUpTo(ctx context.Context, conn tcp.Handle, limit tcp.Limit) (tcp.Received, error) {
	got, err := l.host.ReceiveUpTo(ctx, conn, limit)
	return got, l.wrap(err)
}

// HalfClose sends the FIN of a connection of the node, and keeps the connection.
func (l *Local) HalfClose(_ context.Context, conn tcp.Handle) (syscall.Errno, error) {
	errno, err := l.host.HalfClose(conn)
	return errno, l.wrap(err)
}

// SocketError reads the pending error of a connection of the node.
func (l *Local) SocketError(_ context.Context, conn tcp.Handle) (syscall.Errno, error) {
	errno, err := l.host.SocketError(conn)
	return errno, l.wrap(err)
}
