//go:build linux

// Package sandbox runs a command in private namespaces. The command can neither see nor
// change the host's network, and leaves nothing behind: the kernel removes the user,
// network, mount, process and IPC namespaces with everything in them.
//
// [Run] makes a sandbox. It starts the calling program again, as PID 1 inside, so the main
// function of that program must call [Init] first. When the kernel refuses a step, the
// error says which sysctl forbids it, and what to do.
package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Variable is "1" in the environment of every process in a sandbox.
const Variable = "TWLAB_SANDBOX"

// OuterVariable is, in the environment of the command, the process id that PID 1 of the
// sandbox has outside of it. /proc/ID/root/proc is the sandbox's own /proc there: the way in
// for whoever looks from outside. It is not set when it could not be found out.
const OuterVariable = "TWLAB_SANDBOX_PID"

const (
	// initName is argv[0] of the process that becomes a sandbox's PID 1.
	initName = "twlab-sandbox-init"

	// The descriptors of PID 1: the pipe from which it reads signals, the pipe to which it
	// writes why the sandbox failed, and the socket over which BPF is delegated.
	signalsFD, failureFD, wireFD = 3, 4, 5

	// The exit code of PID 1 when the command was never started. It is not read: the reason
	// has gone through the pipe.
	initFailed = 125
)

// forwarded lists the signals with which a user or a CI system stops a run.
var forwarded = []os.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT}

// Run runs argv (a program, looked up in PATH, and its arguments) in a sandbox and returns
// its exit code, or 128 plus the number of the signal that killed it. An error means that
// the command was not run.
//
// A sandbox is a set of private namespaces: user, network, mount, process and IPC. Inside,
// the command has all capabilities over a network that consists of one loopback device, an
// empty /run (the place of iptables' lock and of the names of namespaces), and a /proc that
// shows only the processes of the sandbox. Files are those of the caller, with the caller's
// permissions; standard input, output, error and the terminal are the caller's, too. When
// root calls it, on Linux 6.9 or later, BPF programs that look at arriving packets can be
// loaded inside, with the token of the file system at /sys/fs/bpf.
//
// Nothing survives the sandbox: when the command ends, or the caller dies (of SIGKILL, for
// example), or ctx ends, the kernel kills every process inside and removes the namespaces
// with them (pid_namespaces(7)). Run returns when the processes are gone.
//
// Ordinary users need a kernel that lets them make user namespaces; where it does not, the
// error names the sysctl that forbids it. Root then runs without a user namespace. While
// the command runs, SIGINT, SIGTERM, SIGHUP and SIGQUIT go to it, exactly once each. In the
// foreground of a terminal, the command is in the caller's process group, and the terminal
// itself sends it SIGINT and SIGQUIT, so Run does not forward these two. Anywhere else the
// command leads its own process group, and the whole group gets the signals.
//
// Run starts the program that calls it again, as PID 1 of the sandbox: that program's main
// function must call [Init] before anything else.
func Run(ctx context.Context, argv []string) (exitCode int, err error) {
	if len(argv) == 0 {
		return 0, errors.New("sandbox: no command given")
	}
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return 0, fmt.Errorf("sandbox: %w", err)
	}

	// The kernel sends the parent death signal when the thread that started the child ends,
	// and Go may end a thread at any time (prctl(2)).
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	b := box{path: path, argv: argv, foreground: inForeground()}
	exitCode, err = b.run(ctx, unix.CLONE_NEWUSER)
	var refused, again *refusal
	if errors.As(err, &refused) && !refused.ofCommand() && os.Geteuid() == 0 && ctx.Err() == nil {
		exitCode, err = b.run(ctx, 0)
		if errors.As(err, &again) {
			err = refused // the first refusal is more informative
		}
	}
	if errors.As(err, &refused) {
		err = refused.explain(os.Geteuid() == 0, readSysctl)
	}
	if err != nil {
		return 0, fmt.Errorf("sandbox: %w", err)
	}
	return exitCode, nil
}

// box is a command that will run in a sandbox.
type box struct {
	path       string
	argv       []string
	foreground bool // of a terminal, whose signals reach the command directly
}

// run runs the command in fresh namespaces, with a fresh user namespace if newUser asks for
// one. The error is a *refusal when the kernel refused a step.
func (b box) run(ctx context.Context, newUser uintptr) (exitCode int, err error) {
	signalsIn, signalsOut, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer signalsIn.Close()
	defer signalsOut.Close()
	failureIn, failureOut, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer failureIn.Close()
	defer failureOut.Close()

	pidOne, wireOut, err := wire()
	if err != nil {
		return 0, err
	}
	defer pidOne.Close()
	defer wireOut.Close()

	defer b.catch(signalsOut)()

	child := exec.CommandContext(ctx, "/proc/self/exe")
	child.Args = append([]string{initName, strconv.FormatBool(b.foreground), b.path}, b.argv...)
	child.Env = append(os.Environ(), Variable+"=1")
	child.Stdin, child.Stdout, child.Stderr = os.Stdin, os.Stdout, os.Stderr
	child.ExtraFiles = []*os.File{signalsIn, failureOut, wireOut}
	child.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: newUser | unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC,
		Pdeathsig:  unix.SIGKILL,
	}
	if newUser != 0 {
		if err := becomeRoot(child.SysProcAttr); err != nil {
			return 0, err
		}
	}
	if err := child.Start(); err != nil {
		var errno unix.Errno
		if errors.As(err, &errno) {
			return 0, &refusal{Step: "make namespaces", Errno: errno}
		}
		return 0, fmt.Errorf("start PID 1: %w", err)
	}

	// When PID 1 is dead, or its caller lacks the privilege, there is no BPF inside.
	_ = wireOut.Close()
	_ = delegateBPF(pidOne)
	_ = pidOne.Close()

	// The pipe ends when PID 1 has started the command, or is dead.
	failed := errors.Join(failureOut.Close(), readFailure(failureIn))
	err = child.Wait()
	if failed != nil {
		return 0, failed
	}
	if ctx.Err() != nil {
		return 0, fmt.Errorf("killed: %w", context.Cause(ctx))
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return 0, fmt.Errorf("wait for PID 1: %w", err)
	}
	status, ok := child.ProcessState.Sys().(syscall.WaitStatus)
	if !ok {
		return 0, errors.New("PID 1 left no exit status")
	}
	return exitStatus(status), nil
}

// catch forwards the signals of this process, until the returned function is called.
func (b box) catch(to io.Writer) (release func()) {
	caught := make(chan os.Signal, 16)
	stop := make(chan struct{})
	passed := make(chan struct{})
	go func() {
		defer close(passed)
		b.passOn(caught, stop, to)
	}()
	for _, s := range forwarded {
		if !signal.Ignored(s) { // nohup, for example, needs it to stay ignored
			signal.Notify(caught, s)
		}
	}
	return func() {
		signal.Stop(caught)
		close(stop)
		<-passed
	}
}

// passOn writes the number of every caught signal to PID 1 until stop is closed.
func (b box) passOn(caught <-chan os.Signal, stop <-chan struct{}, to io.Writer) {
	for {
		select {
		case <-stop:
			return
		case s := <-caught:
			number, ok := s.(unix.Signal)
			if !ok || b.foreground && (number == unix.SIGINT || number == unix.SIGQUIT) {
				continue
			}
			if _, err := to.Write([]byte{byte(number)}); err != nil {
				return // PID 1 is gone, and everything with it
			}
		}
	}
}

// exitStatus returns a process's exit code as shells do.
func exitStatus(status syscall.WaitStatus) int {
	if status.Signaled() {
		return 128 + int(status.Signal())
	}
	return status.ExitStatus()
}

// inForeground reports whether this process is in the process group to which its terminal,
// if any, sends the signals of Ctrl-C and Ctrl-\.
func inForeground() bool {
	terminal, err := unix.Open("/dev/tty", unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
	if err != nil {
		return false
	}
	group, err := unix.IoctlGetInt(terminal, unix.TIOCGPGRP)
	return unix.Close(terminal) == nil && err == nil && group == unix.Getpgrp()
}

// becomeRoot makes the caller root in the new user namespace. When the caller is already
// root, all other ids stay the same, so that root can still write to files of others and
// start programs as another user. The kernel does not let other users map ids other than
// their own (user_namespaces(7)).
func becomeRoot(to *syscall.SysProcAttr) error {
	if os.Geteuid() != 0 {
		to.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		to.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
		return nil
	}
	var err error
	if to.UidMappings, err = sameIDs("/proc/thread-self/uid_map"); err != nil {
		return err
	}
	if to.GidMappings, err = sameIDs("/proc/thread-self/gid_map"); err != nil {
		return err
	}
	// A sandbox inside an ordinary user's sandbox has to deny it as well.
	allowed, err := os.ReadFile("/proc/thread-self/setgroups")
	to.GidMappingsEnableSetgroups = strings.TrimSpace(string(allowed)) == "allow"
	return err
}

// sameIDs maps every id that this process knows to itself.
func sameIDs(table string) ([]syscall.SysProcIDMap, error) {
	text, err := os.ReadFile(table)
	if err != nil {
		return nil, err
	}
	var all []syscall.SysProcIDMap
	for line := range strings.Lines(string(text)) {
		var id, outside, size int
		if _, err := fmt.Sscan(line, &id, &outside, &size); err != nil {
			return nil, fmt.Errorf("read %s: %w", table, err)
		}
		all = append(all, syscall.SysProcIDMap{ContainerID: id, HostID: id, Size: size})
	}
	return all, nil
}

// Init must be the first call in the main function of a program that calls [Run]. When the
// program was started as PID 1 of a sandbox, Init does that work, and main must exit with
// the returned code; otherwise it does nothing and isInit is false.
func Init() (exitCode int, isInit bool) {
	if os.Args[0] != initName || os.Getpid() != 1 || len(os.Args) < 4 {
		return 0, false
	}
	unix.CloseOnExec(signalsFD)
	unix.CloseOnExec(failureFD)
	unix.CloseOnExec(wireFD)
	failure := os.NewFile(failureFD, "failure")

	// Caught, so that they do not kill PID 1, and dropped: the signals for the command come
	// through the pipe.
	for _, s := range forwarded {
		if !signal.Ignored(s) {
			signal.Notify(make(chan os.Signal, 1), s)
		}
	}

	foreground := os.Args[1] == strconv.FormatBool(true)
	command, failed := startInside(foreground, os.Args[2], os.Args[3:])
	if failed != nil {
		// When this fails, the caller is gone, and nothing reads it.
		_ = json.NewEncoder(failure).Encode(failed)
		return initFailed, true
	}
	if err := failure.Close(); err != nil {
		return initFailed, true
	}
	target := command
	if !foreground {
		target = -command // its process group
	}
	go deliver(os.NewFile(signalsFD, "signals"), target)
	return reap(command), true
}

// Namespaces that are made inside a sandbox get their own table of TCP connections, where
// the kernel supports that (Linux 6.1, commit d1e5e6408b30), with 2^11 hash chains. The
// table that all namespaces share otherwise has 2^18 on a machine of 24 GiB, and listing
// the sockets of one namespace walks all of them (tcp_diag_dump), which took a tenth of the
// suite's processor time. The content of the table and the behaviour of the kernel are the
// same.
const (
	childTables  = "/proc/sys/net/ipv4/tcp_child_ehash_entries"
	childEntries = "2048"
)

// startInside prepares the inside of the sandbox and starts the command in it.
func startInside(foreground bool, path string, argv []string) (pid int, failed *refusal) {
	env := os.Environ()
	// Until the sandbox has its own, /proc is the caller's, where self is what the caller sees.
	if outer, err := os.Readlink("/proc/self"); err == nil {
		env = append(env, OuterVariable+"="+outer)
	}
	// /proc comes last: when everything else was permitted, its refusal has a special
	// reason (see explain).
	for _, step := range []struct {
		name string
		do   func() error
	}{
		{"make mounts private", func() error { return unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "") }},
		{"mount /run", func() error {
			return unix.Mount("twlab", "/run", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755")
		}},
		{"bring up the loopback device", func() error {
			return netlink.LinkSetUp(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Name: "lo"}})
		}},
		{"choose the size of tables", func() error {
			_ = os.WriteFile(childTables, []byte(childEntries), 0) // optional
			return nil
		}},
		{"ask for BPF", func() error {
			caller, err := wireEnd(wireFD)
			if err != nil {
				return err
			}
			_ = mountBPF(caller) // optional
			return caller.Close()
		}},
		{mountProc, func() error {
			return unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
		}},
	} {
		if err := step.do(); err != nil {
			return 0, refusedAt(step.name, err)
		}
	}
	pid, err := syscall.ForkExec(path, argv, &syscall.ProcAttr{
		Env:   env,
		Files: []uintptr{0, 1, 2},
		Sys:   &syscall.SysProcAttr{Setpgid: !foreground},
	})
	if err != nil {
		return 0, refusedAt(startCommand+path, err)
	}
	return pid, nil
}

// deliver sends the signals whose numbers it reads, and kills everything when the caller is
// gone.
func deliver(signals io.Reader, target int) {
	number := make([]byte, 1)
	for {
		if _, err := io.ReadFull(signals, number); err != nil {
			// The parent death signal has done this already, unless the caller died before
			// it was set. -1 is every process except PID 1.
			_ = unix.Kill(-1, unix.SIGKILL)
			return
		}
		// An error means that the command has ended, which reap notices.
		_ = unix.Kill(target, unix.Signal(number[0]))
	}
}

// reap waits for orphans, as PID 1 has to, until the command ends.
func reap(command int) (exitCode int) {
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return initFailed // no child left: impossible before the command ended
		case pid == command:
			return exitStatus(syscall.WaitStatus(status))
		}
	}
}
