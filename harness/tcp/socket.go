//go:build linux

package tcp

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// socket is a non-blocking descriptor and its only owner: nothing else closes it, and its
// number is used only under mu or, for waits, under the file's own lock. Only a socket that
// a call waits for gets a file, because the runtime's epoll costs system calls at its
// beginning and end, and a wake-up for each change of state.
type socket struct {
	mu   sync.RWMutex // read-locked while the number is in use
	fd   int          // -1 when it is closed
	poll *polled      // nil until a call waits

	broken   atomic.Uint32 // the kernel's error that ended the connection, once a call got it: the kernel reports it once (sock_error)
	listener *listener     // for listening sockets only
	accepted bool          // by a listener of the host
}

// polled is what a socket needs in addition when calls wait for it: the runtime's epoll
// parks a goroutine and blocks no thread.
type polled struct {
	file *os.File // owns the descriptor from now on
	raw  syscall.RawConn
	turn chan struct{} // holds one element while a call waits: the deadline belongs to the file, so only one call may wait
	gone chan struct{} // is closed with the socket
}

// resetOnClose decides what close(2) does to an open connection. Every socket starts with a
// RST (SO_LINGER with 0 seconds) and gets the ordinary FIN back when its ending needs one:
// the sockets that the death of this process closes must be gone at once. An orphan that
// waits for the answer to its FIN would keep its namespace alive for minutes
// (tcp_orphan_retries) when the peer's namespace is gone already. Accepted connections
// inherit the option.
func (s *socket) resetOnClose(reset bool) error {
	linger := unix.Linger{}
	if reset {
		linger.Onoff = 1
	}
	err := s.control(func(fd int) error {
		return unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &linger)
	})
	if err != nil {
		return fmt.Errorf("set SO_LINGER: %w", err)
	}
	return nil
}

// watch hands the descriptor to the runtime's poller, once.
func (s *socket) watch() (*polled, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fd < 0 {
		return nil, errClosedMeanwhile
	}
	if s.poll != nil {
		return s.poll, nil
	}
	file := os.NewFile(uintptr(s.fd), "tcp")
	raw, err := file.SyscallConn()
	if err != nil {
		s.fd = -1
		return nil, fmt.Errorf("watch socket: %w", errors.Join(err, file.Close()))
	}
	s.poll = &polled{file: file, raw: raw, turn: make(chan struct{}, 1), gone: make(chan struct{})}
	return s.poll, nil
}

// close closes the descriptor, once, when nothing uses it any more. Calls that wait for the
// socket return first.
func (s *socket) close() error { return s.closeAfter(func(int) error { return nil }) }

// closeAfter is close after a last operation on the descriptor; no other call comes between
// the two. The socket stays open when that operation fails.
func (s *socket) closeAfter(last func(fd int) error) error {
	if s.listener != nil {
		s.listener.stop()
	}
	s.mu.Lock()
	fd, w := s.fd, s.poll
	if fd < 0 {
		s.mu.Unlock()
		return nil
	}
	if err := last(fd); err != nil {
		s.mu.Unlock()
		return err
	}
	s.fd = -1
	s.mu.Unlock()
	if w == nil {
		return unix.Close(fd)
	}
	close(w.gone)
	return w.file.Close()
}

// control runs f on the descriptor, which cannot be closed meanwhile.
func (s *socket) control(f func(fd int) error) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.fd < 0 {
		return errClosedMeanwhile
	}
	return f(s.fd)
}

// alone is control while no other call uses the descriptor, for an operation of several
// system calls.
func (s *socket) alone(f func(fd int) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fd < 0 {
		return errClosedMeanwhile
	}
	return f(s.fd)
}

// begin waits for the caller's turn to wait; the caller must call leave.
func (w *polled) begin(ctx context.Context) error {
	select {
	case w.turn <- struct{}{}:
		return nil
	default:
	}
	select {
	case w.turn <- struct{}{}:
		return nil
	case <-w.gone:
		return errClosedMeanwhile
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (w *polled) leave() { <-w.turn }

// expire makes waits fail when ctx ends. The function that it returns undoes that, and must
// be called before the turn ends.
func (w *polled) expire(ctx context.Context) (undo func()) {
	expired := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(expired)
		_ = w.file.SetDeadline(time.Unix(1, 0)) // fails only on a closed file, which wakes us as well
	})
	return func() {
		if !stop() {
			<-expired
			_ = w.file.SetDeadline(time.Time{}) // fails only on a closed file
		}
	}
}

// await calls f when the socket is readable, or writable, and again until f returns true.
// Calls that wait already come first. When ctx ends, await returns ctx's error.
func (s *socket) await(ctx context.Context, writable bool, f func(fd int) (done bool)) error {
	w, err := s.watch()
	if err != nil {
		return err
	}
	if err := w.begin(ctx); err != nil {
		return err
	}
	defer w.leave()
	defer w.expire(ctx)()
	wait := w.raw.Read
	if writable {
		wait = w.raw.Write
	}
	return s.explain(ctx, wait(func(fd uintptr) bool { return f(int(fd)) }))
}

// explain returns the reason that ended a wait: another call, the context, or err itself.
func (s *socket) explain(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	// The poller's error for a closed file has a type of its own.
	if s.control(func(int) error { return nil }) != nil {
		return errClosedMeanwhile
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// local returns the socket's own address, zero before it has one.
func (s *socket) local() (netip.AddrPort, error) {
	var sa unix.Sockaddr
	err := s.control(func(fd int) (err error) {
		sa, err = unix.Getsockname(fd)
		return err
	})
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("getsockname: %w", err)
	}
	return fromSockaddr(sa), nil
}

// remote returns the address of the peer; zero when the connection is over.
func (s *socket) remote() (netip.AddrPort, error) {
	var sa unix.Sockaddr
	err := s.control(func(fd int) (err error) {
		sa, err = unix.Getpeername(fd)
		return err
	})
	if errors.Is(err, unix.ENOTCONN) {
		return netip.AddrPort{}, nil
	}
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("getpeername: %w", err)
	}
	return fromSockaddr(sa), nil
}
