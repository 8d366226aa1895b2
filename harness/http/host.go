//go:build linux

// Package http provides clients and servers of HTTP/1.1 on the sockets of package tcp. It
// covers what decides which side closes a connection first, and when, and how an answer can
// be lost. It covers nothing else of HTTP.
package http

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"sync"

	"twlab/harness/internal/http1"
	"twlab/harness/tcp"
)

// Framing says how the end of a body is marked.
type Framing = http1.Framing

// The framings (RFC 9112, 6.3). The zero value is by length.
const (
	ByLength = http1.ByLength
	Chunked  = http1.Chunked
	ToTheEnd = http1.ToTheEnd
)

// Host makes exchanges, and listens, on a [tcp.Host], which owns all connections. Its
// methods may be called from any goroutine. Make one with [NewHost].
type Host struct {
	tcp *tcp.Host

	mu      sync.Mutex
	servers map[tcp.Handle]*server
}

// NewHost makes a Host on a [tcp.Host], whose CloseAll ends both.
func NewHost(on *tcp.Host) *Host { return &Host{tcp: on, servers: map[tcp.Handle]*server{}} }

// ListenSpec describes a listening socket and the answers that it gives.
type ListenSpec struct {
	// ListenSpec is the socket. Its Ending says how to end a connection that the server has
	// to end; [tcp.KeepOpen] means [tcp.CloseNow] here.
	tcp.ListenSpec
	// HTTP answers the requests; nil means the zero Responder.
	HTTP *Responder
}

// Listen opens a listening socket that answers requests until it is ended or the host
// closes. It returns the address that the socket really has; an outcome other than
// [tcp.Listening] is an error.
func (h *Host) Listen(ctx context.Context, spec ListenSpec) (handle tcp.Handle, bound netip.AddrPort, err error) {
	got, err := h.TryListen(ctx, spec)
	if err == nil && got.Err() != nil {
		err = fmt.Errorf("listen on %v: %w", spec.At, got.Err())
	}
	return got.Listener, got.Addr, err
}

// TryListen is Listen for a caller that expects one certain outcome, as [tcp.Host.TryListen].
func (h *Host) TryListen(ctx context.Context, spec ListenSpec) (tcp.ListenResult, error) {
	s := &server{ending: spec.Ending}
	if spec.HTTP != nil {
		s.responder = *spec.HTTP
	}
	if s.ending == tcp.KeepOpen {
		s.ending = tcp.CloseNow
	}
	if err := s.responder.check(); err != nil {
		return tcp.ListenResult{}, fmt.Errorf("listen: %w", err)
	}
	s.answers = s.responder.answers()
	got, err := h.tcp.TryServe(ctx, spec.ListenSpec, s.serve)
	if err != nil || got.Outcome != tcp.Listening {
		return got, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.servers[got.Listener] = s
	return got, nil
}

// Served reports what a listener of [Host.Listen] has done so far. The error wraps
// [tcp.ErrNoHandle] when the listener is closed.
func (h *Host) Served(listening tcp.Handle) (Served, error) {
	h.mu.Lock()
	s, found := h.servers[listening]
	err := h.tcp.Listens(listening)
	if errors.Is(err, tcp.ErrNoHandle) {
		delete(h.servers, listening)
	}
	h.mu.Unlock()
	switch {
	case errors.Is(err, tcp.ErrNoHandle):
		return Served{}, fmt.Errorf("served: %w", err)
	case !found:
		return Served{}, fmt.Errorf("served: socket %d has no responder", listening.Number)
	}
	var now Served
	s.counts.note(func(n *Served) {
		now = *n
		now.Peers = maps.Clone(n.Peers)
	})
	return now, nil
}
