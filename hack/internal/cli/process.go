//go:build linux

package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"time"

	"twlab/harness/child"
	"twlab/harness/sandbox"

	"golang.org/x/sys/unix"
)

// Interruptible is a context that ends by SIGINT, SIGTERM or SIGHUP, so that deferred calls
// take everything down.
func Interruptible(ctx context.Context) (context.Context, context.CancelFunc) {
	return signal.NotifyContext(ctx, unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
}

// InSandbox are the arguments of this program that run a command in the sandbox.
func InSandbox(argv ...string) ([]string, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	return append([]string{self, "sandbox", "--"}, argv...), nil
}

// Enter makes this process the sandbox of a new one with the same arguments. Whoever ends it
// ends the sandbox. It returns when that did not work, or when we are in a sandbox already.
func Enter() error {
	if os.Getenv(sandbox.Variable) != "" {
		return nil
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	argv, err := InSandbox(append([]string{self}, os.Args[1:]...)...)
	if err != nil {
		return err
	}
	return Become(argv, os.Environ())
}

// Become replaces this process.
func Become(argv, env []string) error {
	return fmt.Errorf("start %s: %w", argv[0], unix.Exec(argv[0], argv, env))
}

// Child runs a command that ends with us, and that is asked to end when its context ends. An
// exit status is no error.
func Child(c *exec.Cmd) (used time.Duration, status int, err error) {
	c.Cancel = func() error { return c.Process.Signal(unix.SIGTERM) }
	wait, err := child.Start(c)
	if err != nil {
		return 0, 0, fmt.Errorf("start %s: %w", c.Path, err)
	}
	err = wait()
	s := c.ProcessState
	if s == nil {
		return 0, 0, fmt.Errorf("wait for %s: %w", c.Path, err)
	}
	if status = s.ExitCode(); status < 0 {
		status = 128 + int(unix.SIGKILL) // by whatever signal: it has no status of its own
	}
	return s.UserTime() + s.SystemTime(), status, nil
}

// Bootstrap sees to it that the machine has what the tree needs: quiet when all is well;
// otherwise it does or says what is to be done.
func Bootstrap(ctx context.Context, tree string) error {
	script := tree + "/hack/bootstrap"
	if exec.CommandContext(ctx, script, "--check").Run() == nil { //nolint:gosec // ours
		return nil
	}
	c := exec.CommandContext(ctx, script) //nolint:gosec // ours
	c.Stdout, c.Stderr = os.Stderr, os.Stderr
	if err := c.Run(); err != nil {
		return NotRunError(errors.New("this machine is not ready; see above"))
	}
	return nil
}

// Quiet runs a command that ends with us and returns what it says: as an error, when it fails.
func Quiet(c *exec.Cmd) (string, error) {
	var out, said bytes.Buffer
	c.Stdout, c.Stderr = &out, &said
	_, status, err := Child(c)
	if err == nil && status != 0 {
		err = fmt.Errorf("exit status %d\n%s", status, &said)
	}
	return strings.TrimSpace(out.String()), err
}
