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
	"time"

	"golang.org/x/sys/unix"
)

// listener is the serving half of a listening socket.
type listener struct {
	mu       sync.Mutex
	accepted map[netip.AddrPort]Handle // by the peer's address, KeepOpen only
	arrived  chan struct{}             // closed and replaced at each arrival, and closed at the end
	over     error                     // why nothing arrives any more
	stop     context.CancelFunc
}

// serve accepts until the listening socket is closed, or its spec says that it is enough.
func (h *Host) serve(ctx context.Context, s *socket, spec ListenSpec, serve func(context.Context, *Stream) error) {
	err := h.acceptAll(ctx, s, spec, serve)
	switch {
	case ctx.Err() != nil || err == nil:
		err = errClosedMeanwhile
	case !errors.Is(err, errEnough):
		h.report(err)
	}
	s.listener.end(err)
}

// errEnough means that a listener has accepted as many connections as its spec says.
var errEnough = errors.New("the listener accepts no more connections")

// acceptAll accepts until it is enough, something fails, or ctx ends, which it does before
// the listening socket is closed.
func (h *Host) acceptAll(ctx context.Context, s *socket, spec ListenSpec, serve func(context.Context, *Stream) error) error {
	if spec.NeverAccepts {
		return errEnough
	}
	if err := pause(ctx, spec.AcceptAfter); err != nil {
		return err
	}
	for n := 0; spec.Accepts == 0 || n < spec.Accepts; n++ {
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
	return errEnough
}

// pause waits for a fixed time, because the caller asked for exactly that wait.
func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
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

// accept waits for a connection, which the caller then owns.
func (s *socket) accept(ctx context.Context) (conn *socket, peer netip.AddrPort, err error) {
	var failure error
	err = s.await(ctx, false, func(listening int) (done bool) {
		for {
			fd, sa, err := unix.Accept4(listening, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
			switch err {
			case nil:
				conn, peer = &socket{fd: fd, accepted: true}, fromSockaddr(sa)
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
