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

	mu       sync.Mutex
	more     *sync.Cond // there are more spare sockets, or an error
	spare    []*socket  // opened in the namespace, and not used yet
	unopened int        // number of sockets that remain to be opened
	visiting bool
	visitErr error
}

// Dial calls use with a Dialer for this many new connections in all, of which at most
// atOnce are open at a time. [Host.CloseAll] ends the context of use and waits for it. The
// error is the one that use returned, or says that the limit of descriptors is too low.
func (h *Host) Dial(ctx context.Context, connections, atOnce int, use func(context.Context, *Dialer) error) error {
	if err := enoughDescriptors(atOnce); err != nil {
		return err
	}
	return h.call(ctx, func(ctx context.Context) error {
		d := &Dialer{host: h, unopened: connections}
		d.more = sync.NewCond(&d.mu)
		err := use(ctx, d)
		return errors.Join(err, d.closeSpare())
	})
}

// Attempt makes the attempt as [Host.Attempt] does, but ignores its Ending: the caller ends
// the stream. The stream is nil unless the outcome is [Connected].
func (d *Dialer) Attempt(ctx context.Context, a Attempt) (Result, *Stream, error) {
	s, err := d.open()
	if err != nil {
		return Result{}, nil, err
	}
	t := &try{Attempt: a, socket: s}
	t.Budget = a.budget()
	err = errors.Join(t.connect(), t.dropFailed())
	if err == nil && t.out.Outcome == "" {
		err = t.awaitOutcome(ctx)
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

// spareSockets is the number of sockets that one visit to the namespace opens; the visit
// costs as much as some of them. The next visit begins when half of them are used, so that
// no attempt waits for it.
const spareSockets = 64

func (d *Dialer) open() (*socket, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for {
		if len(d.spare) <= spareSockets/2 && d.unopened > 0 && !d.visiting {
			d.visiting = true
			d.visits.Go(d.visit)
		}
		if len(d.spare) > 0 {
			break
		}
		if d.visitErr != nil {
			return nil, d.visitErr
		}
		d.more.Wait()
	}
	last := len(d.spare) - 1
	s := d.spare[last]
	d.spare = d.spare[:last]
	return s, nil
}

// visit opens more sockets in the namespace.
func (d *Dialer) visit() {
	d.mu.Lock()
	wanted := min(spareSockets, d.unopened)
	d.mu.Unlock()
	var opened []*socket
	err := d.host.inside(func() error {
		for range wanted {
			s, err := openSocket()
			if err != nil {
				return err
			}
			opened = append(opened, s)
		}
		return nil
	})
	d.mu.Lock()
	defer d.mu.Unlock()
	d.spare = append(d.spare, opened...)
	d.unopened -= wanted
	d.visitErr = err
	d.visiting = err != nil // after an error there is no further visit
	d.more.Broadcast()
}

// closeSpare closes the sockets that were opened and not used.
func (d *Dialer) closeSpare() error {
	d.visits.Wait()
	var errs []error
	for _, s := range d.spare {
		errs = append(errs, s.close())
	}
	return errors.Join(errs...)
}
