package line

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// DefaultMaxSilence is how long the other side may be silent during a call, while it has to
// answer pings. A machine that is emulated on a busy host is slow.
const DefaultMaxSilence = 15 * time.Second

// Caller makes calls. Make one with [NewCaller]; Close ends it.
type Caller struct {
	frames     *frames
	stream     net.Conn
	errors     Errors
	maxSilence time.Duration
	greeting   chan string   // the server's fingerprint, once
	gone       chan struct{} // closed when the line is lost
	done       sync.WaitGroup

	mu      sync.Mutex
	last    uint64
	waiting map[uint64]chan message // by call
	heard   time.Time
	lost    error // why, once gone is closed
}

// NewCaller makes a Caller on the stream, which it owns from now on. known must be the same
// as on the server's side. A maxSilence of 0 means [DefaultMaxSilence].
func NewCaller(stream net.Conn, known Errors, maxSilence time.Duration) *Caller {
	if maxSilence == 0 {
		maxSilence = DefaultMaxSilence
	}
	c := &Caller{
		frames: newFrames(stream), stream: stream, errors: known.complete(), maxSilence: maxSilence,
		greeting: make(chan string, 1), gone: make(chan struct{}), waiting: map[uint64]chan message{},
	}
	c.done.Go(c.listen)
	return c
}

// Close ends the line and all calls. A second Close does nothing.
func (c *Caller) Close() {
	c.lose(errors.New("closed"))
	c.done.Wait()
}

// Greet waits for the server's hello. The error wraps [ErrVersion] when the server's
// fingerprint differs, and [ErrLost] when the line is lost.
func (c *Caller) Greet(ctx context.Context, fingerprint string) error {
	select {
	case theirs := <-c.greeting:
		if theirs != fingerprint {
			return fmt.Errorf("%w: here %s, there %s", ErrVersion, fingerprint, theirs)
		}
		return nil
	case <-c.gone:
		return c.lostBecause()
	case <-ctx.Done():
		return fmt.Errorf("await the hello: %w", ctx.Err())
	}
}

// listen distributes incoming messages until the line is lost.
func (c *Caller) listen() {
	for {
		m, err := c.frames.read()
		if err != nil {
			c.lose(err)
			return
		}
		c.mu.Lock()
		c.heard = time.Now()
		answered := c.waiting[m.ID]
		delete(c.waiting, m.ID)
		c.mu.Unlock()
		switch m.Kind {
		case reply:
			if answered != nil {
				answered <- m // the channel has room for it
			}
		case hello:
			var theirs string
			if err := json.Unmarshal(m.Body, &theirs); err != nil {
				c.lose(fmt.Errorf("hello: %w", err))
				return
			}
			select {
			case c.greeting <- theirs:
			default:
				c.lose(errors.New("the other side restarted"))
				return
			}
		case pong:
		case call, cancel, ping:
			c.lose(fmt.Errorf("unexpected message: %s", m.Kind))
			return
		}
	}
}

// lose ends the line, once.
func (c *Caller) lose(why error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lost != nil {
		return
	}
	c.lost = errors.Join(why, c.stream.Close())
	close(c.gone)
}

func (c *Caller) lostBecause() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return fmt.Errorf("%w: %w", ErrLost, c.lost)
}

// begin registers a call that waits for its answer.
func (c *Caller) begin() (id uint64, answer chan message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last++
	answer = make(chan message, 1)
	c.waiting[c.last] = answer
	if len(c.waiting) == 1 {
		c.heard = time.Now() // no call was waiting before
	}
	return c.last, answer
}

func (c *Caller) call(ctx context.Context, name string, body json.RawMessage) (json.RawMessage, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	id, answer := c.begin()
	if err := c.write(message{Kind: call, ID: id, Method: name, Body: body}); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	ask := time.NewTicker(c.maxSilence / 8)
	defer ask.Stop()
	ended := ctx.Done()
	for {
		var err error
		select {
		case m := <-answer:
			return c.open(ctx, m)
		case <-ended:
			ended = nil // sent once
			err = c.write(message{Kind: cancel, ID: id})
		case <-ask.C:
			err = c.askIfThere()
		case <-c.gone:
			err = c.lostBecause()
		}
		if err == nil {
			continue
		}
		// An answer that arrived before the line was lost counts, whichever select saw
		// first.
		select {
		case m := <-answer:
			return c.open(ctx, m)
		default:
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
}

// open returns the body or the error of an answer.
func (c *Caller) open(ctx context.Context, m message) (json.RawMessage, error) {
	if m.Failure == nil {
		return m.Body, nil
	}
	err := c.errors.unpack(m.Failure)
	if errors.Is(err, context.Canceled) && ctx.Err() != nil && !errors.Is(ctx.Err(), context.Canceled) {
		return nil, fmt.Errorf("%w: %w", ctx.Err(), err) // on the other side it was cancelled, on this side it expired
	}
	return nil, err
}

// askIfThere sends a ping, or gives up the line.
func (c *Caller) askIfThere() error {
	c.mu.Lock()
	silent := time.Since(c.heard)
	c.mu.Unlock()
	if silent > c.maxSilence {
		c.lose(fmt.Errorf("silent for %v", silent.Round(time.Second)))
		return c.lostBecause()
	}
	return c.write(message{Kind: ping})
}

// write sends a message. The other side may take as long to accept it as it may be silent.
func (c *Caller) write(m message) error {
	err := c.stream.SetWriteDeadline(time.Now().Add(c.maxSilence))
	if err == nil {
		err = c.frames.write(m)
	}
	if err != nil {
		c.lose(err)
		return c.lostBecause()
	}
	return nil
}
