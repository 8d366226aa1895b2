//go:build linux

// Package suitevm runs a command in a machine of its own, with labs of its own: the
// whole suite on another kernel. Nothing of the machine outlives the process that
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

// Job is a command that runs in a machine of its own, with labs of its own: the
// suite on another kernel.
type Job struct {
	vm.Host
	Kernel kernel.Image
	// Processors is how many the machine has; 0 is one.
	Processors int
	// VirtualTime lets idle time pass at once: the machine is emulated, and its clock
	// counts instructions and jumps to the next timer when there are none. It
	// has one processor then.
	VirtualTime bool
	// Argv is the command, the path of a program here that becomes its path in
	// the machine. Files are further files that it needs, at the same paths.
	// Programs that are linked dynamically bring their libraries.
	Argv  []string
	Files []string
	Env   []string
	// Sysctls are set in the machine before the command begins.
	Sysctls []SysctlValue
	// Results is a directory here, and the path of it there: what the command has
	// written there is brought back when it has ended.
	Results string
	// Output gets what the command prints, as it comes.
	Output io.Writer
	// Interrupts are passed on to the command, up to the third, which ends the
	// machine; nil is none.
	Interrupts <-chan os.Signal
	// Timeout is how long the job may take, with the machine's boot, by the clock
	// of whoever waits for it. The machine's own clock cannot tell: where idle
	// time passes at once, it is days ahead. 0 is no limit. See [ErrTimeout].
	Timeout time.Duration
	// Grace is how long the command may go on after the interrupt that the timeout
	// is to it, before it is killed; 0 is a minute, which is long for a suite that
	// ends in good order, and short for whoever waits.
	Grace time.Duration

	over <-chan time.Time // instead of Timeout, for tests
}

// SysctlValue is what a sysctl of the machine is to be set to.
type SysctlValue = agent.SysctlValue

// ErrTimeout is wrapped by the error of [Run] when the job's Timeout has ended its
// command. What the command has written is brought back nevertheless.
var ErrTimeout = errors.New("the time of the job is over")

// JobMemory is how many MiB a machine with a job has unless it says otherwise.
const JobMemory = 2048

// jobMaxSilence is how long a machine with a job may be silent, while it boots and
// later, when it is asked every second whether it is alive.
const (
	jobMaxSilence = 2 * time.Minute
	askEvery      = time.Second
)

// jobModules are the modules that labs and their observations have use for, each if
// it is there.
func jobModules() []string {
	return []string{
		"virtio_pci", "virtio_console",
		"veth", "tun", "af_packet", "packet_diag", "inet_diag", "tcp_diag",
		"nf_conntrack", "nf_conntrack_netlink", "nf_nat",
		// Up to 4.18 a family of addresses was a module of its own, which a rule asks
		// the kernel for ("nf_conntrack-2"), and so was its part of nf_tables up to
		// 4.16 ("nft-afinfo-2").
		"nf_conntrack_ipv4", "nf_tables_ipv4", "nft_masq_ipv4",
		"nf_tables", "nft_compat", "nft_chain_nat", "nft_chain_nat_ipv4", "nft_counter", "nft_ct", "nft_nat", "nft_masq", "nft_log",
		"ip_tables", "iptable_filter", "iptable_nat", "iptable_raw", "iptable_mangle",
		"xt_MASQUERADE", "ipt_MASQUERADE", "xt_nat", "xt_conntrack", "xt_statistic", "xt_tcpudp", "xt_CT", "xt_multiport",
		"xt_comment", "xt_connlimit", "xt_hashlimit", "xt_limit", "xt_mark", "xt_LOG", "xt_u32", "xt_tcpmss",
		"ipt_REJECT", "nf_reject_ipv4", "xt_addrtype", "xt_connmark", "xt_state",
		"sch_netem", "sch_ingress", "cls_bpf", "act_bpf", "dummy",
	}
}

// CheckJob finds what must fail a job, before anything is started or built: an
// image that is no kernel, modules that are none, no QEMU, too little memory.
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

// Run does the job and returns the exit status of its command. The error says
// that there is none; it is a *guest.DeadError when the machine died. With one that wraps
// [ErrTimeout] there may be a status, that of a command which ends in good order when
// it is interrupted, and 0 is none.
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
		return 0, nil // it was done when the time was over
	}
	return status, told.timeout()
}

// InitramfsSize is how many bytes the machine of the job would unpack in the
// beginning.
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

// assemble looks whether the job can be done, and plans it.
func (j *Job) assemble(ctx context.Context) (release kernel.Release, p vm.Plan, err error) {
	release, available, err := j.check()
	if err == nil {
		p, err = j.plan(ctx, release, available)
	}
	return release, p, err
}

// plan collects what the machine is made of.
func (j Job) plan(ctx context.Context, release kernel.Release, available vm.Modules) (p vm.Plan, err error) {
	p = vm.Plan{
		Image: j.Kernel.Path, Memory: j.MemoryMiB, Processors: j.Processors, Accelerator: j.Accelerator,
		Virtio: available.Has("virtio_console"),
		IPv6:   true, // the observations of the host's network look at it too
	}
	switch {
	case j.VirtualTime:
		p.Accelerator, p.Processors = vm.TCG, 1
		// Two nanoseconds an instruction, about as many as the emulation takes
		// when it is quick, so that work lasts about as long as it seems to.
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

// files are what the command needs, and the job itself.
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

// errNoStatus is what a job ends by whose machine says nothing of its command.
var errNoStatus = errors.New("the machine ended before its command did")

// receive reads what a job tells of itself.
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

// patient reads from a line on which something comes every now and then.
type patient struct {
	from       net.Conn
	maxSilence time.Duration
	begun      bool // it has said its first word, before which it boots
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

// mostInterrupts is how many interrupts it takes to end a machine that does not end
// by itself. The suite ends in good order at the first and at once at the second.
const mostInterrupts = 3

const defaultGrace = time.Minute

// teller tells a machine of interrupts and of the end of its time, and asks it
// whether it is alive.
type teller struct {
	job      Job
	machine  *vm.Process
	finished chan struct{} // closed when the job is
	expired  atomic.Bool   // the timeout has come
}

// timeout is the error when it has.
func (t *teller) timeout() error {
	if !t.expired.Load() {
		return nil
	}
	return fmt.Errorf("%w: %v by the clock outside of the machine", ErrTimeout, t.job.Timeout)
}

// tell tells until the job is finished.
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
