//go:build linux

package lab

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Commands of ethtool (include/uapi/linux/ethtool.h).
const (
	ethtoolSetTSO = 0x1f
	ethtoolGetGRO = 0x2b
	ethtoolSetGRO = 0x2c
)

// openControl opens the descriptor for reading and changing link settings, in the calling
// thread's network namespace.
func openControl() (*os.File, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open a socket for ethtool: %w", err)
	}
	return os.NewFile(uintptr(fd), "ethtool"), nil
}

// keepOrder makes one end of a veth pair receive packets in the order in which they were
// sent. It must be called for both ends.
//
// Otherwise packets wait in a queue of the processor that sent them (netif_rx), and packets
// of one connection that two processors sent can overtake each other. The ACK of a FIN,
// sent by the timer for delayed ACKs, then arrives after the FIN that was sent later. It
// meets a TIME_WAIT, which answers it; the other side no longer has the connection, and its
// RST ends the TIME_WAIT at once (RFC 1337). On a real network, a path with a single route
// does not do that to a connection.
//
// With generic receive offload there is one queue per link, and one processor at a time
// reads from it (veth_xmit and veth_xdp_rx, since Linux 5.13). It is used only while the
// sender's segmentation offload is off (veth_skb_is_eligible_for_gro). Older kernels accept
// the settings and still have one queue per processor.
func (l *links) keepOrder(link string) error {
	if _, err := l.ethtool(link, ethtoolSetTSO, 0); err != nil {
		return fmt.Errorf("turn off segmentation offload of %s: %w", link, err)
	}
	if _, err := l.ethtool(link, ethtoolSetGRO, 1); err != nil {
		return fmt.Errorf("turn on receive offload of %s: %w", link, err)
	}
	return nil
}

// ethtool sends one command with its value (struct ethtool_value) and returns the value
// that the kernel wrote.
func (l *links) ethtool(link string, command, value uint32) (uint32, error) {
	argument := struct{ command, value uint32 }{command, value}
	request := struct { // struct ifreq
		name     [unix.IFNAMSIZ]byte
		argument unsafe.Pointer
		_        [16]byte
	}{argument: unsafe.Pointer(&argument)}
	copy(request.name[:unix.IFNAMSIZ-1], link)
	raw, err := l.control.SyscallConn()
	if err != nil {
		return 0, err
	}
	var errno unix.Errno
	err = raw.Control(func(fd uintptr) {
		_, _, errno = unix.Syscall(unix.SYS_IOCTL, fd, unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request)))
	})
	if err == nil && errno != 0 {
		err = errno
	}
	return argument.value, err
}

// Close closes both descriptors.
func (l *links) Close() error {
	l.Handle.Close()
	return l.control.Close()
}
