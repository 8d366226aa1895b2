package tcp

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Ending is what becomes of a connection that is there, at either side of it.
// Who ends a connection first decides who keeps it in TIME_WAIT (RFC 9293,
// 3.6).
type Ending string

// The endings. The zero value keeps the connection open.
const (
	// KeepOpen leaves the connection to later calls.
	KeepOpen Ending = ""
	// CloseNow calls close(2) and waits for nothing: a FIN, or a RST when
	// received data was not read.
	CloseNow Ending = "close now"
	// CloseFirst sends a FIN, waits for the peer's, and closes: when it
	// returns, the TIME_WAIT is here.
	CloseFirst Ending = "close first"
	// CloseAfterPeer waits for the peer's FIN and then closes: the TIME_WAIT
	// is at the peer.
	CloseAfterPeer Ending = "close after the peer"
	// Abort closes with SO_LINGER{1,0}: a RST, and TIME_WAIT on neither side.
	// Data that the peer has not acknowledged is lost (tcp_disconnect).
	Abort Ending = "abort"
)

// waits tells whether the ending waits for the peer.
func (e Ending) waits() bool { return e == CloseFirst || e == CloseAfterPeer }

// End brings the connection to its end. For KeepOpen it does nothing. When ctx
// ends before the peer's FIN has come, the connection stays open.
func (h *Host) End(ctx context.Context, conn Handle, how Ending) error {
	s, err := h.socket(conn)
	if err != nil {
		return err
	}
	if how == KeepOpen {
		return nil
	}
	if err := s.end(ctx, how); err != nil {
		return fmt.Errorf("socket %d: %s: %w", conn, how, err)
	}
	h.forget(conn)
	return nil
}

// end carries out the ending and, unless it is KeepOpen, closes the socket.
func (s *socket) end(ctx context.Context, how Ending) error {
	switch how {
	case KeepOpen:
		return nil
	case CloseNow:
	case CloseFirst:
		if err := s.control(func(fd int) error { return unix.Shutdown(fd, unix.SHUT_WR) }); err != nil {
			return fmt.Errorf("shutdown: %w", err)
		}
		if err := s.awaitPeer(ctx); err != nil {
			return err
		}
	case CloseAfterPeer:
		if err := s.awaitPeer(ctx); err != nil {
			return err
		}
	case Abort:
		return s.close() // every socket has SO_LINGER{1,0} until here
	default:
		return fmt.Errorf("unknown ending %q", how)
	}
	if err := s.resetOnClose(false); err != nil {
		return err
	}
	return s.close()
}

// ErrPeerReset says that the peer ended a connection by RST where its FIN was
// awaited.
var ErrPeerReset = errors.New("the peer reset the connection")

// awaitPeer reads until the peer's FIN and throws away what it reads.
func (s *socket) awaitPeer(ctx context.Context) error {
	var (
		failure error
		scratch [4096]byte
	)
	err := s.await(ctx, false, func(fd int) (done bool) {
		for {
			n, err := unix.Read(fd, scratch[:])
			switch {
			case err == unix.EAGAIN:
				return false
			case err == unix.EINTR:
			case err == unix.ECONNRESET:
				failure = ErrPeerReset
				return true
			case err != nil:
				failure = fmt.Errorf("read: %w", err)
				return true
			case n == 0:
				return true
			}
		}
	})
	if err != nil {
		return fmt.Errorf("await the peer's FIN: %w", err)
	}
	return failure
}
