//go:build linux

package tcp

import (
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// HalfClose sends a FIN after the data that remains to be sent, and keeps the connection
// (shutdown(2) with SHUT_WR, tcp_shutdown): what the peer sends later can be received. The
// errno is the kernel's: ENOTCONN when the connection is over already, else 0.
func (h *Host) HalfClose(conn Handle) (errno syscall.Errno, err error) {
	s, err := h.connection(conn)
	if err == nil {
		err = s.shutdown()
	}
	if errors.Is(err, unix.ENOTCONN) {
		return unix.ENOTCONN, nil
	}
	if err != nil {
		return 0, fmt.Errorf("half-close socket %d: %w", conn.Number, err)
	}
	return 0, nil
}

// SocketError reads the pending error of a connection, and so takes it from the next send
// (SO_ERROR; sock_error); 0 when there is none. Reads go on reporting it ([Host.Receive]).
func (h *Host) SocketError(conn Handle) (errno syscall.Errno, err error) {
	s, err := h.connection(conn)
	if err == nil {
		err = s.control(func(fd int) error {
			pending, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
			if errno = syscall.Errno(pending); errno != 0 {
				s.noteBroken(errno)
			}
			return err
		})
	}
	if err != nil {
		return 0, fmt.Errorf("read SO_ERROR of socket %d: %w", conn.Number, err)
	}
	return errno, nil
}
