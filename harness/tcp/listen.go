package tcp

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"golang.org/x/sys/unix"
)

// ListenSpec describes a listening socket and what it does with connections.
type ListenSpec struct {
	// At is the address and port; an invalid address means all, port 0 lets
	// the kernel choose.
	At netip.AddrPort
	// Backlog is listen(2)'s; 0 means as large as net.core.somaxconn allows.
	// The kernel lets one more connection in than it says (sk_acceptq_is_full).
	Backlog int
	// NeverAccepts leaves connections in the accept queue until it is full.
	NeverAccepts bool
	// Ending is what happens to each accepted connection at once. With
	// KeepOpen, it can be had by [Host.Accept].
	Ending Ending
	// HTTP, when it is not nil, answers requests on each connection. Ending is
	// then how a connection ends whose turn it is to end, and KeepOpen stands
	// for CloseNow.
	HTTP *Responder
}

// listener is the serving half of a listening socket.
type listener struct {
	mu       sync.Mutex
	accepted map[netip.AddrPort]Handle // by the peer's address, KeepOpen only
	arrived  chan struct{}             // closed and replaced at each arrival
	stop     context.CancelFunc
	served   *served // with a Responder only
}

// Listen opens a listening socket and serves it until it is ended or the host
// closes. It returns the address the socket really has.
func (h *Host) Listen(_ context.Context, spec ListenSpec) (Handle, netip.AddrPort, error) {
	at, err := toSockaddr(spec.At)
	if err == nil && spec.HTTP != nil {
		err = spec.HTTP.check()
	}
	if err != nil {
		return 0, netip.AddrPort{}, fmt.Errorf("listen: %w", err)
	}
	var s *socket
	err = h.inside(func() (err error) {
		s, err = openSocket()
		return err
	})
	if err != nil {
		return 0, netip.AddrPort{}, fmt.Errorf("listen: %w", err)
	}
	handle, bound, err := h.listen(s, at, spec)
	if err != nil {
		return 0, netip.AddrPort{}, fmt.Errorf("listen on %v: %w", spec.At, errors.Join(err, s.close()))
	}
	return handle, bound, nil
}

func (h *Host) listen(s *socket, at *unix.SockaddrInet4, spec ListenSpec) (Handle, netip.AddrPort, error) {
	// A server that restarts must be able to bind while old connections of its
	// port are in TIME_WAIT.
	if err := unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return 0, netip.AddrPort{}, fmt.Errorf("set SO_REUSEADDR: %w", err)
	}
	if err := unix.Bind(s.fd, at); err != nil {
		return 0, netip.AddrPort{}, fmt.Errorf("bind: %w", err)
	}
	backlog := spec.Backlog
	if backlog == 0 {
		backlog = 1<<31 - 1 // the kernel cuts it down to net.core.somaxconn
	}
	if err := unix.Listen(s.fd, backlog); err != nil {
		return 0, netip.AddrPort{}, fmt.Errorf("listen: %w", err)
	}
	bound, err := s.local()
	if err != nil {
		return 0, netip.AddrPort{}, err
	}
	if err := s.watch(); err != nil {
		return 0, netip.AddrPort{}, err
	}
	serving, stop := context.WithCancel(context.Background())
	s.listener = &listener{accepted: map[netip.AddrPort]Handle{}, arrived: make(chan struct{}), stop: stop}
	if spec.HTTP != nil {
		s.listener.served = new(served)
		// As web servers do: the end of a response is not to wait for the
		// acknowledgement of what is before it. Accepted connections inherit it.
		if err := unix.SetsockoptInt(s.fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
			return 0, netip.AddrPort{}, fmt.Errorf("set TCP_NODELAY: %w", err)
		}
	}
	handle, err := h.keep(s)
	if err != nil {
		return 0, netip.AddrPort{}, err
	}
	if !spec.NeverAccepts {
		h.spawn(func() { h.serve(serving, s, spec) })
	}
	return handle, bound, nil
}

// serve accepts until the listening socket is closed.
func (h *Host) serve(ctx context.Context, s *socket, spec ListenSpec) {
	var answers map[kind]answer
	if spec.HTTP != nil {
		answers = spec.HTTP.answers()
	}
	for {
		conn, peer, err := s.accept(ctx)
		if ctx.Err() != nil {
			return // the listening socket is being closed
		}
		if err != nil {
			h.report(err)
			return
		}
		if answers != nil {
			h.spawn(func() { h.respond(ctx, conn, peer, spec, answers, s.listener.served) })
			continue
		}
		if spec.Ending != KeepOpen {
			h.spawn(func() {
				// A connection whose peer goes another way (RST, never closes)
				// is reset when the listener is closed.
				if conn.end(ctx, spec.Ending) != nil {
					_ = conn.close()
				}
			})
			continue
		}
		handle, err := h.keep(conn)
		if err != nil {
			return
		}
		s.listener.arrive(peer, handle)
	}
}

func (s *socket) accept(ctx context.Context) (conn *socket, peer netip.AddrPort, err error) {
	var failure error
	err = s.await(ctx, false, func(listening int) (done bool) {
		for {
			fd, sa, err := unix.Accept4(listening, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
			switch err {
			case nil:
				conn, peer = &socket{fd: fd}, fromSockaddr(sa)
				return true
			case unix.EAGAIN:
				return false
			case unix.ECONNABORTED, unix.EINTR: // gone before we came: take the next
			default:
				failure = fmt.Errorf("accept: %w", err)
				return true
			}
		}
	})
	return conn, peer, errors.Join(err, failure)
}

func (l *listener) arrive(peer netip.AddrPort, conn Handle) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.accepted[peer] = conn
	close(l.arrived)
	l.arrived = make(chan struct{})
}

// Accept waits until the listener has accepted the connection that comes from
// peer (the address that the listener sees, after any NAT) and returns it. The
// listener must be one that keeps connections open. Each connection is handed
// out once.
func (h *Host) Accept(ctx context.Context, listening Handle, peer netip.AddrPort) (Handle, error) {
	s, err := h.socket(listening)
	if err != nil {
		return 0, fmt.Errorf("accept from %v: %w", peer, err)
	}
	if s.listener == nil {
		return 0, fmt.Errorf("accept from %v: socket %d does not listen", peer, listening)
	}
	for {
		s.listener.mu.Lock()
		conn, found := s.listener.accepted[peer]
		delete(s.listener.accepted, peer)
		arrived := s.listener.arrived
		s.listener.mu.Unlock()
		if found {
			return conn, nil
		}
		select {
		case <-arrived:
		case <-ctx.Done():
			return 0, fmt.Errorf("accept from %v: %w", peer, ctx.Err())
		}
	}
}
