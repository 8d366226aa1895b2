//go:build linux

package observe

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The size of a tap's ring: 4096 frames in 1 MiB, about 10 ms of the fastest traffic that a
// machine can generate for itself.
const (
	frameSize = 256
	frames    = 4096
	blockSize = 64 << 10
	// snapLength is the room in a frame after the kernel's own header (TPACKET2_HDRLEN and
	// alignment): the 134 octets of the longest headers over IPv4, or over IPv6 the 114 of
	// the longest headers and 76 of extension headers.
	snapLength = 190
)

// ring is the memory that a packet socket shares with the kernel (PACKET_RX_RING,
// TPACKET_V2; Documentation/networking/packet_mmap.rst).
//
// It is used for its timestamps. The kernel stamps the packets of a ring at the latest when
// it stores them there (tpacket_rcv). That is not so at first for recvmsg(2) with
// SO_TIMESTAMPNS: the kernel starts stamping some time after the first socket asked for it.
// Until then a packet gets the time at which it was read, so that a cause can come after
// its effect.
type ring struct {
	memory []byte
	next   int
}

func newRing(fd int) (*ring, error) {
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VERSION, unix.TPACKET_V2); err != nil {
		return nil, fmt.Errorf("choose ring version: %w", err)
	}
	size := unix.TpacketReq{
		Block_size: blockSize, Block_nr: frames * frameSize / blockSize,
		Frame_size: frameSize, Frame_nr: frames,
	}
	if err := unix.SetsockoptTpacketReq(fd, unix.SOL_PACKET, unix.PACKET_RX_RING, &size); err != nil {
		return nil, fmt.Errorf("make ring: %w", err)
	}
	memory, err := unix.Mmap(fd, 0, frames*frameSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map ring: %w", err)
	}
	return &ring{memory: memory}, nil
}

func (r *ring) close() error {
	if err := unix.Munmap(r.memory); err != nil {
		return fmt.Errorf("unmap ring: %w", err)
	}
	return nil
}

// take passes the oldest packet to f and returns its frame to the kernel. It returns false
// when there is none. The packet is valid only during the call of f.
func (r *ring) take(f func(packet []byte, stamp time.Time, kind uint8)) bool {
	header := r.header(r.next)
	for !filled(header) {
		if !filled(r.header(r.next + 1)) {
			return false
		}
		runtime.Gosched() // another processor is still copying into this one
	}
	start := r.next % frames * frameSize
	frame := r.memory[start : start+frameSize]
	// The sockaddr_ll that follows the header has the packet type in octet 10.
	kind := frame[unix.SizeofTpacket2Hdr+10]
	stamp := time.Unix(int64(header.Sec), int64(header.Nsec)).UTC()
	f(frame[header.Mac:uint32(header.Mac)+header.Snaplen], stamp, kind)
	atomic.StoreUint32(&header.Status, unix.TP_STATUS_KERNEL)
	r.next = (r.next + 1) % frames
	return true
}

func (r *ring) header(i int) *unix.Tpacket2Hdr {
	return (*unix.Tpacket2Hdr)(unsafe.Pointer(&r.memory[i%frames*frameSize]))
}

// filled reports whether the reader owns the frame. The load is atomic so that nothing else
// of the frame is read before it.
func filled(header *unix.Tpacket2Hdr) bool {
	return atomic.LoadUint32(&header.Status)&unix.TP_STATUS_USER != 0
}
