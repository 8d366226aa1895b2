package tcp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"twlab/harness/http1"
)

// Exchange is a connection and the HTTP/1.1 requests that are made on it, one
// after the other. What the Attempt says of the Budget holds for each response
// too.
type Exchange struct {
	Attempt
	// Conn, when it is not 0, is a connection that was kept open: the requests
	// are made on it, and nothing is connected. For others its handle names
	// nothing ([ErrNoHandle]) while the exchange is under way.
	Conn Handle
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
	Outcome
	// Replies are the answers, one for each request.
	Replies []Reply
}

// String is one line: the attempt, the fates, and the end.
func (x Exchanged) String() string {
	var b strings.Builder
	b.WriteString(x.attempted())
	for _, r := range x.Replies {
		b.WriteString("; " + r.String())
	}
	if x.End.First != Nobody {
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
	Fate Fate
	// Errno is the kernel's error when the fate is Broken.
	Errno syscall.Errno
	// Problem says what came when the fate is Malformed.
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
	// the first byte of the answer, and to its fate.
	FirstByte, Took time.Duration
}

// String is one line: fate, status and bytes.
func (r Reply) String() string {
	s := string(r.Fate)
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

// Fate is what became of a request.
type Fate string

// The fates.
const (
	// Unsent: the connection was not there, or was over, before its turn came.
	Unsent Fate = "unsent"
	// Whole: all of the response came.
	Whole Fate = "whole"
	// Unanswered: the peer's FIN came instead of a response.
	Unanswered Fate = "unanswered"
	// Truncated: the peer's FIN came in the middle of the response.
	Truncated Fate = "truncated"
	// Broken: the kernel reported an error instead of a response or in the
	// middle of it: ECONNRESET for a RST, ETIMEDOUT when it gave up.
	Broken Fate = "broken"
	// Malformed: what came is not one HTTP/1.1 response.
	Malformed Fate = "malformed"
	// Pending: our own budget ended first. As [Undecided], it says nothing about
	// the kernel and equals no expectation.
	Pending Fate = "pending"
)

// Exchange makes all exchanges, at most so many at once; 0 is all. They begin in
// their order, and an exchange that waits for its moment holds up those behind
// it. The results are in the order of the exchanges. An error means that
// something else than network and peer failed, as for [Host.Attempt]; the
// connections made until then are closed.
func (h *Host) Exchange(ctx context.Context, exchanges []Exchange, atOnce int) ([]Exchanged, error) {
	if atOnce <= 0 || atOnce > len(exchanges) {
		atOnce = len(exchanges)
	}
	if err := enoughDescriptors(atOnce); err != nil {
		return nil, fmt.Errorf("exchange: %w", err)
	}
	for i := range exchanges {
		if err := exchanges[i].Ending.check(); err != nil {
			return nil, fmt.Errorf("exchange %d with %v: %w", i, exchanges[i].To, err)
		}
	}
	var done []Exchanged
	err := h.call(ctx, func(ctx context.Context) (err error) {
		done, err = h.exchange(ctx, exchanges, atOnce)
		return err
	})
	return done, err
}

func (h *Host) exchange(ctx context.Context, exchanges []Exchange, atOnce int) ([]Exchanged, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	call := exchangeCall{host: h, began: time.Now(), all: exchanges, done: make([]Exchanged, len(exchanges))}
	call.more = sync.NewCond(&call.mu)
	for i := range exchanges {
		if exchanges[i].Conn == 0 {
			call.unopened++
		}
	}
	var running sync.WaitGroup
	for range atOnce {
		running.Go(func() {
			if err := call.work(ctx); err != nil {
				call.failed.CompareAndSwap(nil, &err)
				stop()
			}
		})
	}
	running.Wait()
	errs := call.closeSpare()
	if first := call.failed.Load(); first != nil {
		errs = errors.Join(*first, errs)
		for i := range call.done {
			if exchanges[i].Conn == 0 && call.done[i].Conn != 0 {
				errs = errors.Join(errs, h.abort(call.done[i].Conn))
			}
		}
	}
	if errs != nil {
		return nil, errs
	}
	return call.done, nil
}

// abort closes a connection that this call has given its handle, unless CloseAll
// was quicker.
func (h *Host) abort(conn Handle) error {
	s, err := h.take(conn)
	if err != nil {
		return nil // somebody has closed it
	}
	defer h.forget(conn)
	return s.close()
}

// enoughDescriptors tells before the start what would fail in the middle.
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

// exchangeCall is one call of Exchange.
type exchangeCall struct {
	host   *Host
	began  time.Time
	all    []Exchange
	done   []Exchanged
	next   atomic.Int64
	failed atomic.Pointer[error]

	visits sync.WaitGroup

	mu       sync.Mutex
	more     *sync.Cond // there are more spare sockets, or an error
	spare    []*socket  // opened in the namespace, and not used yet
	unopened int        // how many are still to be opened
	visiting bool
	visitErr error
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

// spareSockets is how many sockets are opened at a time: a visit to the namespace
// costs as much as some of them. When half of them are used, the next visit begins,
// so that nobody waits for it.
const spareSockets = 64

func (c *exchangeCall) open() (*socket, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		if len(c.spare) <= spareSockets/2 && c.unopened > 0 && !c.visiting {
			c.visiting = true
			c.visits.Go(c.visit)
		}
		if len(c.spare) > 0 {
			break
		}
		if c.visitErr != nil {
			return nil, c.visitErr
		}
		c.more.Wait()
	}
	last := len(c.spare) - 1
	s := c.spare[last]
	c.spare = c.spare[:last]
	return s, nil
}

// visit opens more sockets in the namespace.
func (c *exchangeCall) visit() {
	c.mu.Lock()
	wanted := min(spareSockets, c.unopened)
	c.mu.Unlock()
	var opened []*socket
	err := c.host.inside(func() error {
		for range wanted {
			s, err := openSocket()
			if err != nil {
				return err
			}
			opened = append(opened, s)
		}
		return nil
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	c.spare = append(c.spare, opened...)
	c.unopened -= wanted
	c.visitErr = err
	c.visiting = err != nil // one that failed is the last
	c.more.Broadcast()
}

// closeSpare closes what an error left over.
func (c *exchangeCall) closeSpare() error {
	c.visits.Wait()
	var errs []error
	for _, s := range c.spare {
		errs = append(errs, s.close())
	}
	return errors.Join(errs...)
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
func (c *exchangeCall) one(ctx context.Context, x *Exchange, out *Exchanged) error {
	out.Replies = make([]Reply, len(x.Requests))
	for i := range out.Replies {
		out.Replies[i] = Reply{Fate: Unsent, Length: -1}
	}
	s, peer, err := c.connect(ctx, x, out)
	if s == nil || err != nil {
		return err
	}
	ended, err := c.converse(ctx, s, peer, x, out)
	switch {
	case err != nil || ended:
		c.host.forget(x.Conn) // it is closed
		out.Conn = 0
	case x.Conn != 0:
		c.host.giveBack(x.Conn)
	default:
		if out.Conn, err = c.host.keep(s); err != nil {
			err = errors.Join(err, s.close())
		}
	}
	return err
}

// converse makes the requests and ends the connection, unless it is to be kept.
// When it fails, the socket is closed.
func (c *exchangeCall) converse(ctx context.Context, s *socket, peer netip.AddrPort, x *Exchange, out *Exchanged) (ended bool, err error) {
	st, err := c.host.stream(ctx, s, peer)
	if err != nil {
		return false, errors.Join(err, s.close())
	}
	defer st.letGo()
	budget, ending := x.budget(), x.Ending
	for i := range x.Requests {
		reply := &out.Replies[i]
		if err := st.ask(ctx, &x.Requests[i], budget, reply); err != nil {
			return false, errors.Join(err, s.close())
		}
		if ending != KeepOpen && (reply.Fate == Pending || reply.Fate == Malformed) {
			ending = Abort
		}
		if reply.Fate != Whole || reply.Close {
			break
		}
	}
	out.End, err = st.finish(ctx, ending, budget)
	return ending != KeepOpen, err
}

// connect makes the Attempt, or takes the connection that is there. Without a
// connection there is no socket.
func (c *exchangeCall) connect(ctx context.Context, x *Exchange, out *Exchanged) (*socket, netip.AddrPort, error) {
	if x.Conn != 0 {
		return c.resume(x, out)
	}
	s, err := c.open()
	if err != nil {
		return nil, x.To, err
	}
	t := &try{Attempt: x.Attempt, socket: s}
	t.Budget = x.budget()
	err = errors.Join(t.connect(), t.dropFailed())
	if err == nil && t.out.Verdict == "" {
		err = t.awaitVerdict(ctx)
	}
	if err != nil {
		err = errors.Join(err, t.drop())
	}
	out.Outcome = t.out
	return t.socket, x.To, err
}

// resume takes the connection that was kept open.
func (c *exchangeCall) resume(x *Exchange, out *Exchanged) (*socket, netip.AddrPort, error) {
	if _, err := c.host.connection(x.Conn); err != nil {
		return nil, x.To, err
	}
	s, err := c.host.take(x.Conn)
	if err != nil {
		return nil, x.To, err
	}
	local, err := s.local()
	peer, wrong := s.remote()
	if err = errors.Join(err, wrong); err != nil {
		c.host.giveBack(x.Conn)
		return nil, x.To, err
	}
	out.Verdict, out.Conn, out.Local = Connected, x.Conn, local
	return s, peer, nil
}

// ask sends a request and reads the answer. Only the end of ctx, and what is ours
// to mend, is an error.
func (st *stream) ask(ctx context.Context, q *Request, budget time.Duration, reply *Reply) error {
	if err := pause(ctx, q.Pause); err != nil {
		return err
	}
	if err := st.within(ctx, budget); err != nil {
		return err
	}
	path := q.Path
	if path == "" {
		path = "/"
	}
	began := time.Now()
	var response http1.Response
	err := st.write(ctx, http1.AppendGet(st.buffer[:0], st.peer.String(), path, q.Connection))
	for err == nil && !response.Done() {
		var came []byte
		if came, err = st.read(ctx); err != nil {
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
			reply.Fate, reply.Problem = Malformed, wrong.Error()
			break
		}
	}
	reply.Took = time.Since(began)
	reply.Status, reply.Close, reply.Bytes = response.Status, response.Close, response.Bytes()
	if response.Status != 0 {
		reply.Length = response.Length
	}
	switch {
	case reply.Fate == Malformed:
	case err == nil:
		reply.Fate = Whole
	case errors.Is(err, io.EOF) && response.End():
		reply.Fate = Whole
	case errors.Is(err, io.EOF) && response.Begun():
		reply.Fate = Truncated
	case errors.Is(err, io.EOF):
		reply.Fate = Unanswered
	case errors.Is(err, os.ErrDeadlineExceeded):
		reply.Fate = Pending
	case errors.As(err, &reply.Errno):
		reply.Fate = Broken
	default:
		return err
	}
	return nil
}
