//go:build linux

package sandbox_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"twlab/harness/leak"
	"twlab/harness/sandbox"
)

// roleVariable makes this test binary one of the programs below instead.
const roleVariable = "TWLAB_SANDBOX_TEST_ROLE"

var roles = map[string]func(arguments []string) error{
	"sandbox":  runSandbox,
	"capless":  dropCapabilities,
	"ordinary": becomeOrdinary,
	"inspect":  inspect,
	"listener": listenForSignals,
}

func TestMain(m *testing.M) {
	if code, isInit := sandbox.Init(); isInit {
		os.Exit(code)
	}
	name := os.Getenv(roleVariable)
	if name == "" {
		os.Exit(leak.Run(m))
	}
	role, ok := roles[name]
	if !ok {
		fmt.Fprintf(os.Stderr, "%s=%s is no role\n", roleVariable, name)
		os.Exit(roleFailed)
	}
	if err := role(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(roleFailed)
	}
}

// roleFailed is what a role exits with, so that no command's code looks like it.
const roleFailed = 99

// runSandbox is what twlab sandbox is, without looking at the host.
func runSandbox(command []string) error {
	code, err := sandbox.Run(context.Background(), command)
	if err != nil {
		return err
	}
	os.Exit(code)
	return nil
}

// dropCapabilities becomes its arguments in a sandbox of a root's that has no
// capability, and no way back to one.
func dropCapabilities(command []string) error {
	runtime.LockOSThread()
	for c := range uintptr(unix.CAP_LAST_CAP + 1) {
		// EINVAL: a capability that this kernel does not know.
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("drop capability %d: %w", c, err)
		}
	}
	// The next execve computes the capabilities of root from that bounding set
	// (capabilities(7)), and so does every process that it starts.
	return becomeSandbox(command)
}

// becomeOrdinary becomes its arguments in a sandbox of an ordinary user's.
func becomeOrdinary(command []string) error {
	if err := errors.Join(unix.Setgroups(nil), unix.Setresgid(65534, 65534, 65534), unix.Setresuid(65534, 65534, 65534)); err != nil {
		return fmt.Errorf("become an ordinary user: %w", err)
	}
	return becomeSandbox(command)
}

func becomeSandbox(command []string) error {
	if err := os.Setenv(roleVariable, "sandbox"); err != nil {
		return err
	}
	return unix.Exec("/proc/self/exe", append([]string{"again"}, command...), os.Environ())
}

// surroundings are what a process sees of the machine.
type surroundings struct {
	Links      map[string]bool // up or not
	Run        []string
	Processes  int
	Variable   string
	UID        int
	Namespaces map[string]string
}

func look() (surroundings, error) {
	s := surroundings{Links: map[string]bool{}, Namespaces: map[string]string{}, Variable: os.Getenv(sandbox.Variable), UID: os.Getuid()}
	links, err := net.Interfaces()
	if err != nil {
		return s, err
	}
	for _, l := range links {
		s.Links[l.Name] = l.Flags&net.FlagUp != 0
	}
	run, err := os.ReadDir("/run")
	if err != nil {
		return s, err
	}
	for _, e := range run {
		s.Run = append(s.Run, e.Name())
	}
	proc, err := os.ReadDir("/proc")
	if err != nil {
		return s, err
	}
	for _, e := range proc {
		if strings.Trim(e.Name(), "0123456789") == "" {
			s.Processes++
		}
	}
	for _, kind := range []string{"user", "net", "mnt", "pid", "ipc"} {
		if s.Namespaces[kind], err = os.Readlink("/proc/thread-self/ns/" + kind); err != nil {
			return s, err
		}
	}
	return s, nil
}

func inspect([]string) error {
	s, err := look()
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(s)
}

// listenForSignals says every signal that it gets, until its input ends.
func listenForSignals([]string) error {
	caught := make(chan os.Signal, 16)
	signal.Notify(caught, unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT)
	ended := make(chan error)
	go func() {
		line, err := bufio.NewReader(os.Stdin).ReadString('\n')
		if errors.Is(err, io.EOF) || line == "end\n" {
			err = nil
		}
		ended <- err
	}()
	fmt.Println("ready")
	for {
		select {
		case s := <-caught:
			fmt.Println(s)
		case err := <-ended:
			fmt.Println("end")
			return err
		}
	}
}

// program is this test binary in a role. It does not outlive the test, and is
// nobody's terminal job.
func program(t *testing.T, role string, arguments ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second) // a hundred times what any takes
	t.Cleanup(cancel)
	// Not by name: the folder that "go test" builds in is not everybody's.
	c := exec.CommandContext(ctx, "/proc/self/exe", arguments...)
	// A program with the race detector takes a second to end, unless told otherwise.
	c.Env = append(os.Environ(), roleVariable+"="+role, "GORACE=atexit_sleep_ms=0")
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	c.WaitDelay = time.Second
	return c
}

// run gives what a program wrote, and its exit code.
func run(t *testing.T, c *exec.Cmd) (output, complaint string, exitCode int) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	var exit *exec.ExitError
	if err := c.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return stdout.String(), strings.TrimSpace(stderr.String()), c.ProcessState.ExitCode()
}

func try(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
