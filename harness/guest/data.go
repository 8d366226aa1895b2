//go:build linux

package guest

import (
	"context"
	"syscall"

	"twlab/harness/internal/agent"
	"twlab/harness/tcp"
)

// Send writes up to n bytes to a connection of the guest.
func (m *Machine) Send(ctx context.Context, conn tcp.Handle, n int) (int, error) {
	return ask(ctx, m, agent.Send, agent.Transmission{Conn: conn, Bytes: n})
}

// Receive reads a connection of the guest until the peer ends it.
func (m *Machine) Receive(ctx context.Context, conn tcp.Handle) (tcp.Received, error) {
	return ask(ctx, m, agent.Receive, conn)
}

// TrySend writes up to n bytes to a connection of the guest, and returns what the kernel says.
func (m *Machine) TrySend(ctx context.Context, conn tcp.Handle, n int) (tcp.Sent, error) {
	return ask(ctx, m, agent.TrySend, agent.Transmission{Conn: conn, Bytes: n})
}

// ReceiveUpTo reads a connection of the guest until its end or the limit.
func (m *Machine) ReceiveUpTo(ctx context.Context, conn tcp.Handle, limit tcp.Limit) (tcp.Received, error) {
	return ask(ctx, m, agent.ReceiveUpTo, agent.Reception{Conn: conn, Limit: limit})
}

// HalfClose sends the FIN of a connection of the guest, and keeps the connection.
func (m *Machine) HalfClose(ctx context.Context, conn tcp.Handle) (syscall.Errno, error) {
	return ask(ctx, m, agent.HalfClose, conn)
}

// SocketError reads the pending error of a connection of the guest.
func (m *Machine) SocketError(ctx context.Context, conn tcp.Handle) (syscall.Errno, error) {
	return ask(ctx, m, agent.SocketError, conn)
}
