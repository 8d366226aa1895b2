//go:build linux

// Package program runs a server program inside a namespace, without any file on disk, and
// no longer than this process runs.
//
// The program's input and output are files in memory ([InMemory], [Log]), which have no
// name and end with their last descriptor. So a killed process leaves neither programs nor
// files behind.
package program

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"twlab/harness/child"
	"twlab/harness/topo"
)

// Spec describes a program to run.
type Spec struct {
	// Path is the program, Args are its arguments, without its name.
	Path string
	Args []string
	// Files are inherited by the program, as descriptors from [FirstFile] on. The caller
	// still owns them.
	Files []*os.File
	// Log is where its standard output and error go; several programs may share it. The
	// caller still owns it.
	Log *Log
	// Family is for a program that starts processes of its own. It becomes process 1 of a
	// PID namespace, so they all end with it (zap_pid_ns_processes).
	Family bool
}

// FirstFile is the number of the first of the Files in the program.
const FirstFile = 3

// FilePath returns the path at which a program finds its own descriptor.
func FilePath(descriptor int) string { return "/proc/self/fd/" + strconv.Itoa(descriptor) }

// Program is a started program. Its methods may be called from any goroutine. The caller of
// [Start] must Close it.
type Program struct {
	name      string
	process   *os.Process
	log       *Log
	kill      context.CancelFunc
	dismissed atomic.Bool
	ended     chan struct{} // closed when it has ended
	how       error         // how, once it has
}

// Start starts a program on the thread on which inside runs its function, such as
// ns.Namespace.Do. Its standard input is empty.
func Start(inside func(func() error) error, s Spec) (*Program, error) {
	name := filepath.Base(s.Path)
	ctx, kill := context.WithCancel(context.Background())
	c := exec.CommandContext(ctx, s.Path, s.Args...)
	c.Stdout, c.Stderr = s.Log.file, s.Log.file
	c.ExtraFiles = s.Files
	if s.Family {
		c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID}
	}
	wait, err := child.StartBy(inside, c)
	if err != nil {
		kill()
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p := &Program{name: name, process: c.Process, log: s.Log, kill: kill, ended: make(chan struct{})}
	go func() {
		defer close(p.ended)
		p.how = wait()
	}()
	return p, nil
}

// PID returns the process id.
func (p *Program) PID() int { return p.process.Pid }

// Ended returns a channel that is closed when the program has ended.
func (p *Program) Ended() <-chan struct{} { return p.ended }

// HasEnded reports whether the program has ended.
func (p *Program) HasEnded() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// Signal sends a signal to the program. The error wraps os.ErrProcessDone when it has ended.
func (p *Program) Signal(s unix.Signal) error {
	if err := p.process.Signal(s); err != nil {
		return fmt.Errorf("send %s to %s: %w", unix.SignalName(s), p.name, err)
	}
	return nil
}

// Dismiss says that somebody has told, or will tell, the program to end: its end is then no
// failure, unless it crashes.
func (p *Program) Dismiss() { p.dismissed.Store(true) }

// Retain takes [Program.Dismiss] back: nobody has told the program to end.
func (p *Program) Retain() { p.dismissed.Store(false) }

// Failure returns nil while the program runs, and when it has ended as it was told (see
// [Program.Dismiss]). Otherwise the error wraps [topo.ErrEnded] and says how the program
// ended, with the last lines of the log.
func (p *Program) Failure() error {
	if !p.HasEnded() || p.dismissed.Load() && p.obeyed() {
		return nil
	}
	how := "exit status 0"
	if p.how != nil {
		how = p.how.Error()
	}
	said, err := p.log.Text()
	if err != nil {
		return fmt.Errorf("%s: %w: %s (%w)", p.name, topo.ErrEnded, how, err)
	}
	return fmt.Errorf("%s: %w: %s; %s", p.name, topo.ErrEnded, how, tail(said))
}

// obeyed reports whether the program ended as programs do that are told to end: by
// themselves, or by the signal. The exit status says little: the master of HAProxy has 143
// after SIGTERM.
func (p *Program) obeyed() bool {
	var exit *exec.ExitError
	if !errors.As(p.how, &exit) {
		return p.how == nil
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	if !ok {
		return false
	}
	return !status.Signaled() || status.Signal() == unix.SIGTERM || status.Signal() == unix.SIGKILL
}

// Close kills the program, with the family that it has, and waits until it has ended. The
// error is that of [Program.Failure] when it had ended before. A second Close does the same.
func (p *Program) Close() error {
	early := p.Failure()
	p.Dismiss()
	p.kill()
	<-p.ended
	return early
}
