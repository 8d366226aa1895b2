//go:build linux

package tcp

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Ending says what one side does with an established connection. The side that closes first
// keeps it in TIME_WAIT (RFC 9293, 3.6).
type Ending string

// The endings. The zero value keeps the connection open.
const (
	// KeepOpen leaves the connection open for later calls.
	KeepOpen Ending = ""
	// CloseNow calls close(2) and does not wait: the kernel sends a FIN, or a RST when
	// received data was not read.
	CloseNow Ending = "close now"
	// CloseFirst sends a FIN, waits for the peer's FIN, and closes: when it returns, the
	// TIME_WAIT is on this side.
	CloseFirst Ending = "close first"
	// CloseAfterPeer waits for the peer's FIN and then closes: the TIME_WAIT is on the
	// peer's side.
	CloseAfterPeer Ending = "close after the peer"
	// Abort closes with SO_LINGER{1,0}: the kernel sends a RST, and neither side has a
	// TIME_WAIT. Data that the peer has not acknowledged is lost (tcp_disconnect).
	Abort Ending = "abort"
	// Vanish drops the connection and sends nothing, as when the machine loses power: the
	// peer still has the whole connection (close(2) in repair mode, tcp_close; needs
	// CAP_NET_ADMIN).
	Vanish Ending = "vanish"
)

// Validate returns an error when the ending is none of those above.
func (e Ending) Validate() error {
	switch e {
	case KeepOpen, CloseNow, CloseFirst, CloseAfterPeer, Abort, Vanish:
		return nil
	default:
		return fmt.Errorf("unknown ending %q", e)
	}
}

// waits reports whether the ending waits for the peer.
func (e Ending) waits() bool { return e == CloseFirst || e == CloseAfterPeer }

// End ends the connection. KeepOpen does nothing; any other ending closes a listener. When
// several calls end the same handle, exactly one gets the connection; for all other calls
// the handle is not valid from then on ([ErrNoHandle]). Calls that wait for the connection
// already go on until it is closed.
//
// When ctx ends before the peer's FIN has come, or the peer's RST comes instead
// ([ErrPeerReset]), the handle is valid again, and what is left of the connection can be
// ended in another way. A FIN that [CloseFirst] has sent is not taken back.
func (h *Host) End(ctx context.Context, conn Handle, how Ending) error {
	if err := how.Validate(); err != nil {
		return fmt.Errorf("socket %d: %w", conn.Number, err)
	}
	if how == KeepOpen {
		_, err := h.socket(conn)
		return err
	}
	return h.call(ctx, func(ctx context.Context) error {
		s, err := h.take(conn)
		if err != nil {
			return err
		}
		if s.listener != nil {
			how = CloseNow
		}
		if err := s.end(ctx, how); err != nil {
			h.giveBack(conn)
			return fmt.Errorf("socket %d: %s: %w", conn.Number, how, err)
		}
		h.forget(conn)
		return nil
	})
}

// end ends the connection and, unless the ending is KeepOpen, closes the socket. When it
// fails, the socket is still open.
func (s *socket) end(ctx context.Context, how Ending) error {
	switch how {
	case KeepOpen:
		return nil
	case CloseNow:
	case CloseFirst:
		// An error that ended the connection already is reported by awaitPeer.
		if err := s.shutdown(); err != nil && !errors.Is(err, unix.ENOTCONN) {
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
		return s.closeAfter(enterRepair)
	default:
		return how.Validate()
	}
	if err := s.resetOnClose(false); err != nil {
		return err
	}
	return s.close()
}

// shutdown sends a FIN after the data that remains to be sent.
func (s *socket) shutdown() error {
	if err := s.control(func(fd int) error { return unix.Shutdown(fd, unix.SHUT_WR) }); err != nil {
		return fmt.Errorf("shutdown: %w", err)
	}
	return nil
}

// ErrPeerReset means that the peer ended a connection by RST when its FIN was expected.
var ErrPeerReset = errors.New("the peer reset the connection")

// awaitPeer reads until the peer's FIN and discards the data.
func (s *socket) awaitPeer(ctx context.Context) error {
	got, err := s.receive(ctx, Limit{})
	switch {
	case err != nil:
		return err
	case got.Errno == unix.ECONNRESET:
		return ErrPeerReset
	case got.Errno != 0:
		return fmt.Errorf("no FIN of the peer: %w", got.Errno)
	default:
		return nil
	}
}

// Side is one of the two sides of a connection.
type Side string

// The sides, as the side that was asked sees them.
const (
	// Nobody: no side has ended the connection.
	Nobody Side = ""
	// Here: the side that was asked.
	Here Side = "here"
	// Peer: the other side.
	Peer Side = "the peer"
	// Unclear: both sides ended the connection between two looks at the socket, and no
	// TIME_WAIT shows which side was first.
	Unclear Side = "unclear"
)

// End describes how a connection ended.
type End struct {
	// First is the side that ended it first, by FIN or RST: Peer when the peer's FIN or RST
	// arrived before ours was sent. It is read from the state of the socket before and
	// after shutdown(2): FIN_WAIT1, FIN_WAIT2 and CLOSING mean that no FIN had come when
	// ours was sent, CLOSE_WAIT and LAST_ACK that one had (RFC 9293, 3.3.2). When the
	// connection was over before the second look, a TIME_WAIT on this side shows that our
	// FIN was first. With CloseNow and Abort there is no second look: an end that comes in
	// the microsecond before close(2) is missed.
	First Side
	// Errno is the kernel's error that came instead of the peer's FIN: ECONNRESET for a
	// RST; 0 when there was none.
	Errno syscall.Errno
	// Undecided means that our own budget ended before the peer's FIN came. The connection
	// was then reset.
	Undecided bool
}

// Err returns nil when the connection ended as its [Ending] says, or is open. It is for
// callers that need exactly that end; after a RST it wraps [ErrPeerReset].
func (e End) Err() error {
	switch {
	case e.Undecided:
		return errors.New("our budget ended before the peer's FIN")
	case e.Errno == unix.ECONNRESET:
		return ErrPeerReset
	case e.Errno != 0:
		return fmt.Errorf("no FIN of the peer: %w", e.Errno)
	default:
		return nil
	}
}

// endNow ends a connection without waiting for the peer; before is its state just before.
// In any case the socket is then closed, unless the ending keeps it open.
func (s *socket) endNow(how Ending, before uint8) (end End, err error) {
	switch {
	case before == unix.BPF_TCP_CLOSE || before == unix.BPF_TCP_CLOSE_WAIT:
		end.First = Peer
	case how == CloseNow || how == Abort:
		end.First = Here
	}
	if err := s.end(context.Background(), how); err != nil {
		return end, errors.Join(err, s.close())
	}
	return end, nil
}

// finish ends a connection and reports how it ended. What the peer does is not an error;
// the end of ctx is, and so is a failure on this side. In any case the socket is then
// closed, unless the ending keeps it open.
func (h *Host) finish(ctx context.Context, s *socket, peer netip.AddrPort, how Ending, budget time.Duration) (End, error) {
	st, err := h.stream(ctx, s, peer)
	if err != nil {
		return End{}, errors.Join(err, s.close())
	}
	defer st.letGo()
	return st.finish(ctx, how, budget)
}
