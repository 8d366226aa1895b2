//go:build linux

package http

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"twlab/harness/internal/http1"
	"twlab/harness/tcp"
)

// Responder answers HTTP/1.1 requests, each with a body of the same size. The zero value
// sends an empty body, keeps connections open, and closes those whose client sends
// `Connection: close` (RFC 9112, 9.6).
type Responder struct {
	// Status is the status code of all responses; 0 means 200.
	Status int
	// Body is the size of the body of each response in bytes.
	Body int
	// Delay is the time between a request and the first byte of its response.
	Delay time.Duration
	// Framing says how the end of the body is marked. A client of HTTP/1.0 gets a length
	// instead of chunks.
	Framing Framing
	// Last is the number of the response, from 1 on, after which the connection ends; that
	// response says `Connection: close`. 0 means none.
	Last int
	// Silent omits `Connection: close` from responses.
	Silent bool
	// JoinFIN sends the FIN in the segment of the last byte, not in a segment of its own,
	// when this side ends the connection after its last response: the client sees both or
	// neither. For that, the kernel holds the bytes back (TCP_CORK), for 200 ms at most.
	JoinFIN bool
	// IgnoreClose ignores `Connection: close` in requests, so that the client has to close.
	IgnoreClose bool
	// Idle is how long a connection may wait for a request, or for the rest of one, before
	// the server ends it; 0 means for ever.
	Idle time.Duration
	// ReadAtMost, when it is not 0, is the number of bytes of a request, head and body
	// together, after which the server answers without reading the rest. The connection then
	// ends. With an Ending of CloseNow the kernel sends a RST when more has come, or comes
	// later (tcp_close, tcp_rcv_state_process).
	ReadAtMost int
	// Cut, when it is not 0, is the number of bytes of the body after which a last response
	// stops. An Ending of CloseNow then truncates it, Abort resets the connection.
	Cut int
}

func (r *Responder) check() error {
	switch {
	case r.Status != 0 && (r.Status < 200 || r.Status > 999):
		return fmt.Errorf("responder: status %d: want 200 to 999", r.Status)
	case r.Body < 0 || r.Delay < 0 || r.Last < 0 || r.Idle < 0 || r.Cut < 0 || r.ReadAtMost < 0:
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
	// Connections is the number of accepted connections, Open the number of those that are
	// open.
	Connections, Open int
	// Peers is the number of connections from each address and port, as the listener sees
	// them after any NAT.
	Peers map[netip.AddrPort]int
	// Requests is the number of requests that came in full, Responses the number of
	// responses that the kernel took in full, Bytes the bytes of the bodies of all
	// responses, cut ones included. Early is the number of responses to requests that had
	// not come in full ([Responder.ReadAtMost]).
	Requests, Responses int
	Early               int
	Bytes               int64
	// ClosedFirst and PeerFirst are the numbers of connections that this side, and that the
	// peer, ended first, as [tcp.End] says; those whose end is Unclear are in neither.
	// PeerResets counts those of PeerFirst that the peer ended by RST.
	ClosedFirst, PeerFirst, PeerResets int
	// Idled is the number of connections that were ended because no request came in time.
	Idled int
	// Malformed is the number of connections that were reset because the client sent
	// something that is no request; Problem describes the last such case.
	Malformed int
	Problem   string
}

// served is a Served that is still counting.
type served struct {
	mu  sync.Mutex
	now Served
}

func (s *served) note(f func(now *Served)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(&s.now)
}

// kind is what distinguishes the answers of a Responder.
type kind struct {
	last bool // it is the last of its connection
	head bool // to HEAD: no body
	old  bool // to HTTP/1.0: no chunks
}

// answer is the bytes of a response: first, then this many bytes of filling, then end.
type answer struct {
	first   []byte
	filling int
	end     []byte
	body    int  // bytes of the body in the whole answer
	cut     bool // it stops before its end
}

// filling is the most that is written of a body at once.
var filling [64 << 10]byte

// answers makes all answers once, because all responses of a kind are the same.
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
	ending    tcp.Ending // of a connection that this side has to end
	answers   map[kind]answer
	counts    served
}

// serve serves a connection until one side ends it, or ctx does. When the client sends
// something that is no request, serve resets the connection.
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
		default: // lost with the listener, or unclear
		}
	})
	if err != nil {
		return fmt.Errorf("respond: %w", err)
	}
	return nil
}

// converse answers the requests of a connection and ends it. In any case the connection is
// then closed.
func (s *server) converse(ctx context.Context, st *tcp.Stream) (end tcp.End, err error) {
	r := &s.responder
	var came []byte
	for n := 1; ; n++ {
		var request http1.Request
		if came, err = r.receive(ctx, st, &request, came); err != nil {
			break
		}
		early := !request.Done()
		k := kind{last: early || n == r.Last || request.Close && !r.IgnoreClose || r.Framing == ToTheEnd, head: request.Head, old: request.Old}
		a := s.answers[k]
		s.counts.note(func(now *Served) {
			if early {
				now.Early++
			} else {
				now.Requests++
			}
		})
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

// endAfter ends a connection on which err came instead of the next request, or while an
// answer was sent.
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

// errMalformed means that the client sent something that is no request.
var errMalformed = errors.New("malformed")

// receive reads a request, or as much of it as ReadAtMost says. It starts with the bytes that
// came before, and returns those that came after the request.
func (r *Responder) receive(ctx context.Context, st *tcp.Stream, request *http1.Request, came []byte) (rest []byte, err error) {
	if err := st.Within(ctx, r.Idle); err != nil {
		return nil, err
	}
	left := math.MaxInt
	if r.ReadAtMost > 0 {
		left = r.ReadAtMost
	}
	for {
		used, err := request.Feed(came)
		if err != nil {
			return nil, fmt.Errorf("%w %w", errMalformed, err)
		}
		left -= used
		if came = came[used:]; request.Done() || left <= 0 {
			return came, nil
		}
		if came, err = st.ReadAtMost(ctx, left); err != nil {
			return nil, err
		}
	}
}

// send writes an answer. It waits for a client that reads slowly.
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
