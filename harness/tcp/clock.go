//go:build linux

package tcp

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// ClockReading is a connection's timestamp clock at one moment.
type ClockReading struct {
	// Ticks is the timestamp value of a segment sent now (TCP_TIMESTAMP). A tick is 1 ms
	// since Linux 4.13 (TCP_TS_HZ) and 1/HZ s before.
	Ticks uint32
	// At is the time on the machine's own CLOCK_MONOTONIC, in the same millisecond in which
	// Ticks was read.
	At time.Duration
}

// Clock reads the timestamp clock of one connection (Linux 3.9). That takes one to two
// milliseconds: since Linux 6.7 the lowest bit of the value says which unit the clock has
// (do_tcp_getsockopt), so an odd value can be read as one less. Only two readings in
// successive milliseconds show which one is even.
func (h *Host) Clock(conn Handle) (ClockReading, error) {
	s, err := h.socket(conn)
	if err != nil {
		return ClockReading{}, fmt.Errorf("read clock: %w", err)
	}
	var first, second ClockReading
	err = s.control(func(fd int) (err error) {
		for {
			if first, err = readClock(fd); err != nil {
				return err
			}
			for second = first; second.At.Milliseconds() == first.At.Milliseconds(); {
				if second, err = readClock(fd); err != nil {
					return err
				}
			}
			if second.At.Milliseconds() == first.At.Milliseconds()+1 {
				return nil // no pause in between
			}
		}
	})
	if err != nil {
		return ClockReading{}, fmt.Errorf("read clock of socket %d: %w", conn.Number, err)
	}
	if second.Ticks == first.Ticks {
		return first, nil // even, and now odd
	}
	return second, nil
}

// RTO reads the current retransmission timeout of one connection (tcpi_rto of TCP_INFO).
// Each acknowledgement may change it (tcp_set_rto); it is never below 200 ms (TCP_RTO_MIN).
func (h *Host) RTO(conn Handle) (rto time.Duration, err error) {
	s, err := h.socket(conn)
	if err != nil {
		return 0, fmt.Errorf("read retransmission timeout: %w", err)
	}
	err = s.control(func(fd int) error {
		info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		if err == nil {
			rto = time.Duration(info.Rto) * time.Microsecond
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("read retransmission timeout of socket %d: %w", conn.Number, err)
	}
	return rto, nil
}

// readClock reads both clocks within one millisecond.
func readClock(fd int) (ClockReading, error) {
	for {
		at := monotonic()
		ticks, err := unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_TIMESTAMP)
		if err != nil || monotonic().Milliseconds() == at.Milliseconds() {
			return ClockReading{Ticks: uint32(ticks), At: at}, err
		}
	}
}

// monotonic reads CLOCK_MONOTONIC, which timestamps come from (tcp_clock_ns).
func monotonic() time.Duration {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) // cannot fail for this clock
	return time.Duration(now.Nano())
}

// AdvanceClock advances the timestamp clock of one established connection by a number of
// ticks, as if its host had been up for that much longer (TCP_REPAIR and TCP_TIMESTAMP,
// Linux 3.9; needs CAP_NET_ADMIN). A tick is 1 ms since Linux 4.13 (TCP_TS_HZ) and 1/HZ s
// before. The number must be even, because since Linux 6.7 the lowest bit selects the unit
// of the clock.
func (h *Host) AdvanceClock(conn Handle, ticks int32) error {
	s, err := h.socket(conn)
	if err != nil {
		return fmt.Errorf("advance clock: %w", err)
	}
	if ticks%2 != 0 {
		return fmt.Errorf("advance clock of socket %d by %d ticks: want an even number", conn.Number, ticks)
	}
	err = s.alone(func(fd int) error {
		// Leaving repair mode clears it (do_tcp_setsockopt, TCP_REPAIR_OFF).
		reuse, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR)
		if err != nil {
			return fmt.Errorf("read SO_REUSEADDR: %w", err)
		}
		if err := enterRepair(fd); err != nil {
			return err
		}
		now, err := unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_TIMESTAMP)
		if err == nil {
			err = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_TIMESTAMP, int(int32(uint32(now)+uint32(ticks))))
		}
		return errors.Join(err, leaveRepair(fd), unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, reuse))
	})
	if err != nil {
		return fmt.Errorf("advance clock of socket %d: %w", conn.Number, err)
	}
	return nil
}
