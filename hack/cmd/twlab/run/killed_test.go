package run

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"twlab/hack/internal/kit"
	"twlab/harness/observe"
	"twlab/harness/sandbox"
)

// A run with a guest that is killed leaves no file, and no process.
func TestKilledRunLeavesNothing(t *testing.T) {
	image, _, _ := strings.Cut(os.Getenv("TWLAB_TEST_KERNEL"), ":")
	if image == "" {
		t.Skip("needs a kernel image: name one in TWLAB_TEST_KERNEL")
	}
	if modules, _, _ := strings.Cut(os.Getenv("TWLAB_TEST_MODULES"), ":"); modules != "" {
		image += "," + modules
	}
	temp := t.TempDir()
	run, said := startRun(t, temp, "web="+image)
	ended := make(chan error, 1)
	go func() { ended <- run.Wait() }()
	var all map[int]string
	err := observe.Await(t.Context(), "the guest to run", func() (running bool, err error) {
		select {
		case err := <-ended:
			return false, fmt.Errorf("the run has ended: %w", err)
		default:
		}
		all, err = below(run.Process.Pid)
		for _, command := range all {
			running = running || strings.HasPrefix(filepath.Base(command), "qemu-system")
		}
		agents, _ := filepath.Glob(filepath.Join(temp, "*", "agent"))
		return running && len(agents) > 0, err // a QEMU before that only looks whether KVM works
	})
	if err != nil {
		text, _ := os.ReadFile(said)
		t.Fatalf("%v\n%s", err, text)
	}
	if err := run.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil {
		t.Error("the run was killed, and its exit status is 0")
	}
	soon, stop := context.WithTimeout(t.Context(), 30*time.Second)
	defer stop()
	err = observe.Await(soon, "everything to be gone", func() (bool, error) {
		for pid := range all {
			if _, _, alive := process(pid); !alive {
				delete(all, pid)
			}
		}
		return len(all) == 0 && len(entries(t, temp)) == 0, nil
	})
	if err != nil {
		t.Errorf("%v: there are still the processes %v and the files %v", err, all, entries(t, temp))
	}
}

// startRun starts a run of ten minutes with a guest, and returns the file of what it says.
func startRun(t *testing.T, temp, kernel string) (run *exec.Cmd, said string) {
	t.Helper()
	tree, err := filepath.Abs("../../../..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	program, scenario, said := filepath.Join(dir, "twlab"), filepath.Join(dir, "long.yaml"), filepath.Join(dir, "said")
	build := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-o", program, "twlab/hack/cmd/twlab")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	text := `twlab: 1
name: a long sleep
topology: {nodes: {client1: {}, web: {}}, links: [client1 -- web]}
steps:
  - sleep: 10m
  - connect: {from: client1, to: web:80}
    expect: {outcome: Refused}
`
	if err := os.WriteFile(scenario, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := os.Create(said)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	run = exec.Command(program, "run", "--kernel", kernel, scenario) //nolint:gosec,noctx // ours, and the test kills it
	// As outside of a sandbox, which would take along what a killed process leaves.
	run.Env = append(os.Environ(), "TMPDIR="+temp, kit.TreeVariable+"="+tree, sandbox.Variable+"=")
	run.Stdout, run.Stderr = file, file // not pipes, which are open until all processes have ended
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = run.Process.Kill() })
	return run, said
}

// entries are the names of the files in a directory.
func entries(t *testing.T, dir string) (names []string) {
	t.Helper()
	all, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		names = append(names, e.Name())
	}
	return names
}

// below are the commands of the processes that a process has started, and those that these
// have started.
func below(pid int) (map[int]string, error) {
	files, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	parents, commands := map[int]int{}, map[int]string{}
	for _, f := range files {
		if n, err := strconv.Atoi(f.Name()); err == nil {
			if parent, command, alive := process(n); alive {
				parents[n], commands[n] = parent, command
			}
		}
	}
	found := map[int]string{}
	for n := range parents {
		for up := parents[n]; up > 0; up = parents[up] {
			if up == pid {
				found[n] = commands[n]
			}
		}
	}
	return found, nil
}

// process tells of a process who has started it, and its program; not alive if there is none,
// or one that only waits to be waited for.
func process(pid int) (parent int, command string, alive bool) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, "", false
	}
	_, after, _ := strings.Cut(string(stat), ") ") // "7 (name) S 1 ..."
	var state string
	if _, err := fmt.Sscan(after, &state, &parent); err != nil || state == "Z" {
		return 0, "", false
	}
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, "", false
	}
	command, _, _ = strings.Cut(string(line), "\x00")
	return parent, command, true
}
