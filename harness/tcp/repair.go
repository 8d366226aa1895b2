//go:build linux

package tcp

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// setISN makes connect(2) use a sequence number of our choice: tcp_v4_connect picks one
// only when write_seq is 0. It must come before SO_REUSEADDR, which leaving repair mode
// clears (do_tcp_setsockopt, TCP_REPAIR_OFF).
func setISN(fd int, isn uint32) error {
	// The kernel sends write_seq itself as the SYN's sequence number.
	if err := enterRepair(fd); err != nil {
		return fmt.Errorf("set ISN: %w", err)
	}
	for _, step := range []struct {
		name          string
		option, value int
	}{
		{"TCP_REPAIR_QUEUE", unix.TCP_REPAIR_QUEUE, tcpSendQueue},
		{"TCP_QUEUE_SEQ", unix.TCP_QUEUE_SEQ, int(int32(isn))},
	} {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, step.option, step.value); err != nil {
			return fmt.Errorf("set ISN: %s: %w", step.name, err)
		}
	}
	if err := leaveRepair(fd); err != nil {
		return fmt.Errorf("set ISN: %w", err)
	}
	return nil
}

func enterRepair(fd int) error {
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_REPAIR, 1); err != nil {
		return fmt.Errorf("enter repair mode: %w", lacking(err, "3.5"))
	}
	return nil
}

// leaveRepair ends repair mode without a window probe where the kernel can
// (TCP_REPAIR_OFF_NO_WP, Linux 4.19). An older kernel sends one on an established
// connection, and it carries the connection's new clock.
func leaveRepair(fd int) error {
	err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_REPAIR, repairOffNoProbe)
	if errors.Is(err, unix.EINVAL) {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_REPAIR, repairOff)
	}
	if err != nil {
		return fmt.Errorf("leave repair mode: %w", err)
	}
	return nil
}

// Values of TCP_REPAIR_QUEUE and TCP_REPAIR (include/uapi/linux/tcp.h).
const (
	tcpSendQueue     = 2
	repairOff        = 0
	repairOffNoProbe = -1
)
