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

	"twlab/harness/observe"
)

// streamBuffer is how much is read at once.
const streamBuffer = 8 << 10

// stream is a connection on which much is read and written, one waiting call at
// a time: unlike [socket.await], a wait costs nothing but the wait. Make one with
// [Host.stream]; letGo ends it, and leaves the socket.
type stream struct {
	*socket
	host    *Host
	peer    netip.AddrPort
	buffer  *[streamBuffer]byte
	expired chan struct{}
	stop    func() bool

	fill, drain func(fd uintptr) (done bool) // the steps of read and write, made once
	got         int
	left        []byte
	err         error
}

// stream waits on a socket for as long as ctx lives.
func (h *Host) stream(ctx context.Context, s *socket, peer netip.AddrPort) (*stream, error) {
	if err := s.watch(); err != nil {
		return nil, err
	}
	st := &stream{socket: s, host: h, peer: peer, expired: make(chan struct{})}
	st.fill, st.drain = st.readNow, st.writeNow
	buffer, ok := h.buffers.Get().(*[streamBuffer]byte)
	if !ok {
		buffer = new([streamBuffer]byte)
	}
	st.buffer = buffer
	st.stop = context.AfterFunc(ctx, func() {
		defer close(st.expired)
		_ = s.file.SetDeadline(time.Unix(1, 0)) // fails only on a closed file, which wakes us as well
	})
	return st, nil
}

// letGo undoes what stream did to the socket.
func (st *stream) letGo() {
	if !st.stop() {
		<-st.expired
	}
	_ = st.file.SetDeadline(time.Time{}) // fails only on a closed file
	st.host.buffers.Put(st.buffer)
	st.buffer = nil
}

// within limits the waits from now on; 0 is no limit.
func (st *stream) within(ctx context.Context, budget time.Duration) error {
	var deadline time.Time
	if budget > 0 {
		deadline = time.Now().Add(budget)
	}
	if err := st.file.SetDeadline(deadline); err != nil {
		return fmt.Errorf("limit the wait: %w", err)
	}
	return ctx.Err() // its end may have come before and been overwritten
}

// read waits for bytes, which are valid until the next call. Its error is io.EOF
// for the peer's FIN, the kernel's errno, os.ErrDeadlineExceeded when the limit
// was first, or the end of ctx.
func (st *stream) read(ctx context.Context) ([]byte, error) {
	st.got = 0
	err := st.wait(ctx, st.raw.Read, st.fill)
	return st.buffer[:st.got], err
}

// write waits until the kernel has taken all of p, with errors as those of read.
func (st *stream) write(ctx context.Context, p []byte) error {
	if st.left = p; len(p) == 0 {
		return nil
	}
	return st.wait(ctx, st.raw.Write, st.drain)
}

func (st *stream) wait(ctx context.Context, wait func(func(uintptr) bool) error, step func(uintptr) bool) error {
	st.err = nil
	if err := wait(step); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return err
	}
	return st.err
}

func (st *stream) readNow(fd uintptr) (done bool) {
	for {
		n, err := unix.Read(int(fd), st.buffer[:])
		switch {
		case errors.Is(err, unix.EAGAIN):
			return false
		case errors.Is(err, unix.EINTR):
			continue
		case err == nil && n == 0:
			err = io.EOF
		}
		st.got, st.err = max(n, 0), err
		return true
	}
}

func (st *stream) writeNow(fd uintptr) (done bool) {
	for len(st.left) > 0 {
		n, err := unix.Write(int(fd), st.left)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return false
		case errors.Is(err, unix.EINTR):
		case err != nil:
			st.err = err
			return true
		default:
			st.left = st.left[n:]
		}
	}
	return true
}

// Side is one of the two sides of a connection.
type Side string

// The sides, as one of them sees them.
const (
	// Nobody has ended the connection.
	Nobody Side = ""
	// Here is the side that is asked.
	Here Side = "here"
	// Peer is the other one.
	Peer Side = "the peer"
	// Unclear is what nothing tells: both ends have come between two looks at
	// the socket, and there is no TIME_WAIT that shows whose was the first.
	Unclear Side = "unclear"
)

// End is how a connection ended.
type End struct {
	// First is who ended it first, by FIN or RST: Peer when the peer's had
	// arrived before ours was sent. It is read from the socket's own state before
	// and after shutdown(2): FIN_WAIT1, FIN_WAIT2 and CLOSING say that no FIN had
	// come when ours was sent, CLOSE_WAIT and LAST_ACK that one had (RFC 9293,
	// 3.3.2). When all was over before the second look, a TIME_WAIT on this side
	// says that ours was the first. With CloseNow and Abort there is no second
	// look: an end that comes in the microsecond before close(2) is missed.
	First Side
	// Errno is the kernel's error that came instead of the peer's FIN:
	// ECONNRESET for a RST. Else 0.
	Errno syscall.Errno
	// Undecided says that our own budget ended before the peer's FIN came. We
	// have reset the connection then.
	Undecided bool
}

// finish brings the connection to its end as [socket.end] does and tells how that
// was. Only the end of ctx, and what is ours to mend, is an error. Whatever
// happens, the socket is closed, or is open because it is to be kept.
func (st *stream) finish(ctx context.Context, how Ending, budget time.Duration) (end End, err error) {
	before, err := st.state()
	if err != nil {
		return end, errors.Join(err, st.close())
	}
	switch before {
	case unix.BPF_TCP_CLOSE, unix.BPF_TCP_CLOSE_WAIT:
		end.First = Peer
	default:
		if how != KeepOpen && how != Vanish && how != CloseAfterPeer {
			end.First = Here
		}
	}
	switch how {
	case CloseFirst:
		if err := st.shutdown(); err != nil && !errors.Is(err, unix.ENOTCONN) {
			return end, errors.Join(err, st.close())
		}
		if end.First == Here {
			if end.First, err = st.whoSent(); err != nil {
				return end, errors.Join(err, st.close())
			}
		}
		err = st.awaitFIN(ctx, budget)
	case CloseAfterPeer:
		err = st.awaitFIN(ctx, budget)
		if err == nil {
			end.First = Peer
		}
	default:
		if err := st.end(ctx, how); err != nil {
			return end, errors.Join(err, st.close())
		}
		return end, nil
	}
	if err == nil {
		return end, st.end(ctx, CloseNow)
	}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		end.Undecided, err = true, nil
		if end.First == Nobody {
			end.First = Here
		}
	case errors.As(err, &end.Errno):
		err = nil
		if end.First == Nobody {
			end.First = Peer
		}
	}
	return end, errors.Join(err, st.close())
}

// awaitFIN reads until the peer's FIN and throws away what it reads.
func (st *stream) awaitFIN(ctx context.Context, budget time.Duration) error {
	if err := st.within(ctx, budget); err != nil {
		return err
	}
	for {
		_, err := st.read(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// whoSent tells, just after shutdown(2), whose FIN was the first, when none of
// the peer's had come just before.
func (st *stream) whoSent() (Side, error) {
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
	// The peer was quick: all is over.
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

// timeWait tells whether this side has the connection in TIME_WAIT. A kernel that
// cannot be asked shows none.
func (h *Host) timeWait(local, remote netip.AddrPort) (bool, error) {
	lookup, err := h.openLookup()
	if err != nil {
		return false, err
	}
	s, found, err := lookup.Find(local, remote)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EPROTONOSUPPORT) {
		return false, nil
	}
	return found && s.State == observe.TimeWait, err
}

// openLookup opens the host's lookup when it is first wanted.
func (h *Host) openLookup() (*observe.Lookup, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, ErrNoHandle
	}
	if h.lookup == nil {
		err := h.inside(func() (err error) {
			h.lookup, err = observe.OpenLookup()
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return h.lookup, nil
}

// state is the socket's state, the first byte of struct tcp_info.
func (s *socket) state() (state byte, err error) {
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
