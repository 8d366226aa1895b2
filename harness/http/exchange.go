//go:build linux

package http

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"twlab/harness/tcp"
)

// Exchange is a connection and the HTTP/1.1 requests on it, one after the other. The Budget
// of the Attempt also limits the wait for each response.
type Exchange struct {
	tcp.Attempt
	// Conn, when it is not zero, is a connection that was kept open: the requests are made
	// on it, and there is no connect(2). During the exchange its handle is not valid for
	// other calls ([tcp.ErrNoHandle]).
	Conn tcp.Handle
	// After is the time from the call to the start of the exchange.
	After time.Duration
	// Requests are made one after the other, until an answer is not whole or announces the
	// end of the connection.
	Requests []Request
}

// Request is a GET, or a POST when it has a body.
type Request struct {
	// Body is the size of the body in bytes. The answer is read while the body is sent.
	Body int
	// StopAtAnswer stops sending the body when the whole answer has come; the connection is
	// then of no use for further requests. Without it, the body is sent in full, or until
	// the kernel reports an error.
	StopAtAnswer bool
	// Path is the request path; empty means "/".
	Path string
	// Connection is the value of the Connection field: "close", "keep-alive", or empty for
	// none. It does not change what this side does: the Ending does.
	Connection string
	// Pause is the time to wait before the request. The request is then sent, whatever the
	// peer has done meanwhile.
	Pause time.Duration
}

// Exchanged is the result of an Exchange.
type Exchanged struct {
	// Result is the result of the Attempt. After an answer that is Pending or Malformed the
	// connection is reset, whatever the Ending, except with KeepOpen. For a connection that
	// is kept open, End says whether the peer has ended it.
	tcp.Result
	// Replies are the answers, one for each request.
	Replies []Reply
}

// String returns one line: the attempt, the dispositions, and the end.
func (x Exchanged) String() string {
	var b strings.Builder
	b.WriteString(x.Attempted())
	for _, r := range x.Replies {
		b.WriteString("; " + r.String())
	}
	if x.End.First != tcp.Nobody {
		fmt.Fprintf(&b, "; first to end: %s", x.End.First)
	}
	if x.End.Errno != 0 {
		fmt.Fprintf(&b, " (%s)", unix.ErrnoName(x.End.Errno))
	}
	if x.End.Undecided {
		b.WriteString(" (our budget ended before the peer's FIN)")
	}
	return b.String()
}

// Reply describes the answer to one request.
type Reply struct {
	Disposition Disposition
	// Errno is the kernel's error when the disposition is Broken.
	Errno syscall.Errno
	// Written is how many bytes of the request's body the kernel took, WriteErrno the error
	// that it then reported: ECONNRESET when the server has closed with data unread
	// (tcp_close), EPIPE when a read had that error before. The answer may be Whole all the
	// same: what came before the RST stays readable (tcp_reset).
	Written    int
	WriteErrno syscall.Errno
	// Problem says what came instead when the disposition is Malformed.
	Problem string
	// Status is the status code; 0 when the head did not come in full.
	Status int
	// Length is the value of Content-Length; -1 when there is none.
	Length int64
	// Bytes is the number of bytes of the body that came.
	Bytes int64
	// Close says that the response announced the end of the connection.
	Close bool
	// FirstByte and Took are the times from the start of sending the request to the first
	// byte of the answer, and to its disposition.
	FirstByte, Took time.Duration
}

// String returns one line: disposition, status and bytes.
func (r Reply) String() string {
	s := string(r.Disposition)
	if r.Status != 0 {
		s += fmt.Sprintf(" %d with %d bytes", r.Status, r.Bytes)
	}
	if r.Length >= 0 {
		s += fmt.Sprintf(" of %d", r.Length)
	}
	if r.Written != 0 || r.WriteErrno != 0 {
		s += fmt.Sprintf(" after %d bytes written", r.Written)
	}
	if r.WriteErrno != 0 {
		s += fmt.Sprintf(" and %s", unix.ErrnoName(r.WriteErrno))
	}
	if r.Errno != 0 {
		s += fmt.Sprintf(" (%s)", unix.ErrnoName(r.Errno))
	}
	if r.Problem != "" {
		s += ": " + r.Problem
	}
	return s
}

// Disposition says what became of a request.
type Disposition string

// The dispositions.
const (
	// Unsent: the request was not sent, because there was no connection, or it ended
	// before.
	Unsent Disposition = "unsent"
	// Whole: all of the response came.
	Whole Disposition = "whole"
	// Unanswered: the peer's FIN came instead of a response.
	Unanswered Disposition = "unanswered"
	// Truncated: the peer's FIN came in the middle of the response.
	Truncated Disposition = "truncated"
	// Broken: the kernel reported an error instead of the response or in the middle of it:
	// ECONNRESET for a RST, ETIMEDOUT when it gave up.
	Broken Disposition = "broken"
	// Malformed: the peer sent something else than one HTTP/1.1 response.
	Malformed Disposition = "malformed"
	// Pending: our own budget ended first. Like [tcp.Undecided], it says nothing about the
	// kernel and matches no expectation.
	Pending Disposition = "pending"
)

// Exchange makes all exchanges, at most atOnce of them at the same time; 0 means all. They
// begin in their order, and an exchange that waits for its After delays those behind it.
// The results are in the order of the exchanges. Everything that the network and the peer
// do is a result. An error means that something else failed, as for [tcp.Host.Attempt]; the
// connections made until then are closed.
func (h *Host) Exchange(ctx context.Context, exchanges []Exchange, atOnce int) ([]Exchanged, error) {
	if atOnce <= 0 || atOnce > len(exchanges) {
		atOnce = len(exchanges)
	}
	connections := 0
	for i := range exchanges {
		if err := exchanges[i].Validate(); err != nil {
			return nil, fmt.Errorf("exchange %d with %v: %w", i, exchanges[i].To, err)
		}
		for j := range exchanges[i].Requests {
			if n := exchanges[i].Requests[j].Body; n < 0 {
				return nil, fmt.Errorf("exchange %d with %v: request %d: body of %d bytes: want 0 or more", i, exchanges[i].To, j, n)
			}
		}
		if exchanges[i].Conn.IsZero() {
			connections++
		}
	}
	done := make([]Exchanged, len(exchanges))
	err := h.tcp.Dial(ctx, connections, atOnce, func(ctx context.Context, d *tcp.Dialer) error {
		call := exchangeCall{dialer: d, began: time.Now(), all: exchanges, done: done}
		err := call.run(ctx, atOnce)
		if err != nil {
			err = errors.Join(err, h.abort(ctx, exchanges, done))
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return done, nil
}

// abort closes the connections that a failed call has kept open, unless CloseAll has
// already closed them.
func (h *Host) abort(ctx context.Context, exchanges []Exchange, done []Exchanged) error {
	var errs []error
	for i := range done {
		if !exchanges[i].Conn.IsZero() || done[i].Conn.IsZero() {
			continue
		}
		err := h.tcp.End(context.WithoutCancel(ctx), done[i].Conn, tcp.Abort)
		if !errors.Is(err, tcp.ErrNoHandle) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// exchangeCall is one call of Exchange.
type exchangeCall struct {
	dialer *tcp.Dialer
	began  time.Time
	all    []Exchange
	done   []Exchanged
	next   atomic.Int64
}

// run does all exchanges, until the first failure.
func (c *exchangeCall) run(ctx context.Context, atOnce int) error {
	working, stop := context.WithCancel(ctx)
	defer stop()
	var (
		failed  atomic.Pointer[error]
		running sync.WaitGroup
	)
	for range atOnce {
		running.Go(func() {
			if err := c.work(working); err != nil {
				failed.CompareAndSwap(nil, &err)
				stop()
			}
		})
	}
	running.Wait()
	if first := failed.Load(); first != nil {
		return *first
	}
	return nil
}

// work does one exchange after the other until none is left.
func (c *exchangeCall) work(ctx context.Context) error {
	for {
		i := int(c.next.Add(1) - 1)
		if i >= len(c.all) || ctx.Err() != nil {
			return ctx.Err()
		}
		if err := pause(ctx, c.all[i].After-time.Since(c.began)); err != nil {
			return err
		}
		if err := c.one(ctx, &c.all[i], &c.done[i]); err != nil {
			return fmt.Errorf("exchange %d with %v: %w", i, c.all[i].To, err)
		}
	}
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

// one makes one exchange. When it fails, its connection is closed.
func (c *exchangeCall) one(ctx context.Context, x *Exchange, out *Exchanged) (err error) {
	out.Replies = make([]Reply, len(x.Requests))
	for i := range out.Replies {
		out.Replies[i] = Reply{Disposition: Unsent, Length: -1}
	}
	var st *tcp.Stream
	if !x.Conn.IsZero() {
		out.Result, st, err = c.dialer.Resume(ctx, x.Conn)
	} else {
		out.Result, st, err = c.dialer.Attempt(ctx, x.Attempt)
	}
	if st == nil || err != nil {
		return err
	}
	budget, ending := cmp.Or(x.Budget, tcp.DefaultBudget), x.Ending
	for i := range x.Requests {
		reply := &out.Replies[i]
		if err := ask(ctx, st, &x.Requests[i], budget, reply); err != nil {
			return errors.Join(err, st.Reset())
		}
		if ending != tcp.KeepOpen && (reply.Disposition == Pending || reply.Disposition == Malformed) {
			ending = tcp.Abort
		}
		if reply.Disposition != Whole || reply.Close || reply.Written < x.Requests[i].Body {
			break
		}
	}
	out.End, out.Conn, err = st.Finish(ctx, ending, budget)
	return err
}
