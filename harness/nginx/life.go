//go:build linux

package nginx

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"

	"golang.org/x/sys/unix"

	"twlab/harness/internal/program"
	"twlab/harness/observe"
	"twlab/harness/topo"
)

// Start starts a stopped nginx again, with the configuration that it had, and returns when
// it listens.
func (n *Nginx) Start(ctx context.Context) error {
	n.changing.Lock()
	defer n.changing.Unlock()
	n.mu.Lock()
	runs := n.master != nil && !n.stopped
	n.mu.Unlock()
	if runs {
		return errors.New("nginx runs already")
	}
	return n.start(ctx)
}

// start starts a master, which starts a worker.
func (n *Nginx) start(ctx context.Context) error {
	n.mu.Lock()
	text, closed := n.configuration, n.closed
	n.mu.Unlock()
	if closed {
		return topo.ErrEnded
	}
	if err := program.Rewrite(n.file, text); err != nil {
		return err
	}
	p, err := program.Start(n.inside, program.Spec{
		Path: n.path, Args: []string{"-e", "stderr", "-c", program.FilePath(program.FirstFile)},
		Files: []*os.File{n.file}, Log: n.log, Family: true,
	})
	if err != nil {
		return err
	}
	err = observe.Await(ctx, "nginx to listen", func() (bool, error) {
		workers, err := listening(p)
		return len(workers) > 0, errors.Join(err, p.Failure())
	})
	if err != nil {
		_ = p.Close() // it has ended or must end; err says why
		return err
	}
	n.mu.Lock()
	closed = n.closed
	if !closed {
		n.all = append(n.all, p)
		n.master, n.stopped = p, false
	}
	n.mu.Unlock()
	if closed {
		return errors.Join(topo.ErrEnded, p.Close())
	}
	return nil
}

// listening returns the workers of a master that listen. The master has the listening
// sockets too, for workers to come.
func listening(master *program.Program) ([]program.Process, error) {
	all, err := master.Look()
	return slices.DeleteFunc(all, func(m program.Process) bool {
		return m.PID == master.PID() || m.Listeners == 0
	}), err
}

// Stop stops nginx by SIGQUIT (soft) or SIGTERM (hard; also what an earlier soft stop has
// left over). See topo.Stoppable. The error is [ErrStopped] when nginx was stopped before,
// unless a hard stop ends what a soft one has left.
func (n *Nginx) Stop(ctx context.Context, how topo.StopMode) error {
	n.changing.Lock()
	defer n.changing.Unlock()
	if how != topo.SoftStop && how != topo.HardStop {
		return fmt.Errorf("stop nginx: unknown mode %q: want %q or %q", how, topo.SoftStop, topo.HardStop)
	}
	if err := n.Failure(); err != nil {
		return err
	}
	n.mu.Lock()
	if n.stopped && how == topo.SoftStop {
		n.mu.Unlock()
		return ErrStopped
	}
	n.stopped = true
	told := []*program.Program{n.master}
	if how == topo.HardStop {
		told = n.all
	}
	n.mu.Unlock()
	signal := map[topo.StopMode]unix.Signal{topo.SoftStop: unix.SIGQUIT, topo.HardStop: unix.SIGTERM}[how]
	for _, p := range told {
		p.Dismiss()
		if err := p.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return err
		}
	}
	for _, p := range told {
		err := observe.Await(ctx, "nginx to stop", func() (bool, error) {
			all, err := p.Look()
			silent := !slices.ContainsFunc(all, func(m program.Process) bool { return m.Listeners > 0 })
			return p.HasEnded() || how == topo.SoftStop && silent, err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Reload makes nginx use another configuration (SIGHUP), at the same address. It returns
// when a new worker listens and no old one does. When nginx rejects the configuration, the
// error wraps [ErrRejected] and has nginx's own words, and the old worker serves on.
func (n *Nginx) Reload(ctx context.Context, c Config) error {
	n.changing.Lock()
	defer n.changing.Unlock()
	if err := n.Failure(); err != nil {
		return err
	}
	n.mu.Lock()
	master, was, stopped := n.master, n.configuration, n.stopped
	n.mu.Unlock()
	if stopped {
		return ErrStopped
	}
	text, err := c.text(n.module)
	if err != nil {
		return err
	}
	if err := check(ctx, n.path, text); err != nil {
		return err
	}
	before, err := master.Look()
	if err != nil {
		return err
	}
	if err := program.Rewrite(n.file, text); err != nil {
		return err
	}
	if err := master.Signal(unix.SIGHUP); err != nil {
		return errors.Join(err, master.Failure())
	}
	err = observe.Await(ctx, "a new worker of nginx to listen, and the old one not to", func() (bool, error) {
		now, err := listening(master)
		old := slices.ContainsFunc(now, func(m program.Process) bool {
			return slices.ContainsFunc(before, func(b program.Process) bool { return b.PID == m.PID })
		})
		return len(now) > 0 && !old, errors.Join(err, master.Failure())
	})
	if err != nil {
		return errors.Join(fmt.Errorf("reload: %w", err), program.Rewrite(n.file, was))
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.config, n.configuration = c, text
	return nil
}

// check lets nginx check a configuration (nginx -t).
func check(ctx context.Context, path, text string) (err error) {
	file, err := inMemory(text)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	command := exec.CommandContext(ctx, path, "-t", "-e", "stderr", "-c", program.FilePath(program.FirstFile))
	command.ExtraFiles = []*os.File{file}
	if said, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %w:\n%s", ErrRejected, err, said)
	}
	return nil
}

// Processes returns the master, the workers, and those masters that have ended.
func (n *Nginx) Processes() (found []topo.Process, err error) {
	n.mu.Lock()
	all := slices.Clone(n.all)
	n.mu.Unlock()
	for _, p := range all {
		members, err := p.Look()
		if err != nil {
			return nil, err
		}
		for _, m := range members {
			one := topo.Process{PID: m.PID, State: topo.Leaving, Connections: m.Connections}
			switch {
			case m.Paused:
				one.State = topo.Paused
			case m.PID == p.PID():
				one.State = topo.Supervising
			case m.Listeners > 0:
				one.State = topo.Serving
			}
			found = append(found, one)
		}
		if len(members) == 0 {
			found = append(found, topo.Process{PID: p.PID(), State: topo.Ended})
		}
	}
	return found, nil
}
