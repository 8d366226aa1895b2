//go:build linux

package haproxy

import (
	"context"
	"slices"

	"golang.org/x/sys/unix"

	"twlab/harness/internal/program"
	"twlab/harness/observe"
	"twlab/harness/topo"
)

// Pause stops the process that serves (with a master, all of its workers that listen) by
// SIGSTOP, and returns when it stands still. The error is [ErrStopped] when none serves.
func (h *HAProxy) Pause(ctx context.Context) error {
	p, stopped := h.now()
	if stopped {
		return ErrStopped
	}
	members, err := p.Look()
	if err != nil {
		return err
	}
	members = slices.DeleteFunc(members, func(m program.Process) bool { return !listens(m) })
	for _, m := range members {
		if err := unix.Kill(m.PID, unix.SIGSTOP); err != nil {
			return err
		}
	}
	return observe.Await(ctx, "HAProxy to stand still", func() (bool, error) {
		now, err := p.Look()
		return !slices.ContainsFunc(now, func(m program.Process) bool { return listens(m) && !m.Paused }), err
	})
}

// Continue lets all processes that are paused run again (SIGCONT).
func (h *HAProxy) Continue() error {
	h.mu.Lock()
	all := slices.Clone(h.all)
	h.mu.Unlock()
	for _, p := range all {
		members, err := p.Look()
		if err != nil {
			return err
		}
		for _, m := range members {
			if !m.Paused {
				continue
			}
			if err := unix.Kill(m.PID, unix.SIGCONT); err != nil {
				return err
			}
		}
	}
	return nil
}

// Processes returns the processes that run, and those that have ended after they were told
// to stop, or by themselves.
func (h *HAProxy) Processes() ([]topo.Process, error) {
	h.mu.Lock()
	all, told := slices.Clone(h.all), slices.Clone(h.told)
	h.mu.Unlock()
	var found []topo.Process
	for _, p := range all {
		members, err := p.Look()
		if err != nil {
			return nil, err
		}
		for _, m := range members {
			found = append(found, topo.Process{PID: m.PID, State: stateOf(m, p), Connections: m.Connections})
		}
		if len(members) == 0 {
			found = append(found, topo.Process{PID: p.PID(), State: topo.Ended})
		}
	}
	var ended []topo.Process
	for _, past := range told {
		i := slices.IndexFunc(found, func(f topo.Process) bool { return f.PID == past.PID })
		if i < 0 {
			past.State = topo.Ended
			ended = append(ended, past)
			continue
		}
		found[i].Stats = past.Stats
	}
	return append(ended, found...), nil
}

// stateOf says what a process does. A master listens while it starts a worker.
func stateOf(m program.Process, p *process) topo.ProcessState {
	switch {
	case m.Paused:
		return topo.Paused
	case p.configuration != nil && m.PID == p.PID():
		return topo.Supervising
	case listens(m):
		return topo.Serving
	}
	return topo.Leaving
}
