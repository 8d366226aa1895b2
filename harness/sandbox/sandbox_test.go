//go:build linux

package sandbox_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"twlab/harness/kernel"
	"twlab/harness/ns"
	"twlab/harness/sandbox"
)

// caller is somebody who starts a sandbox.
type caller struct {
	name       string
	credential *syscall.Credential // nil is who runs the test
}

// callers are root, and an ordinary user when root can become one. The test is
// skipped when this machine lets them have no sandbox, with the reason.
func callers(t *testing.T) []caller {
	t.Helper()
	var all []caller
	switch {
	case os.Geteuid() != 0:
		all = []caller{{"ordinary", nil}}
	case mayBecomeOrdinary(t):
		all = []caller{{"root", nil}, {"ordinary", &syscall.Credential{Uid: 65534, Gid: 65534}}}
	default:
		all = []caller{{"root", nil}}
	}
	return slices.DeleteFunc(all, func(c caller) bool {
		_, complaint, code := run(t, c.sandbox(t, "true"))
		if code == 0 {
			return false
		}
		// Who may make namespaces must come into a sandbox.
		space, err := ns.New()
		if err == nil && c.credential == nil {
			t.Errorf("no sandbox for %s, though namespaces are allowed: %s", c.name, complaint)
		}
		if err == nil {
			try(t, space.Close())
		}
		if c.credential == nil {
			t.Skipf("for %s: %s", c.name, complaint)
		}
		t.Logf("NOT TESTED for %s: %s", c.name, complaint)
		return true
	})
}

// mayBecomeOrdinary says whether the test runs as root and knows anybody else:
// in an ordinary user's sandbox there is nobody but root.
func mayBecomeOrdinary(t *testing.T) bool {
	t.Helper()
	text, err := os.ReadFile("/proc/thread-self/uid_map")
	try(t, err)
	for line := range strings.Lines(string(text)) {
		var first, outside, size int
		_, err := fmt.Sscan(line, &first, &outside, &size)
		try(t, err)
		if first <= 65534 && 65534 < first+size {
			return os.Geteuid() == 0
		}
	}
	return false
}

// sandbox is a command in a sandbox of the caller's.
func (c caller) sandbox(t *testing.T, command ...string) *exec.Cmd {
	t.Helper()
	p := program(t, "sandbox", command...)
	p.SysProcAttr.Credential = c.credential
	p.Dir = "/" // which everybody may enter
	return p
}

func TestSandboxIsPrivate(t *testing.T) {
	outside, err := look()
	try(t, err)
	for _, c := range callers(t) {
		t.Run(c.name, func(t *testing.T) {
			output, complaint, code := run(t, c.sandbox(t, "env", roleVariable+"=inspect", testBinary(t)))
			if code != 0 {
				t.Fatalf("exit code %d: %s", code, complaint)
			}
			var inside surroundings
			try(t, json.Unmarshal([]byte(output), &inside))
			for kind, name := range inside.Namespaces {
				if name == outside.Namespaces[kind] {
					t.Errorf("it shares the %s namespace", kind)
				}
			}
			if inside.UID != 0 {
				t.Errorf("uid %d inside, want 0", inside.UID)
			}
			if inside.Variable != "1" {
				t.Errorf("%s=%q", sandbox.Variable, inside.Variable)
			}
			if !maps.Equal(inside.Links, map[string]bool{"lo": true}) {
				t.Errorf("links (and whether they are up): %v", inside.Links)
			}
			if len(inside.Run) > 0 {
				t.Errorf("/run has %v", inside.Run)
			}
			if inside.Processes != 2 { // PID 1 and the command
				t.Errorf("%d processes to be seen, want 2", inside.Processes)
			}
		})
	}
}

// By the process id that PID 1 has outside, whoever is there finds a process inside.
func TestTheWayIntoASandbox(t *testing.T) {
	for _, c := range callers(t) {
		t.Run(c.name, func(t *testing.T) {
			p := c.sandbox(t, "sh", "-c", "echo $"+sandbox.OuterVariable+" $$; readlink /proc/self/ns/net; read end")
			in, err := p.StdinPipe()
			try(t, err)
			out, err := p.StdoutPipe()
			try(t, err)
			try(t, p.Start())
			var outer, inner int
			var space string
			_, err = fmt.Fscan(out, &outer, &inner, &space)
			try(t, err)
			found, err := os.Readlink(fmt.Sprintf("/proc/%d/root/proc/%d/ns/net", outer, inner))
			try(t, err)
			if found != space {
				t.Errorf("process %d of the sandbox whose PID 1 is %d is in %s, want %s", inner, outer, found, space)
			}
			try(t, in.Close())
			_ = p.Wait() // read has found the end
		})
	}
}

// Only the machine's own root can let others load programs, and only those of one kind.
func TestSandboxOfRootHasBPF(t *testing.T) {
	const system = " /sys/fs/bpf bpf rw,nosuid,nodev,noexec,relatime,delegate_cmds=map_create:prog_load," +
		"delegate_maps=hash:array:ringbuf,delegate_progs=sched_cls:raw_tracepoint,delegate_attachs=cgroup_inet_ingress:tcx_ingress "
	outside, err := os.ReadFile("/proc/thread-self/mounts")
	try(t, err)
	for _, c := range callers(t) {
		t.Run(c.name, func(t *testing.T) {
			want := strings.Count(string(outside), system) // in a sandbox it shows as well, and is of no use
			if c.credential == nil && mayDelegate(t) {
				want++
			}
			mounts, complaint, code := run(t, c.sandbox(t, "cat", "/proc/thread-self/mounts"))
			if code != 0 {
				t.Fatalf("exit code %d: %s", code, complaint)
			}
			if got := strings.Count(mounts, system); got != want {
				t.Errorf("%d BPF file systems with delegations, want %d:\n%s", got, want, mounts)
			}
		})
	}
}

// mayDelegate tells whether this process may say what others may load, on a kernel
// that has such a thing.
func mayDelegate(t *testing.T) bool {
	t.Helper()
	release, err := kernel.Running()
	try(t, err)
	if release.Before(6, 9) {
		return false
	}
	fd, err := unix.Fsopen("bpf", unix.FSOPEN_CLOEXEC)
	try(t, err)
	err = unix.FsconfigSetString(fd, "delegate_cmds", "0x1")
	try(t, unix.Close(fd))
	if err != nil && !errors.Is(err, unix.EPERM) {
		t.Fatal(err)
	}
	return err == nil
}

// Also where only the caller is known, and nobody may change groups.
func TestSandboxInASandbox(t *testing.T) {
	const show = "readlink /proc/thread-self/ns/user"
	for _, c := range callers(t) {
		t.Run(c.name, func(t *testing.T) {
			script := show + "; exec env " + roleVariable + "=sandbox " + testBinary(t) + " " + show
			output, complaint, code := run(t, c.sandbox(t, "sh", "-c", script))
			spaces := strings.Fields(output)
			if code != 0 || len(spaces) != 2 || spaces[0] == spaces[1] {
				t.Errorf("exit code %d, user namespaces %v: %s", code, spaces, complaint)
			}
		})
	}
}

func TestSandboxExitCode(t *testing.T) {
	for _, c := range callers(t) {
		const orphan = `(sh -c 'echo $$ >/run/orphan' &); until test -s /run/orphan; do :; done; ` +
			`left=20000; while test -e /proc/$(cat /run/orphan) && test $left -gt 0; do left=$((left-1)); done; test $left -gt 0`
		for script, want := range map[string]int{
			"exit 0":                             0,
			"exit 7":                             7,
			"kill -TERM $$":                      128 + 15,
			"kill -KILL $$":                      128 + 9,
			"sh -c 'sh -c \"exit 5\" &'; exit 3": 3, // an orphan's end is not the command's
			"kill -TERM 1; kill -KILL 1; exit 4": 4, // PID 1 does not listen to those inside
			"setsid sleep 1000 & exit 6":         6, // nor does it wait for others
			orphan:                               0, // it is waited for, or it would be seen for ever
		} {
			t.Run(c.name+"/"+script, func(t *testing.T) {
				if _, complaint, code := run(t, c.sandbox(t, "sh", "-c", script)); code != want || complaint != "" {
					t.Errorf("exit code %d (%s), want %d", code, complaint, want)
				}
			})
		}
	}
}

func TestSandboxOfNothing(t *testing.T) {
	for _, c := range callers(t) {
		for command, want := range map[string]string{
			"twlab-no-such-program": "executable file not found in $PATH",
			"/":                     "is a directory",
			"/etc/passwd":           "permission denied",
			"":                      "no command given",
		} {
			t.Run(c.name+"/"+command, func(t *testing.T) {
				p := c.sandbox(t, strings.Fields(command)...)
				_, complaint, code := run(t, p)
				if code != roleFailed || !strings.HasPrefix(complaint, "sandbox: ") || !strings.Contains(complaint, want) {
					t.Errorf("exit code %d, %q; want %q", code, complaint, want)
				}
			})
		}
	}
}

func TestSandboxEndsWithItsContext(t *testing.T) {
	callers(t) // for their skip
	// It ends when every process that holds its writing end is gone.
	path := t.TempDir() + "/fifo"
	try(t, unix.Mkfifo(path, 0o600))
	reader, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	try(t, err)
	defer reader.Close()
	keep, err := os.OpenFile(path, os.O_WRONLY, 0) // until the family is complete
	try(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	began := make(chan error, 1)
	go func() {
		_, err := io.ReadFull(reader, make([]byte, 1))
		began <- errors.Join(err, keep.Close())
		cancel()
	}()
	_, err = sandbox.Run(ctx, []string{"sh", "-c", "exec >" + path + "; setsid sleep 1000 & echo; sleep 1000"})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	try(t, errors.Join(<-began, reader.SetReadDeadline(time.Now().Add(10*time.Second))))
	if _, err := io.ReadAll(reader); err != nil {
		t.Errorf("something survived: %v", err)
	}
}

func TestSandboxPassesSignalsOnOnce(t *testing.T) {
	// What is ignored here, as under nohup(1), would be ignored there.
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, unix.SIGHUP)
	defer signal.Stop(caught)
	for _, c := range callers(t) {
		for how, send := range map[string]func(pid int, s unix.Signal) error{
			"to the sandbox":       unix.Kill,
			"to its process group": func(pid int, s unix.Signal) error { return unix.Kill(-pid, s) }, // as timeout(1) does
		} {
			t.Run(c.name+"/"+how, func(t *testing.T) {
				p := c.sandbox(t, "env", roleVariable+"=listener", testBinary(t))
				in, err := p.StdinPipe()
				try(t, err)
				out, err := p.StdoutPipe()
				try(t, err)
				try(t, p.Start())
				lines := bufio.NewScanner(out)
				want := func(line string) {
					t.Helper()
					if !lines.Scan() || lines.Text() != line {
						t.Fatalf("the command said %q, want %q", lines.Text(), line)
					}
				}
				want("ready")
				// Each is followed by another, so that one that came twice is noticed.
				for _, s := range []unix.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGINT} {
					try(t, send(p.Process.Pid, s))
					want(s.String())
				}
				_, err = io.WriteString(in, "end\n")
				try(t, err)
				want("end")
				try(t, p.Wait())
			})
		}
	}
}

// An ignored signal stays ignored, as nohup(1) wants it.
func TestSandboxUnderNohup(t *testing.T) {
	c := callers(t)[0]
	p := c.sandbox(t)
	p.Path = "/bin/sh"
	p.Args = []string{"sh", "-c", `trap "" HUP; exec "$0" sh -c 'kill -HUP $$; echo alive'`, testBinary(t)}
	if output, complaint, _ := run(t, p); output != "alive\n" {
		t.Errorf("it said %q, %s", output, complaint)
	}
}

// terminal opens a pseudo-terminal that does not echo.
func terminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	try(t, err)
	t.Cleanup(func() { _ = master.Close() }) // a test may have closed it
	fd := int(master.Fd())
	try(t, unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0))
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	try(t, err)
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	try(t, err)
	t.Cleanup(func() { _ = slave.Close() })
	settings, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
	try(t, err)
	settings.Lflag &^= unix.ECHO
	settings.Oflag &^= unix.OPOST
	try(t, unix.IoctlSetTermios(int(slave.Fd()), unix.TCSETS, settings))
	// Anybody may be the one who runs in it.
	try(t, slave.Chmod(0o666))
	return master, slave
}

func TestSandboxInATerminal(t *testing.T) {
	for _, c := range callers(t) {
		t.Run(c.name, func(t *testing.T) {
			master, slave := terminal(t)
			p := c.sandbox(t, "sh", "-c", "test -t 0 && test -t 1 && exec env "+roleVariable+"=listener "+testBinary(t))
			p.Stdin, p.Stdout, p.Stderr = slave, slave, slave
			p.SysProcAttr.Setctty = true
			try(t, p.Start())
			lines := bufio.NewScanner(master)
			try(t, slave.Close()) // so that the terminal ends with the program
			want := func(line string) {
				t.Helper()
				if !lines.Scan() || lines.Text() != line {
					t.Fatalf("the command said %q, want %q", lines.Text(), line)
				}
			}
			press := func(keys string) {
				t.Helper()
				_, err := master.WriteString(keys)
				try(t, err)
			}
			want("ready")
			press("\x03") // Ctrl-C
			want("interrupt")
			try(t, p.Process.Signal(unix.SIGTERM))
			want("terminated")
			press("\x1c") // Ctrl-\
			want("quit")
			press("\x03")
			want("interrupt")
			press("end\n")
			want("end")
			try(t, p.Wait())
		})
	}
}

// The guarantee: when the sandbox is killed, at whatever moment, all that was in
// it is gone.
func TestNothingSurvivesAKilledSandbox(t *testing.T) {
	const family = `setsid sh -c 'setsid sleep 1000 & exec sleep 1000' & (sleep 1000 &) ; trap "" TERM HUP INT; echo; wait`
	for _, c := range callers(t) {
		t.Run(c.name, func(t *testing.T) {
			const rounds = 20
			for i := range rounds {
				// All of the family hold the writing end.
				reader, writer, err := os.Pipe()
				try(t, err)
				p := c.sandbox(t, "sh", "-c", family)
				p.Stdout = writer
				try(t, p.Start())
				try(t, writer.Close())
				// From the first system calls of the sandbox to the last child.
				age := time.Duration(i*i) * 300 * time.Microsecond
				<-time.After(age)
				if i == rounds-1 {
					_, err := io.ReadFull(reader, make([]byte, 1)) // they are complete
					try(t, err)
				}
				try(t, p.Process.Kill())
				_ = p.Wait() // says that it was killed
				try(t, reader.SetReadDeadline(time.Now().Add(10*time.Second)))
				if _, err := io.ReadAll(reader); err != nil {
					t.Fatalf("killed after %v: something survived: %v", age, err)
				}
				try(t, reader.Close())
			}
		})
	}
}

// The parent death signal ends even a PID 1 that does not run.
func TestNothingSurvivesAKilledSandboxThatIsStopped(t *testing.T) {
	c := callers(t)[0]
	reader, writer, err := os.Pipe()
	try(t, err)
	defer reader.Close()
	p := c.sandbox(t, "sh", "-c", "echo; exec sleep 1000")
	p.Stdout = writer
	try(t, p.Start())
	try(t, writer.Close())
	_, err = io.ReadFull(reader, make([]byte, 1))
	try(t, err)
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", p.Process.Pid))
	try(t, err)
	if len(lists) == 0 {
		t.Skip("this kernel does not tell children (CONFIG_PROC_CHILDREN)")
	}
	var children []string
	for _, list := range lists {
		text, err := os.ReadFile(list)
		try(t, err)
		children = append(children, strings.Fields(string(text))...)
	}
	if len(children) != 1 {
		t.Fatalf("the sandbox has the children %v, want one", children)
	}
	pid, err := strconv.Atoi(children[0])
	try(t, err)
	try(t, unix.Kill(pid, unix.SIGSTOP))
	try(t, p.Process.Kill())
	_ = p.Wait() // says that it was killed
	try(t, reader.SetReadDeadline(time.Now().Add(10*time.Second)))
	if _, err := io.ReadAll(reader); err != nil {
		_ = unix.Kill(pid, unix.SIGKILL)
		t.Errorf("something survived: %v", err)
	}
}

// Inside a sandbox, where it concerns nobody, user namespaces are forbidden.
func TestSandboxWhereUserNamespacesAreForbidden(t *testing.T) {
	const forbid = "echo 0 > /proc/sys/user/max_user_namespaces && "
	const cover = "mount --bind /dev/null /proc/uptime && "
	const forbidden = "sandbox: user namespaces are forbidden here, because user.max_user_namespaces is 0: " +
		"run 'sudo sysctl -w user.max_user_namespaces=15000', or "
	const covered = "sandbox: the /proc outside is partly covered"
	for name, c := range map[string]struct {
		script string
		role   string
		want   string // "" when the command is run
	}{
		"ordinary user, allowed":       {"", "ordinary", ""},
		"root, forbidden":              {forbid, "sandbox", ""},
		"ordinary user, forbidden":     {forbid, "ordinary", forbidden + "run this as root"},
		"mere root, forbidden":         {forbid, "capless", forbidden + "give root CAP_SYS_ADMIN"},
		"mere root, allowed":           {"", "capless", "sandbox: namespaces are forbidden here, and by no sysctl"},
		"root, /proc covered":          {cover, "sandbox", ""},
		"ordinary user, /proc covered": {cover, "ordinary", covered},
	} {
		t.Run(name, func(t *testing.T) {
			if c.role == "ordinary" && !mayBecomeOrdinary(t) {
				t.Skip("only root of the machine can become an ordinary user: run it with sudo hack/test")
			}
			command := c.script + "exec env " + roleVariable + "=" + c.role + " " + testBinary(t) + " sh -c 'exit 7'"
			_, complaint, code := run(t, callers(t)[0].sandbox(t, "sh", "-c", command))
			want := roleFailed
			if c.want == "" {
				want = 7
			}
			if code != want || !strings.HasPrefix(complaint, c.want) || (c.want == "") != (complaint == "") {
				t.Errorf("exit code %d, %q; want %d, %q", code, complaint, want, c.want)
			}
			if strings.Contains(complaint, "\n") {
				t.Errorf("more than one line: %q", complaint)
			}
		})
	}
}

// testBinary is this test binary's path, in a place that everybody may enter.
func testBinary(t *testing.T) string {
	t.Helper()
	original, err := os.Executable()
	try(t, err)
	text, err := os.ReadFile(original)
	try(t, err)
	directory, err := os.MkdirTemp("", "ns-test-") //nolint:usetesting // t.TempDir is for its owner only
	try(t, err)
	t.Cleanup(func() {
		if err := os.RemoveAll(directory); err != nil {
			t.Error(err)
		}
	})
	try(t, os.Chmod(directory, 0o755)) //nolint:gosec // see above
	path := directory + "/sandbox.test"
	try(t, os.WriteFile(path, text, 0o755)) //nolint:gosec // see above
	return path
}
