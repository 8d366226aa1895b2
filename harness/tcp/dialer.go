//go:build linux

package tcp

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// Dialer makes connections one by one and returns each as a [Stream]. Many goroutines may
// use one Dialer. [Host.Dial] makes it.
type Dialer struct {
	host   *Host
	visits sync.WaitGroup

	connections int // the most that are opened

	mu    sync.Mutex
	more  *sync.Cond // there are more spare sockets, or an error
	spare map[kind]*spare
}

// Dial calls use with a Dialer for this many new connections in all, of which at most
// atOnce are open at a time. [Host.CloseAll] ends the context of use and waits for it. The
// error is the one that use returned, or says that the limit of descriptors is too low.
func (h *Host) Dial(ctx context.Context, connections, atOnce int, use func(context.Context, *Dialer) error) error {
	if err := enoughDescriptors(atOnce); err != nil {
		return err
	}
	return h.call(ctx, func(ctx context.Context) error {
		d := &Dialer{host: h, connections: connections, spare: map[kind]*spare{}}
		d.more = sync.NewCond(&d.mu)
		err := use(ctx, d)
		return errors.Join(err, d.closeSpare())
	})
}

// Attempt makes the attempt as [Host.Attempt] does, but ignores its Ending: the caller ends
// the stream. The stream is nil unless the outcome is [Connected].
func (d *Dialer) Attempt(ctx context.Context, a Attempt) (Result, *Stream, error) {
	if err := a.Validate(); err != nil {
		return Result{}, nil, err
	}
	s, err := d.open(a.kind())
	if err != nil {
		return Result{}, nil, err
	}
	t := &try{Attempt: a, socket: s}
	t.Budget = a.budget()
	err = errors.Join(t.connect(), t.dropFailed())
	if err == nil && t.out.Outcome == "" {
		err = t.awaitOutcome(ctx)
	}
	if err == nil && t.out.Outcome == PortInUse {
		t.out.Holders, err = d.host.holders(t.From, false)
	}
	if err != nil || t.socket == nil {
		return t.out, nil, errors.Join(err, t.drop())
	}
	st, err := d.host.stream(ctx, t.socket, a.To)
	if err != nil {
		return t.out, nil, errors.Join(err, t.drop())
	}
	return t.out, st, nil
}

// Resume returns a connection that was kept open. Until the stream's Finish gives it back,
// its handle is not valid for other calls ([ErrNoHandle]).
func (d *Dialer) Resume(ctx context.Context, conn Handle) (Result, *Stream, error) {
	if _, err := d.host.connection(conn); err != nil {
		return Result{}, nil, err
	}
	s, err := d.host.take(conn)
	if err != nil {
		return Result{}, nil, err
	}
	local, err := s.local()
	peer, wrong := s.remote()
	if err = errors.Join(err, wrong); err != nil {
		d.host.giveBack(conn)
		return Result{}, nil, err
	}
	st, err := d.host.stream(ctx, s, peer)
	if err != nil {
		err = errors.Join(err, s.close())
		d.host.forget(conn)
		return Result{}, nil, err
	}
	st.conn = conn
	return Result{Outcome: Connected, Conn: conn, Local: local}, st, nil
}

// enoughDescriptors reports at the start a lack of descriptors that would otherwise cause a
// failure later.
func enoughDescriptors(connections int) error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("read RLIMIT_NOFILE: %w", err)
	}
	if need := uint64(connections + spareSockets); limit.Cur < need {
		return fmt.Errorf("%d connections at once need over %d descriptors, and RLIMIT_NOFILE is %d: raise it (ulimit -n), or do fewer at once",
			connections, need, limit.Cur)
	}
	return nil
}
