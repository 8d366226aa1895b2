//go:build linux

package tcp

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// DefaultBudget is how long an attempt without a Budget waits for the kernel's outcome:
// longer than every failure that a lab with a small net.ipv4.tcp_syn_retries can cause.
const DefaultBudget = 30 * time.Second

// Attempt is one connect(2).
type Attempt struct {
	// To is the destination.
	To netip.AddrPort
	// From, when it is not zero, is the source that is bound with bind(2) first. With port
	// 0 the kernel chooses the port, with an invalid address the address.
	From netip.AddrPort
	// ReuseAddr sets SO_REUSEADDR before bind(2).
	ReuseAddr bool
	// LatePort, with a From of port 0, leaves the choice of the port to connect(2), which
	// knows the destination (IP_BIND_ADDRESS_NO_PORT, Linux 4.2). On an older kernel it is
	// an error.
	LatePort bool
	// ISN, when it is not 0, is the initial sequence number (TCP_REPAIR and
	// TCP_QUEUE_SEQ; needs CAP_NET_ADMIN).
	ISN uint32
	// NotBefore, when it is not 0, is a time on the machine's own CLOCK_MONOTONIC.
	// connect(2) waits for it, so that the SYN leaves in one certain millisecond. A time
	// that is more than a second ahead is an error.
	NotBefore time.Duration
	// Budget limits the wait for the kernel's outcome, and then again the wait for the
	// Ending; 0 means DefaultBudget. When it ends first, the outcome is Undecided, or
	// End.Undecided is set.
	Budget time.Duration
	// Ending says what to do with the connection.
	Ending Ending
}

func (a *Attempt) budget() time.Duration {
	if a.Budget == 0 {
		return DefaultBudget
	}
	return a.Budget
}

// Result describes the result of an Attempt.
type Result struct {
	Outcome Outcome
	// Errno is the kernel's error number; 0 for Connected and Undecided.
	Errno syscall.Errno
	// Waited is the time from the call of Attempt to that of connect(2): the attempts of
	// one call start one after the other.
	Waited time.Duration
	// Took is the time from the call of connect(2) to the outcome.
	Took time.Duration
	// End describes how the connection of a Connected attempt ended. The connection is
	// reset when the peer did not do what the Ending waits for.
	End End
	// Lasted is the time from the outcome of a Connected attempt to its End; 0 when the
	// connection is kept.
	Lasted time.Duration
	// Local is the address and port that the kernel connected from; zero when there was
	// none.
	Local netip.AddrPort
	// SYNs is the number of SYNs sent until the outcome: 1 + tcpi_total_retrans. It is 0
	// when the kernel refused before it sent one.
	SYNs int
	// Timestamps reports whether the handshake agreed on the TCP timestamps option
	// (TCPI_OPT_TIMESTAMPS, RFC 7323).
	Timestamps bool
	// Conn is the open connection of a Connected attempt that keeps it; otherwise zero.
	Conn Handle
}

// String returns one line: outcome, SYNs and time, and the end when it differs from the
// Ending.
func (o Result) String() string {
	s := o.Attempted()
	if err := o.End.Err(); err != nil {
		s += "; " + err.Error()
	}
	return s
}

// Attempted is [Result.String] without the end.
func (o Result) Attempted() string {
	s := fmt.Sprintf("%s from %v after %d SYN(s) in %v", o.Outcome, o.Local, o.SYNs, o.Took.Round(10*time.Microsecond))
	if o.Errno != 0 {
		s += fmt.Sprintf(" (%s)", unix.ErrnoName(o.Errno))
	}
	return s
}

// Attempt starts all attempts in order, without waiting between them, and returns when each
// has its outcome and its ending. The results are in the order of the attempts. Everything
// that the network and the peer do is a result, also when a connection ends differently
// from its Ending ([Result.End]). An error means that something else failed (a bad address,
// no privilege for ISN, a kernel without LatePort, no descriptors, the end of ctx); the
// connections made until then are closed.
func (h *Host) Attempt(ctx context.Context, attempts []Attempt) (outcomes []Result, err error) {
	called := time.Now()
	tries := make([]try, len(attempts))
	for i, a := range attempts {
		if err := a.Ending.Validate(); err != nil {
			return nil, fmt.Errorf("attempt %d to %v: %w", i, a.To, err)
		}
		tries[i] = try{Attempt: a}
		tries[i].Budget = a.budget()
	}
	err = h.call(ctx, func(ctx context.Context) error {
		err := h.begin(ctx, tries)
		if err == nil {
			err = h.finishAll(ctx, tries)
		}
		if err == nil {
			err = h.keepAll(tries)
		}
		if err != nil {
			for i := range tries {
				err = errors.Join(err, tries[i].drop())
			}
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	outcomes = make([]Result, len(tries))
	for i := range tries {
		tries[i].out.Waited = tries[i].began.Sub(called)
		outcomes[i] = tries[i].out
	}
	return outcomes, nil
}

// Connect is [Host.Attempt] for one attempt.
func (h *Host) Connect(ctx context.Context, a Attempt) (Result, error) {
	outcomes, err := h.Attempt(ctx, []Attempt{a})
	if err != nil {
		return Result{}, err
	}
	return outcomes[0], nil
}

// begin calls connect(2) for all attempts.
func (h *Host) begin(ctx context.Context, tries []try) error {
	return h.inside(func() error {
		for i := range tries {
			err := ctx.Err()
			if err == nil {
				err = errors.Join(tries[i].start(), tries[i].dropFailed())
			}
			if err != nil {
				return fmt.Errorf("attempt %d to %v: %w", i, tries[i].To, err)
			}
		}
		return nil
	})
}

// finishAll waits until each attempt has its outcome and its ending.
func (h *Host) finishAll(ctx context.Context, tries []try) error {
	var waiting sync.WaitGroup
	for i := range tries {
		t := &tries[i]
		switch {
		case t.finished():
		case t.out.Outcome != "" && !t.Ending.waits():
			t.err = t.finish(ctx, h)
		default:
			waiting.Go(func() { t.err = t.finish(ctx, h) })
		}
	}
	waiting.Wait()
	for i := range tries {
		if t := &tries[i]; t.err != nil {
			return fmt.Errorf("attempt %d to %v: %w", i, t.To, t.err)
		}
	}
	return nil
}

// keepAll gives a handle to each connection that is kept, or to none of them.
func (h *Host) keepAll(tries []try) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return ErrNoHandle
	}
	for i := range tries {
		if t := &tries[i]; t.socket != nil {
			t.out.Conn, t.socket = h.enter(t.socket), nil
		}
	}
	return nil
}

// try is an attempt under way.
type try struct {
	Attempt
	began  time.Time
	socket *socket // nil once it is closed or has a handle
	state  uint8   // of the socket, at the last look
	out    Result
	err    error
}

// start opens the socket in the calling thread's namespace and calls connect(2).
func (t *try) start() (err error) {
	if t.socket, err = openSocket(); err != nil {
		return err
	}
	return t.connect()
}

// connect calls connect(2) on the socket; it need not run in the namespace.
func (t *try) connect() error {
	to, err := toSockaddr(t.To)
	if err != nil {
		return err
	}
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
	err = unix.Connect(t.socket.fd, to)
	if !errors.Is(err, unix.EINPROGRESS) {
		return t.decide("connect", err)
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

// bind binds the socket to From. When the kernel refuses, that is the attempt's outcome.
func (t *try) bind() error {
	fd := t.socket.fd
	if t.ReuseAddr {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
			return fmt.Errorf("set SO_REUSEADDR: %w", err)
		}
	}
	if t.From == (netip.AddrPort{}) {
		return nil
	}
	if t.LatePort {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); err != nil {
			return fmt.Errorf("set IP_BIND_ADDRESS_NO_PORT: %w", lacking(err, "4.2"))
		}
	}
	from, err := toSockaddr(t.From)
	if err != nil {
		return err
	}
	t.began = time.Now()
	if err := unix.Bind(fd, from); err != nil {
		return t.decide("bind", err)
	}
	return nil
}

// lacking adds to the error of a kernel without a socket option the Linux release that
// introduced it.
func lacking(err error, since string) error {
	if errors.Is(err, unix.ENOPROTOOPT) {
		return fmt.Errorf("this kernel lacks it, Linux %s has it: %w", since, err)
	}
	return err
}

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
		return true, t.decide("connect", nil)
	}
	errno, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return false, fmt.Errorf("SO_ERROR: %w", err)
	}
	if errno == 0 {
		return false, errors.New("socket is closed and has no error")
	}
	return true, t.decide("connect", syscall.Errno(errno))
}

// tcpiOptTimestamps is TCPI_OPT_TIMESTAMPS of include/uapi/linux/tcp.h.
const tcpiOptTimestamps = 1

// decide records the outcome of the step.
func (t *try) decide(step string, failure error) error {
	t.out.Took = time.Since(t.began)
	outcome, errno, err := outcomeOf(step, failure)
	if err != nil {
		return err
	}
	t.out.Outcome, t.out.Errno = outcome, errno
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
