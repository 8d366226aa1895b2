//go:build linux

package http

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"twlab/harness/internal/http1"
	"twlab/harness/tcp"
)

// Responder answers HTTP/1.1 requests, each with a body of the same size. The
// zero value answers with an empty one, keeps connections open, and closes those
// whose client says `Connection: close` (RFC 9112, 9.6).
type Responder struct {
	// Status is the status code of all responses; 0 means 200.
	Status int
	// Body is the size of the body of each response in bytes.
	Body int
	// Delay is how long it works on each response before it sends any of it.
	Delay time.Duration
	// Framing is how the end of the body is told. A client of HTTP/1.0 gets a
	// length instead of chunks.
	Framing Framing
	// Last is which response on a connection is the last: the connection ends
	// after it, and it says `Connection: close`. 0 means none.
	Last int
	// Silent leaves `Connection: close` out.
	Silent bool
	// JoinFIN sends the FIN of a connection that this side ends after its last
	// response in the segment of the last byte, not in one of its own: nobody
	// sees the one without the other. The kernel holds the bytes back for that
	// (TCP_CORK), for 200 ms at most.
	JoinFIN bool
	// IgnoreClose overlooks `Connection: close` in requests, and so leaves the
	// closing to the client.
	IgnoreClose bool
	// Idle is how long a connection may wait for a request, or for the rest of
	// one, before it is ended; 0 means for ever.
	Idle time.Duration
	// Cut, when it is not 0, is after how many bytes of its body a last response
	// breaks off: with an Ending of CloseNow it is truncated, with Abort reset.
	Cut int
}

func (r *Responder) check() error {
	switch {
	case r.Status != 0 && (r.Status < 200 || r.Status > 999):
		return fmt.Errorf("responder: status %d: want 200 to 999", r.Status)
	case r.Body < 0 || r.Delay < 0 || r.Last < 0 || r.Idle < 0 || r.Cut < 0:
		return fmt.Errorf("responder: negative number in %+v", *r)
	case r.Cut > 0 && r.Cut >= r.Body:
		return fmt.Errorf("responder: cut after %d bytes of %d: want fewer", r.Cut, r.Body)
	}
	switch r.Framing {
	case ByLength, Chunked, ToTheEnd:
		return nil
	default:
		return fmt.Errorf("responder: unknown framing %q", r.Framing)
	}
}

// Served is what a listener with a [Responder] has done so far.
type Served struct {
	// Connections is how many it has accepted, Open how many of them are open.
	Connections, Open int
	// Peers is how many connections came from each address and port, as they are
	// after any NAT.
	Peers map[netip.AddrPort]int
	// Requests is how many have come in full, Responses how many of the answers
	// the kernel has taken in full, Bytes the bodies of all answers, also of those
	// that were cut.
	Requests, Responses int
	Bytes               int64
	// ClosedFirst and PeerFirst are how many connections this side ended first,
	// and how many the peer, as [tcp.End] tells it; those of which it is Unclear are in
	// neither. PeerResets are those of them that the peer ended by RST.
	ClosedFirst, PeerFirst, PeerResets int
	// Idled is how many were ended because no request came in time.
	Idled int
	// Malformed is how many were reset because something came that is no
	// request, and Problem what that was, the last time.
	Malformed int
	Problem   string
}

// served is a Served under way.
type served struct {
	mu  sync.Mutex
	now Served
}

func (s *served) note(f func(now *Served)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(&s.now)
}

// kind is what the answers of a Responder differ in.
type kind struct {
	last bool // it is the last of its connection
	head bool // to HEAD: no body
	old  bool // to HTTP/1.0: no chunks
}

// answer is the bytes of a response: what is written first, how many of filling
// after it, and the end.
type answer struct {
	first   []byte
	filling int
	end     []byte
	body    int  // how many bytes of the body there are in all of it
	cut     bool // it breaks off
}

// filling is how much of a body is written at once.
var filling [64 << 10]byte

// answers are made once, because all responses of a kind are the same.
func (r *Responder) answers() map[kind]answer {
	all := map[kind]answer{}
	for _, last := range []bool{false, true} {
		for _, head := range []bool{false, true} {
			for _, old := range []bool{false, true} {
				k := kind{last, head, old}
				all[k] = r.answer(k)
			}
		}
	}
	return all
}

func (r *Responder) answer(k kind) answer {
	status, framing, connection := r.Status, r.Framing, ""
	if status == 0 {
		status = 200
	}
	if k.old {
		connection = "keep-alive" // else the client would not know (RFC 9112, 9.3)
		if framing == Chunked {
			framing = ByLength
		}
	}
	if k.last {
		connection = "close"
		if r.Silent {
			connection = ""
		}
	}
	var a answer
	a.first, a.end = http1.ResponseHead(status, r.Body, framing, connection)
	if k.head {
		return answer{first: a.first}
	}
	a.body = r.Body
	if k.last && r.Cut > 0 {
		a.body, a.end, a.cut = r.Cut, nil, true
	}
	// A body that is not large goes out with its head.
	now := min(a.body, len(filling))
	a.first, a.filling = append(a.first, filling[:now]...), a.body-now
	if a.filling == 0 {
		a.first, a.end = append(a.first, a.end...), nil
	}
	return a
}

// server serves the connections of one listener.
type server struct {
	responder Responder
	ending    tcp.Ending // of a connection whose turn it is to end
	answers   map[kind]answer
	counts    served
}

// serve serves a connection until one side ends it, or ctx, or what comes is no
// request: it is reset then.
func (s *server) serve(ctx context.Context, st *tcp.Stream) error {
	s.counts.note(func(now *Served) {
		if now.Peers == nil {
			now.Peers = map[netip.AddrPort]int{}
		}
		now.Connections++
		now.Open++
		now.Peers[st.Peer()]++
	})
	end, err := s.converse(ctx, st)
	s.counts.note(func(now *Served) {
		now.Open--
		switch end.First {
		case tcp.Here:
			now.ClosedFirst++
		case tcp.Peer:
			now.PeerFirst++
			if end.Errno != 0 {
				now.PeerResets++
			}
		default: // lost with the listener, or nobody can tell
		}
	})
	if err != nil {
		return fmt.Errorf("respond: %w", err)
	}
	return nil
}

// converse answers the requests of a connection and ends it. Whatever happens,
// the connection is closed.
func (s *server) converse(ctx context.Context, st *tcp.Stream) (end tcp.End, err error) {
	r := &s.responder
	var came []byte
	for n := 1; ; n++ {
		var request http1.Request
		if came, err = receive(ctx, st, r.Idle, &request, came); err != nil {
			break
		}
		k := kind{last: n == r.Last || request.Close && !r.IgnoreClose || r.Framing == ToTheEnd, head: request.Head, old: request.Old}
		a := s.answers[k]
		s.counts.note(func(now *Served) { now.Requests++ })
		if err = pause(ctx, r.Delay); err != nil {
			break
		}
		if k.last && r.JoinFIN {
			if err = st.Cork(); err != nil {
				break
			}
		}
		if err = a.send(ctx, st); err != nil {
			break
		}
		s.counts.note(func(now *Served) {
			if !a.cut {
				now.Responses++
			}
			now.Bytes += int64(a.body)
		})
		if k.last {
			end, _, err = st.Finish(ctx, s.ending, 0)
			return end, err
		}
	}
	return s.endAfter(ctx, st, err)
}

// endAfter ends a connection on which err came instead of the next request, or of the
// end of an answer.
func (s *server) endAfter(ctx context.Context, st *tcp.Stream, err error) (end tcp.End, _ error) {
	var errno syscall.Errno
	switch {
	case errors.Is(err, io.EOF):
		end, _, err = st.Finish(ctx, tcp.CloseNow, 0)
	case errors.Is(err, os.ErrDeadlineExceeded):
		s.counts.note(func(now *Served) { now.Idled++ })
		end, _, err = st.Finish(ctx, s.ending, 0)
	case errors.As(err, &errno):
		return tcp.End{First: tcp.Peer, Errno: errno}, st.Reset()
	case errors.Is(err, errMalformed):
		s.counts.note(func(now *Served) {
			now.Malformed++
			now.Problem = err.Error()
		})
		end, _, err = st.Finish(ctx, tcp.Abort, 0)
	default:
		return end, errors.Join(err, st.Reset())
	}
	return end, err
}

// errMalformed says that what came is no request.
var errMalformed = errors.New("malformed")

// receive reads a request. It begins with what came before, and returns what came
// after.
func receive(ctx context.Context, st *tcp.Stream, idle time.Duration, request *http1.Request, came []byte) (rest []byte, err error) {
	if err := st.Within(ctx, idle); err != nil {
		return nil, err
	}
	for {
		used, err := request.Feed(came)
		if err != nil {
			return nil, fmt.Errorf("%w %w", errMalformed, err)
		}
		if came = came[used:]; request.Done() {
			return came, nil
		}
		if came, err = st.Read(ctx); err != nil {
			return nil, err
		}
	}
}

// send writes an answer; a client that is slow to read is waited for.
func (a answer) send(ctx context.Context, st *tcp.Stream) error {
	if err := st.Within(ctx, 0); err != nil {
		return err
	}
	if err := st.Write(ctx, a.first); err != nil {
		return err
	}
	for left := a.filling; left > 0; left -= len(filling) {
		if err := st.Write(ctx, filling[:min(left, len(filling))]); err != nil {
			return err
		}
	}
	return st.Write(ctx, a.end)
}
