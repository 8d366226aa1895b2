package tcp

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// AdvanceClock moves the timestamp clock of one established connection by a
// number of ticks, as if its host had been up for that much longer (TCP_REPAIR
// and TCP_TIMESTAMP, Linux 3.9; needs CAP_NET_ADMIN). A tick is 1 ms since Linux
// 4.13 (TCP_TS_HZ) and 1/HZ s before. The number must be even, because since
// Linux 6.7 the lowest bit chooses the unit of the clock.
func (h *Host) AdvanceClock(conn Handle, ticks int32) error {
	s, err := h.socket(conn)
	if err != nil {
		return fmt.Errorf("advance clock: %w", err)
	}
	if ticks%2 != 0 {
		return fmt.Errorf("advance clock of socket %d by %d ticks: want an even number", conn, ticks)
	}
	err = s.control(func(fd int) error {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_REPAIR, 1); err != nil {
			return fmt.Errorf("enter repair mode: %w", err)
		}
		now, err := unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_TIMESTAMP)
		if err == nil {
			err = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_TIMESTAMP, int(int32(uint32(now)+uint32(ticks))))
		}
		if leave := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_REPAIR, repairOff); leave != nil {
			err = errors.Join(err, fmt.Errorf("leave repair mode: %w", leave))
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("advance clock of socket %d: %w", conn, err)
	}
	return nil
}
