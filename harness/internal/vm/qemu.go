//go:build linux

package vm

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"twlab/harness/child"
	"twlab/harness/kernel"
)

// Accelerator says how a machine's instructions are executed.
type Accelerator string

// The accelerators. The zero value leaves the choice to the code that boots: see
// [Accelerate].
const (
	Automatic Accelerator = ""
	// KVM: the processor itself executes them.
	KVM Accelerator = "kvm"
	// TCG: QEMU emulates them in software, which works everywhere.
	TCG Accelerator = "tcg"
)

const qemuProgram = "qemu-system-x86_64"

// ErrNoQEMU means that QEMU is not installed.
var ErrNoQEMU = errors.New(qemuProgram + " is not installed: run hack/bootstrap --with-qemu, or install qemu-system-x86")

// Process is a QEMU process. Make one with [Plan.Start]; End ends it.
type Process struct {
	Console *Console
	Line    net.Conn           // to the second serial port
	Stop    context.CancelFunc // kills it without waiting
	Ended   chan struct{}      // closed when it has ended
	Err     error              // how, once it has
}

// Plan describes a machine for QEMU.
type Plan struct {
	Image       string
	Initramfs   *os.File // nil for none
	Accelerator Accelerator
	Memory      int    // MiB
	Processors  int    // 0 is one
	Virtio      bool   // the line is a virtio port, which is fast, and not a serial port
	Model       string // QEMU's name of the network cards' model
	Cards       []Card
	IPv6        bool     // enables IPv6 in the kernel
	Calm        bool     // switches off all kernel timers that are not necessary
	Extra       []string // further arguments
}

// Card is a network card: its hardware address, and the tap device at the other end of its
// link.
type Card struct {
	Hardware string
	Tap      *os.File
}

// commandLine is the kernel's command line. After a panic the kernel reboots, which ends
// QEMU (-no-reboot). Without no_timer_check, a kernel that is emulated on a busy host may
// miss interrupts of its timer and panic.
const commandLine = "console=ttyS0 earlyprintk=ttyS0 loglevel=6 panic=-1 reboot=t rdinit=/init no_timer_check " +
	"mitigations=off nokaslr random.trust_cpu=on audit=0 selinux=0"

func (p Plan) commandLine() string {
	words := commandLine
	if !p.IPv6 {
		words += " ipv6.disable=1"
	}
	if p.Calm {
		// The last two avoid wake-ups of an idle kernel: those of kcompactd, twice a second
		// on 5.10 even when compaction_proactiveness is 0, and those of the pressure
		// averages, every two seconds.
		words += " tsc=reliable nowatchdog transparent_hugepage=never initcall_blacklist=kcompactd_init psi=0"
	} else if p.Accelerator == TCG {
		// The kernel measures the TSC against timers that come late on a busy host. Of 32
		// machines that booted at once, three took 2300 MHz for 190, 529 and 561, and their
		// clocks ran 4 to 12 times too fast. The HPET itself reports its frequency.
		words += " clocksource=hpet"
	}
	return words
}

// FindQEMU returns the path of QEMU. The error wraps [ErrNoQEMU].
func FindQEMU() (string, error) {
	program, err := exec.LookPath(qemuProgram)
	if err != nil {
		return "", fmt.Errorf("%w (%w)", ErrNoQEMU, err)
	}
	return program, nil
}

// Start starts QEMU. The caller must End it.
func (p Plan) Start() (*Process, error) {
	program, err := FindQEMU()
	if err != nil {
		return nil, err
	}
	ours, theirs, err := linePair()
	if err != nil {
		return nil, fmt.Errorf("serial line: %w", err)
	}
	ctx, stop := context.WithCancel(context.Background())
	q := &Process{Console: &Console{Began: make(chan struct{})}, Line: ours, Stop: stop, Ended: make(chan struct{})}
	c := exec.CommandContext(ctx, program)
	c.Stdout, c.Stderr = q.Console, q.Console
	p.arguments(c, theirs)
	wait, err := child.Start(c)
	if err != nil {
		stop()
		return nil, errors.Join(fmt.Errorf("start QEMU: %w", err), ours.Close(), theirs.Close())
	}
	go func() {
		defer close(q.Ended)
		q.Err = wait()
	}()
	if err := theirs.Close(); err != nil { // QEMU has its own
		q.End()
		return nil, errors.Join(err, ours.Close())
	}
	return q, nil
}

// arguments adds QEMU's arguments and files to the command.
func (p Plan) arguments(c *exec.Cmd, line *os.File) {
	give := func(f *os.File) string {
		c.ExtraFiles = append(c.ExtraFiles, f)
		return strconv.Itoa(2 + len(c.ExtraFiles))
	}
	processor := "host"
	if p.Accelerator == TCG {
		processor = "max,la57=off" // four levels of page tables are quicker to walk than five
	}
	c.Args = append(c.Args,
		"-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
		"-machine", "pc,accel="+string(p.Accelerator), "-cpu", processor, "-smp", strconv.Itoa(max(1, p.Processors)), "-m", strconv.Itoa(p.Memory),
		"-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console",
		"-chardev", "socket,id=line,fd="+give(line),
		"-kernel", p.Image, "-append", p.commandLine())
	if p.Virtio {
		c.Args = append(c.Args, "-device", "virtio-serial-pci", "-device", "virtserialport,chardev=line")
	} else {
		c.Args = append(c.Args, "-serial", "chardev:line")
	}
	if p.Initramfs != nil {
		c.Args = append(c.Args, "-initrd", "/proc/self/fd/"+give(p.Initramfs))
	}
	for i, card := range p.Cards {
		id := "card" + strconv.Itoa(i)
		c.Args = append(c.Args,
			"-netdev", "tap,id="+id+",fd="+give(card.Tap),
			"-device", p.Model+",netdev="+id+",romfile=,mac="+card.Hardware)
	}
	c.Args = append(c.Args, p.Extra...)
}

// End kills QEMU, once, and waits until it has ended. It does not close the line.
func (q *Process) End() {
	q.Stop()
	<-q.Ended
}

// linePair makes a socket for each end of the serial line.
func linePair() (ours net.Conn, theirs *os.File, err error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socketpair: %w", err)
	}
	near, far := os.NewFile(uintptr(pair[0]), "line"), os.NewFile(uintptr(pair[1]), "line")
	ours, err = net.FileConn(near)
	if err = errors.Join(err, near.Close()); err != nil {
		return nil, nil, errors.Join(err, far.Close())
	}
	return ours, far, nil
}

// Accelerate finds out whether KVM really works here, by starting to boot a kernel. That
// /dev/kvm exists proves little: inside another virtual machine, KVM may refuse the
// processor's features, or hang.
func Accelerate(ctx context.Context, k kernel.Image) (Accelerator, error) {
	device, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return TCG, nil // no KVM is an answer
	}
	if err := device.Close(); err != nil {
		return "", fmt.Errorf("close /dev/kvm: %w", err)
	}
	q, err := Plan{Image: k.Path, Accelerator: KVM, Memory: DefaultMemory, Extra: []string{"-snapshot"}}.Start()
	if err != nil {
		return "", err
	}
	// The kernel prints its first message before it does anything else, within a
	// fraction of a second.
	const timeout = 3 * time.Second
	within, stop := context.WithTimeout(ctx, timeout)
	defer stop()
	found := TCG
	select {
	case <-q.Console.Began:
		if strings.Contains(q.Console.String(), "Linux version") {
			found = KVM
		}
	case <-q.Ended:
	case <-within.Done():
	}
	q.End()
	if err := errors.Join(q.Line.Close(), ctx.Err()); err != nil {
		return "", fmt.Errorf("try KVM: %w", err)
	}
	return found, nil
}
