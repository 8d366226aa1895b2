//go:build linux

package reason

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"
)

// ErrUnknown says that this process or kernel cannot tell reasons: without the privilege to
// trace (root, or CAP_BPF and CAP_PERFMON), without BTF, or before Linux 5.17.
var ErrUnknown = errors.New("why packets are dropped is unknown here")

// room is the size of the ring that events wait in, in bytes: some 30 000 events.
const room = 4 << 20

// Watch notes the drops and resets of some network namespaces from [Start] on. Its methods may
// be called from any goroutine.
type Watch struct {
	nodes                map[uint32]string // by the inode of the namespace
	layout               layout
	inodes, events, lost *ebpf.Map
	format               *ebpf.Map // what bpf_snprintf prints a function by
	programs             []*ebpf.Program
	links                []link.Link
	reader               *ringbuf.Reader
	boot                 time.Time // when CLOCK_MONOTONIC was 0

	mu     sync.Mutex
	all    []Event
	closed bool
}

// Start begins to watch the namespaces in which the functions run functions, by the names of
// their nodes. The error wraps [ErrUnknown] where the kernel does not tell. The caller must
// Close the watch; when its process dies, nothing of it remains.
func Start(nodes map[string]func(func() error) error) (*Watch, error) {
	w := &Watch{nodes: map[uint32]string{}}
	if err := w.start(nodes); err != nil {
		if errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EPERM) {
			err = fmt.Errorf("%w: tracing needs root, or CAP_BPF and CAP_PERFMON: %w", ErrUnknown, err)
		}
		return nil, errors.Join(fmt.Errorf("watch drops and resets: %w", err), w.Close())
	}
	return w, nil
}

func (w *Watch) start(nodes map[string]func(func() error) error) (err error) {
	for name, inside := range nodes {
		var s unix.Stat_t
		if err := inside(func() error { return unix.Stat("/proc/thread-self/ns/net", &s) }); err != nil {
			return fmt.Errorf("%s: which namespace: %w", name, err)
		}
		w.nodes[uint32(s.Ino)] = name
	}
	if w.layout, err = readLayout(); err != nil {
		return fmt.Errorf("%w: %w", ErrUnknown, err)
	}
	if err := w.maps(); err != nil {
		return err
	}
	if err := w.clock(); err != nil {
		return err
	}
	a := assembler{layout: w.layout, nodes: w.inodes, events: w.events, lost: w.lost, format: w.format}
	for tracepoint, spec := range map[string]*ebpf.ProgramSpec{"kfree_skb": a.dropProgram(), "tcp_send_reset": a.resetProgram()} {
		p, err := ebpf.NewProgram(spec)
		if err != nil {
			return fmt.Errorf("load the program for %s: %w", tracepoint, err)
		}
		w.programs = append(w.programs, p)
		l, err := link.AttachRawTracepoint(link.RawTracepointOptions{Name: tracepoint, Program: p})
		if err != nil {
			return fmt.Errorf("attach to %s: %w", tracepoint, err)
		}
		w.links = append(w.links, l)
	}
	return nil
}

func (w *Watch) maps() (err error) {
	w.inodes, err = ebpf.NewMap(&ebpf.MapSpec{
		Name: "nodes", Type: ebpf.Hash, KeySize: 4, ValueSize: 4, MaxEntries: uint32(max(1, len(w.nodes))),
	})
	if err != nil {
		return fmt.Errorf("make a map: %w", err)
	}
	for inode := range w.nodes {
		if err := w.inodes.Put(inode, uint32(1)); err != nil {
			return fmt.Errorf("fill a map: %w", err)
		}
	}
	if w.lost, err = ebpf.NewMap(&ebpf.MapSpec{Name: "lost", Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1}); err != nil {
		return fmt.Errorf("make a map: %w", err)
	}
	if w.format, err = ebpf.NewMap(&ebpf.MapSpec{
		Name: "format", Type: ebpf.Array, KeySize: 4, ValueSize: uint32(len(functionFormat)), MaxEntries: 1, Flags: unix.BPF_F_RDONLY_PROG,
	}); err != nil {
		return fmt.Errorf("make a map: %w", err)
	}
	if err := errors.Join(w.format.Put(uint32(0), []byte(functionFormat)), w.format.Freeze()); err != nil {
		return fmt.Errorf("fill a map: %w", err)
	}
	if w.events, err = ebpf.NewMap(&ebpf.MapSpec{Name: "events", Type: ebpf.RingBuf, MaxEntries: room}); err != nil {
		return fmt.Errorf("make a ring: %w", err)
	}
	if w.reader, err = ringbuf.NewReader(w.events); err != nil {
		return fmt.Errorf("read the ring: %w", err)
	}
	return nil
}

// clock finds when bpf_ktime_get_ns, which is CLOCK_MONOTONIC, was 0.
func (w *Watch) clock() error {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		return fmt.Errorf("read the clock: %w", err)
	}
	w.boot = time.Now().Add(-time.Duration(t.Nano())).Round(0)
	return nil
}

// Events returns what has happened so far, in order of time. The tracepoints are called by the
// processor that drops or resets, so what another call has seen done is in it.
func (w *Watch) Events() ([]Event, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return slices.Clone(w.all), nil
	}
	w.reader.SetDeadline(time.Unix(1, 0)) // takes what is there, and does not wait
	var r ringbuf.Record
	for {
		err := w.reader.ReadInto(&r)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read drops and resets: %w", err)
		}
		if err := w.take(r.RawSample); err != nil {
			return nil, fmt.Errorf("read drops and resets: %w", err)
		}
	}
	slices.SortStableFunc(w.all, func(a, b Event) int { return a.At.Compare(b.At) })
	return slices.Clone(w.all), nil
}

// freesParts is the function that frees the segments of which a packet was put together (GRO),
// with that packet. When the packet was dropped, it has an event of its own; when a socket has
// taken it, nothing was dropped.
const freesParts = "skb_release_data"

func (w *Watch) take(b []byte) error {
	e, ok, err := decode(b)
	if err != nil || !ok {
		return err
	}
	e.At = w.boot.Add(time.Duration(binary.NativeEndian.Uint64(b[recordTime:])))
	e.Node = w.nodes[binary.NativeEndian.Uint32(b[recordNetns:])]
	number, names := binary.NativeEndian.Uint32(b[recordReason:]), w.layout.drops
	if e.Kind == Reset {
		names = w.layout.resets
	}
	if names != nil {
		if e.Reason = names[number]; e.Reason == "" {
			e.Reason = fmt.Sprint(number) // of a subsystem that numbers its own
		}
	}
	if e.Kind == Drop {
		text, _, _ := bytes.Cut(b[recordFunction:recordFunction+functionLength], []byte{0})
		e.Place, _, _ = strings.Cut(string(text), "+")
		e.Place, _, _ = strings.Cut(e.Place, ".") // a part that the compiler has split off
		if e.Place == freesParts {
			return nil
		}
	}
	w.all = append(w.all, e)
	return nil
}

// Lost returns how many events there was no room for. With any, what has no event is unknown.
func (w *Watch) Lost() (n uint64, err error) {
	if err := w.lost.Lookup(uint32(0), &n); err != nil {
		return 0, fmt.Errorf("count lost events: %w", err)
	}
	return n, nil
}

// Close ends the watch. Events that were read stay readable.
func (w *Watch) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return nil
	}
	w.closed = true
	var errs []error
	for _, l := range w.links {
		errs = append(errs, l.Close())
	}
	for _, p := range w.programs {
		errs = append(errs, p.Close())
	}
	if w.reader != nil {
		errs = append(errs, w.reader.Close())
	}
	for _, m := range []*ebpf.Map{w.inodes, w.events, w.lost, w.format} {
		if m != nil {
			errs = append(errs, m.Close())
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("end the watch of drops and resets: %w", err)
	}
	return nil
}
