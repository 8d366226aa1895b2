//go:build linux

package tcp

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// Send writes up to n bytes to a connection and returns how many the kernel took. It does
// not wait: the send buffer and the peer's window decide how many that are.
func (h *Host) Send(conn Handle, n int) (taken int, err error) {
	s, err := h.connection(conn)
	if err != nil {
		return 0, fmt.Errorf("send: %w", err)
	}
	data := make([]byte, n)
	for taken < n {
		written, err := s.writeOnce(data[taken:])
		switch {
		case errors.Is(err, unix.EAGAIN):
			return taken, nil
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return taken, fmt.Errorf("send on socket %d after %d bytes: %w", conn.Number, taken, err)
		default:
			taken += written
		}
	}
	return taken, nil
}

// Received describes what arrived on a connection until the peer ended it.
type Received struct {
	// Bytes is the number of bytes that were read.
	Bytes int
	// Errno is 0 when the peer ended the connection by FIN, ECONNRESET when it ended it by
	// RST.
	Errno syscall.Errno
}

// Receive reads a connection until the peer ends it. The connection stays open for
// [Host.End]. Several calls at once take turns: the first reads the data, and all of them
// report how the peer ended the connection.
func (h *Host) Receive(ctx context.Context, conn Handle) (got Received, err error) {
	err = h.call(ctx, func(ctx context.Context) error {
		s, err := h.connection(conn)
		if err == nil {
			got, err = s.receive(ctx)
		}
		return err
	})
	if err != nil {
		return got, fmt.Errorf("receive on socket %d: %w", conn.Number, err)
	}
	return got, nil
}

func (s *socket) receive(ctx context.Context) (got Received, err error) {
	var (
		failure error
		scratch [4096]byte
	)
	err = s.await(ctx, false, func(int) (done bool) {
		for {
			n, err := s.readOnce(scratch[:])
			switch {
			case errors.Is(err, unix.EAGAIN):
				return false
			case errors.Is(err, unix.EINTR):
			case errors.Is(err, unix.ECONNRESET):
				got.Errno = unix.ECONNRESET
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
	})
	if err != nil {
		return got, fmt.Errorf("await the peer's FIN: %w", err)
	}
	return got, failure
}
