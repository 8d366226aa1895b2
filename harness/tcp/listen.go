//go:build linux

package tcp

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// ListenSpec describes a listening socket and what it does with connections.
type ListenSpec struct {
	// At is the address and port; an invalid address means all, port 0 lets
	// the kernel choose.
	At netip.AddrPort
	// Backlog is the argument of listen(2); 0 means as large as net.core.somaxconn allows.
	// The accept queue holds one connection more than Backlog (sk_acceptq_is_full).
	Backlog int
	// NeverAccepts leaves connections in the accept queue until it is full.
	NeverAccepts bool
	// Ending is applied to each connection as soon as it is accepted. With KeepOpen,
	// [Host.Accept] returns the connection.
	Ending Ending
}

// listener is the serving half of a listening socket.
type listener struct {
	mu       sync.Mutex
	accepted map[netip.AddrPort]Handle // by the peer's address, KeepOpen only
	arrived  chan struct{}             // closed and replaced at each arrival, and closed at the end
	over     error                     // why nothing arrives any more
	stop     context.CancelFunc
}

// Listen opens a listening socket and serves it until it is ended or the host closes. It
// returns the address that the socket really has. When the socket is ended, kept
// connections that no [Host.Accept] has returned stay open until the host closes.
func (h *Host) Listen(ctx context.Context, spec ListenSpec) (handle Handle, bound netip.AddrPort, err error) {
	return h.Serve(ctx, spec, nil)
}

// Serve is Listen with a server: it calls serve for each connection, on a goroutine of its
// own, with a context that ends with the listener. The server, not Serve, has to apply the
// Ending of the spec. [Host.CloseAll] waits for all servers and returns their errors.
func (h *Host) Serve(
	ctx context.Context, spec ListenSpec, serve func(context.Context, *Stream) error,
) (handle Handle, bound netip.AddrPort, err error) {
	at, err := toSockaddr(spec.At)
	if err == nil {
		err = spec.Ending.Validate()
	}
	if err != nil {
		return Handle{}, netip.AddrPort{}, fmt.Errorf("listen: %w", err)
	}
	err = h.call(ctx, func(context.Context) error {
		var s *socket
		err := h.inside(func() (err error) {
			s, err = openSocket()
			return err
		})
		if err != nil {
			return err
		}
		if handle, bound, err = h.listen(s, at, spec, serve); err != nil {
			return errors.Join(err, s.close())
		}
		return nil
	})
	if err != nil {
		return Handle{}, netip.AddrPort{}, fmt.Errorf("listen on %v: %w", spec.At, err)
	}
	return handle, bound, nil
}

// listen makes a socket a listener. When that fails, the caller still owns the socket.
func (h *Host) listen(
	s *socket, at *unix.SockaddrInet4, spec ListenSpec, serve func(context.Context, *Stream) error,
) (Handle, netip.AddrPort, error) {
	// A server that restarts must be able to bind while old connections of its
	// port are in TIME_WAIT.
	if err := unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return Handle{}, netip.AddrPort{}, fmt.Errorf("set SO_REUSEADDR: %w", err)
	}
	if err := unix.Bind(s.fd, at); err != nil {
		return Handle{}, netip.AddrPort{}, fmt.Errorf("bind: %w", err)
	}
	backlog := spec.Backlog
	if backlog == 0 {
		backlog = 1<<31 - 1 // the kernel cuts it down to net.core.somaxconn
	}
	if err := unix.Listen(s.fd, backlog); err != nil {
		return Handle{}, netip.AddrPort{}, fmt.Errorf("listen: %w", err)
	}
	bound, err := s.local()
	if err != nil {
		return Handle{}, netip.AddrPort{}, err
	}
	serving, stop := context.WithCancel(context.Background())
	s.listener = &listener{accepted: map[netip.AddrPort]Handle{}, arrived: make(chan struct{}), stop: stop}
	if serve != nil {
		// As web servers do: the end of a response must not wait for the acknowledgement of
		// the data before it. Accepted connections inherit the option.
		if err := unix.SetsockoptInt(s.fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
			return Handle{}, netip.AddrPort{}, fmt.Errorf("set TCP_NODELAY: %w", err)
		}
	}
	handle, err := h.keep(s)
	if err != nil {
		return Handle{}, netip.AddrPort{}, err
	}
	if !spec.NeverAccepts {
		h.spawn(func() { h.serve(serving, s, spec, serve) })
	}
	return handle, bound, nil
}

// serve accepts until the listening socket is closed.
func (h *Host) serve(ctx context.Context, s *socket, spec ListenSpec, serve func(context.Context, *Stream) error) {
	err := h.acceptAll(ctx, s, spec, serve)
	if err == nil || ctx.Err() != nil {
		err = errClosedMeanwhile
	} else {
		h.report(err)
	}
	s.listener.end(err)
}

// acceptAll accepts until something fails, or ctx ends, which it does before the
// listening socket is closed.
func (h *Host) acceptAll(ctx context.Context, s *socket, spec ListenSpec, serve func(context.Context, *Stream) error) error {
	for {
		conn, peer, err := s.accept(ctx)
		if err == nil && (serve != nil || spec.Ending.waits()) {
			// Here, because it takes more stack than a new goroutine has.
			if _, err = conn.watch(); err != nil {
				err = errors.Join(err, conn.close())
			}
		}
		if err != nil {
			return err
		}
		switch {
		case ctx.Err() != nil:
			// Like the connections that the kernel still has in its queue.
			return conn.close()
		case serve != nil:
			h.spawn(func() {
				if err := h.give(ctx, conn, peer, serve); err != nil && ctx.Err() == nil {
					h.report(fmt.Errorf("serve %v: %w", peer, err))
				}
			})
		case spec.Ending != KeepOpen:
			h.spawn(func() {
				// A connection whose peer does something else (sends a RST, never closes)
				// is reset when the listener is closed.
				if conn.end(ctx, spec.Ending) != nil {
					_ = conn.close()
				}
			})
		default:
			handle, err := h.keep(conn)
			if err != nil {
				return conn.close() // the host is being closed
			}
			s.listener.arrive(peer, handle)
		}
	}
}

// give hands a connection to its server.
func (h *Host) give(ctx context.Context, conn *socket, peer netip.AddrPort, serve func(context.Context, *Stream) error) error {
	st, err := h.stream(ctx, conn, peer)
	if err != nil {
		return errors.Join(err, conn.close())
	}
	return serve(ctx, st)
}

// Listens returns nil when the handle names a listening socket. The error wraps
// [ErrNoHandle] when the handle names no socket at all.
func (h *Host) Listens(listening Handle) error {
	s, err := h.socket(listening)
	if err == nil && s.listener == nil {
		return fmt.Errorf("socket %d does not listen", listening.Number)
	}
	return err
}

// accept waits for a connection, which the caller then owns.
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
			case unix.ECONNABORTED, unix.EINTR: // gone before accept(2): take the next one
			default:
				failure = fmt.Errorf("accept: %w", err)
				return true
			}
		}
	})
	if err = errors.Join(err, failure); err != nil && conn != nil {
		err = errors.Join(err, conn.close())
	}
	return conn, peer, err
}

func (l *listener) arrive(peer netip.AddrPort, conn Handle) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.accepted[peer] = conn
	close(l.arrived)
	l.arrived = make(chan struct{})
}

// end tells all calls that wait for a connection that none will come.
func (l *listener) end(why error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.over = why
	close(l.arrived)
}

// Accept waits until the listener has accepted the connection that comes from peer, and
// returns it; peer is the address that the listener sees, after any NAT. The listener must
// keep its connections open. Each connection is returned once. When ctx or the listener
// ends, the error names the connections that came from other peers and have not been
// returned yet.
func (h *Host) Accept(ctx context.Context, listening Handle, peer netip.AddrPort) (conn Handle, err error) {
	err = h.call(ctx, func(ctx context.Context) error {
		s, err := h.socket(listening)
		if err != nil {
			return err
		}
		if s.listener == nil {
			return fmt.Errorf("socket %d does not listen", listening.Number)
		}
		conn, err = s.listener.await(ctx, peer)
		return err
	})
	if err != nil {
		return Handle{}, fmt.Errorf("accept from %v: %w", peer, err)
	}
	return conn, nil
}

func (l *listener) await(ctx context.Context, peer netip.AddrPort) (Handle, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		conn, found := l.accepted[peer]
		if found {
			delete(l.accepted, peer)
			return conn, nil
		}
		if l.over != nil {
			return Handle{}, l.others(l.over)
		}
		arrived := l.arrived
		l.mu.Unlock()
		select {
		case <-arrived:
		case <-ctx.Done():
		}
		l.mu.Lock()
		if ctx.Err() != nil && l.accepted[peer].IsZero() {
			return Handle{}, l.others(ctx.Err())
		}
	}
}

// others adds to an error the peers whose connections came instead.
func (l *listener) others(err error) error {
	const enough = 4
	var names []string
	for peer := range l.accepted {
		names = append(names, peer.String())
	}
	slices.Sort(names)
	switch {
	case len(names) == 0:
		return err
	case len(names) > enough:
		names = append(names[:enough], fmt.Sprintf("%d more", len(names)-enough))
	}
	return fmt.Errorf("%w; connections have come from %s", err, strings.Join(names, ", "))
}
