//go:build linux

// Package child starts commands that do not outlive this process, however that
// ends.
package child

import (
	"os/exec"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Start starts a command on a thread of its own. The command leads a process group
// of its own, so that a terminal's Ctrl-C is not for it. The caller must call wait,
// which returns what [exec.Cmd.Wait] does, the same every time.
func Start(c *exec.Cmd) (wait func() error, err error) {
	return StartBy(func(f func() error) error {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		return f()
	}, c)
}

// StartBy is [Start] on the thread on which by runs its function, such as
// ns.Namespace.Do: the command is inside of that namespace then, which lives on
// until the command has ended.
//
// The kernel sends the parent death signal when the thread that started the
// child ends, and Go ends threads as it likes (prctl(2)), so the thread stays with
// the child.
func StartBy(by func(func() error) error, c *exec.Cmd) (wait func() error, err error) {
	if c.SysProcAttr == nil {
		c.SysProcAttr = &syscall.SysProcAttr{}
	}
	c.SysProcAttr.Pdeathsig = unix.SIGKILL
	c.SysProcAttr.Setpgid = true
	started, ended := make(chan error, 1), make(chan error, 1)
	go func() {
		running := false
		err := by(func() error {
			if err := c.Start(); err != nil {
				return err
			}
			running = true
			started <- nil
			return c.Wait()
		})
		if running {
			ended <- err
		} else {
			started <- err
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return sync.OnceValue(func() error { return <-ended }), nil
}
