//go:build linux

// Package child starts commands that end with this process, however that ends.
package child

import (
	"os/exec"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Start starts a command on a thread of its own. The command leads its own process group,
// so a terminal's Ctrl-C does not reach it. The caller must call wait, which returns what
// [exec.Cmd.Wait] returns, and the same at every call.
func Start(c *exec.Cmd) (wait func() error, err error) {
	return StartBy(func(f func() error) error {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		return f()
	}, c)
}

// StartBy is [Start] on the thread on which by runs its function. With ns.Namespace.Do the
// command is inside that namespace, which exists until the command has ended.
//
// The kernel sends the parent death signal when the thread that started the child ends, and
// Go may end a thread at any time (prctl(2)). So the thread stays until the child has
// ended.
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
