//go:build linux

package tcp

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"
)

// DefaultBudget is how long an attempt without a Budget waits for the kernel's outcome:
// longer than every failure that a lab with a small net.ipv4.tcp_syn_retries can cause.
const DefaultBudget = 30 * time.Second

// Attempt is one connect(2).
type Attempt struct {
	// To is the destination. Its version decides the address family of the socket.
	To netip.AddrPort
	// IPv4Mapped connects to an IPv4 address by an AF_INET6 socket, as programs do that use
	// one kind of socket for both versions (RFC 4291, 2.5.5.2; tcp_v6_connect). On the wire
	// it is IPv4, and so are the addresses of the Result.
	IPv4Mapped bool
	// From, when it is not zero, is the source that is bound with bind(2) first. With port
	// 0 the kernel chooses the port, with an invalid address the address.
	From netip.AddrPort
	// ReuseAddr and ReusePort set SO_REUSEADDR and SO_REUSEPORT before bind(2).
	ReuseAddr, ReusePort bool
	// LatePort, with a From of port 0, leaves the choice of the port to connect(2), which
	// knows the destination (IP_BIND_ADDRESS_NO_PORT, Linux 4.2). On an older kernel it is
	// an error.
	LatePort bool
	// PortRange limits the ports from which the kernel chooses, with bind(2) or without
	// (inet_sk_get_local_port_range).
	PortRange PortRange
	// MPTCP makes the attempt by an MPTCP socket (RFC 8684; Linux 5.6, and 5.16 to tell what
	// became of it). On a kernel without it, it is an error.
	MPTCP bool
	// FastOpen, when it is not 0, is the number of bytes to send with TCP Fast Open (RFC
	// 7413; Linux 4.11): in the SYN when the node has a cookie of the server, and else after
	// the handshake.
	FastOpen int
	// Options are set before bind(2) and connect(2).
	Options Options
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

// Validate returns all that is wrong with the attempt, whatever the kernel.
func (a *Attempt) Validate() error {
	errs := []error{
		checkAddress("To", a.To.Addr()), checkAddress("From", a.From.Addr()),
		a.PortRange.Validate(), a.Options.Validate(), a.Ending.Validate(),
	}
	if a.MPTCP && (a.ISN != 0 || a.FastOpen != 0 || a.Ending == Vanish) {
		errs = append(errs, errors.New("MPTCP with ISN, FastOpen or Vanish: an MPTCP socket has none of them"))
	}
	if a.FastOpen < 0 {
		errs = append(errs, fmt.Errorf("fast open of %d bytes: want 0 or more", a.FastOpen))
	}
	if a.From.Addr().IsValid() && isIPv6(a.From.Addr()) != isIPv6(a.To.Addr()) {
		errs = append(errs, fmt.Errorf("source %v and destination %v are of different IP versions: use one version", a.From.Addr(), a.To.Addr()))
	}
	if a.IPv4Mapped && isIPv6(a.To.Addr()) {
		errs = append(errs, fmt.Errorf("IPv4Mapped and To %v: want an IPv4 address", a.To.Addr()))
	}
	return errors.Join(errs...)
}

// kind is the kind of socket that the attempt needs.
func (a *Attempt) kind() kind {
	return kind{six: isIPv6(a.To.Addr()) || a.IPv4Mapped, multipath: a.MPTCP}
}

func (a *Attempt) budget() time.Duration {
	if a.Budget == 0 {
		return DefaultBudget
	}
	return a.Budget
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
		if err := a.Validate(); err != nil {
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
			err = h.addHolders(tries)
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

// addHolders adds to each attempt that did not get its port who has it.
func (h *Host) addHolders(tries []try) (err error) {
	for i := range tries {
		if t := &tries[i]; t.out.Outcome == PortInUse {
			if t.out.Holders, err = h.holders(t.From, false); err != nil {
				return fmt.Errorf("attempt %d to %v: %w", i, t.To, err)
			}
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
