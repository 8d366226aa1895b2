//go:build linux

package ns

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Watch reports how many of some network namespaces still exist in the kernel, without
// keeping them alive itself. No process can see that otherwise: whether something (a
// socket, a descriptor, a thread) still holds a namespace that all its users have closed.
//
// It is a scratch namespace in which every watched namespace has a number (RTM_NEWNSID).
// The number is no reference: the kernel removes it when the last reference to the watched
// namespace is gone (net/core/net_namespace.c, cleanup_net calls unhash_nsid). Its methods
// may be called from any goroutine.
type Watch struct {
	scratch *Namespace

	mu      sync.Mutex
	next    int   // number for the next namespace
	numbers []int // of those that existed at the last look
}

// NewWatch makes a Watch of no namespaces. It needs what [New] needs. The caller must Close
// it.
func NewWatch() (*Watch, error) {
	scratch, err := New()
	if err != nil {
		return nil, fmt.Errorf("watch: %w", err)
	}
	return &Watch{scratch: scratch}, nil
}

// Add watches a namespace of this process. Adding it again changes nothing. The error is
// [ErrClosed] when either is closed.
func (w *Watch) Add(n *Namespace) error {
	if err := n.Use(w.add); err != nil {
		return fmt.Errorf("watch namespace: %w", err)
	}
	return nil
}

// AddPath watches the network namespace behind a path, for example that of
// another process: /proc/123/ns/net, or /proc/123/fd/7 when it holds one.
func (w *Watch) AddPath(path string) error {
	// O_NONBLOCK, because opening a pipe at this path by mistake would block.
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("watch namespace: %w", &os.PathError{Op: "open", Path: path, Err: err})
	}
	if err := errors.Join(w.add(fd), unix.Close(fd)); err != nil {
		return fmt.Errorf("watch namespace %s: %w", path, err)
	}
	return nil
}

func (w *Watch) add(fd int) error {
	if kind, err := unix.IoctlRetInt(fd, unix.NS_GET_NSTYPE); err != nil || kind != unix.CLONE_NEWNET {
		return errors.New("not a network namespace")
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.scratch.Do(func() error {
		err := netlink.SetNetNsIdByFd(fd, w.next)
		if errors.Is(err, unix.EEXIST) {
			return nil // it has a number, so it is watched already
		}
		if err != nil {
			return fmt.Errorf("give it a number: %w", err)
		}
		w.numbers = append(w.numbers, w.next)
		w.next++
		return nil
	})
}

// Alive returns how many of the watched namespaces still exist. The kernel removes a
// namespace a little after its last holder is gone, so a caller that expects none has to
// wait for that.
//
// It asks for one number after the other: on Linux 6.18 a dump of all numbers ends silently
// when the first buffer is full.
func (w *Watch) Alive() (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	err := w.scratch.Do(func() error {
		var there []int
		for _, number := range w.numbers {
			alive, err := exists(number)
			if err != nil {
				return err
			}
			if alive {
				there = append(there, number)
			}
		}
		w.numbers = there
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("look for watched namespaces: %w", err)
	}
	return len(w.numbers), nil
}

// exists reports whether the calling thread's namespace still has this number for another
// namespace (rtnl_net_getid, Linux 4.20).
func exists(number int) (bool, error) {
	request := nl.NewNetlinkRequest(unix.RTM_GETNSID, 0)
	request.AddData(nl.NewRtGenMsg())
	request.AddData(nl.NewRtAttr(unix.NETNSA_NSID, nl.Uint32Attr(uint32(number))))
	_, err := request.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWNSID)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	return err == nil, err
}

// Close ends the watch. It does not touch the watched namespaces. A second Close does
// nothing.
func (w *Watch) Close() error {
	return w.scratch.Close()
}
