//go:build linux

package recycle

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"twlab/harness/kernel"
	"twlab/harness/ns"
)

// Config says which kernel to imitate.
type Config struct {
	// Strict also drops a SYN without timestamps, as Linux 3.17 to 4.11 did (commit
	// a26552afe894).
	Strict bool
	// Window is how long an address is remembered; zero means the 60 s of every kernel
	// (TCP_PAWS_MSL).
	Window time.Duration
}

func (c Config) window() time.Duration {
	if c.Window == 0 {
		return 60 * time.Second
	}
	return c.Window
}

// maxPeers is the maximum number of remembered addresses.
const maxPeers = 1024

// Emulation imitates tcp_tw_recycle=1 on one node. Its methods may be called from any
// goroutine.
type Emulation struct {
	peers, drops *ebpf.Map
	program      *ebpf.Program
	links        []link.Link
	removal      *removal
	closing      sync.Once
}

// Start starts an emulation in the network namespace in which inside runs functions: on all
// links that exist now, except loopback. It needs Linux 6.6, CAP_BPF and CAP_NET_ADMIN, or
// the BPF token of a sandbox (Linux 6.9); see [Requirement]. The caller must Close the
// emulation. When its process dies, nothing of it remains.
func Start(inside func(func() error) error, c Config) (*Emulation, error) {
	e := &Emulation{}
	if err := e.start(inside, c); err != nil {
		return nil, errors.Join(fmt.Errorf("emulate tcp_tw_recycle: %w", err), e.Close())
	}
	return e, nil
}

func (e *Emulation) start(inside func(func() error) error, c Config) (err error) {
	if c.Window < 0 {
		return fmt.Errorf("window of %v: want one that is not negative", c.Window)
	}
	if err := e.load(c); err != nil {
		return err
	}
	return inside(func() error {
		if e.removal, err = startRemoval(inside); err != nil {
			return err
		}
		devices, err := net.Interfaces()
		if err != nil {
			return fmt.Errorf("list links: %w", err)
		}
		for _, d := range devices {
			if d.Flags&net.FlagLoopback != 0 {
				continue
			}
			if err := e.attach(d); err != nil {
				return err
			}
		}
		return nil
	})
}

// load makes the maps and the program, which only this emulation uses.
func (e *Emulation) load(c Config) (err error) {
	e.peers, err = ebpf.NewMap(&ebpf.MapSpec{
		Name: "tw_peers", Type: ebpf.Hash, KeySize: keyLength, ValueSize: peerLength, MaxEntries: maxPeers,
		Flags: unix.BPF_F_NO_PREALLOC,
	})
	if err != nil {
		return fmt.Errorf("make a map: %w", err)
	}
	e.drops, err = ebpf.NewMap(&ebpf.MapSpec{Name: "tw_drops", Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	if err != nil {
		return fmt.Errorf("make a map: %w", err)
	}
	if e.program, err = ebpf.NewProgram(program(c, e.peers, e.drops)); err != nil {
		return fmt.Errorf("load the program: %w", err)
	}
	return nil
}

// attach attaches the program to a device of the calling thread's namespace, for incoming
// packets.
func (e *Emulation) attach(device net.Interface) error {
	l, err := link.AttachTCX(link.TCXOptions{Interface: device.Index, Program: e.program, Attach: ebpf.AttachTCXIngress})
	if err != nil {
		return fmt.Errorf("attach the program to %s: %w", device.Name, err)
	}
	e.links = append(e.links, l)
	return nil
}

// Drops returns how many SYNs were dropped so far. It takes the place of the counter
// TcpExt.PAWSPassive.
func (e *Emulation) Drops() (uint64, error) {
	var n uint64
	if err := e.drops.Lookup(uint32(0), &n); err != nil {
		return 0, fmt.Errorf("read the emulation's drops: %w", err)
	}
	return n, nil
}

// TimeWait returns how long the TIME_WAIT of an ended connection lasts: zero when the
// kernel decides that, as without timestamps. It is not known until the emulation has
// received the message about the end.
func (e *Emulation) TimeWait(local, remote netip.AddrPort) (length time.Duration, known bool) {
	e.removal.mu.Lock()
	defer e.removal.mu.Unlock()
	length, known = e.removal.lengths[ends{local, remote}]
	return length, known
}

// Close ends the emulation: it drops and removes nothing any more. Its error includes
// failures to remove a TIME_WAIT earlier. A second Close does nothing.
func (e *Emulation) Close() error {
	var errs []error
	e.closing.Do(func() {
		for _, l := range e.links {
			errs = append(errs, l.Close())
		}
		if e.removal != nil {
			errs = append(errs, e.removal.stop())
		}
		// All three may be nil.
		errs = append(errs, e.program.Close(), e.peers.Close(), e.drops.Close())
	})
	return errors.Join(errs...)
}

// Requirement describes what [Start] needs; its probe tries it in a namespace of its own.
func Requirement() kernel.Requirement {
	return kernel.Requirement{
		Name: "emulation of tcp_tw_recycle by BPF",
		Hint: "it needs root (of the machine, not of a container), Linux 6.9 (6.6 without the sandbox), " +
			"CONFIG_BPF_SYSCALL and CONFIG_INET_DIAG_DESTROY; without, emulated cells are skipped",
		Optional: true,
		Probe: func(context.Context) (kernel.Fact, string) {
			switch err := try(); {
			case err == nil:
				return kernel.Yes, "TCX, SOCK_DESTROY"
			case errors.Is(err, fs.ErrPermission):
				return kernel.Unknown, "BPF is not permitted here"
			default:
				return kernel.No, err.Error()
			}
		},
	}
}

// try starts an emulation in an empty namespace, and attaches it to loopback.
func try() error {
	space, err := ns.New()
	if err != nil {
		return err
	}
	e, err := Start(space.Do, Config{})
	if err != nil {
		return errors.Join(err, space.Close())
	}
	err = space.Do(func() error { return e.attach(net.Interface{Index: 1, Name: "lo"}) })
	return errors.Join(err, e.Close(), space.Close())
}
