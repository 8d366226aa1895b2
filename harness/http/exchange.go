//go:build linux

package http

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"twlab/harness/internal/http1"
	"twlab/harness/tcp"
)

// Exchange is a connection and the HTTP/1.1 requests that are made on it, one
// after the other. What the Attempt says of the Budget holds for each response
// too.
type Exchange struct {
	tcp.Attempt
	// Conn, when it is not zero, is a connection that was kept open: the requests
	// are made on it, and nothing is connected. For others its handle names
	// nothing ([tcp.ErrNoHandle]) while the exchange is under way.
	Conn tcp.Handle
	// After is how long after the call the exchange begins.
	After time.Duration
	// Requests are made until an answer is not whole or says that it was the
	// last.
	Requests []Request
}

// Request is a GET.
type Request struct {
	// Path is "/" when it is empty.
	Path string
	// Connection is the text of the Connection field: "close", "keep-alive", or
	// none. It does not change what we do: that is the Ending.
	Connection string
	// Pause is how long the connection is left alone before the request, which
	// is then sent whatever the peer has done meanwhile.
	Pause time.Duration
}

// Exchanged is what came of an Exchange.
type Exchanged struct {
	// Outcome is what came of the Attempt. The connection is reset, whatever the
	// Ending, after an answer that is Pending or Malformed, unless it is to be
	// kept open; of one that is, the End tells whether the peer has ended it.
	tcp.Result
	// Replies are the answers, one for each request.
	Replies []Reply
}

// String is one line: the attempt, the dispositions, and the end.
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

// Reply is what came in answer to one request.
type Reply struct {
	Disposition Disposition
	// Errno is the kernel's error when the disposition is Broken.
	Errno syscall.Errno
	// Problem says what came when the disposition is Malformed.
	Problem string
	// Status is the status code; 0 when no whole head has come.
	Status int
	// Length is what Content-Length announces; -1 when nothing does.
	Length int64
	// Bytes is how many of the body came.
	Bytes int64
	// Close says that the response announced the end of the connection.
	Close bool
	// FirstByte and Took are the time from the start of sending the request to
	// the first byte of the answer, and to its disposition.
	FirstByte, Took time.Duration
}

// String is one line: disposition, status and bytes.
func (r Reply) String() string {
	s := string(r.Disposition)
	if r.Status != 0 {
		s += fmt.Sprintf(" %d with %d bytes", r.Status, r.Bytes)
	}
	if r.Length >= 0 {
		s += fmt.Sprintf(" of %d", r.Length)
	}
	if r.Errno != 0 {
		s += fmt.Sprintf(" (%s)", unix.ErrnoName(r.Errno))
	}
	if r.Problem != "" {
		s += ": " + r.Problem
	}
	return s
}

// Disposition is what became of a request.
type Disposition string

// The dispositions.
const (
	// Unsent: the connection was not there, or was over, before its turn came.
	Unsent Disposition = "unsent"
	// Whole: all of the response came.
	Whole Disposition = "whole"
	// Unanswered: the peer's FIN came instead of a response.
	Unanswered Disposition = "unanswered"
	// Truncated: the peer's FIN came in the middle of the response.
	Truncated Disposition = "truncated"
	// Broken: the kernel reported an error instead of a response or in the
	// middle of it: ECONNRESET for a RST, ETIMEDOUT when it gave up.
	Broken Disposition = "broken"
	// Malformed: what came is not one HTTP/1.1 response.
	Malformed Disposition = "malformed"
	// Pending: our own budget ended first. As [tcp.Undecided], it says nothing about
	// the kernel and equals no expectation.
	Pending Disposition = "pending"
)

// Exchange makes all exchanges, at most so many at once; 0 is all. They begin in
// their order, and an exchange that waits for its moment holds up those behind
// it. The results are in the order of the exchanges. An error means that
// something else than network and peer failed, as for [tcp.Host.Attempt]; the
// connections made until then are closed.
func (h *Host) Exchange(ctx context.Context, exchanges []Exchange, atOnce int) ([]Exchanged, error) {
	if atOnce <= 0 || atOnce > len(exchanges) {
		atOnce = len(exchanges)
	}
	connections := 0
	for i := range exchanges {
		if err := exchanges[i].Ending.Validate(); err != nil {
			return nil, fmt.Errorf("exchange %d with %v: %w", i, exchanges[i].To, err)
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

// abort closes the connections that a call which has failed has kept open, unless
// CloseAll was quicker.
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

// pause waits by the clock, because the wait itself is what was asked for.
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

// one does an exchange. When it fails, its connection is closed.
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
		if reply.Disposition != Whole || reply.Close {
			break
		}
	}
	out.End, out.Conn, err = st.Finish(ctx, ending, budget)
	return err
}

// ask sends a request and reads the answer. Only the end of ctx, and what is ours
// to mend, is an error.
func ask(ctx context.Context, st *tcp.Stream, q *Request, budget time.Duration, reply *Reply) error {
	if err := pause(ctx, q.Pause); err != nil {
		return err
	}
	if err := st.Within(ctx, budget); err != nil {
		return err
	}
	path := q.Path
	if path == "" {
		path = "/"
	}
	began := time.Now()
	var response http1.Response
	err := st.Write(ctx, http1.AppendGet(nil, st.Peer().String(), path, q.Connection))
	for err == nil && !response.Done() {
		var came []byte
		if came, err = st.Read(ctx); err != nil {
			break
		}
		if reply.FirstByte == 0 {
			reply.FirstByte = time.Since(began)
		}
		used, wrong := response.Feed(came)
		if wrong == nil && used < len(came) {
			wrong = fmt.Errorf("%d bytes after the end of the response: %.80q", len(came)-used, came[used:])
		}
		if wrong != nil {
			reply.Disposition, reply.Problem = Malformed, wrong.Error()
			break
		}
	}
	reply.Took = time.Since(began)
	reply.Status, reply.Close, reply.Bytes = response.Status, response.Close, response.Bytes()
	if response.Status != 0 {
		reply.Length = response.Length
	}
	switch {
	case reply.Disposition == Malformed:
	case err == nil:
		reply.Disposition = Whole
	case errors.Is(err, io.EOF) && response.End():
		reply.Disposition = Whole
	case errors.Is(err, io.EOF) && response.Begun():
		reply.Disposition = Truncated
	case errors.Is(err, io.EOF):
		reply.Disposition = Unanswered
	case errors.Is(err, os.ErrDeadlineExceeded):
		reply.Disposition = Pending
	case errors.As(err, &reply.Errno):
		reply.Disposition = Broken
	default:
		return err
	}
	return nil
}
