//go:build linux

package tcp

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// try is an attempt under way.
type try struct {
	Attempt
	began  time.Time
	socket *socket // nil once it is closed or has a handle
	state  uint8   // of the socket, at the last look
	inSYN  int     // bytes of FastOpen that the SYN carried
	out    Result
	err    error
}

// start opens the socket in the calling thread's namespace and calls connect(2).
func (t *try) start() (err error) {
	if t.socket, err = openSocket(t.kind()); err != nil {
		return err
	}
	return t.connect()
}

// connect calls connect(2) on the socket; it need not run in the namespace.
func (t *try) connect() error {
	if t.ISN != 0 {
		if err := setISN(t.socket.fd, t.ISN); err != nil {
			return err
		}
	}
	if err := t.bind(); err != nil || t.out.Outcome != "" {
		return err
	}
	if t.NotBefore != 0 {
		if err := waitFor(t.NotBefore); err != nil {
			return err
		}
	}
	t.began = time.Now()
	to := t.kind().sockaddr(t.To)
	var err error
	if t.FastOpen != 0 {
		err = t.connectFast(to)
	} else {
		err = unix.Connect(t.socket.fd, to)
	}
	if !errors.Is(err, unix.EINPROGRESS) {
		return t.decide(StepConnect, err)
	}
	t.out.SYNs = 1
	// The kernel forgets the port that connect(2) chose when the attempt fails
	// (inet_put_port), so read it now.
	if t.out.Local, err = t.socket.local(); err != nil {
		return err
	}
	// A handshake over veth is often over by now.
	_, err = t.look(t.socket.fd)
	return err
}

// waitFor waits until a time on CLOCK_MONOTONIC. It sleeps until shortly before and then
// keeps the processor busy, because a sleep never ends exactly on time.
func waitFor(moment time.Duration) error {
	const far, near = time.Second, time.Millisecond
	if ahead := moment - monotonic(); ahead > far {
		return fmt.Errorf("not before a moment that is %v ahead: want at most %v", ahead, far)
	}
	until := unix.NsecToTimespec((moment - near).Nanoseconds())
	for {
		err := unix.ClockNanosleep(unix.CLOCK_MONOTONIC, unix.TIMER_ABSTIME, &until, nil)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("clock_nanosleep: %w", err)
		}
	}
	for monotonic() < moment {
		continue
	}
	return nil
}

func (t *try) finished() bool {
	return t.out.Outcome != "" && (t.socket == nil || t.Ending == KeepOpen)
}

// finish waits for the outcome and applies the ending.
func (t *try) finish(ctx context.Context, h *Host) error {
	if t.out.Outcome == "" {
		if err := t.awaitOutcome(ctx); err != nil {
			return err
		}
	}
	if t.socket == nil || t.Ending == KeepOpen {
		return nil
	}
	s := t.socket
	t.socket = nil // in any case it is closed from here on
	var err error
	if t.Ending.waits() {
		t.out.End, err = h.finish(ctx, s, t.To, t.Ending, t.Budget)
	} else {
		t.out.End, err = s.endNow(t.Ending, t.state)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", t.Ending, err)
	}
	t.out.Lasted = time.Since(t.began) - t.out.Took
	return nil
}

func (t *try) awaitOutcome(ctx context.Context) error {
	within, cancel := context.WithDeadline(ctx, t.began.Add(t.Budget))
	defer cancel()
	var looked error
	err := t.socket.await(within, true, func(fd int) (done bool) {
		done, looked = t.look(fd)
		return done || looked != nil
	})
	switch {
	case looked != nil:
		return looked
	case err == nil:
		return t.dropFailed()
	case ctx.Err() != nil:
		return ctx.Err()
	case within.Err() != nil:
		return t.giveUp()
	default:
		return fmt.Errorf("await connect: %w", err)
	}
}

// giveUp sets the outcome when our budget has ended. It looks at the socket once more,
// because the retransmission of a SYN wakes no waiting call.
func (t *try) giveUp() error {
	var done bool
	err := t.socket.control(func(fd int) (err error) {
		done, err = t.look(fd)
		return err
	})
	if err != nil {
		return err
	}
	if !done {
		t.out.Took = time.Since(t.began)
		t.out.Outcome = Undecided
	}
	return t.dropFailed()
}

// look notes what the socket knows, and sets the outcome when connect(2) is finished. The
// state distinguishes a completed handshake from a spurious wake-up; SO_ERROR says why it
// failed.
func (t *try) look(fd int) (done bool, err error) {
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return false, fmt.Errorf("TCP_INFO: %w", err)
	}
	t.out.SYNs = 1 + int(info.Total_retrans)
	t.out.Timestamps = info.Options&tcpiOptTimestamps != 0
	t.state = info.State
	if info.State == unix.BPF_TCP_SYN_SENT || info.State == unix.BPF_TCP_SYN_RECV {
		return false, nil
	}
	if info.State != unix.BPF_TCP_CLOSE {
		return true, errors.Join(t.decide(StepConnect, nil), t.lookCloser(fd))
	}
	errno, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return false, fmt.Errorf("SO_ERROR: %w", err)
	}
	if errno == 0 {
		return false, errors.New("socket is closed and has no error")
	}
	return true, t.decide(StepConnect, syscall.Errno(errno))
}

// lookCloser notes what became of the kinds of connections that are not plain TCP.
func (t *try) lookCloser(fd int) (err error) {
	if t.MPTCP {
		t.out.MPTCP, err = isMultipath(fd)
	}
	if t.FastOpen != 0 {
		err = errors.Join(err, t.followFast(fd))
	}
	return err
}

// tcpiOptTimestamps is TCPI_OPT_TIMESTAMPS of include/uapi/linux/tcp.h.
const tcpiOptTimestamps = 1

// decide records the outcome of the step.
func (t *try) decide(step Step, failure error) error {
	t.out.Took = time.Since(t.began)
	outcome, errno, err := outcomeOf(step, failure)
	if err != nil {
		return err
	}
	t.out.Outcome, t.out.Errno, t.out.Step = outcome, errno, step
	return nil
}

// dropFailed closes the socket of an attempt that has an outcome other than
// Connected.
func (t *try) dropFailed() error {
	if t.out.Outcome == "" || t.out.Outcome == Connected {
		return nil
	}
	return t.drop()
}

// drop closes the socket, if there is one.
func (t *try) drop() error {
	if t.socket == nil {
		return nil
	}
	s := t.socket
	t.socket = nil
	if err := s.close(); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	return nil
}
