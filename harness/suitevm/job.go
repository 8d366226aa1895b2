//go:build linux

// Package suitevm runs a command in a virtual machine of its own, which has labs of its
// own: the whole suite on another kernel. Nothing of the machine outlives the process that
// booted it.
package suitevm

import (
	"archive/tar"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/u-root/u-root/pkg/cpio"
	"golang.org/x/sys/unix"

	"twlab/harness/internal/agent"
	"twlab/harness/internal/vm"
	"twlab/harness/kernel"
)

// Job is a command that runs in a virtual machine of its own, which has labs of its own:
// the suite on another kernel.
type Job struct {
	vm.Host
	Kernel kernel.Image
	// Processors is the number of processors of the machine; 0 is one.
	Processors int
	// VirtualTime enables virtual time, where idle time passes at once: the machine is
	// emulated, and its clock counts instructions and jumps to the next timer when there
	// are none. The machine then has one processor.
	VirtualTime bool
	// Argv is the command: its first element is the path of a program here, which has the
	// same path in the machine. Files are further files that it needs, at the same paths.
	// The libraries of dynamically linked programs are added.
	Argv  []string
	Files []string
	Env   []string
	// Sysctls are set in the machine before the command starts.
	Sysctls []SysctlValue
	// Results is a directory here, with the same path in the machine: files that the
	// command has written there are brought back when it has ended.
	Results string
	// Output receives what the command prints, as it comes.
	Output io.Writer
	// Interrupts are passed on to the command. The third one ends the machine. nil means
	// none.
	Interrupts <-chan os.Signal
	// Timeout is how long the job may take, with the boot of the machine, by the clock of
	// the host. The machine's own clock is not suitable: with virtual time it is days
	// ahead. 0 means no limit. See [ErrTimeout].
	Timeout time.Duration
	// Grace is how long the command may continue after the interrupt that it gets at the
	// Timeout, before it is killed. 0 means one minute, which is enough for a suite to end
	// in good order.
	Grace time.Duration

	over <-chan time.Time // instead of Timeout, for tests
}

// SysctlValue is a sysctl of the machine and the value to set.
type SysctlValue = agent.SysctlValue

// ErrTimeout is wrapped by the error of [Run] when the job's Timeout has ended its command.
// What the command has written is brought back all the same.
var ErrTimeout = errors.New("the job has exceeded its time")

// JobMemory is the default memory in MiB of a machine with a job.
const JobMemory = 2048

// jobMaxSilence is how long a machine with a job may be silent while it boots, and later,
// when it is asked every second whether it is alive.
const (
	jobMaxSilence = 2 * time.Minute
	askEvery      = time.Second
)

// jobModules lists the modules that labs and their observations use; each is loaded if it
// exists.
func jobModules() []string {
	return []string{
		"virtio_pci", "virtio_console",
		"veth", "tun", "af_packet", "packet_diag", "inet_diag", "tcp_diag",
		"nf_conntrack", "nf_conntrack_netlink", "nf_nat",
		// Up to 4.18 an address family was a module of its own, which a rule requests from
		// the kernel ("nf_conntrack-2"), and so was its part of nf_tables up to 4.16
		// ("nft-afinfo-2").
		"ipv6", "nf_conntrack_ipv4", "nf_tables_ipv4", "nft_masq_ipv4", "nf_conntrack_ipv6", "nf_tables_ipv6", "nft_masq_ipv6",
		"nf_tables", "nft_compat", "nft_chain_nat", "nft_chain_nat_ipv4", "nft_chain_nat_ipv6", "nft_counter", "nft_ct", "nft_nat", "nft_masq", "nft_log",
		"ip_tables", "iptable_filter", "iptable_nat", "iptable_raw", "iptable_mangle",
		"ip6_tables", "ip6table_filter", "ip6table_nat", "ip6table_raw", "ip6table_mangle",
		"xt_MASQUERADE", "ipt_MASQUERADE", "ip6t_MASQUERADE", "xt_nat", "xt_conntrack", "xt_statistic", "xt_tcpudp", "xt_CT", "xt_multiport",
		"xt_comment", "xt_connlimit", "xt_hashlimit", "xt_limit", "xt_mark", "xt_LOG", "xt_u32", "xt_tcpmss", "xt_length", "xt_hl",
		"xt_TCPMSS", "xt_TCPOPTSTRIP", "xt_REDIRECT", "ipt_REDIRECT",
		"ipt_REJECT", "nf_reject_ipv4", "ip6t_REJECT", "nf_reject_ipv6", "xt_addrtype", "xt_connmark", "xt_state",
		"ip_vs", "ip_vs_rr", "ip_vs_wrr", "ip_vs_lc", "ip_vs_wlc", "ip_vs_sh",
		"sch_netem", "sch_ingress", "cls_bpf", "act_bpf", "dummy",
	}
}

// CheckJob returns what must make a job fail, before anything is started or built: a file
// that is not a kernel image, a directory without modules, no QEMU, too little memory.
func CheckJob(j Job) error {
	_, _, err := j.check()
	return err
}

func (j *Job) check() (release kernel.Release, available vm.Modules, err error) {
	if j.MemoryMiB == 0 {
		j.MemoryMiB = JobMemory
	}
	if release, available, err = vm.OpenKernel(j.Kernel); err != nil {
		return release, available, fmt.Errorf("boot %s: %w", j.Kernel, err)
	}
	if _, err := vm.FindQEMU(); err != nil {
		return release, available, err
	}
	return release, available, j.EnoughMemory(1)
}

// Run runs the job and returns the exit status of its command. An error normally means that
// there is no status; it is a *guest.DeadError when the machine died. With an error that
// wraps [ErrTimeout] there may be a status: that of a command which ends in good order when
// it is interrupted. 0 then means none.
func Run(ctx context.Context, j Job) (status int, err error) {
	release, p, err := j.assemble(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, p.Initramfs.Close()) }()
	q, err := p.Start()
	if err != nil {
		return 0, err
	}
	defer func() {
		q.End()
		err = errors.Join(err, q.Line.Close())
	}()
	stop := context.AfterFunc(ctx, q.Stop)
	defer stop()
	told := &teller{job: j, machine: q, finished: make(chan struct{})}
	defer close(told.finished)
	go told.tell()

	results, err := os.OpenRoot(j.Results)
	if err != nil {
		return 0, fmt.Errorf("directory of results: %w", err)
	}
	defer func() { err = errors.Join(err, results.Close()) }()
	status, err = receive(tar.NewReader(&patient{from: q.Line, maxSilence: j.maxSilence()}), j.Output, results)
	if err != nil {
		return 0, q.PostMortem(errors.Join(err, context.Cause(ctx), told.timeout()), release, p.Accelerator)
	}
	if status == 0 {
		return 0, nil // the command has succeeded, so its time does not matter
	}
	return status, told.timeout()
}

// InitramfsSize returns the size in bytes of the initramfs that the machine of the job
// would unpack at boot.
func (j Job) InitramfsSize(ctx context.Context) (bytes int64, err error) {
	_, p, err := j.assemble(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, p.Initramfs.Close()) }()
	files, err := p.Initramfs.Stat()
	if err != nil {
		return 0, err
	}
	return files.Size(), nil
}

func (j Job) maxSilence() time.Duration {
	if j.MaxSilence != 0 {
		return j.MaxSilence
	}
	return jobMaxSilence
}

// assemble checks whether the job can be done, and plans its machine.
func (j *Job) assemble(ctx context.Context) (release kernel.Release, p vm.Plan, err error) {
	release, available, err := j.check()
	if err == nil {
		p, err = j.plan(ctx, release, available)
	}
	return release, p, err
}

// plan describes the machine.
func (j Job) plan(ctx context.Context, release kernel.Release, available vm.Modules) (p vm.Plan, err error) {
	p = vm.Plan{
		Image: j.Kernel.Path, Memory: j.MemoryMiB, Processors: j.Processors, Accelerator: j.Accelerator,
		Virtio: available.Has("virtio_console"),
		IPv6:   true, // the observations of the host's network include it
	}
	switch {
	case j.VirtualTime:
		p.Accelerator, p.Processors = vm.TCG, 1
		// Two nanoseconds per instruction, about the speed of the emulation when it is
		// fast, so that work takes about as long as the machine's clock shows.
		p.Extra = []string{"-icount", "shift=1,sleep=off"}
		p.Calm = true
	case p.Accelerator == vm.Automatic:
		if p.Accelerator, err = vm.Accelerate(ctx, j.Kernel); err != nil {
			return p, err
		}
	}
	files, err := j.files(release, p.Virtio)
	if err != nil {
		return p, err
	}
	p.Initramfs, err = vm.Initramfs(j.Agent, available, jobModules(), files...)
	return p, err
}

// files returns the files that the command needs, and the job itself.
func (j Job) files(release kernel.Release, virtio bool) ([]cpio.Record, error) {
	var all programs
	for _, path := range append(slices.Clip(j.Files), j.Argv[0]) {
		if err := all.add(path, path); err != nil {
			return nil, fmt.Errorf("a file for the machine: %w", err)
		}
	}
	if err := all.addIPTables(release, exec.LookPath); err != nil {
		return nil, err
	}
	if err := all.addBalancers(exec.LookPath); err != nil {
		return nil, err
	}
	path, content, err := agent.Job{
		Argv: j.Argv, Env: j.Env, Dir: filepath.Dir(j.Argv[0]), Results: j.Results, Virtio: virtio, VirtualTime: j.VirtualTime, Sysctls: j.Sysctls,
	}.File()
	if err != nil {
		return nil, err
	}
	return append(all.records, cpio.StaticFile(path, string(content), 0o644)), nil
}

// errNoStatus means that the machine ended before it reported the status of its command.
var errNoStatus = errors.New("the machine ended before its command did")

// receive reads the archive of a job.
func receive(from *tar.Reader, output io.Writer, results *os.Root) (status int, err error) {
	for {
		entry, err := from.Next()
		switch {
		// Reset instead of ended: QEMU has not read all that we sent.
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, unix.ECONNRESET):
			return 0, errNoStatus
		case err != nil:
			return 0, fmt.Errorf("line: %w", err)
		case entry.Name == agent.OutputEntry:
			_, err = io.Copy(output, from)
		case entry.Name == agent.StatusEntry:
			text, err := io.ReadAll(from)
			if err != nil {
				return 0, fmt.Errorf("line: %w", err)
			}
			return strconv.Atoi(string(text))
		default:
			err = keep(strings.TrimPrefix(entry.Name, agent.ResultsEntry), from, results)
		}
		if err != nil {
			return 0, fmt.Errorf("%s: %w", entry.Name, err)
		}
	}
}

// keep writes one of the results.
func keep(name string, from io.Reader, results *os.Root) (err error) {
	if err := results.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	file, err := results.Create(name)
	if err != nil {
		return err
	}
	_, err = io.Copy(file, from)
	return errors.Join(err, file.Close())
}

// patient reads from a line that must not be silent for too long.
type patient struct {
	from       net.Conn
	maxSilence time.Duration
	begun      bool // it has sent something; before that it boots
}

func (p *patient) Read(into []byte) (int, error) {
	silence := p.maxSilence
	if !p.begun {
		silence += vm.BootTimeout
	}
	if err := p.from.SetReadDeadline(time.Now().Add(silence)); err != nil {
		return 0, err
	}
	n, err := p.from.Read(into)
	p.begun = p.begun || n > 0
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = fmt.Errorf("silent for %v", silence)
	}
	return n, err
}

// mostInterrupts is the number of the interrupt that ends the machine. The suite ends in
// good order at the first and at once at the second.
const mostInterrupts = 3

const defaultGrace = time.Minute

// teller sends interrupts and the end of the time to a machine, and asks it whether it is
// alive.
type teller struct {
	job      Job
	machine  *vm.Process
	finished chan struct{} // closed when the job is
	expired  atomic.Bool   // the timeout has come
}

// timeout returns the error when the timeout has come.
func (t *teller) timeout() error {
	if !t.expired.Load() {
		return nil
	}
	return fmt.Errorf("%w: %v by the clock outside of the machine", ErrTimeout, t.job.Timeout)
}

// tell works until the job is finished.
func (t *teller) tell() {
	asking := time.NewTicker(askEvery)
	defer asking.Stop()
	over := t.job.over
	if over == nil && t.job.Timeout != 0 {
		over = time.After(t.job.Timeout)
	}
	grace := cmp.Or(t.job.Grace, defaultGrace)
	atTheEnd := []byte{agent.Interrupt, agent.Kill}
	for interrupted := 0; ; {
		word := byte(agent.Ping)
		select {
		case <-t.finished:
			return
		case <-asking.C:
		case <-t.job.Interrupts:
			if interrupted++; interrupted == mostInterrupts {
				t.machine.Stop()
				return
			}
			word = agent.Interrupt
		case <-over:
			t.expired.Store(true)
			if len(atTheEnd) == 0 {
				t.machine.Stop()
				return
			}
			word, atTheEnd = atTheEnd[0], atTheEnd[1:]
			over = time.After(grace)
		}
		if _, err := t.machine.Line.Write([]byte{word}); err != nil {
			return
		}
	}
}
