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
	// Vanish forgets the connection and sends nothing, as when the machine
	// loses power: the peer still has all of it (close(2) in repair mode,
	// tcp_close; needs CAP_NET_ADMIN).
	Vanish Ending = "vanish"
)

// check tells an ending from other words.
func (e Ending) check() error {
	switch e {
	case KeepOpen, CloseNow, CloseFirst, CloseAfterPeer, Abort, Vanish:
		return nil
	default:
		return fmt.Errorf("unknown ending %q", e)
	}
}

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
		if err := s.shutdown(); err != nil {
			return err
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
	case Vanish:
		err := s.control(func(fd int) error { return unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_REPAIR, 1) })
		if err != nil {
			return fmt.Errorf("enter repair mode: %w", err)
		}
		return s.close()
	default:
		return how.check()
	}
	if err := s.resetOnClose(false); err != nil {
		return err
	}
	return s.close()
}

// shutdown sends a FIN after what is still to be sent.
func (s *socket) shutdown() error {
	if err := s.control(func(fd int) error { return unix.Shutdown(fd, unix.SHUT_WR) }); err != nil {
		return fmt.Errorf("shutdown: %w", err)
	}
	return nil
}

// ErrPeerReset says that the peer ended a connection by RST where its FIN was
// awaited.
var ErrPeerReset = errors.New("the peer reset the connection")

// awaitPeer reads until the peer's FIN and throws away what it reads.
func (s *socket) awaitPeer(ctx context.Context) error {
	got, err := s.receive(ctx)
	if err == nil && got.Errno != 0 {
		return ErrPeerReset
	}
	return err
}
