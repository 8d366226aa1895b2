//go:build linux

package tcp

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"

	"twlab/harness/internal/sockdiag"
)

// ErrNoHandle is returned for a handle that the host never gave out, for a handle whose
// socket is closed or is just being ended by another call, and by a call that CloseAll of
// its host cuts short.
var ErrNoHandle = errors.New("no open socket with this handle")

// errClosedMeanwhile is returned by a call when another call has closed its socket.
var errClosedMeanwhile = fmt.Errorf("closed by another call: %w", ErrNoHandle)

// ErrForeign is wrapped when a handle of one host is given to another host.
var ErrForeign = errors.New("the socket is another node's")

// Handle names a socket of one [Host]. Its zero value names no socket.
type Handle struct {
	// Host is the name of the host.
	Host string
	// Owner is the host's own number, which another host of the same name does not have.
	Owner Owner
	// Number counts the sockets of the host, from 1 on.
	Number int
}

// IsZero reports whether the handle names no socket.
func (h Handle) IsZero() bool { return h == Handle{} }

// String returns the number, and the host when it has a name: "7 of client0".
func (h Handle) String() string {
	if h.Host == "" {
		return strconv.Itoa(h.Number)
	}
	return strconv.Itoa(h.Number) + " of " + h.Host
}

// Owner tells hosts apart, those of the same name in two labs too. It is drawn at random, so
// that processes and guests need not agree.
type Owner uint64

// NewOwner draws one.
func NewOwner() Owner { return Owner(rand.Uint64()) }

// Host owns the sockets of one machine. Its methods may be called from any goroutine, and
// several may run at once for one handle: each ends with its own context, and when several
// end the socket, exactly one gets it. Make a Host with [NewHost]; CloseAll ends it.
type Host struct {
	name   string
	owner  Owner
	inside func(func() error) error // runs a function in the machine's network namespace

	mu      sync.Mutex
	closed  bool
	last    int
	sockets map[Handle]*socket
	taken   map[Handle]*socket            // each belongs to one call, which ends it or gives it back
	calls   map[uint64]context.CancelFunc // calls that wait
	begun   uint64                        // number of such calls so far
	failed  []error                       // errors outside of any call
	running sync.WaitGroup                // calls that wait, and goroutines that serve listeners
	buffers sync.Pool                     // of streams
	lookup  *sockdiag.Lookup              // nil until its first use
}

// NewHost makes a Host with this name, which its handles carry. It opens its sockets in
// functions that it passes to inside, such as ns.Namespace.Do. A machine that is its own
// namespace passes a function that just calls its argument.
func NewHost(name string, inside func(func() error) error) *Host {
	return NewOwnedHost(name, NewOwner(), inside)
}

// NewOwnedHost is NewHost for a caller that draws the owner itself: a guest that has just
// booted may have no randomness yet.
func NewOwnedHost(name string, owner Owner, inside func(func() error) error) *Host {
	return &Host{
		name: name, owner: owner, inside: inside, sockets: map[Handle]*socket{}, taken: map[Handle]*socket{}, calls: map[uint64]context.CancelFunc{},
	}
}

// CloseAll closes every socket of the host, open connections by RST, cuts short every call
// that waits (their error is [ErrNoHandle]), and returns when nothing of the host runs any
// more. The host opens nothing afterwards; a second CloseAll closes and reports nothing.
// Its error includes the errors of listeners, such as a lack of descriptors.
func (h *Host) CloseAll() error {
	h.mu.Lock()
	h.closed = true
	open := append(slices.Collect(maps.Values(h.sockets)), slices.Collect(maps.Values(h.taken))...)
	clear(h.sockets)
	clear(h.taken)
	for _, cancel := range h.calls {
		cancel()
	}
	h.mu.Unlock()

	var errs []error
	for _, s := range open {
		errs = append(errs, s.close())
	}
	h.running.Wait()
	h.mu.Lock()
	lookup, failed := h.lookup, h.failed
	h.lookup, h.failed = nil, nil
	h.mu.Unlock()
	if lookup != nil {
		errs = append(errs, lookup.Close())
	}
	return errors.Join(append(errs, failed...)...)
}

// call runs a call that may wait. CloseAll ends its context and waits for it.
func (h *Host) call(ctx context.Context, f func(ctx context.Context) error) error {
	own, cancel := context.WithCancel(ctx)
	defer cancel()
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return fmt.Errorf("the host is closed: %w", ErrNoHandle)
	}
	h.begun++
	number := h.begun
	h.calls[number] = cancel
	h.running.Add(1)
	h.mu.Unlock()
	defer h.running.Done()

	err := f(own)

	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.calls, number)
	if err != nil && h.closed && ctx.Err() == nil {
		return fmt.Errorf("the host was closed meanwhile: %w (%v)", ErrNoHandle, err) //nolint:errorlint // the caller's own context has not ended
	}
	return err
}

// keep gives a socket its handle. When the host was closed meanwhile, the caller still owns
// the socket.
func (h *Host) keep(s *socket) (Handle, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return Handle{}, fmt.Errorf("the host is closed: %w", ErrNoHandle)
	}
	return h.enter(s), nil
}

// enter gives a socket its handle, with the lock held.
func (h *Host) enter(s *socket) Handle {
	h.last++
	handle := Handle{Host: h.name, Owner: h.owner, Number: h.last}
	h.sockets[handle] = s
	return handle
}

// find finds a socket, with the lock held.
func (h *Host) find(of Handle) (*socket, error) {
	if s, found := h.sockets[of]; found {
		return s, nil
	}
	switch {
	case of.IsZero() || of.Owner == h.owner:
	case of.Host == h.name:
		return nil, fmt.Errorf("socket %v, and this is another %s: %w", of, h.name, ErrForeign)
	default:
		return nil, fmt.Errorf("socket %v, and this is %s: %w", of, h.name, ErrForeign)
	}
	return nil, fmt.Errorf("socket %d: %w", of.Number, ErrNoHandle)
}

// socket finds a socket for a call that leaves it open.
func (h *Host) socket(of Handle) (*socket, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.find(of)
}

// connection is socket, and refuses those that listen.
func (h *Host) connection(of Handle) (*socket, error) {
	s, err := h.socket(of)
	if err == nil && s.listener != nil {
		return nil, fmt.Errorf("socket %d listens: it is no connection", of.Number)
	}
	return s, err
}

// take finds a socket for a call that may close it. No other call finds it from now on,
// until that call gives it back.
func (h *Host) take(of Handle) (*socket, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s, err := h.find(of)
	if err != nil {
		return nil, err
	}
	delete(h.sockets, of)
	h.taken[of] = s
	return s, nil
}

// giveBack puts a socket that was taken back under its handle.
func (h *Host) giveBack(of Handle) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s, found := h.taken[of]; found { // else CloseAll has closed it
		delete(h.taken, of)
		h.sockets[of] = s
	}
}

// forget drops a socket that was taken and is closed.
func (h *Host) forget(of Handle) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.taken, of)
}

// report keeps an error for CloseAll.
func (h *Host) report(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failed = append(h.failed, err)
}

// spawn runs f in a goroutine that CloseAll waits for. Only what CloseAll waits
// for may call it.
func (h *Host) spawn(f func()) { h.running.Go(f) }
