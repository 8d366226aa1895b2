//go:build linux

// Package haproxy runs a real HAProxy inside a node, through its whole life, and reads its
// statistics socket.
//
// It runs the distribution's program, in the foreground, and leaves nothing behind:
// configuration and log are files in memory, questions go over a pair of sockets without a
// name, and HAProxy ends with this process.
package haproxy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"sync"

	"twlab/harness/internal/program"
	"twlab/harness/kernel"
	"twlab/harness/topo"
)

const programName = "haproxy"

var (
	// ErrMissing means that HAProxy is not installed.
	ErrMissing = errors.New("haproxy is not installed: run hack/bootstrap, or install the package haproxy")
	// ErrTooOld means that the installed HAProxy is too old for this package, or for the
	// configuration.
	ErrTooOld = errors.New("haproxy is too old")
	// ErrRejected means that HAProxy does not accept the configuration.
	ErrRejected = errors.New("haproxy rejects the configuration")
	// ErrStopped means that HAProxy was stopped, and cannot be reloaded, paused or stopped
	// again before it is started again.
	ErrStopped = errors.New("haproxy was stopped: start it again first")
)

// HAProxy is a running HAProxy: the process that serves, and those before it that have not
// ended. Its methods may be called from any goroutine. The caller of [Start] must Close it.
type HAProxy struct {
	path   string
	inside func(func() error) error
	log    *program.Log

	changing sync.Mutex // of one Stop, Start or Reload at a time

	mu            sync.Mutex // for what follows
	config        Config
	configuration string         // the text of config
	serving       *process       // nil when it was stopped
	all           []*process     // all that were started, the oldest first
	told          []topo.Process // those told to stop, with their last statistics
	closed        bool
}

// Start starts HAProxy through inside, such as ns.Namespace.Do, and returns when HAProxy
// answers on its statistics socket, which it does once it listens. The error is
// [ErrMissing], [ErrTooOld] or [ErrRejected], or contains HAProxy's own message, for
// example that a port is in use.
func Start(ctx context.Context, inside func(func() error) error, c Config) (*HAProxy, error) {
	path, err := installed()
	if err != nil {
		return nil, err
	}
	if err := c.Validate(); err != nil {
		return nil, err
	}
	text, err := c.text()
	if err != nil {
		return nil, err
	}
	log, err := program.NewLog(programName)
	if err != nil {
		return nil, err
	}
	h := &HAProxy{path: path, inside: inside, log: log, config: c, configuration: text}
	if err := h.Start(ctx); err != nil {
		_ = h.Close() // it never ran; err says why
		return nil, err
	}
	return h, nil
}

func installed() (path string, err error) {
	path, err = exec.LookPath(programName)
	if err != nil {
		return "", fmt.Errorf("%w (%w)", ErrMissing, err)
	}
	return path, nil
}

// now returns the process that serves. It is the last one that did when HAProxy was
// stopped.
func (h *HAProxy) now() (p *process, stopped bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.serving == nil {
		return h.all[len(h.all)-1], true
	}
	return h.serving, false
}

// PID returns the id of the process that serves, or that served last; with a master it is
// that of the master.
func (h *HAProxy) PID() int {
	p, _ := h.now()
	return p.PID()
}

// Ended returns a channel that is closed when that process has ended.
func (h *HAProxy) Ended() <-chan struct{} {
	p, _ := h.now()
	return p.Ended()
}

// Configuration returns the configuration that HAProxy has read last.
func (h *HAProxy) Configuration() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.configuration
}

// Log returns what all processes have written so far.
func (h *HAProxy) Log() (string, error) { return h.log.Text() }

// Stats returns HAProxy's own statistics, under its own names: "frontend.stot",
// "backend.wredis", "server0.econ" (the columns of "show stat") and "process.CumConns" (the
// lines of "show info"). Values that are not numbers, and those that HAProxy does not count
// there, are absent. Among the columns are
//
//	stot, conn_tot    sessions, connections (of a frontend: accepted)
//	connect, reuse    connects to servers, requests without a connect (mode HTTP)
//	req_tot, hrsp_2xx requests, responses with a status of 2xx (mode HTTP)
//	econ, eresp, ereq failed connects, failed responses, failed requests
//	wretr, wredis     connects retried, and retried at another server
//	cli_abrt, srv_abrt transfers aborted by the client, and by the server
//
// (management guide, "CSV format"). They are those of the process that serves, which
// begins at 0; what the processes before it counted is in Processes. When HAProxy was
// stopped, they are from just before. When HAProxy has ended by itself, the error wraps
// topo.ErrEnded and contains its last messages.
func (h *HAProxy) Stats(ctx context.Context) (kernel.Counters, error) {
	h.mu.Lock()
	p := h.serving
	if p == nil {
		defer h.mu.Unlock()
		var last kernel.Counters
		for _, one := range h.told {
			last = one.Stats
		}
		return maps.Clone(last), nil
	}
	h.mu.Unlock()
	all, err := p.stats(ctx)
	if err != nil {
		if failure := h.Failure(); failure != nil {
			return nil, failure
		}
		return nil, fmt.Errorf("statistics of HAProxy: %w", err)
	}
	return all, nil
}

// Failure returns nil as long as no process has ended that was not told to, and none has
// crashed. Otherwise it wraps topo.ErrEnded and contains the last messages.
func (h *HAProxy) Failure() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	var errs []error
	for _, p := range h.all {
		errs = append(errs, p.Failure())
	}
	return errors.Join(errs...)
}

// Close kills all processes and waits until they have ended. The error is that of Failure
// when one had ended before. A second Close does nothing.
func (h *HAProxy) Close() error {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return nil
	}
	h.closed = true
	all := h.all
	h.mu.Unlock()
	var errs []error
	for _, p := range all {
		errs = append(errs, p.Close())
	}
	return errors.Join(append(errs, h.log.Close())...)
}
