//go:build linux

package tcp

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// isMultipath reports whether a connection of an MPTCP socket uses Multipath TCP. It does not
// when the peer answered without MP_CAPABLE (RFC 8684, 3.1): then the socket has fallen back
// to TCP, and no longer answers MPTCP_INFO (mptcp_getsockopt, __mptcp_tcp_fallback).
func isMultipath(fd int) (bool, error) {
	flags, err := mptcpFlags(fd)
	switch {
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOPROTOOPT):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("MPTCP_INFO: %w", err)
	default:
		return flags&mptcpFallback == 0, nil
	}
}

// mptcpFlags reads mptcpi_flags, which follow eight single bytes in struct mptcp_info
// (include/uapi/linux/mptcp.h, Linux 5.16).
func mptcpFlags(fd int) (uint32, error) {
	// Any plain structure of 12 bytes and more will do to receive the first bytes.
	info, err := unix.GetsockoptIPv6Mreq(fd, solMPTCP, mptcpInfo)
	if err != nil {
		return 0, err
	}
	return binary.NativeEndian.Uint32(info.Multiaddr[8:]), nil
}

const (
	solMPTCP      = 284 // SOL_MPTCP of include/linux/socket.h
	mptcpInfo     = 1   // MPTCP_INFO
	mptcpFallback = 1   // MPTCP_INFO_FLAG_FALLBACK
)
