//go:build linux

package tcp

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// ListenSpec describes a listening socket and what it does with connections.
type ListenSpec struct {
	// At is the address and port; an invalid address means all of IPv4, port 0 lets the
	// kernel choose. The version of the address decides the address family of the socket.
	At netip.AddrPort
	// V6Only leaves IPv4 out at the address "::" (IPV6_V6ONLY). Without it, a listener at
	// "::" has IPv4 connections too, whatever net.ipv6.bindv6only says.
	V6Only bool
	// NoReuseAddr leaves SO_REUSEADDR off, which a listener has otherwise: a server that
	// restarts must be able to bind while old connections of its port are in TIME_WAIT.
	NoReuseAddr bool
	// ReusePort sets SO_REUSEPORT before bind(2).
	ReusePort bool
	// ListenAfter is the time between bind(2) and listen(2); the call waits for it. Until
	// then the port is taken, and connections to it are refused.
	ListenAfter time.Duration
	// Backlog is the argument of listen(2); nil means as large as net.core.somaxconn
	// allows. The accept queue holds one connection more (sk_acceptq_is_full): one with 0.
	Backlog *int
	// NeverAccepts leaves connections in the accept queue until it is full.
	NeverAccepts bool
	// AcceptAfter is the time from listen(2) to the first accept(2); connections wait in
	// the accept queue until then.
	AcceptAfter time.Duration
	// Accepts, when it is not 0, is the number of connections that are accepted; those that
	// come later stay in the accept queue.
	Accepts int
	// MPTCP listens by an MPTCP socket (RFC 8684, Linux 5.6), which takes TCP too. On a
	// kernel without it, it is an error.
	MPTCP bool
	// FastOpen, when it is not 0, is how many connections that began by TCP Fast Open may
	// wait for the end of their handshake (TCP_FASTOPEN, Linux 3.7; tcp_fastopen_queue_check).
	// The node also needs net.ipv4.tcp_fastopen with 2 (server).
	FastOpen int
	// PortRange limits the ports from which the kernel chooses for port 0.
	PortRange PortRange
	// Options are set before bind(2); accepted connections inherit them.
	Options Options
	// Ending is applied to each connection as soon as it is accepted. With KeepOpen,
	// [Host.Accept] returns the connection.
	Ending Ending
}

// Validate returns all that is wrong with the spec, whatever the kernel.
func (spec *ListenSpec) Validate() error {
	errs := []error{checkAddress("At", spec.At.Addr()), spec.PortRange.Validate(), spec.Options.Validate(), spec.Ending.Validate()}
	if spec.V6Only && !isIPv6(spec.At.Addr()) {
		errs = append(errs, fmt.Errorf("V6Only at %v: want an IPv6 address", spec.At))
	}
	if spec.NeverAccepts && (spec.Accepts != 0 || spec.AcceptAfter != 0) {
		errs = append(errs, errors.New("NeverAccepts with Accepts or AcceptAfter: use one of them"))
	}
	if spec.Backlog != nil && *spec.Backlog < 0 {
		errs = append(errs, fmt.Errorf("backlog %d: want 0 or more, or nil for net.core.somaxconn", *spec.Backlog))
	}
	if spec.MPTCP && (spec.FastOpen != 0 || spec.Ending == Vanish) {
		errs = append(errs, errors.New("MPTCP with FastOpen or Vanish: an MPTCP socket has none of them"))
	}
	if spec.FastOpen < 0 {
		errs = append(errs, fmt.Errorf("fast open for %d connections: want 0 or more", spec.FastOpen))
	}
	if spec.Accepts < 0 || spec.AcceptAfter < 0 || spec.ListenAfter < 0 {
		errs = append(errs, fmt.Errorf("accepts %d, accept after %v, listen after %v: want none below 0",
			spec.Accepts, spec.AcceptAfter, spec.ListenAfter))
	}
	return errors.Join(errs...)
}

func (spec *ListenSpec) kind() kind { return kind{six: isIPv6(spec.At.Addr()), multipath: spec.MPTCP} }

// Listen opens a listening socket and serves it until it is ended or the host closes. It
// returns the address that the socket really has; an outcome other than [Listening] is an
// error. When the socket is ended, kept connections that no [Host.Accept] has returned stay
// open until the host closes.
func (h *Host) Listen(ctx context.Context, spec ListenSpec) (handle Handle, bound netip.AddrPort, err error) {
	return h.Serve(ctx, spec, nil)
}

// Serve is Listen with a server: it calls serve for each connection, on a goroutine of its
// own, with a context that ends with the listener. The server, not Serve, has to apply the
// Ending of the spec. [Host.CloseAll] waits for all servers and returns their errors.
func (h *Host) Serve(
	ctx context.Context, spec ListenSpec, serve func(context.Context, *Stream) error,
) (handle Handle, bound netip.AddrPort, err error) {
	got, err := h.TryServe(ctx, spec, serve)
	if err == nil && got.Err() != nil {
		err = fmt.Errorf("listen on %v: %w", spec.At, got.Err())
	}
	return got.Listener, got.Addr, err
}

// TryListen is Listen for a caller that expects one certain outcome of bind(2) and
// listen(2): whatever the kernel says is a result. An error means that something else
// failed, as for [Host.Attempt].
func (h *Host) TryListen(ctx context.Context, spec ListenSpec) (ListenResult, error) {
	return h.TryServe(ctx, spec, nil)
}

// TryServe is [Host.TryListen] with a server, as Serve is Listen with one.
func (h *Host) TryServe(
	ctx context.Context, spec ListenSpec, serve func(context.Context, *Stream) error,
) (got ListenResult, err error) {
	if err := spec.Validate(); err != nil {
		return ListenResult{}, fmt.Errorf("listen: %w", err)
	}
	err = h.call(ctx, func(ctx context.Context) error {
		var s *socket
		err := h.inside(func() (err error) {
			s, err = openSocket(spec.kind())
			return err
		})
		if err != nil {
			return err
		}
		if got, err = h.listen(ctx, s, &spec, serve); err == nil && got.Outcome == Listening {
			return nil
		}
		err = errors.Join(err, s.close()) // before the look: it may be bound itself
		if err == nil && got.Outcome == PortInUse {
			got.Holders, err = h.holders(spec.At, spec.V6Only)
		}
		return err
	})
	if err != nil {
		return ListenResult{}, fmt.Errorf("listen on %v: %w", spec.At, err)
	}
	return got, nil
}

// listen makes a socket a listener. When it does not, the caller still owns the socket.
func (h *Host) listen(
	ctx context.Context, s *socket, spec *ListenSpec, serve func(context.Context, *Stream) error,
) (got ListenResult, err error) {
	if err := spec.prepare(s.fd, serve != nil); err != nil {
		return got, err
	}
	if err := unix.Bind(s.fd, spec.kind().sockaddr(spec.At)); err != nil {
		return refused(StepBind, err)
	}
	if err := pause(ctx, spec.ListenAfter); err != nil {
		return got, err
	}
	backlog := 1<<31 - 1 // the kernel cuts it down to net.core.somaxconn
	if spec.Backlog != nil {
		backlog = *spec.Backlog
	}
	if err := unix.Listen(s.fd, backlog); err != nil {
		return refused(StepListen, err)
	}
	got = ListenResult{Outcome: Listening, Step: StepListen}
	if got.Addr, err = s.local(); err != nil {
		return got, err
	}
	serving, stop := context.WithCancel(context.Background())
	s.listener = &listener{accepted: map[netip.AddrPort]Handle{}, arrived: make(chan struct{}), stop: stop}
	if got.Listener, err = h.keep(s); err != nil {
		return got, err
	}
	h.spawn(func() { h.serve(serving, s, *spec, serve) })
	return got, nil
}

// prepare sets what a listening socket must have before bind(2).
func (spec *ListenSpec) prepare(fd int, served bool) error {
	options := []option{
		{"SO_REUSEADDR", unix.SOL_SOCKET, unix.SO_REUSEADDR, flag(!spec.NoReuseAddr), ""},
		{"SO_REUSEPORT", unix.SOL_SOCKET, unix.SO_REUSEPORT, flag(spec.ReusePort), "3.9"},
	}
	if spec.kind().six {
		options = append(options, option{"IPV6_V6ONLY", unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, flag(spec.V6Only), ""})
	}
	if served {
		// As web servers do: the end of a response must not wait for the acknowledgement of
		// the data before it. Accepted connections inherit the option.
		options = append(options, option{"TCP_NODELAY", unix.IPPROTO_TCP, unix.TCP_NODELAY, 1, ""})
	}
	if spec.FastOpen != 0 {
		options = append(options, option{"TCP_FASTOPEN", unix.IPPROTO_TCP, unix.TCP_FASTOPEN, spec.FastOpen, "3.7"})
	}
	options = append(options, spec.PortRange.list()...)
	return setAll(fd, append(options, spec.Options.list()...))
}

// refused makes the result of a bind(2) or listen(2) that failed.
func refused(step Step, failure error) (got ListenResult, err error) {
	got.Step = step
	got.Outcome, got.Errno, err = outcomeOf(step, failure)
	return got, err
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
