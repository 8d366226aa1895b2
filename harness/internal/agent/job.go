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

// Job is a command that a machine runs instead of serving calls: that machine is not a
// node, but has labs of its own.
//
// The results go over the line as a tar archive, which is written while the job runs. First
// come [OutputEntry] entries, each a piece of the command's output. Then come the files
// that the command has written to the directory of results, below [ResultsEntry]. The last
// entry is [StatusEntry], with the exit status in decimal. Each byte in the other direction
// is an order: [Interrupt] interrupts the command, [Kill] kills it and all its processes,
// and [Ping] is answered with an empty piece of output.
type Job struct {
	// Argv is the command, starting with its path; Dir is its working directory.
	Argv []string
	Env  []string
	Dir  string
	// Results is the directory of files to send back; the machine creates it.
	Results string
	// Virtio says that the line is a virtio port instead of the second serial port.
	Virtio bool
	// VirtualTime says that the machine runs with virtual time: idle time passes at once.
	VirtualTime bool
	// Sysctls are set before the command starts.
	Sysctls []SysctlValue
}

// The entries of the archive.
const (
	OutputEntry  = "output"
	ResultsEntry = "results/"
	StatusEntry  = "status"
)

// The orders to a machine with a job. The host asks whether the machine is alive; the
// machine does not report it on its own, because with virtual time idle days may pass in a
// minute.
const (
	Interrupt = 'i'
	Kill      = 'k'
	Ping      = 'p'
)

const jobFile = "/job.json"

// File returns the job as a file of the machine: its path without the leading slash, and
// its content.
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

// do runs the job and reports on it. It returns only after a failure: after the last entry
// the host ends the machine.
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
	select {} // the last bytes may not have arrived: the host ends the machine
}

// prepare prepares the machine for the command: modules, devices, directories, lo.
func (j Job) prepare() error {
	if err := loadModules(nil); err != nil {
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
	// The default limit of the kernel, because labs need many descriptors.
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

// calm makes the kernel's own housekeeping rare or short, where it can be configured. With
// virtual time, a day takes as long as the work that is done in it.
func calm() error {
	for path, value := range map[string]string{
		"/proc/sys/vm/stat_interval":              "3600", // vmstat_update, once a second
		"/proc/sys/kernel/hung_task_timeout_secs": "0",    // khungtaskd, every two minutes
		// nf_conntrack's gc_worker walks all 65536 buckets, every two minutes on 5.10 and
		// every minute on 6.1, for 7 ms each time. With 8192 buckets, the entries of a lab
		// that has used every port make chains of 16; the kernel refuses entries from
		// chains of 50 on.
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

// run runs the command, and waits through wait for it and for all orphans.
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
		// A process that can still write may be alive; nothing reads any more.
		err = errors.Join(err, near.Close())
		telling.Wait()
		return 0, err
	}
	telling.Wait()
	return status, errors.Join(report.failed(), near.Close())
}

// waitAll waits for process first, kills all others, and waits for them too.
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

// archive writes entries, from several goroutines, until the first failure.
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

// output writes what it reads as entries until the end, which comes when no process can
// write any more.
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

// listen follows the orders that come over the line, until that ends. It sends an interrupt
// to all processes, as a terminal does.
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

// modified returns when each file below a directory was last written.
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

// directory writes the files below root as entries, except those that came with the machine
// and have not changed: a suite's programs would take ten minutes on a serial line.
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
