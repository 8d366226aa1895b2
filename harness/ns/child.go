package ns

import (
	"os/exec"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Start starts a command that does not outlive this process, however that ends.
// It leads a process group of its own, so that a terminal's Ctrl-C is not for
// it. The caller must call wait, which returns what [exec.Cmd.Wait] does, the same
// every time.
func Start(c *exec.Cmd) (wait func() error, err error) {
	return start(c, func(f func() error) error {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		return f()
	})
}

// Start is the package's [Start], with the command inside of the namespace, which
// lives on until the command has ended.
func (n *Namespace) Start(c *exec.Cmd) (wait func() error, err error) {
	return start(c, n.Do)
}

// start runs a command on a thread that on gives it.
//
// The kernel sends the parent death signal when the thread that started the
// child ends, and Go ends threads as it likes (prctl(2)), so a thread stays with
// the child.
func start(c *exec.Cmd, on func(func() error) error) (wait func() error, err error) {
	if c.SysProcAttr == nil {
		c.SysProcAttr = &syscall.SysProcAttr{}
	}
	c.SysProcAttr.Pdeathsig = unix.SIGKILL
	c.SysProcAttr.Setpgid = true
	started, ended := make(chan error, 1), make(chan error, 1)
	go func() {
		running := false
		err := on(func() error {
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
