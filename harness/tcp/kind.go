//go:build linux

package tcp

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// kind is what socket(2) is asked for.
type kind struct {
	six       bool // AF_INET6, else AF_INET
	multipath bool // IPPROTO_MPTCP, else IPPROTO_TCP
}

// openSocket makes a socket in the calling thread's network namespace.
func openSocket(k kind) (*socket, error) {
	family, protocol := unix.AF_INET, unix.IPPROTO_TCP
	if k.six {
		family = unix.AF_INET6
	}
	if k.multipath {
		protocol = unix.IPPROTO_MPTCP
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return nil, fmt.Errorf("socket: %w", k.explain(err))
	}
	s := &socket{fd: fd}
	if err := s.resetOnClose(true); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// ErrNoMultipath means that a kernel has no sockets of Multipath TCP.
var ErrNoMultipath = errors.New("this kernel lacks Multipath TCP (Linux 5.6 has it with CONFIG_MPTCP, and CONFIG_MPTCP_IPV6)")

// explain adds to the error of socket(2) what the kernel lacks.
func (k kind) explain(err error) error {
	switch {
	case k.six && errors.Is(err, unix.EAFNOSUPPORT):
		return fmt.Errorf("this kernel has no IPv6 (CONFIG_IPV6, and no ipv6.disable=1 on its command line): %w", err)
	case k.multipath && errors.Is(err, unix.ENOPROTOOPT): // mptcp_init_sock
		return fmt.Errorf("net.mptcp.enabled is 0 on this node: %w", err)
	case k.multipath && (errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.EINVAL)):
		return fmt.Errorf("%w: %w", ErrNoMultipath, err)
	default:
		return err
	}
}
