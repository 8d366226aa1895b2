package line

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"io"
	"maps"
	"slices"
	"sync"
)

// Server answers calls. Make one with [NewServer], add methods with [Method.Serve], and
// then call Serve with streams.
type Server struct {
	methods map[string]method
	errors  Errors
}

// NewServer makes a server without methods; it passes the known errors to the caller.
func NewServer(known Errors) *Server {
	return &Server{methods: map[string]method{}, errors: known.complete()}
}

// Fingerprint returns a short text that is the same for two servers with the same methods
// and types.
func (s *Server) Fingerprint() string {
	sum := fnv.New64a()
	for _, name := range slices.Sorted(maps.Keys(s.methods)) {
		fmt.Fprintln(sum, name, s.methods[name].signature)
	}
	return fmt.Sprintf("%016x", sum.Sum64())
}

// Serve sends the hello and answers calls, concurrently, until the stream ends or is
// garbled, and returns the reason. All calls have ended when it returns.
func (s *Server) Serve(ctx context.Context, stream io.ReadWriter) error {
	f := newFrames(stream)
	body, err := json.Marshal(s.Fingerprint())
	if err != nil {
		return fmt.Errorf("say hello: %w", err)
	}
	if err := f.write(message{Kind: hello, Body: body}); err != nil {
		return fmt.Errorf("say hello: %w", err)
	}
	ctx, stop := context.WithCancel(ctx)
	calls := calls{cancel: map[uint64]context.CancelFunc{}}
	defer calls.running.Wait()
	defer stop()
	for {
		m, err := f.read()
		if err != nil {
			return err
		}
		switch m.Kind {
		case call:
			calls.start(ctx, m.ID, func(ctx context.Context) {
				// When this fails, the line is lost, and read reports it.
				_ = f.write(s.answer(ctx, m))
			})
		case cancel:
			calls.end(m.ID)
		case ping:
			if err := f.write(message{Kind: pong}); err != nil {
				return err
			}
		case hello, reply, pong:
			return fmt.Errorf("unexpected message: %s", m.Kind)
		}
	}
}

func (s *Server) answer(ctx context.Context, m message) message {
	answer := message{Kind: reply, ID: m.ID}
	method, known := s.methods[m.Method]
	if !known {
		answer.Failure = &failure{Text: fmt.Sprintf("no method %q", m.Method)}
		return answer
	}
	body, err := method.answer(ctx, m.Body)
	if err != nil {
		answer.Failure = s.errors.pack(err)
		return answer
	}
	answer.Body = body
	return answer
}

// calls are the calls that a server is working on.
type calls struct {
	running sync.WaitGroup

	mu     sync.Mutex
	cancel map[uint64]context.CancelFunc
}

func (c *calls) start(ctx context.Context, id uint64, f func(context.Context)) {
	ctx, stop := context.WithCancel(ctx)
	c.mu.Lock()
	c.cancel[id] = stop
	c.mu.Unlock()
	c.running.Go(func() {
		f(ctx)
		c.end(id)
	})
}

// end ends the context of a call, once.
func (c *calls) end(id uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if stop, running := c.cancel[id]; running {
		stop()
		delete(c.cancel, id)
	}
}
