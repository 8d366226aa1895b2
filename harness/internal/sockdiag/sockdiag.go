//go:build linux

// Package sockdiag looks up single TCP sockets of one network namespace (sock_diag(7)).
package sockdiag

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Lookup finds single sockets of one network namespace. A search takes a few microseconds,
// however many sockets there are. Its methods may be called from any goroutine. Make one
// with [Open].
type Lookup struct {
	mu    sync.Mutex
	fd    int    // -1 when it is closed
	asked uint32 // the sequence number of the last request
}

// Open opens a lookup in the calling thread's network namespace (sock_diag,
// Linux 3.3 and CONFIG_INET_TCP_DIAG).
func Open() (*Lookup, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_INET_DIAG)
	if err != nil {
		return nil, fmt.Errorf("open sock_diag: %w", err)
	}
	return &Lookup{fd: fd}, nil
}

// Close ends the lookup. A second Close does nothing.
func (l *Lookup) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fd < 0 {
		return nil
	}
	fd := l.fd
	l.fd = -1
	return unix.Close(fd)
}

// Sizes and offsets of struct inet_diag_req_v2 and struct inet_diag_msg
// (include/uapi/linux/inet_diag.h), and of struct inet_diag_sockid in both.
const (
	diagRequestSize  = 56
	diagRequestID    = 8
	diagMessageSize  = 72
	diagMessageState = 1
	diagSourcePort   = 0
	diagPeerPort     = 2
	diagSource       = 4
	diagPeer         = 20
	diagCookie       = 40
)

// Find looks for the socket with these two ends and returns the number of its state (such
// as unix.BPF_TCP_TIME_WAIT). It also finds a TIME_WAIT minisocket. It never returns a
// listener at the local end instead. The ends are as on the wire: a socket of AF_INET6 that
// talks IPv4 is found by its IPv4 addresses (inet_diag_find_one_icsk). After Close the error
// is os.ErrClosed.
func (l *Lookup) Find(local, remote netip.AddrPort) (state uint8, found bool, err error) {
	family := byte(unix.AF_INET)
	switch {
	case local.Addr().Is4() && remote.Addr().Is4():
	case local.Addr().Is6() && remote.Addr().Is6():
		family = unix.AF_INET6
	default:
		return 0, false, fmt.Errorf("find socket %v > %v: want two addresses of one IP version", local, remote)
	}
	var message [8192]byte
	request := message[:unix.SizeofNlMsghdr+diagRequestSize]
	binary.NativeEndian.PutUint32(request, uint32(len(request)))
	binary.NativeEndian.PutUint16(request[4:], unix.SOCK_DIAG_BY_FAMILY)
	binary.NativeEndian.PutUint16(request[6:], unix.NLM_F_REQUEST)
	body := request[unix.SizeofNlMsghdr:]
	body[0], body[1] = family, unix.IPPROTO_TCP
	binary.NativeEndian.PutUint32(body[4:], 1<<32-1) // any state
	id := body[diagRequestID:]
	binary.BigEndian.PutUint16(id[diagSourcePort:], local.Port())
	binary.BigEndian.PutUint16(id[diagPeerPort:], remote.Port())
	copy(id[diagSource:], local.Addr().AsSlice())
	copy(id[diagPeer:], remote.Addr().AsSlice())
	binary.NativeEndian.PutUint64(id[diagCookie:], 1<<64-1) // INET_DIAG_NOCOOKIE, twice

	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fd < 0 {
		return 0, false, fmt.Errorf("find socket %v > %v: %w", local, remote, os.ErrClosed)
	}
	l.asked++
	binary.NativeEndian.PutUint32(request[nlSequence:], l.asked)
	// The kernel answers within sendto.
	if err := unix.Sendto(l.fd, request, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return 0, false, fmt.Errorf("ask sock_diag: %w", err)
	}
	for {
		n, _, err := unix.Recvfrom(l.fd, message[:], unix.MSG_DONTWAIT)
		if err != nil {
			return 0, false, fmt.Errorf("read from sock_diag: %w", err)
		}
		if answers(message[:n], l.asked) {
			return parseFound(message[:n])
		}
	}
}

// nlSequence is the offset of the sequence number in a netlink message (struct nlmsghdr).
const nlSequence = 8

// answers reports whether a message answers the request with this number. When the answer
// to an earlier request was not read, the next request finds it.
func answers(message []byte, asked uint32) bool {
	return len(message) >= unix.SizeofNlMsghdr && binary.NativeEndian.Uint32(message[nlSequence:]) == asked
}

// parseFound reads the answer: a socket, or an error.
func parseFound(answer []byte) (state uint8, found bool, err error) {
	if len(answer) < unix.SizeofNlMsghdr+4 {
		return 0, false, fmt.Errorf("sock_diag answered %d bytes", len(answer))
	}
	m := answer[unix.SizeofNlMsghdr:]
	if binary.NativeEndian.Uint16(answer[4:]) == unix.NLMSG_ERROR {
		errno := unix.Errno(-int32(binary.NativeEndian.Uint32(m)))
		if errors.Is(errno, unix.ENOENT) {
			return 0, false, nil
		}
		return 0, false, fmt.Errorf("find socket by sock_diag: %w", errno)
	}
	if len(m) < diagMessageSize {
		return 0, false, fmt.Errorf("sock_diag answered %d bytes for a socket", len(m))
	}
	state = m[diagMessageState]
	if state == unix.BPF_TCP_LISTEN {
		return 0, false, nil
	}
	return state, true, nil
}
