//go:build linux

package tcp

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"twlab/harness/internal/sockdiag"
)

// ErrNoHandle is returned for a handle that the host never gave out, for a handle whose
// socket is closed or is just being ended by another call, and by a call that CloseAll of
// its host cuts short.
var ErrNoHandle = errors.New("no open socket with this handle")

// errClosedMeanwhile is returned by a call when another call has closed its socket.
var errClosedMeanwhile = fmt.Errorf("closed by another call: %w", ErrNoHandle)

// ErrForeign is wrapped when a handle of one host is given to another host.
var ErrForeign = errors.New("the socket is another node's")

// Handle names a socket of one [Host]. Its zero value names no socket.
type Handle struct {
	// Host is the name of the host.
	Host string
	// Number counts the sockets of the host, from 1 on.
	Number int
}

// IsZero reports whether the handle names no socket.
func (h Handle) IsZero() bool { return h == Handle{} }

// String returns the number, and the host when it has a name: "7 of client0".
func (h Handle) String() string {
	if h.Host == "" {
		return strconv.Itoa(h.Number)
	}
	return strconv.Itoa(h.Number) + " of " + h.Host
}

// Host owns the sockets of one machine. Its methods may be called from any goroutine, and
// several may run at once for one handle: each ends with its own context, and when several
// end the socket, exactly one gets it. Make a Host with [NewHost]; CloseAll ends it.
type Host struct {
	name   string
	inside func(func() error) error // runs a function in the machine's network namespace

	mu      sync.Mutex
	closed  bool
	last    int
	sockets map[Handle]*socket
	taken   map[Handle]*socket            // each belongs to one call, which ends it or gives it back
	calls   map[uint64]context.CancelFunc // calls that wait
	begun   uint64                        // number of such calls so far
	failed  []error                       // errors outside of any call
	running sync.WaitGroup                // calls that wait, and goroutines that serve listeners
	buffers sync.Pool                     // of streams
	lookup  *sockdiag.Lookup              // nil until its first use
}

// NewHost makes a Host with this name, which its handles carry. It opens its sockets in
// functions that it passes to inside, such as ns.Namespace.Do. A machine that is its own
// namespace passes a function that just calls its argument.
func NewHost(name string, inside func(func() error) error) *Host {
	return &Host{
		name: name, inside: inside, sockets: map[Handle]*socket{}, taken: map[Handle]*socket{}, calls: map[uint64]context.CancelFunc{},
	}
}

// CloseAll closes every socket of the host, open connections by RST, cuts short every call
// that waits (their error is [ErrNoHandle]), and returns when nothing of the host runs any
// more. The host opens nothing afterwards; a second CloseAll closes and reports nothing.
// Its error includes the errors of listeners, such as a lack of descriptors.
func (h *Host) CloseAll() error {
	h.mu.Lock()
	h.closed = true
	open := append(slices.Collect(maps.Values(h.sockets)), slices.Collect(maps.Values(h.taken))...)
	clear(h.sockets)
	clear(h.taken)
	for _, cancel := range h.calls {
		cancel()
	}
	h.mu.Unlock()

	var errs []error
	for _, s := range open {
		errs = append(errs, s.close())
	}
	h.running.Wait()
	h.mu.Lock()
	lookup, failed := h.lookup, h.failed
	h.lookup, h.failed = nil, nil
	h.mu.Unlock()
	if lookup != nil {
		errs = append(errs, lookup.Close())
	}
	return errors.Join(append(errs, failed...)...)
}

// call runs a call that may wait. CloseAll ends its context and waits for it.
func (h *Host) call(ctx context.Context, f func(ctx context.Context) error) error {
	own, cancel := context.WithCancel(ctx)
	defer cancel()
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return fmt.Errorf("the host is closed: %w", ErrNoHandle)
	}
	h.begun++
	number := h.begun
	h.calls[number] = cancel
	h.running.Add(1)
	h.mu.Unlock()
	defer h.running.Done()

	err := f(own)

	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.calls, number)
	if err != nil && h.closed && ctx.Err() == nil {
		return fmt.Errorf("the host was closed meanwhile: %w (%v)", ErrNoHandle, err) //nolint:errorlint // the caller's own context has not ended
	}
	return err
}

// keep gives a socket its handle. When the host was closed meanwhile, the caller still owns
// the socket.
func (h *Host) keep(s *socket) (Handle, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return Handle{}, fmt.Errorf("the host is closed: %w", ErrNoHandle)
	}
	return h.enter(s), nil
}

// enter gives a socket its handle, with the lock held.
func (h *Host) enter(s *socket) Handle {
	h.last++
	handle := Handle{Host: h.name, Number: h.last}
	h.sockets[handle] = s
	return handle
}

// find finds a socket, with the lock held.
func (h *Host) find(of Handle) (*socket, error) {
	if s, found := h.sockets[of]; found {
		return s, nil
	}
	if !of.IsZero() && of.Host != h.name {
		return nil, fmt.Errorf("socket %v, and this is %s: %w", of, h.name, ErrForeign)
	}
	return nil, fmt.Errorf("socket %d: %w", of.Number, ErrNoHandle)
}

// socket finds a socket for a call that leaves it open.
func (h *Host) socket(of Handle) (*socket, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.find(of)
}

// connection is socket, and refuses those that listen.
func (h *Host) connection(of Handle) (*socket, error) {
	s, err := h.socket(of)
	if err == nil && s.listener != nil {
		return nil, fmt.Errorf("socket %d listens: it is no connection", of.Number)
	}
	return s, err
}

// take finds a socket for a call that may close it. No other call finds it from now on,
// until that call gives it back.
func (h *Host) take(of Handle) (*socket, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s, err := h.find(of)
	if err != nil {
		return nil, err
	}
	delete(h.sockets, of)
	h.taken[of] = s
	return s, nil
}

// giveBack puts a socket that was taken back under its handle.
func (h *Host) giveBack(of Handle) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s, found := h.taken[of]; found { // else CloseAll has closed it
		delete(h.taken, of)
		h.sockets[of] = s
	}
}

// forget drops a socket that was taken and is closed.
func (h *Host) forget(of Handle) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.taken, of)
}

// report keeps an error for CloseAll.
func (h *Host) report(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failed = append(h.failed, err)
}

// spawn runs f in a goroutine that CloseAll waits for. Only what CloseAll waits
// for may call it.
func (h *Host) spawn(f func()) { h.running.Go(f) }

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
}

// polled is what a socket needs in addition when calls wait for it: the runtime's epoll
// parks a goroutine and blocks no thread.
type polled struct {
	file *os.File // owns the descriptor from now on
	raw  syscall.RawConn
	turn chan struct{} // holds one element while a call waits: the deadline belongs to the file, so only one call may wait
	gone chan struct{} // is closed with the socket
}

// openSocket makes a TCP socket in the calling thread's network namespace.
func openSocket() (*socket, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	s := &socket{fd: fd}
	if err := s.resetOnClose(true); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
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

func fromSockaddr(sa unix.Sockaddr) netip.AddrPort {
	if in, ok := sa.(*unix.SockaddrInet4); ok {
		return netip.AddrPortFrom(netip.AddrFrom4(in.Addr), uint16(in.Port))
	}
	return netip.AddrPort{}
}

// toSockaddr treats the zero address as "any".
func toSockaddr(at netip.AddrPort) (*unix.SockaddrInet4, error) {
	sa := &unix.SockaddrInet4{Port: int(at.Port())}
	if at.Addr().IsValid() {
		if !at.Addr().Is4() {
			return nil, fmt.Errorf("address %v: only IPv4 is supported", at.Addr())
		}
		sa.Addr = at.Addr().As4()
	}
	return sa, nil
}
