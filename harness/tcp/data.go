//go:build linux

package tcp

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Sent describes a send.
type Sent struct {
	// Bytes is how many the kernel took.
	Bytes int
	// Errno says why it took no more: EAGAIN when the send buffer is full, which the peer's
	// window keeps so (sk_stream_wait_memory), the error that ended the connection
	// (ECONNRESET, ETIMEDOUT, EHOSTUNREACH), which the kernel reports once, or EPIPE after
	// that and after a FIN of this side (tcp_sendmsg_locked, sk_stream_error). It is 0 when
	// all bytes were taken.
	Errno syscall.Errno
}

// Err returns nil when the connection still takes bytes, now or when there is room again,
// and otherwise an error that wraps the kernel's.
func (s Sent) Err() error {
	if s.Errno == 0 || s.Errno == unix.EAGAIN {
		return nil
	}
	return fmt.Errorf("after %d bytes: %w", s.Bytes, s.Errno)
}

// Send writes up to n bytes to a connection and returns how many the kernel took. It does
// not wait: the send buffer and the peer's window decide how many that are. A connection
// that takes none any more is an error.
func (h *Host) Send(conn Handle, n int) (taken int, err error) {
	sent, err := h.TrySend(conn, n)
	if err == nil && sent.Err() != nil {
		err = fmt.Errorf("send on socket %d: %w", conn.Number, sent.Err())
	}
	return sent.Bytes, err
}

// TrySend is Send for a caller that expects one certain error number: whatever the kernel
// says is a result. An error means that there is no such connection.
func (h *Host) TrySend(conn Handle, n int) (sent Sent, err error) {
	s, err := h.connection(conn)
	if err != nil {
		return sent, fmt.Errorf("send: %w", err)
	}
	data := make([]byte, n)
	for sent.Bytes < n {
		written, err := s.writeOnce(data[sent.Bytes:])
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.As(err, &sent.Errno):
			return sent, nil
		case err != nil:
			return sent, fmt.Errorf("send on socket %d after %d bytes: %w", conn.Number, sent.Bytes, err)
		default:
			sent.Bytes += written
		}
	}
	return sent, nil
}

// Received describes what arrived on a connection.
type Received struct {
	// Bytes is the number of bytes that were read.
	Bytes int
	// Errno is the kernel's error that ended the connection: ECONNRESET after the peer's
	// RST, ETIMEDOUT or EHOSTUNREACH when the kernel gave up; 0 when there was none, as
	// after the peer's FIN.
	Errno syscall.Errno
	// Open means that the read stopped at its [Limit], and nothing had ended the connection
	// by then.
	Open bool
}

// Limit says when a read stops, unless the connection ends first.
type Limit struct {
	// Bytes, when it is not 0, is the most that is read.
	Bytes int
	// Within, when it is not 0, is how long to wait.
	Within time.Duration
}

// Receive reads a connection until its end. The connection stays open for [Host.End].
// Several calls at once take turns: the first reads the data, and all of them report how the
// connection ended, though the kernel says it once.
func (h *Host) Receive(ctx context.Context, conn Handle) (got Received, err error) {
	return h.ReceiveUpTo(ctx, conn, Limit{})
}

// ReceiveUpTo is Receive that may stop earlier. What it leaves is there for the next call.
func (h *Host) ReceiveUpTo(ctx context.Context, conn Handle, limit Limit) (got Received, err error) {
	if limit.Bytes < 0 || limit.Within < 0 {
		return got, fmt.Errorf("receive on socket %d: limit of %d bytes and %v: want none below 0", conn.Number, limit.Bytes, limit.Within)
	}
	err = h.call(ctx, func(ctx context.Context) error {
		s, err := h.connection(conn)
		if err == nil {
			got, err = s.receive(ctx, limit)
		}
		return err
	})
	if err != nil {
		return got, fmt.Errorf("receive on socket %d: %w", conn.Number, err)
	}
	return got, nil
}

// errLimit is the cause of the end of a context that ends with a [Limit].
var errLimit = fmt.Errorf("the limit of the read: %w", os.ErrDeadlineExceeded)

func (s *socket) receive(ctx context.Context, limit Limit) (got Received, err error) {
	if limit.Within > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, limit.Within, errLimit)
		defer cancel()
	}
	var (
		failure error
		scratch [4096]byte
	)
	err = s.await(ctx, false, func(int) (done bool) {
		for limit.Bytes == 0 || got.Bytes < limit.Bytes {
			piece := scratch[:]
			if limit.Bytes != 0 {
				piece = piece[:min(len(piece), limit.Bytes-got.Bytes)]
			}
			n, err := s.readOnce(piece)
			switch {
			case errors.Is(err, unix.EAGAIN):
				return false
			case errors.Is(err, unix.EINTR):
			case errors.As(err, &got.Errno):
				return true
			case err != nil:
				failure = fmt.Errorf("read: %w", err)
				return true
			case n == 0:
				return true
			default:
				got.Bytes += n
			}
		}
		got.Open = true
		return true
	})
	if err != nil && errors.Is(context.Cause(ctx), errLimit) {
		got.Open = true
		return got, nil
	}
	if err != nil {
		return got, fmt.Errorf("await the end of the connection: %w", err)
	}
	return got, failure
}
