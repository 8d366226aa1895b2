//go:build linux

package haproxy

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"twlab/harness/internal/program"
	"twlab/harness/observe"
	"twlab/harness/topo"
)

// Start starts a stopped HAProxy again, with the configuration that it had, and returns
// when it listens. Its errors are those of the function [Start].
func (h *HAProxy) Start(ctx context.Context) error {
	h.changing.Lock()
	defer h.changing.Unlock()
	h.mu.Lock()
	c, text, runs := h.config, h.configuration, h.serving != nil
	h.mu.Unlock()
	if runs {
		return errors.New("haproxy runs already")
	}
	p, err := h.begin(ctx, c, text, nil)
	if err != nil {
		if rejected := c.check(ctx, h.path, text); rejected != nil && ctx.Err() == nil {
			err = rejected
		}
		return err
	}
	h.serve(p, c, text)
	return nil
}

// begin starts a process and returns when it listens. When it fails, nothing of the process
// is left.
func (h *HAProxy) begin(ctx context.Context, c Config, text string, before *process) (*process, error) {
	p, err := h.launch(c, text, before)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	closed := h.closed
	if !closed {
		h.all = append(h.all, p)
	}
	h.mu.Unlock()
	if closed {
		return nil, errors.Join(topo.ErrEnded, p.Close())
	}
	if err := p.ready(ctx); err != nil {
		h.mu.Lock()
		closed = h.closed // then Close closes it
		if !closed {
			h.all = h.all[:len(h.all)-1]
		}
		h.mu.Unlock()
		if !closed {
			_ = p.Close() // it has ended or must end; err says why
		}
		return nil, err
	}
	return p, nil
}

// serve notes which process serves from now on, with what configuration.
func (h *HAProxy) serve(p *process, c Config, text string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.serving, h.config, h.configuration = p, c, text
}

// Stop stops HAProxy by SIGUSR1 (soft) or SIGTERM (hard; also the processes that an earlier
// soft stop or reload has left over). See topo.Stoppable. The error is [ErrStopped] when
// HAProxy was stopped before, unless a hard stop ends what a soft one has left.
func (h *HAProxy) Stop(ctx context.Context, how topo.StopMode) error {
	h.changing.Lock()
	defer h.changing.Unlock()
	if how != topo.SoftStop && how != topo.HardStop {
		return fmt.Errorf("stop haproxy: unknown mode %q: want %q or %q", how, topo.SoftStop, topo.HardStop)
	}
	serving, stopped := h.now()
	if stopped && how == topo.SoftStop {
		return ErrStopped
	}
	if !stopped {
		if err := serving.Failure(); err != nil {
			return err
		}
		if err := h.note(ctx, serving); err != nil {
			return err
		}
	}
	h.mu.Lock()
	h.serving = nil
	told := []*process{serving}
	if how == topo.HardStop {
		told = h.all
	}
	h.mu.Unlock()
	signal := map[topo.StopMode]unix.Signal{topo.SoftStop: unix.SIGUSR1, topo.HardStop: unix.SIGTERM}[how]
	for _, p := range told {
		p.Dismiss()
		if err := p.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return err
		}
	}
	for _, p := range told {
		err := observe.Await(ctx, "HAProxy to stop", func() (bool, error) {
			if how == topo.HardStop {
				return p.HasEnded(), nil
			}
			return p.silent()
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// silent reports whether no process of p listens any more.
func (p *process) silent() (bool, error) {
	members, err := p.Look()
	return !slices.ContainsFunc(members, listens), err
}

func listens(m program.Process) bool { return m.Listeners > 0 }

// note notes the processes that will be told to stop, with their statistics unless they are
// paused, and cannot answer.
func (h *HAProxy) note(ctx context.Context, p *process) error {
	members, err := p.Look()
	if err != nil {
		return err
	}
	for _, m := range members {
		one := topo.Process{PID: m.PID}
		if listens(m) && !m.Paused {
			if one.Stats, err = p.stats(ctx); err != nil {
				return fmt.Errorf("statistics of HAProxy: %w", errors.Join(err, p.Failure()))
			}
		}
		if listens(m) {
			h.mu.Lock()
			h.told = append(h.told, one)
			h.mu.Unlock()
		}
	}
	return nil
}

// Reload makes HAProxy use another configuration, in the way that [Config].Takeover says,
// which must stay the same. It returns when the new process listens and the old one does
// not. When HAProxy rejects the configuration, the error wraps [ErrRejected] and has its own
// words; then, and after any other error before the new process listens, the old process
// serves on. While a new process tries to bind in vain, the old one does not listen (for 2 s
// with HAProxy 2.6). A master that has tried that in vain has closed its statistics socket,
// which it cannot open again: it loads no other configuration, until it is stopped and
// started.
func (h *HAProxy) Reload(ctx context.Context, c Config) error {
	h.changing.Lock()
	defer h.changing.Unlock()
	h.mu.Lock()
	serving, takeover := h.serving, h.config.Takeover
	h.mu.Unlock()
	switch {
	case serving == nil:
		return ErrStopped
	case c.Takeover != takeover:
		return fmt.Errorf("reload haproxy: takeover %q instead of %q: stop it and start another one", c.Takeover, takeover)
	}
	if err := c.Validate(); err != nil {
		return err
	}
	text, err := c.text()
	if err != nil {
		return err
	}
	if err := c.check(ctx, h.path, text); err != nil {
		return err
	}
	if err := serving.Failure(); err != nil {
		return err
	}
	told := len(h.told)
	if err := h.note(ctx, serving); err != nil {
		return err
	}
	reload := h.replace
	if c.Takeover == MasterWorker {
		reload = h.reloadMaster
	}
	if err := reload(ctx, serving, c, text); err != nil {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.configuration != text {
			h.told = h.told[:told]
		}
		return fmt.Errorf("reload: %w", err)
	}
	return nil
}

// resumed waits until the old process listens again. A new one that cannot bind has told it
// to let go of its ports (SIGTTOU) and then, after some tries, to go on (SIGTTIN).
func resumed(ctx context.Context, old *process) error {
	return observe.Await(ctx, "the old HAProxy to listen again", func() (bool, error) {
		silent, err := old.silent()
		return !silent, errors.Join(err, old.Failure())
	})
}

// replace starts a process that tells another one to finish.
func (h *HAProxy) replace(ctx context.Context, old *process, c Config, text string) error {
	old.Dismiss() // by the new process
	p, err := h.begin(ctx, c, text, old)
	if err != nil {
		old.Retain()
		return errors.Join(err, resumed(ctx, old))
	}
	h.serve(p, c, text)
	return observe.Await(ctx, "the old HAProxy to stop listening", old.silent)
}

// reloadMaster tells a master to reload.
func (h *HAProxy) reloadMaster(ctx context.Context, master *process, c Config, text string) error {
	before, err := master.Look()
	if err != nil {
		return err
	}
	said, err := h.Log()
	if err != nil {
		return err
	}
	if err := program.Rewrite(master.configuration, text); err != nil {
		return err
	}
	if err := master.Signal(unix.SIGUSR2); err != nil {
		return errors.Join(err, master.Failure())
	}
	err = observe.Await(ctx, "a new worker of HAProxy to listen, and the old one not to", func() (bool, error) {
		log, err := h.Log()
		if err != nil {
			return false, err
		}
		// The master then waits for another configuration (mworker_reexec_waitmode).
		if log = log[len(said):]; strings.Contains(log, "Loading failure!") || strings.Contains(log, "in waitpid mode") {
			return false, fmt.Errorf("haproxy does not load it:\n%s", alerts(log))
		}
		now, err := master.Look()
		if err != nil {
			return false, err
		}
		fresh := func(m program.Process) bool {
			return !slices.ContainsFunc(before, func(b program.Process) bool { return b.PID == m.PID })
		}
		return slices.ContainsFunc(now, func(m program.Process) bool { return fresh(m) && listens(m) }) &&
			!slices.ContainsFunc(now, func(m program.Process) bool { return !fresh(m) && listens(m) }), master.Failure()
	})
	if err != nil {
		return errors.Join(err, program.Rewrite(master.configuration, h.Configuration()), resumed(ctx, master))
	}
	h.serve(master, c, text)
	return master.ready(ctx)
}
