//go:build linux

package observe

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Tap records the TCP segments over IPv4 and IPv6 that pass one interface, in both directions, from
// OpenTap to Stop. Its methods may be called from any goroutine and any namespace.
//
// The position of the tap in the stack decides what its packets prove. An incoming packet
// is recorded before every netfilter hook (__netif_receive_skb_core comes before
// PREROUTING), an outgoing packet after all of them (dev_queue_xmit_nit comes after
// POSTROUTING). So a SYN that a gateway drops, in whatever table, is recorded In but not
// Out, and a SYN that the destination's firewall drops is recorded In. A packet that a
// queueing discipline drops on its way out is not recorded.
//
// The kernel gives a packet to the tap before it processes the packet any further. When a
// call returns because of a packet, that packet is already recorded; packets that the
// kernel sends afterwards may not be.
//
// Packets are as the stack holds them: an outgoing TCP checksum may be partial, and a
// segment longer than the MTU is one that segmentation offload would have split. On a
// loopback device each packet is recorded twice, once in each direction.
type Tap struct {
	point string
	name  string
	file  *os.File // an AF_PACKET socket
	conn  syscall.RawConn
	done  chan struct{} // closed when the reader has ended

	mu      sync.Mutex
	ring    *ring // nil after Stop
	packets []Packet
	numbers []int // of the packets, among all that have passed
	passed  int
	lost    uint64
	err     error // the first one
}

// OpenTap starts recording on an interface of the calling thread's network namespace. The
// point is the machine's name and is stored in each [Packet]. OpenTap needs CAP_NET_RAW in
// that namespace. The interface may still be down. The caller must Stop the tap, which
// keeps its namespace alive.
//
// OpenTap takes about 10 ms and Stop 25 ms, because the kernel waits for its other
// processors (synchronize_net); many taps opened at the same time take no longer than one.
func OpenTap(point, ifname string) (*Tap, error) {
	t, err := openTap(point, ifname)
	if err != nil {
		return nil, fmt.Errorf("tap %s/%s: %w", point, ifname, err)
	}
	return t, nil
}

func openTap(point, ifname string) (*Tap, error) {
	// Protocol 0 receives nothing until bind, so no packet passes unfiltered.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open packet socket: %w", err)
	}
	file := os.NewFile(uintptr(fd), "tap "+point+"/"+ifname)
	t := &Tap{point: point, name: ifname, file: file, done: make(chan struct{})}
	if err := t.configure(fd); err != nil {
		return nil, errors.Join(err, t.unmap(), file.Close())
	}
	go t.read()
	return t, nil
}

func (t *Tap) configure(fd int) error {
	err := attach(fd, tcpFilter())
	if err != nil {
		return fmt.Errorf("attach filter: %w", err)
	}
	if t.ring, err = newRing(fd); err != nil {
		return err
	}
	request, err := unix.NewIfreq(t.name)
	if err != nil {
		return fmt.Errorf("interface name: %w", err)
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, request); err != nil {
		return fmt.Errorf("find interface: %w", err)
	}
	// Only a socket for all protocols receives outgoing packets (ptype_all).
	everything := binary.NativeEndian.Uint16([]byte{0, unix.ETH_P_ALL})
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: everything, Ifindex: int(request.Uint32())}); err != nil {
		return fmt.Errorf("bind packet socket: %w", err)
	}
	if t.conn, err = t.file.SyscallConn(); err != nil {
		return fmt.Errorf("register packet socket: %w", err)
	}
	return nil
}

// Mark returns how many packets have passed so far, as an argument for Since.
func (t *Tap) Mark() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.drain()
	return t.passed
}

// Since returns a copy of the packets that passed since the mark, in the order
// in which the kernel saw them; Since(0) returns all. It misses nothing that
// passed before the call, and works after Stop too.
func (t *Tap) Since(mark int) []Packet {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.drain()
	first, _ := slices.BinarySearch(t.numbers, mark)
	if first == len(t.packets) {
		return nil
	}
	return slices.Clone(t.packets[first:])
}

// Forget drops packets that passed since the mark, so that a long recording does not grow
// without end. Since returns the others, in the same order.
func (t *Tap) Forget(mark int, gone func(Packet) bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.drain()
	first, _ := slices.BinarySearch(t.numbers, mark)
	left := first
	for i := first; i < len(t.packets); i++ {
		if gone(t.packets[i]) {
			continue
		}
		t.packets[left], t.numbers[left] = t.packets[i], t.numbers[i]
		left++
	}
	clear(t.packets[left:]) // their frames are freed
	t.packets, t.numbers = t.packets[:left], t.numbers[:left]
}

// Lost returns how many packets the kernel had no room for because the tap was
// read too slowly. Unless it is zero, an absent packet proves nothing.
func (t *Tap) Lost() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.count()
	return t.lost
}

// Stop records what has passed so far, ends recording, and returns the first
// error of the whole recording. What was recorded remains. A second Stop returns
// the same.
func (t *Tap) Stop() error {
	t.mu.Lock()
	first := t.ring != nil
	t.drain()
	t.count()
	t.note(t.unmap())
	t.mu.Unlock()
	if first {
		// Close waits until read has noticed, and read needs the lock for that.
		err := t.file.Close()
		t.mu.Lock()
		t.note(err)
		t.mu.Unlock()
	}
	<-t.done
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err != nil {
		return fmt.Errorf("tap %s/%s: %w", t.point, t.name, t.err)
	}
	return nil
}

// unmap returns the ring to the kernel. It is called with t.mu held.
func (t *Tap) unmap() error {
	if t.ring == nil {
		return nil
	}
	err := t.ring.close()
	t.ring = nil
	return err
}

// read takes packets as they come, so that the ring does not fill up.
func (t *Tap) read() {
	defer close(t.done)
	err := t.conn.Read(func(uintptr) bool {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.drain()
		return t.ring == nil
	})
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil && t.ring != nil {
		t.note(fmt.Errorf("wait for packets: %w", err))
	}
}

// note keeps err if it is the first error. It is called with t.mu held.
func (t *Tap) note(err error) {
	if t.err == nil {
		t.err = err
	}
}

// drain records packets until there is none. It is called with t.mu held.
func (t *Tap) drain() {
	for t.ring != nil && t.ring.take(t.record) {
	}
}

func (t *Tap) record(frame []byte, stamp time.Time, kind uint8) {
	p, err := decode(bytes.Clone(frame))
	if err != nil {
		t.note(err) // this one is missing; the next may be readable
		return
	}
	p.Point, p.Interface, p.Time, p.Direction = t.point, t.name, stamp, In
	if kind == unix.PACKET_OUTGOING {
		p.Direction = Out
	}
	t.packets, t.numbers = append(t.packets, p), append(t.numbers, t.passed)
	t.passed++
}

// count adds the losses since the last call; reading them resets them in the
// kernel. It is called with t.mu held.
func (t *Tap) count() {
	if t.ring == nil {
		return
	}
	var stats *unix.TpacketStats
	var err error
	control := t.conn.Control(func(fd uintptr) {
		stats, err = unix.GetsockoptTpacketStats(int(fd), unix.SOL_PACKET, unix.PACKET_STATISTICS)
	})
	if err = errors.Join(control, err); err != nil {
		t.note(fmt.Errorf("read packet statistics: %w", err))
		return
	}
	t.lost += uint64(stats.Drops)
}
