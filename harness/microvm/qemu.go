package microvm

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
)

// Accelerator is what runs a machine's instructions.
type Accelerator string

// The accelerators. The zero value leaves the choice to [Boot].
const (
	Automatic Accelerator = ""
	// KVM is the processor itself.
	KVM Accelerator = "kvm"
	// TCG is software emulation, which works everywhere.
	TCG Accelerator = "tcg"
)

const qemuProgram = "qemu-system-x86_64"

// ErrNoQEMU says that the program is not installed.
var ErrNoQEMU = errors.New(qemuProgram + " is not installed: run hack/bootstrap --with-qemu, or install qemu-system-x86")

// qemu is a QEMU process.
type qemu struct {
	console *console
	line    net.Conn // to the second serial port
	stop    context.CancelFunc
	ended   chan struct{} // closed when it has ended
	err     error         // how, once it has
}

// plan is what QEMU is to run.
type plan struct {
	image       string
	initramfs   *os.File // nil for none
	accelerator Accelerator
	memory      int    // MiB
	processors  int    // 0 is one
	virtio      bool   // the line is a virtio port, which is quick, and no serial port
	card        string // QEMU's name of the network cards' model
	cards       []Card
	ipv6        bool     // whether the kernel is to have it
	calm        bool     // whether it is to do without the timers that it can do without
	extra       []string // further arguments
}

// commandLine is what the kernel is told. A panic ends QEMU, because it is told not
// to start the machine again. Without no_timer_check, a kernel that is emulated on a
// busy host may miss interrupts of its timer and panic.
const commandLine = "console=ttyS0 earlyprintk=ttyS0 loglevel=6 panic=-1 reboot=t rdinit=/init no_timer_check " +
	"mitigations=off nokaslr random.trust_cpu=on audit=0 selinux=0"

func (p plan) commandLine() string {
	words := commandLine
	if !p.ipv6 {
		words += " ipv6.disable=1"
	}
	if p.calm {
		// The last two are for wakes of an idle kernel: those of kcompactd, twice a
		// second on 5.10 even where compaction_proactiveness is 0, and those of the
		// averages of pressure, every two seconds.
		words += " tsc=reliable nowatchdog transparent_hugepage=never initcall_blacklist=kcompactd_init psi=0"
	}
	return words
}

func findQEMU() (string, error) {
	program, err := exec.LookPath(qemuProgram)
	if err != nil {
		return "", fmt.Errorf("%w (%w)", ErrNoQEMU, err)
	}
	return program, nil
}

// start starts QEMU. The caller must end it.
func (p plan) start() (*qemu, error) {
	program, err := findQEMU()
	if err != nil {
		return nil, err
	}
	ours, theirs, err := linePair()
	if err != nil {
		return nil, fmt.Errorf("serial line: %w", err)
	}
	ctx, stop := context.WithCancel(context.Background())
	q := &qemu{console: &console{began: make(chan struct{})}, line: ours, stop: stop, ended: make(chan struct{})}
	c := exec.CommandContext(ctx, program)
	c.Stdout, c.Stderr = q.console, q.console
	p.arguments(c, theirs)
	wait, err := child.Start(c)
	if err != nil {
		stop()
		return nil, errors.Join(fmt.Errorf("start QEMU: %w", err), ours.Close(), theirs.Close())
	}
	go func() {
		defer close(q.ended)
		q.err = wait()
	}()
	if err := theirs.Close(); err != nil { // QEMU has its own
		q.end()
		return nil, errors.Join(err, ours.Close())
	}
	return q, nil
}

// arguments says everything to QEMU, and hands it its files.
func (p plan) arguments(c *exec.Cmd, line *os.File) {
	give := func(f *os.File) string {
		c.ExtraFiles = append(c.ExtraFiles, f)
		return strconv.Itoa(2 + len(c.ExtraFiles))
	}
	processor := "host"
	if p.accelerator == TCG {
		processor = "max,la57=off" // four levels of page tables are quicker to walk than five
	}
	c.Args = append(c.Args,
		"-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
		"-machine", "pc,accel="+string(p.accelerator), "-cpu", processor, "-smp", strconv.Itoa(max(1, p.processors)), "-m", strconv.Itoa(p.memory),
		"-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console",
		"-chardev", "socket,id=line,fd="+give(line),
		"-kernel", p.image, "-append", p.commandLine())
	if p.virtio {
		c.Args = append(c.Args, "-device", "virtio-serial-pci", "-device", "virtserialport,chardev=line")
	} else {
		c.Args = append(c.Args, "-serial", "chardev:line")
	}
	if p.initramfs != nil {
		c.Args = append(c.Args, "-initrd", "/proc/self/fd/"+give(p.initramfs))
	}
	for i, card := range p.cards {
		id := "card" + strconv.Itoa(i)
		c.Args = append(c.Args,
			"-netdev", "tap,id="+id+",fd="+give(card.Tap),
			"-device", p.card+",netdev="+id+",romfile=,mac="+card.Link.Hardware)
	}
	c.Args = append(c.Args, p.extra...)
}

// end kills QEMU, once, and waits until it is gone. The line is its user's to
// close.
func (q *qemu) end() {
	q.stop()
	<-q.ended
}

// linePair is a socket for each end of the serial line.
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

// Accelerate finds out whether KVM really works here: it lets a kernel begin to
// boot. /dev/kvm alone proves little; inside of another virtual machine, KVM may
// refuse the processor's features, or get stuck.
func Accelerate(ctx context.Context, k Kernel) (Accelerator, error) {
	device, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return TCG, nil // no KVM is an answer
	}
	if err := device.Close(); err != nil {
		return "", fmt.Errorf("close /dev/kvm: %w", err)
	}
	q, err := plan{image: k.Image, accelerator: KVM, memory: DefaultMemory, extra: []string{"-snapshot"}}.start()
	if err != nil {
		return "", err
	}
	// The kernel's first words, which it says before it looks at anything, come
	// within a fraction of a second.
	const patience = 3 * time.Second
	within, stop := context.WithTimeout(ctx, patience)
	defer stop()
	found := TCG
	select {
	case <-q.console.began:
		if strings.Contains(q.console.String(), "Linux version") {
			found = KVM
		}
	case <-q.ended:
	case <-within.Done():
	}
	q.end()
	if err := errors.Join(q.line.Close(), ctx.Err()); err != nil {
		return "", fmt.Errorf("try KVM: %w", err)
	}
	return found, nil
}
