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
	// Vanish drops the connection and sends nothing, as when the machine
	// loses power: the peer still has all of it (close(2) in repair mode,
	// tcp_close; needs CAP_NET_ADMIN).
	Vanish Ending = "vanish"
)

// Validate tells an ending from other words.
func (e Ending) Validate() error {
	switch e {
	case KeepOpen, CloseNow, CloseFirst, CloseAfterPeer, Abort, Vanish:
		return nil
	default:
		return fmt.Errorf("unknown ending %q", e)
	}
}

// waits tells whether the ending waits for the peer.
func (e Ending) waits() bool { return e == CloseFirst || e == CloseAfterPeer }

// End brings the connection to its end. For KeepOpen it does nothing; a listener
// is closed by any other ending. Of several calls for one handle exactly one gets
// the connection, and the handle names nothing for all others from then on
// ([ErrNoHandle]). Calls that wait for the connection already go on until it is
// closed.
//
// When ctx ends before the peer's FIN has come, or the peer's RST comes instead
// ([ErrPeerReset]), the handle names the connection again, and what is left of it
// can be ended in another way. The FIN that [CloseFirst] has sent is not taken
// back.
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

// end carries out the ending and, unless it is KeepOpen, closes the socket. A
// socket whose ending fails is open.
func (s *socket) end(ctx context.Context, how Ending) error {
	switch how {
	case KeepOpen:
		return nil
	case CloseNow:
	case CloseFirst:
		// What has ended the connection already is awaitPeer's to tell.
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

// Side is one of the two sides of a connection.
type Side string

// The sides, as one of them sees them.
const (
	// Nobody has ended the connection.
	Nobody Side = ""
	// Here is the side that is asked.
	Here Side = "here"
	// Peer is the other one.
	Peer Side = "the peer"
	// Unclear is what nothing tells: both ends have come between two looks at
	// the socket, and there is no TIME_WAIT that shows whose was the first.
	Unclear Side = "unclear"
)

// End is how a connection ended.
type End struct {
	// First is who ended it first, by FIN or RST: Peer when the peer's had
	// arrived before ours was sent. It is read from the socket's own state before
	// and after shutdown(2): FIN_WAIT1, FIN_WAIT2 and CLOSING say that no FIN had
	// come when ours was sent, CLOSE_WAIT and LAST_ACK that one had (RFC 9293,
	// 3.3.2). When all was over before the second look, a TIME_WAIT on this side
	// says that ours was the first. With CloseNow and Abort there is no second
	// look: an end that comes in the microsecond before close(2) is missed.
	First Side
	// Errno is the kernel's error that came instead of the peer's FIN:
	// ECONNRESET for a RST. Else 0.
	Errno syscall.Errno
	// Undecided says that our own budget ended before the peer's FIN came. We
	// have reset the connection then.
	Undecided bool
}

// Err is nil when the connection ended as its [Ending] says, or is open. It is for
// callers whose situation has not come about otherwise; it wraps [ErrPeerReset]
// after a RST.
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

// endNow brings a connection, whose state was as said just before, to an end that
// does not wait for the peer. Whatever happens, the socket is closed, or is open
// because it is to be kept.
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

// finish brings a connection to its end and tells how that was. Only the end of
// ctx, and what is ours to mend, is an error. Whatever happens, the socket is
// closed, or is open because it is to be kept.
func (h *Host) finish(ctx context.Context, s *socket, peer netip.AddrPort, how Ending, budget time.Duration) (End, error) {
	st, err := h.stream(ctx, s, peer)
	if err != nil {
		return End{}, errors.Join(err, s.close())
	}
	defer st.letGo()
	return st.finish(ctx, how, budget)
}
