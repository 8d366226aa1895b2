//go:build linux

package recycle

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"twlab/harness/observe"
)

// timeWaitLength is how long a TIME_WAIT lasts (TCP_TIMEWAIT_LEN).
const timeWaitLength = 60 * time.Second

// Numbers of sock_diag: the group of destroyed sockets (SKNLGRP_INET_TCP_DESTROY), and the
// sizes and offsets of its messages, struct inet_diag_msg and struct tcp_info.
const (
	destroyedGroup = 1

	messageLength = 72
	localPort     = 4
	remotePort    = 6
	localAddr     = 8
	remoteAddr    = 24

	infoOptions = 5
	infoRTO     = 8
	infoLeast   = 12

	optionsTimestamps = 1 // TCPI_OPT_TIMESTAMPS
)

// ends are the two ends of a connection, as the node sees it.
type ends struct{ local, remote netip.AddrPort }

// removal removes TIME_WAITs early, as tcp_time_wait did by a shorter timer: after 3.5
// retransmission timeouts if the connection had timestamps.
type removal struct {
	inside  func(func() error) error
	events  *nl.NetlinkSocket
	stopped chan struct{}
	work    sync.WaitGroup

	mu      sync.Mutex
	lengths map[ends]time.Duration // of the connections that have ended; 0 means the kernel's 60 s
	errs    []error
}

// startRemoval starts to listen in the calling thread's namespace, which is the one where
// inside runs functions.
func startRemoval(inside func(func() error) error) (*removal, error) {
	nobody := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 1)
	if err := destroy(ends{nobody, nobody}); err != nil {
		return nil, err
	}
	events, err := nl.Subscribe(unix.NETLINK_INET_DIAG, destroyedGroup)
	if err != nil {
		return nil, fmt.Errorf("listen for destroyed sockets: %w", err)
	}
	r := &removal{inside: inside, events: events, stopped: make(chan struct{}), lengths: map[ends]time.Duration{}}
	r.work.Go(r.listen)
	return r, nil
}

// stop ends the removal and returns its errors so far.
func (r *removal) stop() error {
	close(r.stopped)
	r.events.Close()
	r.work.Wait()
	return errors.Join(r.errs...)
}

func (r *removal) isStopped() bool {
	select {
	case <-r.stopped:
		return true
	default:
		return false
	}
}

// fail keeps an error for stop.
func (r *removal) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.errs = append(r.errs, err)
}

// listen receives a message for every connection whose socket is destroyed. That happens to
// the socket of a connection that goes to TIME_WAIT: a smaller one replaces it.
func (r *removal) listen() {
	for {
		messages, _, err := r.events.Receive()
		if r.isStopped() {
			return
		}
		if err != nil {
			r.fail(fmt.Errorf("listen for destroyed sockets: %w", err))
			return
		}
		for _, m := range messages {
			c, length, err := parseDestroyed(m.Data)
			if err != nil {
				r.fail(fmt.Errorf("destroyed socket: %w", err))
				return
			}
			r.ended(c, length)
		}
	}
}

// ended notes the end of a connection.
func (r *removal) ended(c ends, length time.Duration) {
	r.mu.Lock()
	r.lengths[c] = length
	r.mu.Unlock()
	if length == 0 {
		return
	}
	r.work.Go(func() {
		if err := r.remove(c, length); err != nil && !r.isStopped() {
			r.fail(err)
		}
	})
}

// parseDestroyed reads which socket was destroyed, and how long its TIME_WAIT must last. 0
// means that the kernel decides; so it is for IPv6, whose ends are not read.
func parseDestroyed(message []byte) (c ends, length time.Duration, err error) {
	if len(message) < messageLength {
		return c, 0, fmt.Errorf("message of %d bytes, want %d or more", len(message), messageLength)
	}
	if message[0] != unix.AF_INET {
		return c, 0, nil
	}
	end := func(addr, port int) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(message[addr:addr+4])), binary.BigEndian.Uint16(message[port:]))
	}
	c = ends{end(localAddr, localPort), end(remoteAddr, remotePort)}
	attributes, err := nl.ParseRouteAttr(message[messageLength:])
	if err != nil {
		return c, 0, fmt.Errorf("split attributes: %w", err)
	}
	for _, a := range attributes {
		if a.Attr.Type == netlink.INET_DIAG_INFO && len(a.Value) >= infoLeast && a.Value[infoOptions]&optionsTimestamps != 0 {
			rto := time.Duration(binary.NativeEndian.Uint32(a.Value[infoRTO:])) * time.Microsecond
			return c, rto * 7 / 2, nil
		}
	}
	return c, 0, nil
}

// remove removes the connection's TIME_WAIT, if there is one, at that age. It reads the age
// from the TIME_WAIT's own timer, which restarts with every packet that restarts the
// TIME_WAIT.
func (r *removal) remove(c ends, at time.Duration) error {
	for wait := at; ; {
		select {
		case <-r.stopped:
			return nil
		case <-time.After(wait):
		}
		age, left, err := r.look(c)
		if err != nil || !left {
			return err
		}
		if age >= at {
			return r.inside(func() error { return destroy(c) })
		}
		wait = at - age
	}
}

// look returns the age of the connection's TIME_WAIT, and whether there still is one. A
// socket that is still in FIN_WAIT2 has age 0.
func (r *removal) look(c ends) (age time.Duration, left bool, err error) {
	var all observe.Sockets
	err = r.inside(func() (err error) {
		all, err = observe.ReadSockets()
		return err
	})
	if err != nil {
		return 0, false, err
	}
	for _, s := range all.Between(c.local, c.remote) {
		switch {
		case s.State == observe.TimeWait:
			return timeWaitLength - s.Expires, true, nil
		case s.Mini():
			return 0, true, nil
		}
	}
	return 0, false, nil
}

// destroy removes a socket of the calling thread's namespace. It returns nil when there is
// none.
func destroy(c ends) error {
	err := netlink.SocketDestroy(net.TCPAddrFromAddrPort(c.local), net.TCPAddrFromAddrPort(c.remote))
	switch {
	case errors.Is(err, unix.ENOENT):
		return nil
	case errors.Is(err, unix.EOPNOTSUPP):
		return fmt.Errorf("remove a TIME_WAIT: this kernel has no CONFIG_INET_DIAG_DESTROY: %w", err)
	case err != nil:
		return fmt.Errorf("remove a TIME_WAIT: %w", err)
	default:
		return nil
	}
}
