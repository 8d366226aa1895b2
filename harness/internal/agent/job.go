//go:build linux

package agent

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"twlab/harness/kernel"
)

// Job is a command that a machine runs instead of serving calls: that machine is
// no node, but has labs of its own.
//
// What comes of it goes over the line as a tar archive, written while it happens:
// first [OutputEntry] entries, each a piece of what the command prints; then the
// files that the command has written to the directory of results, below
// [ResultsEntry]; in the end [StatusEntry], with the exit status in decimal. Of the
// bytes that come over the line in the other direction, each [Interrupt] interrupts
// the command, [Kill] ends it and all that it has begun, and each [Ping] is answered
// by an empty piece of output.
type Job struct {
	// Argv is the command, a path first; Dir is where it runs.
	Argv []string
	Env  []string
	Dir  string
	// Results is the directory of files to bring back; it is made.
	Results string
	// Virtio says that the line is a virtio port and not the second serial port.
	Virtio bool
	// VirtualTime says that idle time passes at once.
	VirtualTime bool
	// Sysctls are set before the command begins.
	Sysctls []SysctlValue
}

// The entries of the archive.
const (
	OutputEntry  = "output"
	ResultsEntry = "results/"
	StatusEntry  = "status"
)

// What a machine with a job is told. It is asked whether it is alive, and does not
// say so by itself, because in its own time idle days may pass in a minute.
const (
	Interrupt = 'i'
	Kill      = 'k'
	Ping      = 'p'
)

const jobFile = "/job.json"

// File is the job as a file of the machine: its path without the slash, and what
// is in it.
func (j Job) File() (path string, content []byte, err error) {
	content, err = json.Marshal(j)
	return jobFile[1:], content, err
}

func readJob() (j Job, found bool, err error) {
	text, err := os.ReadFile(jobFile)
	if errors.Is(err, fs.ErrNotExist) {
		return j, false, nil
	}
	if err != nil {
		return j, false, err
	}
	return j, true, json.Unmarshal(text, &j)
}

// do does the job and tells of it. It returns when the line has ended: whoever is
// at its other end has read all by then.
func (j Job) do() error {
	if err := j.prepare(); err != nil {
		return fmt.Errorf("prepare: %w", err)
	}
	line, err := j.openLine()
	if err != nil {
		return fmt.Errorf("open the line: %w", err)
	}
	report := &archive{tar: tar.NewWriter(line)}
	brought, err := modified(j.Results)
	if err != nil {
		return errors.Join(err, line.Close())
	}
	status, err := j.run(line, report, waitAll)
	if err != nil {
		return errors.Join(fmt.Errorf("run %s: %w", j.Argv[0], err), line.Close())
	}
	if err := report.directory(j.Results, brought); err != nil {
		return errors.Join(fmt.Errorf("bring back %s: %w", j.Results, err), line.Close())
	}
	if err := errors.Join(report.entry(StatusEntry, []byte(strconv.Itoa(status))), report.tar.Close()); err != nil {
		return errors.Join(err, line.Close())
	}
	select {} // what was written may not have arrived: the machine is ended from outside
}

// prepare makes a system of the machine: modules, devices, directories, lo.
func (j Job) prepare() error {
	if err := loadModules(); err != nil {
		return err
	}
	if err := mount("devtmpfs", "/dev"); err != nil {
		return err
	}
	for _, dir := range []string{"/tmp", "/run", j.Dir, j.Results} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	// As many as the kernel allows by default: labs live by descriptors.
	const most = 1 << 20
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: most, Max: most}); err != nil {
		return fmt.Errorf("allow %d descriptors: %w", most, err)
	}
	if j.VirtualTime {
		if err := calm(); err != nil {
			return err
		}
	}
	for _, s := range j.Sysctls {
		if err := kernel.WriteSysctl(s.Name, s.Value); err != nil {
			return err
		}
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find lo: %w", err)
	}
	return netlink.LinkSetUp(lo)
}

// calm makes the kernel's own housekeeping rare or short, as far as it lets itself
// be told. Where idle time passes at once, days are as long as the work in them is
// much.
func calm() error {
	for path, value := range map[string]string{
		"/proc/sys/vm/stat_interval":              "3600", // vmstat_update, once a second
		"/proc/sys/kernel/hung_task_timeout_secs": "0",    // khungtaskd, every two minutes
		// nf_conntrack's gc_worker walks all buckets, 65536 of them, every two minutes
		// on 5.10 and every minute on 6.1: 7 ms each time. The entries of a lab
		// that has used every port make chains of 16; from 50 on it refuses more.
		"/sys/module/nf_conntrack/parameters/hashsize": "8192",
	} {
		err := os.WriteFile(path, []byte(value), 0)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func (j Job) openLine() (*os.File, error) {
	if !j.Virtio {
		return openPort()
	}
	ports, err := filepath.Glob("/sys/class/virtio-ports/*")
	if err != nil {
		return nil, err
	}
	if len(ports) != 1 {
		return nil, fmt.Errorf("%d virtio ports: %q", len(ports), ports)
	}
	return os.OpenFile(filepath.Join("/dev", filepath.Base(ports[0])), os.O_RDWR, 0)
}

// run runs the command, and waits for it and all orphans by wait.
func (j Job) run(line io.Reader, report *archive, wait func(pid int) (status int, err error)) (status int, err error) {
	near, far, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	command, err := os.StartProcess(j.Argv[0], j.Argv, &os.ProcAttr{
		Dir: j.Dir, Env: j.Env, Files: []*os.File{nil, far, far},
	})
	if err != nil {
		return 0, errors.Join(err, far.Close(), near.Close())
	}
	if err := far.Close(); err != nil {
		return 0, err
	}
	go report.listen(line)
	var telling sync.WaitGroup
	telling.Go(func() { report.output(near) })
	if status, err = wait(command.Pid); err != nil {
		// Somebody may live on who could write: nobody listens any more.
		err = errors.Join(err, near.Close())
		telling.Wait()
		return 0, err
	}
	telling.Wait()
	return status, errors.Join(report.failed(), near.Close())
}

// waitAll waits for process first, ends all others, and waits for them too.
func waitAll(first int) (status int, err error) {
	for {
		var how unix.WaitStatus
		pid, err := unix.Wait4(-1, &how, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.ECHILD):
			return status, nil
		case err != nil:
			return 0, fmt.Errorf("wait: %w", err)
		case pid == first:
			if status = how.ExitStatus(); how.Signaled() {
				status = 128 + int(how.Signal())
			}
			if err := unix.Kill(-1, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
				return 0, fmt.Errorf("end what is left: %w", err)
			}
		}
	}
}

// archive writes entries, several at a time, until the first failure.
type archive struct {
	mu  sync.Mutex
	tar *tar.Writer
	err error
}

func (a *archive) entry(name string, content []byte) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.err == nil {
		a.err = a.tar.WriteHeader(&tar.Header{Name: name, Size: int64(len(content)), Mode: 0o644})
	}
	if a.err == nil {
		_, a.err = a.tar.Write(content)
	}
	if a.err == nil {
		a.err = a.tar.Flush()
	}
	return a.err
}

func (a *archive) failed() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.err
}

// output writes what comes until the end of it, which is also when nobody is left
// who could write.
func (a *archive) output(from io.Reader) {
	piece := make([]byte, 32<<10)
	for {
		n, err := from.Read(piece)
		if n > 0 && a.entry(OutputEntry, piece[:n]) != nil {
			return
		}
		if err != nil {
			return
		}
	}
}

// listen does what it is told over the line until that ends. An interrupt goes to
// all processes, as a terminal's does.
func (a *archive) listen(line io.Reader) {
	one := make([]byte, 1)
	for {
		if n, err := line.Read(one); err != nil || n == 0 {
			return
		}
		var err error
		switch one[0] {
		case Interrupt:
			err = unix.Kill(-1, unix.SIGINT)
		case Kill:
			err = unix.Kill(-1, unix.SIGKILL)
		case Ping:
			err = a.entry(OutputEntry, nil)
		}
		if err != nil {
			return
		}
	}
}

// modified says when each file below a directory was written.
func modified(root string) (map[string]time.Time, error) {
	at := map[string]time.Time{}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		at[path] = info.ModTime()
		return nil
	})
	return at, err
}

// directory writes the files below it, without those that came with the machine: a
// suite's programs would take ten minutes on a serial line.
func (a *archive) directory(root string, brought map[string]time.Time) error {
	files, err := modified(root)
	if err != nil {
		return err
	}
	for _, path := range slices.Sorted(maps.Keys(files)) {
		if came, found := brought[path]; found && came.Equal(files[path]) {
			continue
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		below := strings.TrimPrefix(strings.TrimPrefix(path, root), "/")
		if err := a.entry(ResultsEntry+below, content); err != nil {
			return err
		}
	}
	return nil
}
