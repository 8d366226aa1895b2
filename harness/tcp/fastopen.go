//go:build linux

package tcp

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// FastOpen says what became of the data of an attempt by TCP Fast Open (RFC 7413).
type FastOpen string

// What can become of the data.
const (
	// NoFastOpen: the attempt did not ask for it, or was not Connected.
	NoFastOpen FastOpen = ""
	// CookieWanted: the client had no cookie of the server. Its SYN asked for one, and the
	// data followed the handshake (tcp_fastopen_defer_connect).
	CookieWanted FastOpen = "cookie wanted"
	// DataInSYN: the SYN carried data, and the SYN-ACK acknowledged it (TCPI_OPT_SYN_DATA).
	DataInSYN FastOpen = "data in SYN"
	// DataNotAcked: the SYN carried data, and the SYN-ACK did not acknowledge it: the client
	// sent it again after the handshake (tcp_rcv_fastopen_synack).
	DataNotAcked FastOpen = "data in SYN not acknowledged"
)

// connectFast is connect(2) with data: the kernel keeps the SYN back until the first write
// when it has a cookie (TCP_FASTOPEN_CONNECT, Linux 4.11).
func (t *try) connectFast(to unix.Sockaddr) error {
	fd := t.socket.fd
	err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_FASTOPEN_CONNECT, 1)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("set TCP_FASTOPEN_CONNECT: net.ipv4.tcp_fastopen has no 1 (client) on this node: %w", err)
	}
	if err != nil {
		return fmt.Errorf("set TCP_FASTOPEN_CONNECT: %w", lacking(err, "4.11"))
	}
	if err := unix.Connect(fd, to); err != nil {
		return err // EINPROGRESS: there was no cookie
	}
	n, err := unix.Write(fd, make([]byte, t.FastOpen))
	if err == nil {
		t.inSYN, err = n, unix.EINPROGRESS
	}
	return err
}

// followFast sends what the SYN did not carry, and notes what became of it.
func (t *try) followFast(fd int) error {
	if t.inSYN < t.FastOpen {
		if _, err := unix.Write(fd, make([]byte, t.FastOpen-t.inSYN)); err != nil {
			return fmt.Errorf("send %d bytes after the handshake: %w", t.FastOpen-t.inSYN, err)
		}
	}
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return fmt.Errorf("TCP_INFO: %w", err)
	}
	switch {
	case t.inSYN == 0:
		t.out.FastOpen = CookieWanted
	case info.Options&tcpiOptSynData != 0:
		t.out.FastOpen = DataInSYN
	default:
		t.out.FastOpen = DataNotAcked
		t.out.SYNs = max(1, t.out.SYNs-1) // the data that was sent again counts in tcpi_total_retrans too
	}
	return nil
}

// tcpiOptSynData is TCPI_OPT_SYN_DATA of include/uapi/linux/tcp.h.
const tcpiOptSynData = 32
