//go:build linux

package observe

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"twlab/harness/kernel"
)

// mostFlowEvents is how many events a FlowWatch keeps: some 40 MiB.
const mostFlowEvents = 1 << 18

// FlowWatch collects the events of connection tracking about TCP connections, of both IP
// versions, from WatchFlows to Stop. Its methods may be called from any goroutine and any
// namespace.
//
// The kernel tells of an entry in the packet's own path, at the end of its way through the
// namespace (nf_confirm). So when a call returns because of a packet that has passed, the
// events of that packet can already be read. It tells of a timeout when it comes across the
// expired entry: a packet or a dump of the table looks at it, or the garbage collector does,
// which can be minutes later (gc_worker).
type FlowWatch struct {
	file *os.File // a netlink socket
	conn syscall.RawConn
	done chan struct{} // closed when the reader has ended

	mu      sync.Mutex
	buffer  []byte // nil after Stop
	events  []FlowEvent
	lost    uint64
	most    int   // how many events are kept
	failure error // the first one
}

// WatchFlows subscribes to the events of the calling thread's network namespace, and
// returns when it has. The caller must Stop the watch, which keeps its namespace alive.
//
// It needs CAP_NET_ADMIN, CONFIG_NF_CONNTRACK_EVENTS and CONFIG_NF_CT_NETLINK. An entry has
// events when net.netfilter.nf_conntrack_events was 1 at its beginning, or, since Linux
// 5.19, 2 while anybody on the machine was subscribed (nf_ct_ecache_ext_add). With 2, which
// is the default, entries that are older than the subscription have none, not even DESTROY.
// With 0 nothing has, and WatchFlows returns an error.
func WatchFlows() (*FlowWatch, error) {
	w, err := watchFlows(mostFlowEvents)
	if err != nil {
		return nil, fmt.Errorf("watch flows: %w", err)
	}
	return w, nil
}

func watchFlows(most int) (*FlowWatch, error) {
	// The request loads ctnetlink. Subscribing would do so as well, but not wait for it
	// (nfnetlink_bind).
	if _, err := conntrackRequest(getStatistics, unix.NLM_F_ACK, unix.AF_UNSPEC).Execute(unix.NETLINK_NETFILTER, 0); err != nil {
		return nil, fmt.Errorf("ask ctnetlink (CONFIG_NF_CT_NETLINK): %w", err)
	}
	const sysctl = "net.netfilter.nf_conntrack_events"
	if value, err := kernel.ReadSysctl(sysctl); err == nil && value == "0" {
		return nil, fmt.Errorf("%s is 0, so that connections have no events: set it to 1 before they begin", sysctl)
	}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("open netlink socket: %w", err)
	}
	w := &FlowWatch{
		file: os.NewFile(uintptr(fd), "conntrack events"), done: make(chan struct{}),
		buffer: make([]byte, 1<<16), most: most,
	}
	if err := w.subscribe(fd); err != nil {
		return nil, errors.Join(err, w.file.Close())
	}
	go w.read()
	return w, nil
}

func (w *FlowWatch) subscribe(fd int) (err error) {
	const room = 8 << 20
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, room) != nil {
		// Not privileged outside of this user namespace: as much as net.core.rmem_max.
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, room); err != nil {
			return fmt.Errorf("set receive buffer: %w", err)
		}
	}
	const groups = 1<<(unix.NFNLGRP_CONNTRACK_NEW-1) | 1<<(unix.NFNLGRP_CONNTRACK_UPDATE-1) | 1<<(unix.NFNLGRP_CONNTRACK_DESTROY-1)
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		return fmt.Errorf("subscribe to conntrack events: %w", err)
	}
	if w.conn, err = w.file.SyscallConn(); err != nil {
		return fmt.Errorf("register netlink socket: %w", err)
	}
	return nil
}

// Mark returns how many events there have been so far, as an argument for Since.
func (w *FlowWatch) Mark() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.drain()
	return len(w.events)
}

// Since returns a copy of the events since the mark, in the kernel's order; Since(0) returns
// all. It misses nothing that the kernel has told before the call, and works after Stop too.
func (w *FlowWatch) Since(mark int) []FlowEvent {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.drain()
	if mark >= len(w.events) {
		return nil
	}
	return slices.Clone(w.events[max(mark, 0):])
}

// Lost returns how many events are missing, at least: those beyond the 262144 that are kept,
// and one for each time that the kernel reported that it had no room for events (ENOBUFS),
// which does not say for how many. Unless it is zero, an absent event proves nothing.
func (w *FlowWatch) Lost() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.drain()
	return w.lost
}

// Stop reads the events so far, ends the subscription, and returns the first error of the
// whole watch. What was read remains. A second Stop returns the same.
func (w *FlowWatch) Stop() error {
	w.mu.Lock()
	first := w.buffer != nil
	w.drain()
	w.buffer = nil
	w.mu.Unlock()
	if first {
		// Close waits until read has noticed, and read needs the lock for that.
		err := w.file.Close()
		w.mu.Lock()
		w.note(err)
		w.mu.Unlock()
	}
	<-w.done
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failure != nil {
		return fmt.Errorf("watch flows: %w", w.failure)
	}
	return nil
}

// read takes events as they come, so that the socket's buffer does not fill up.
func (w *FlowWatch) read() {
	defer close(w.done)
	err := w.conn.Read(func(uintptr) bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.drain()
		return w.buffer == nil
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil && w.buffer != nil {
		w.note(fmt.Errorf("wait for events: %w", err))
	}
}

// note keeps err if it is the first error. It is called with w.mu held.
func (w *FlowWatch) note(err error) {
	if w.failure == nil {
		w.failure = err
	}
}

// drain reads until there is nothing to read. It is called with w.mu held.
func (w *FlowWatch) drain() {
	for w.buffer != nil {
		var n int
		var err error
		control := w.conn.Control(func(fd uintptr) {
			n, _, err = unix.Recvfrom(int(fd), w.buffer, 0)
		})
		switch err = errors.Join(control, err); {
		case errors.Is(err, unix.EAGAIN):
			return
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.ENOBUFS):
			w.lost++
		case err != nil:
			w.note(fmt.Errorf("read events: %w", err))
			return
		default:
			events, err := parseFlowEvents(w.buffer[:n], time.Now().UTC())
			w.note(err)
			kept := min(len(events), w.most-len(w.events))
			w.events = append(w.events, events[:kept]...)
			w.lost += uint64(len(events) - kept)
		}
	}
}
