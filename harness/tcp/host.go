package tcp

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"twlab/harness/observe"
)

// ErrNoHandle is returned for a handle that the host never gave out, or whose
// socket is closed.
var ErrNoHandle = errors.New("no open socket with this handle")

// Handle names a socket of one [Host]. Zero names none.
type Handle int

// Host keeps the sockets of one machine. Its methods may be called from any
// goroutine. Make one with [NewHost]; CloseAll ends it.
type Host struct {
	inside func(func() error) error // runs a function in the machine's network namespace

	mu      sync.Mutex
	closed  bool
	last    Handle
	sockets map[Handle]*socket
	failed  []error         // what went wrong where nobody waited for it
	running sync.WaitGroup  // goroutines that serve listeners
	buffers sync.Pool       // of streams
	lookup  *observe.Lookup // nil until it is wanted
}

// NewHost makes a host whose sockets are opened by functions given to inside,
// such as ns.Namespace.Do. A machine that is its own namespace passes a function
// that just calls its argument.
func NewHost(inside func(func() error) error) *Host {
	return &Host{inside: inside, sockets: map[Handle]*socket{}}
}

// CloseAll closes every socket of the host, open connections by a RST, and waits
// until nothing of the host runs.
// Its error includes what listeners ran into, such as too few descriptors.
func (h *Host) CloseAll() error {
	h.mu.Lock()
	h.closed = true
	open := h.sockets
	h.sockets = map[Handle]*socket{}
	h.mu.Unlock()

	var errs []error
	for _, s := range open {
		errs = append(errs, s.close())
	}
	h.running.Wait()
	if h.lookup != nil {
		errs = append(errs, h.lookup.Close())
		h.lookup = nil
	}
	return errors.Join(append(errs, h.failed...)...)
}

// keep gives a socket its handle. A host that was closed meanwhile closes it.
func (h *Host) keep(s *socket) (Handle, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return 0, errors.Join(ErrNoHandle, s.close())
	}
	h.last++
	h.sockets[h.last] = s
	return h.last, nil
}

func (h *Host) socket(of Handle) (*socket, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s, found := h.sockets[of]
	if !found {
		return nil, fmt.Errorf("socket %d: %w", of, ErrNoHandle)
	}
	return s, nil
}

func (h *Host) forget(of Handle) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.sockets, of)
}

// report keeps an error for CloseAll.
func (h *Host) report(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failed = append(h.failed, err)
}

// spawn runs f in a goroutine that CloseAll waits for.
func (h *Host) spawn(f func()) {
	h.running.Add(1)
	go func() {
		defer h.running.Done()
		f()
	}()
}

// socket is a non-blocking descriptor. While it has no file it is plain; watch
// hands it to the runtime's epoll, so that waiting for it parks a goroutine and
// blocks no thread.
type socket struct {
	fd   int
	file *os.File
	raw  syscall.RawConn

	listener *listener // for listening sockets only
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

// resetOnClose decides what close(2) does to an open connection. Every socket
// begins with a RST (SO_LINGER with 0 seconds), and gets the ordinary FIN back
// when its ending wants one: whatever the death of this process closes must be
// gone at once. An orphan that waits for the answer to its FIN would keep its
// namespace alive for minutes (tcp_orphan_retries) when the peer's namespace is
// gone already. Accepted connections inherit it.
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
func (s *socket) watch() error {
	if s.file != nil {
		return nil
	}
	s.file = os.NewFile(uintptr(s.fd), "tcp")
	raw, err := s.file.SyscallConn()
	if err != nil {
		return fmt.Errorf("watch socket: %w", err)
	}
	s.raw = raw
	return nil
}

func (s *socket) close() error {
	if s.listener != nil {
		s.listener.stop()
	}
	if s.file != nil {
		return s.file.Close()
	}
	return unix.Close(s.fd)
}

// control runs f on the descriptor while it cannot be closed.
func (s *socket) control(f func(fd int) error) error {
	if s.raw == nil {
		return f(s.fd)
	}
	var err error
	if e := s.raw.Control(func(fd uintptr) { err = f(int(fd)) }); e != nil {
		return e
	}
	return err
}

// await calls f when the socket is readable, or writable, and again until f says
// that it is done. The end of ctx ends the wait with ctx's error.
func (s *socket) await(ctx context.Context, writable bool, f func(fd int) (done bool)) error {
	if err := s.watch(); err != nil {
		return err
	}
	expired := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(expired)
		_ = s.file.SetDeadline(time.Unix(1, 0)) // fails only on a closed file, which wakes us as well
	})
	defer func() {
		if !stop() {
			<-expired
			_ = s.file.SetDeadline(time.Time{})
		}
	}()
	wait := s.raw.Read
	if writable {
		wait = s.raw.Write
	}
	err := wait(func(fd uintptr) bool { return f(int(fd)) })
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// local is the socket's own address, zero before it has one.
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

// remote is the address of the peer; zero when the connection is over.
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

// toSockaddr takes the zero address as "any".
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
