//go:build linux

package tcp

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"twlab/harness/internal/sockdiag"
)

// streamBuffer is the most bytes that one read(2) returns.
const streamBuffer = 8 << 10

// Stream is a connection that one caller has for itself, for many reads and writes: unlike
// with [Host.Receive], no extra work is done for each wait. One goroutine may write while
// another reads. [Host.Serve] and a [Dialer]
// return streams, for protocols on top of TCP. In the end exactly one of Finish and Reset
// must be called.
type Stream struct {
	*socket
	*polled
	host   *Host
	peer   netip.AddrPort
	conn   Handle // zero when it has none yet
	buffer *[streamBuffer]byte
	undo   func()

	fill, drain       func(fd uintptr) (done bool) // the steps of Read and Write, made once
	room              int                          // the most that Read returns
	got               int
	left              []byte
	readErr, writeErr error
}

// stream makes a socket a Stream, whose waits end with ctx.
func (h *Host) stream(ctx context.Context, s *socket, peer netip.AddrPort) (*Stream, error) {
	w, err := s.watch()
	if err != nil {
		return nil, err
	}
	if err := w.begin(ctx); err != nil {
		return nil, err
	}
	st := &Stream{socket: s, polled: w, host: h, peer: peer}
	st.fill, st.drain = st.readNow, st.writeNow
	buffer, ok := h.buffers.Get().(*[streamBuffer]byte)
	if !ok {
		buffer = new([streamBuffer]byte)
	}
	st.buffer = buffer
	st.undo = w.expire(ctx)
	return st, nil
}

// Peer is the address of the other side.
func (st *Stream) Peer() netip.AddrPort { return st.peer }

// letGo undoes what stream did to the socket.
func (st *Stream) letGo() {
	st.undo()
	_ = st.file.SetDeadline(time.Time{}) // that of Within; fails only on a closed file
	st.leave()
	st.host.buffers.Put(st.buffer)
	st.buffer = nil
}

// Within sets a limit for all waits from now on; 0 is no limit.
func (st *Stream) Within(ctx context.Context, budget time.Duration) error {
	var deadline time.Time
	if budget > 0 {
		deadline = time.Now().Add(budget)
	}
	if err := st.file.SetDeadline(deadline); err != nil {
		return fmt.Errorf("limit the wait: %w", st.explain(ctx, err))
	}
	return ctx.Err() // ctx may have ended before; SetDeadline would have hidden it
}

// Read waits for bytes, which are valid until the next call. Its error is io.EOF for the
// peer's FIN, the kernel's errno, os.ErrDeadlineExceeded when the limit of Within ended
// first, or the error of ctx.
func (st *Stream) Read(ctx context.Context) ([]byte, error) { return st.ReadAtMost(ctx, streamBuffer) }

// ReadAtMost is Read of at most n bytes; the rest stays in the kernel. n is at least 1.
func (st *Stream) ReadAtMost(ctx context.Context, n int) ([]byte, error) {
	st.got, st.readErr, st.room = 0, nil, min(n, streamBuffer)
	if err := st.raw.Read(st.fill); err != nil {
		return nil, st.explain(ctx, err)
	}
	return st.buffer[:st.got], st.readErr
}

// Write waits until the kernel has taken all of p. Its errors are those of Read.
func (st *Stream) Write(ctx context.Context, p []byte) error {
	if st.left = p; len(p) == 0 {
		return nil
	}
	st.writeErr = nil
	if err := st.raw.Write(st.drain); err != nil {
		return st.explain(ctx, err)
	}
	return st.writeErr
}

// Unwritten is how many bytes of the last Write the kernel did not take.
func (st *Stream) Unwritten() int { return len(st.left) }

// StopWriting makes a Write that waits return os.ErrDeadlineExceeded, until the next Within.
func (st *Stream) StopWriting(ctx context.Context) error {
	if err := st.file.SetWriteDeadline(time.Unix(1, 0)); err != nil {
		return fmt.Errorf("stop writing: %w", st.explain(ctx, err))
	}
	return nil
}

func (st *Stream) readNow(uintptr) (done bool) {
	for {
		n, err := st.readOnce(st.buffer[:st.room])
		switch {
		case errors.Is(err, unix.EAGAIN):
			return false
		case errors.Is(err, unix.EINTR):
			continue
		case err == nil && n == 0:
			err = io.EOF
		}
		st.got, st.readErr = max(n, 0), err
		return true
	}
}

func (st *Stream) writeNow(uintptr) (done bool) {
	for len(st.left) > 0 {
		n, err := st.writeOnce(st.left)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return false
		case errors.Is(err, unix.EINTR):
		case err != nil:
			st.writeErr = err
			return true
		default:
			st.left = st.left[n:]
		}
	}
	return true
}

// Cork holds back the last, incomplete segment until the connection ends, for 200 ms at
// most (TCP_CORK): the FIN is then in the same segment as the last byte.
func (st *Stream) Cork() error {
	err := st.control(func(fd int) error { return unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_CORK, 1) })
	if err != nil {
		return fmt.Errorf("TCP_CORK: %w", err)
	}
	return nil
}

// Finish ends the connection and reports how it ended. The budget limits the wait for the
// peer's FIN; 0 is no limit. With [KeepOpen] it gives the connection back to the host,
// under the handle kept. What the peer does is not an error; the end of ctx is, and so is a
// failure on this side. After an error the connection is closed.
func (st *Stream) Finish(ctx context.Context, how Ending, budget time.Duration) (end End, kept Handle, err error) {
	end, err = st.finish(ctx, how, budget)
	st.letGo()
	switch {
	case err != nil || how != KeepOpen:
		st.host.forget(st.conn)
	case !st.conn.IsZero():
		st.host.giveBack(st.conn)
		kept = st.conn
	default:
		if kept, err = st.host.keep(st.socket); err != nil {
			err = errors.Join(err, st.close())
		}
	}
	return end, kept, err
}

// Reset closes the connection by RST.
func (st *Stream) Reset() error {
	err := st.close()
	st.letGo()
	st.host.forget(st.conn)
	return err
}

// finish ends the connection as [socket.end] does and reports how it ended. What the peer
// does is not an error; the end of ctx is, and so is a failure on this side. In any case
// the socket is then closed, unless the ending keeps it open.
func (st *Stream) finish(ctx context.Context, how Ending, budget time.Duration) (end End, err error) {
	before, err := st.state()
	if err != nil {
		return end, errors.Join(err, st.close())
	}
	if !how.waits() {
		return st.endNow(how, before)
	}
	if before == unix.BPF_TCP_CLOSE || before == unix.BPF_TCP_CLOSE_WAIT {
		end.First = Peer
	}
	if how == CloseFirst {
		if err := st.shutdown(); err != nil && !errors.Is(err, unix.ENOTCONN) {
			return end, errors.Join(err, st.close())
		}
		if end.First == Nobody {
			if end.First, err = st.whoSent(); err != nil {
				return end, errors.Join(err, st.close())
			}
		}
	}
	err = st.awaitFIN(ctx, budget)
	first := Peer
	if errors.Is(err, os.ErrDeadlineExceeded) {
		end.Undecided, err, first = true, nil, Here
	} else if errors.As(err, &end.Errno) {
		err = nil
	}
	if end.First == Nobody {
		end.First = first
	}
	if err != nil || end.Err() != nil {
		return end, errors.Join(err, st.close())
	}
	_, err = st.endNow(CloseNow, before)
	return end, err
}

// awaitFIN reads until the peer's FIN and discards the data.
func (st *Stream) awaitFIN(ctx context.Context, budget time.Duration) error {
	if err := st.Within(ctx, budget); err != nil {
		return err
	}
	for {
		_, err := st.Read(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// whoSent says, just after shutdown(2), whose FIN was first, when the peer's FIN had not
// come just before.
func (st *Stream) whoSent() (Side, error) {
	after, err := st.state()
	if err != nil {
		return Unclear, err
	}
	switch after {
	case unix.BPF_TCP_FIN_WAIT1, unix.BPF_TCP_FIN_WAIT2, unix.BPF_TCP_CLOSING:
		return Here, nil
	case unix.BPF_TCP_LAST_ACK:
		return Peer, nil
	}
	// The peer was quick: the connection is over.
	local, err := st.local()
	if err != nil {
		return Unclear, err
	}
	waits, err := st.host.timeWait(local, st.peer)
	if err != nil || !waits {
		return Unclear, err
	}
	return Here, nil
}

// timeWait reports whether this side has the connection in TIME_WAIT. It is false on a
// kernel that cannot be asked.
func (h *Host) timeWait(local, remote netip.AddrPort) (bool, error) {
	lookup, err := h.openLookup()
	if err != nil {
		return false, err
	}
	state, found, err := lookup.Find(local, remote)
	if sockdiag.Missing(err) {
		return false, nil
	}
	return found && state == unix.BPF_TCP_TIME_WAIT, err
}

// openLookup opens the host's lookup at its first use.
func (h *Host) openLookup() (*sockdiag.Lookup, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, ErrNoHandle
	}
	if h.lookup == nil {
		err := h.inside(func() (err error) {
			h.lookup, err = sockdiag.Open()
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return h.lookup, nil
}

// readOnce is read(2), except that it reports the error that ended the connection each
// time; the kernel reports it only once. What came before that error is read first.
func (s *socket) readOnce(p []byte) (n int, err error) {
	// The same as control, but inlined. This is the deepest point of a new goroutine's
	// stack; with one more call the stack would grow, which costs some system calls.
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.fd < 0 {
		return 0, errClosedMeanwhile
	}
	n, err = unix.Read(s.fd, p)
	s.noteBroken(err)
	if errno := syscall.Errno(s.broken.Load()); n == 0 && err == nil && errno != 0 {
		return 0, errno
	}
	return n, err
}

// writeOnce is write(2). It notes the error that ended the connection, for readOnce.
func (s *socket) writeOnce(p []byte) (n int, err error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.fd < 0 {
		return 0, errClosedMeanwhile
	}
	n, err = unix.Write(s.fd, p)
	s.noteBroken(err)
	return n, err
}

// noteBroken keeps the kernel's error that ended a connection. The kernel itself reports it
// once; the next reader sees an end as after a FIN (tcp_recvmsg_locked: sock_error, and
// then RCV_SHUTDOWN).
func (s *socket) noteBroken(err error) {
	errno, _ := err.(syscall.Errno) //nolint:errorlint // as it comes from the system call
	switch errno {
	case 0, unix.EAGAIN, unix.EINTR: // nothing has happened
	case unix.ENOTCONN, unix.EPIPE: // what every later call gets
	default:
		s.broken.CompareAndSwap(0, uint32(errno))
	}
}

// state is the socket's state, the first byte of struct tcp_info.
func (s *socket) state() (state uint8, err error) {
	err = s.control(func(fd int) error {
		info, err := unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		var bytes [4]byte
		binary.NativeEndian.PutUint32(bytes[:], uint32(info))
		state = bytes[0]
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("TCP_INFO: %w", err)
	}
	return state, nil
}
