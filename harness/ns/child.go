package ns

import (
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// Start starts a command that does not outlive this process, however that ends.
// It leads a process group of its own, so that a terminal's Ctrl-C is not for
// it. The caller must call wait, which returns what [exec.Cmd.Wait] does.
//
// The kernel sends the parent death signal when the thread that started the
// child ends, and Go ends threads as it likes (prctl(2)), so a thread stays with
// the child.
func Start(c *exec.Cmd) (wait func() error, err error) {
	if c.SysProcAttr == nil {
		c.SysProcAttr = &syscall.SysProcAttr{}
	}
	c.SysProcAttr.Pdeathsig = unix.SIGKILL
	c.SysProcAttr.Setpgid = true
	started, ended := make(chan error, 1), make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := c.Start()
		started <- err
		if err == nil {
			ended <- c.Wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return func() error { return <-ended }, nil
}
